"""Console output: results to standard output, everything else to standard error."""

from __future__ import annotations

import sys
from pathlib import Path

from tqdm import tqdm


def result(text: str) -> None:
    """Write what was asked for to standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def note(text: str, quiet: bool = False) -> None:
    """Write a message to standard error, unless quiet."""
    if not quiet:
        sys.stderr.write(f"{text}\n")


def shows_progress(quiet: bool) -> bool:
    """Return True if standard error is a terminal and progress was not switched off."""
    return not quiet and sys.stderr.isatty()


def row_bar(name: str, output: Path | None, quiet: bool, total: int | None = None) -> tqdm:
    """Open a bar that counts rows; it stays hidden where rows appear on the same terminal.

    Args:
        name: of the work.
        output: of the rows, None for standard output.
        quiet: show no bar.
        total: expected rows, None if unknown.
    """
    shown = shows_progress(quiet) and (output is not None or not sys.stdout.isatty())
    return tqdm(total=total, unit=" rows", unit_scale=True, desc=name, disable=not shown)


def destination(output: Path | None) -> str:
    """Describe where a table was written, None for standard output."""
    return "standard output" if output is None else f"{output} ({size(output)})"


def size(path: Path) -> str:
    """Format the size of a file with three digits and a unit, such as 3.21MB."""
    return tqdm.format_sizeof(path.stat().st_size, "B")
