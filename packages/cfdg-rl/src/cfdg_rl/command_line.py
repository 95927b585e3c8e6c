"""Command lines of which the faults are told in one sentence, without the usage."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr


def parse(parser: argparse.ArgumentParser, words: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line; None takes the words of the process.

    Raises:
        SystemExit: 2 if a word is wrong, after one sentence on standard error; 0 after the help.
    """
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            return parser.parse_args(words)
    except SystemExit as end:
        command, _, reason = told.getvalue().strip().rpartition(": error: ")
        if end.code == 2:
            program = command.splitlines()[-1]
            sys.stderr.write(f"{program}: error: {' '.join(reason.split())}; see {program} --help\n")
        raise
