"""What is said: results to standard output, everything else to standard error."""

from __future__ import annotations

import sys
from pathlib import Path


def result(text: str) -> None:
    """Write what was asked for to standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def note(text: str, quiet: bool = False) -> None:
    """Write what happens to standard error."""
    if not quiet:
        sys.stderr.write(f"{text}\n")


def shows_progress(quiet: bool) -> bool:
    """Whether a person is looking on."""
    return not quiet and sys.stderr.isatty()


def place(output: Path | None) -> str:
    """Where a table went, None to standard output."""
    return "standard output" if output is None else f"{output} ({size(output)})"


def size(path: Path) -> str:
    """Size of a file for people."""
    number, unit = float(path.stat().st_size), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
