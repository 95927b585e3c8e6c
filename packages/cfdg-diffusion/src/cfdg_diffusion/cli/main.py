"""Entry point of the ``cfdg-diffusion`` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cfdg_diffusion.cli.parser import build_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after the name of the command; None takes those of the process.

    Returns:
        0, also when the reader of standard output has closed it; 2 after wrong input, with one sentence on standard
        error; 130 after Ctrl-C.
    """
    arguments = build_parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except BrokenPipeError:
        _close_standard_output()
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as error:
        sys.stderr.write(f"cfdg-diffusion: {_sentence(error)}\n")
        return 2
    except KeyboardInterrupt:
        told = "" if getattr(arguments, "output", None) == "-" else ", nothing was written"
        sys.stderr.write(f"cfdg-diffusion: stopped{told}\n")
        return 130
    return 0


def _sentence(error: BaseException) -> str:
    """Format an error as one line; system errors name their file first."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"there is not enough memory: {error}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _close_standard_output() -> None:
    """Redirect standard output after its reader closed the pipe, so that Python does not report it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
