"""Entry point of the ``cfdg-diffusion`` command."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr

from cfdg_diffusion.cli.options import is_table
from cfdg_diffusion.cli.parser import build_parser

_OPTION = re.compile("-[a-z]|--[a-z].*")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after the name of the command; None takes those of the process.

    Returns:
        0, also when the reader of standard output has closed it; 2 after wrong input or options, with one sentence on
        standard error; 130 after Ctrl-C; 1 after a fault of this package.
    """
    arguments = _parsed(argv)
    if arguments is None:
        return 2
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
    except Exception as error:
        sys.stderr.write(f"cfdg-diffusion: {_fault(error)}\n")
        return 1
    return 0


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace | None:
    """Parse the command line; what is wrong is told in one line without the usage, and gives None."""
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            return build_parser().parse_args(separated(sys.argv[1:] if argv is None else argv))
    except SystemExit as end:
        command, _, reason = told.getvalue().strip().rpartition(": error: ")
        if end.code != 2:
            raise
        sys.stderr.write(f"cfdg-diffusion: {reason}, see {command.splitlines()[-1]} --help\n")
        return None


def separated(argv: Sequence[str]) -> list[str]:
    """Write ``--keep-range TABLE`` as ``--keep-range= TABLE``: the option may stand alone, and is not the table's own.

    Columns that are named like a table's file are given as ``--keep-range=COLUMNS``. ``--missing -,?`` becomes
    ``--missing=-,?``: argparse takes words that begin with a dash for options.
    """
    words: list[str] = []
    for word, after in zip(argv, [*argv, ""][1:], strict=True):
        if words and words[-1] == "--missing" and word.startswith("-") and not _OPTION.fullmatch(word):
            words[-1] = f"--missing={word}"
        else:
            words.append(f"{word}=" if word == "--keep-range" and is_table(after) else word)
    return [f"{word}," if word == "--missing=--" else word for word in words]  # argparse would drop the two dashes


def _fault(error: Exception) -> str:
    """Describe an error that no input should cause, and the line that raised it."""
    *_, last = traceback.extract_tb(error.__traceback__)
    reason = next(iter(str(error).splitlines()), "")
    return f"internal error, please report it: {type(error).__name__} {reason} in {last.filename}, line {last.lineno}"


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
