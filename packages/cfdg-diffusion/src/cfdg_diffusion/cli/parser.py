"""Parser of the command line: commands, options and help texts.

Nothing here imports PyTorch or pandas, so that the help appears at once; a command's own module is imported when the
command runs.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from cfdg_diffusion import __version__
from cfdg_diffusion.cli import examples, options

_TABLE_OUTPUT = ".csv, .tsv or .parquet (default: CSV to standard output, as - is)"


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; a parsed command line has ``run``, a function of the parsed arguments."""
    parser = argparse.ArgumentParser(
        prog="cfdg-diffusion",
        description="Synthetic tables: learn a CSV or Parquet file, generate rows like it, of the class you ask for.",
        epilog=examples.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_to(commands)
    return parser


@dataclass(frozen=True)
class _Command:
    """One command.

    Attributes:
        name: of the command and of its module, which has ``run(arguments)``.
        summary: its line in the list of commands.
        description: first paragraph of its help.
        examples: last paragraphs of its help.
        add_options: adds its options to a parser.
    """

    name: str
    summary: str
    description: str
    examples: str
    add_options: Callable[[argparse.ArgumentParser], None]

    def add_to(self, commands: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
        """Add the command to the subparsers of a parser."""
        parser = commands.add_parser(
            self.name,
            help=self.summary,
            description=self.description,
            epilog=self.examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_options(parser)
        parser.set_defaults(run=self.run)

    def run(self, arguments: argparse.Namespace) -> None:
        """Import the module of the command and run it."""
        import_module(f"cfdg_diffusion.cli.{self.name}").run(arguments)


def _add_fit(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("table", type=Path, metavar="TABLE", help="a .csv, .tsv or .parquet file with column names")
    option("-o", "--output", type=Path, metavar="MODEL", help="a folder, or a name that ends in .safetensors")
    option("--label", action="append", default=[], metavar="COLUMN", help="condition on it; several: a,b or repeat")
    option("--kinds", action="extend", default=[], type=options.kinds, metavar="COLUMN=KIND",
           help="take a column for number, integer, category, boolean, datetime, datetime:FORMAT, text; "
                "several: a=KIND,b=KIND or repeat")  # fmt: skip
    _add_layout(parser)
    option("--keep-range", action="append", nargs="?", const="", default=[], metavar="COLUMNS",
           help="generate no number or date beyond those of training; in all columns, or in a,b")  # fmt: skip
    option("--drop", action="append", default=[], metavar="COLUMN", help="leave out; several: a,b or repeat")
    option("--constraint", action="append", default=[], metavar="RULE",
           help=f"what every generated row has to fulfil: {options.RULES}; repeat for more")  # fmt: skip
    option("--steps", type=options.count, metavar="N", help="gradient steps at most (default: the model's)")
    option("--time-budget", type=options.duration, metavar="TIME", help="end training after 90s, 5m or 1h30m")
    option("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    option("--seed", type=int, default=0, help="same seed, same model on a CPU (default: 0)")
    option("--history", type=Path, metavar="CSV", help="write the losses of training to this file")
    option("--checkpoint", type=Path, metavar="FILE",
           help="write the training here now and then, and go on from it when run again")  # fmt: skip
    option("--checkpoint-every", type=options.duration, default=60.0, metavar="TIME",
           help="least time between two writes of --checkpoint (default: 1m)")  # fmt: skip
    option("--dry-run", action="store_true", help="say what each column will be taken for, and stop")
    option("--force", action="store_true", help="replace a model that is there already")
    option("--quiet", action="store_true", help="say nothing unless something is wrong")


def _add_sample(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("model", type=Path, metavar="MODEL", help="the folder or file that fit wrote")
    rows = parser.add_mutually_exclusive_group(required=True)
    rows.add_argument("-n", "--rows", type=options.count, metavar="N", help="number of rows, such as 1_000_000")
    rows.add_argument("--labels", type=Path, metavar="TABLE", help="one row for each row of this table of labels")
    rows.add_argument("--like", type=Path, metavar="TABLE", help="one row for each row, which keeps columns --fix")
    option("-o", "--output", default="-", metavar="TABLE", help=_TABLE_OUTPUT)
    option("--label", action="append", default=[], metavar="VALUE",
           help="only this label, '' for a missing one; COLUMN=VALUE of several")  # fmt: skip
    _add_layout(parser)
    option("--balance", action="store_true", help="as many rows of every label")
    option("--fix", action="append", default=[], metavar="COLUMN", help="columns kept by --like; a,b or repeat")
    option("--guidance", action="append", default=[], metavar="W", help="guidance weight, or LABEL=W,LABEL=W")
    option("--interval", type=options.interval, default=(0.0, math.inf), metavar="LOW,HIGH",
           help="noise levels between which guidance acts (default: all)")  # fmt: skip
    option("--escape-formulas", action="store_true", help="for spreadsheets: ' before text that begins with = + - @")
    option("--steps", type=options.count, metavar="N", help="sampler steps (default: the model's)")
    option("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    option("--seed", type=int, default=0, help="same seed, same rows (default: 0)")
    option("--force", action="store_true", help="replace a table that is there already")
    option("--quiet", action="store_true", help="say nothing unless something is wrong")


def _add_impute(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("model", type=Path, metavar="MODEL", help="the folder or file that fit wrote")
    option("table", type=Path, metavar="TABLE", help="a .csv, .tsv or .parquet file with missing cells")
    option("-o", "--output", default="-", metavar="TABLE", help=_TABLE_OUTPUT)
    _add_layout(parser)
    option("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    option("--seed", type=int, default=0, help="same seed, same filling (default: 0)")
    option("--force", action="store_true", help="replace a table that is there already")
    option("--quiet", action="store_true", help="say nothing unless something is wrong")


def _add_report(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("train", type=Path, metavar="TRAIN", help="the real table that the generator was fitted on")
    option("synthetic", type=Path, metavar="SYNTHETIC", help="the generated table")
    option("--holdout", type=Path, metavar="TABLE", help="real rows that trained nothing")
    option("--label", metavar="COLUMN", help="the column to predict, for utility")
    option(
        "--kinds", action="extend", default=[], type=options.kinds, metavar="COLUMN=KIND", help="those of fit, again"
    )
    option("--drop", action="append", default=[], metavar="COLUMN",
           help="leave out of all tables, as fit did; several: a,b or repeat")  # fmt: skip
    _add_layout(parser, "layout of the CSV files, as given to fit")
    option("-o", "--output", type=Path, metavar="HTML", help="write one self-contained page with plots")
    option("--json", type=Path, metavar="JSON", help="write every number")
    option("--rows", type=options.count, default=20_000, metavar="N", help="rows compared at most (default: 20_000)")
    option("--seed", type=int, default=0, help="same seed, same report (default: 0)")
    option("--quiet", action="store_true", help="print no report, only write files")


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("what", type=Path, metavar="MODEL_OR_TABLE", help="what fit wrote, or a .csv, .tsv or .parquet file")
    option("--label", action="append", default=[], metavar="COLUMN", help="of a table: count its values")
    option("--kinds", action="extend", default=[], type=options.kinds, metavar="COLUMN=KIND",
           help="of a table: see fit")  # fmt: skip
    _add_layout(parser, "layout of a table in a CSV file")


def _add_layout(parser: argparse.ArgumentParser, title: str = "layout of CSV files, remembered with a model") -> None:
    """Add the options that say how a CSV file is written; a model remembers those of its training."""
    group = parser.add_argument_group(title)
    option = group.add_argument
    option("--separator", type=options.character, metavar="C", help="between cells (default: , or tab in .tsv)")
    option("--decimal", type=options.character, metavar="C", help="before decimals (default: a point)")
    option("--thousands", type=options.character, metavar="C", help="between groups of three digits (default: none)")
    option("--missing", type=options.words, metavar="WORDS",
           help="cells for missing values beside the empty one, a,b (default: NA, null, None and others)")  # fmt: skip


_COMMANDS = (
    _Command(
        name="fit",
        summary="learn a table: CSV or Parquet in, a model out",
        description="Learn a table. The model is written when training has ended, complete or not at all.",
        examples=examples.FIT_EXAMPLES,
        add_options=_add_fit,
    ),
    _Command(
        name="sample",
        summary="generate rows from a model",
        description="Generate rows, as CSV to standard output or to a file, which appears when all rows are written.",
        examples=examples.SAMPLE_EXAMPLES,
        add_options=_add_sample,
    ),
    _Command(
        name="impute",
        summary="fill the missing cells of a table",
        description="Fill the missing cells of a table. A file appears under its name when all rows are written.",
        examples=examples.IMPUTE_EXAMPLES,
        add_options=_add_impute,
    ),
    _Command(
        name="report",
        summary="judge a synthetic table beside the real one",
        description="Measure quality, utility and privacy of a synthetic table, of this package or any other.",
        examples=examples.REPORT_EXAMPLES,
        add_options=_add_report,
    ),
    _Command(
        name="inspect",
        summary="say what a model is, or what fit would make of a table",
        description="Say what a model has learnt, or what fit would take the columns of a table for.",
        examples=examples.INSPECT_EXAMPLES,
        add_options=_add_inspect,
    ),
)
