"""The ``cfdg-diffusion`` command: fit, sample, impute, report, inspect."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from cfdg_diffusion import __version__
from cfdg_diffusion.cli import fit, impute, inspect, report, sample

EXAMPLES = """examples:
  cfdg-diffusion fit adult.csv --label income -o model/
  cfdg-diffusion sample model/ -n 5
  cfdg-diffusion sample model/ -n 10_000 -o synthetic.csv
  cfdg-diffusion sample model/ -n 500 --label '>50K' -o rich.csv
  cfdg-diffusion report adult.csv synthetic.csv --label income -o report.html

'cfdg-diffusion COMMAND --help' has examples of each command. Tables are .csv, .tsv and .parquet files."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0, also when the reader of standard output has seen enough; 2 after wrong input, told in one sentence; 130 after
        Ctrl-C.
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


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="cfdg-diffusion",
        description="Synthetic tables: learn a CSV or Parquet file, generate rows like it, of the class you ask for.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (fit, sample, impute, report, inspect):
        command.add(commands)
    return parser


def _sentence(error: BaseException) -> str:
    """One line: system errors name their file first."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"there is not enough memory: {error}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _close_standard_output() -> None:
    """Nobody reads any more: give Python nothing to complain of when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
