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
from cfdg_diffusion.cli import options

_EXAMPLES = """examples:
  cfdg-diffusion fit adult.csv --label income -o model/
  cfdg-diffusion sample model/ -n 5
  cfdg-diffusion sample model/ -n 10_000 -o synthetic.csv
  cfdg-diffusion sample model/ -n 500 --label '>50K' -o rich.csv
  cfdg-diffusion report adult.csv synthetic.csv --label income -o report.html

'cfdg-diffusion COMMAND --help' has examples of each command. Tables are .csv, .tsv and .parquet files."""

_FIT_EXAMPLES = """examples:
  cfdg-diffusion fit adult.csv --dry-run                     what each column will be taken for; trains nothing
  cfdg-diffusion fit adult.csv -o model/                     learn the table
  cfdg-diffusion fit adult.csv --label income -o model/      ... so that rows of one income can be asked for
  cfdg-diffusion fit adult.csv --label income,sex -o model/  ... of one combination of income and sex
  cfdg-diffusion fit adult.csv --drop name,id --kinds zip=category -o model/
  cfdg-diffusion fit stays.csv --constraint 'age: 0..120' --constraint 'arrival <= departure' \\
                     --constraint 'fixed: city, country' -o model/
  cfdg-diffusion fit big.parquet --time-budget 5m --history loss.csv -o model/
  cfdg-diffusion fit big.parquet --checkpoint half.safetensors -o model/     may be stopped, and goes on from there

Training looks after itself: rows set aside judge it, it ends when they stop improving, and the best weights are kept.
In a CSV file ISO dates become dates, 01234 stays text, empty cells and NA are missing. --kinds corrects what was
guessed: --kinds code=text leaves a column of dates as text, --kinds zip=number reads 01234 as a number.
--label makes a model that can be asked for a class, and gives rare classes as much of the training as frequent ones.
Set rows aside for 'cfdg-diffusion report' before you fit."""

_SAMPLE_EXAMPLES = """examples:
  cfdg-diffusion sample model/ -n 5                               CSV to standard output
  cfdg-diffusion sample model/ -n 1_000_000 -o synthetic.csv      any number of rows in bounded memory
  cfdg-diffusion sample model/ -n 1_000_000 -o synthetic.parquet
  cfdg-diffusion sample model/ -n 500 --label '>50K' -o rich.csv  rows of one class, exactly
  cfdg-diffusion sample model/ -n 500 --label income='>50K' --label sex=Female -o some.csv
  cfdg-diffusion sample model/ -n 1000 --balance -o balanced.csv  as many of each class
  cfdg-diffusion sample model/ --labels wanted.csv -o rows.csv    one row for each row of a table of labels
  cfdg-diffusion sample model/ --like adult.csv --fix age,sex -o alike.csv    these columns kept, the others generated

guidance, for models with a label: --guidance 0.5 makes rows more typical of their class and less varied,
--guidance rare=0.5 those of one class; 0 is the plain model. --interval 0.2,5 lets it act between two noise levels.
The same seed gives the same file; another --seed gives other rows."""

_IMPUTE_EXAMPLES = """examples:
  cfdg-diffusion impute model/ holes.csv              CSV to standard output
  cfdg-diffusion impute model/ holes.csv -o full.csv
  cfdg-diffusion impute model/ holes.parquet -o full.parquet --seed 1     another filling that is as likely

Empty cells, and NA or null, are filled with values that go with the rest of their row; all other cells stay. The table
has the columns of training, and may have more, which are copied. Fill several times with different seeds to see how
certain the filling is. Generated cells obey the model's constraints."""

_REPORT_EXAMPLES = """examples:
  cfdg-diffusion report train.csv synthetic.csv
  cfdg-diffusion report train.csv synthetic.csv --holdout holdout.csv --label income -o report.html
  cfdg-diffusion report train.csv synthetic.csv --holdout holdout.csv --json report.json --quiet

The holdout is real rows that trained nothing, best as many as the training rows: only against them can one see whether
a table was copied, so that privacy and utility need it. The headline is detection: how well boosted trees tell
synthetic from real rows, where 0.5 is guessing. --label is the column that a model trained on synthetic rows has to
predict. Needs scikit-learn: pip install 'cfdg-diffusion[report]'."""

_INSPECT_EXAMPLES = """examples:
  cfdg-diffusion inspect model/                       columns, labels, training, settings
  cfdg-diffusion inspect adult.csv                    what fit would take each column for
  cfdg-diffusion inspect adult.csv --label income     ... and how many rows each label has"""

_TABLE_OUTPUT = ".csv, .tsv or .parquet (default: CSV to standard output, as - is)"


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; a parsed command line has ``run``, a function of the parsed arguments."""
    parser = argparse.ArgumentParser(
        prog="cfdg-diffusion",
        description="Synthetic tables: learn a CSV or Parquet file, generate rows like it, of the class you ask for.",
        epilog=_EXAMPLES,
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
    option("--kinds", action="append", default=[], type=options.kind, metavar="COLUMN=KIND",
           help="take a column for number, integer, category, boolean, datetime, text; repeat for more")  # fmt: skip
    option("--drop", action="append", default=[], metavar="COLUMN", help="leave out; several: a,b or repeat")
    option("--constraint", action="append", default=[], metavar="RULE",
           help=f"what every generated row has to fulfil: {options.RULES}; repeat for more")  # fmt: skip
    option("--steps", type=options.count, metavar="N", help="gradient steps at most (default: the model's)")
    option("--time-budget", type=options.duration, metavar="TIME", help="end training after 90s, 5m or 1h30m")
    option("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    option("--seed", type=int, default=0, help="same seed, same model on a CPU (default: 0)")
    option("--history", type=Path, metavar="CSV", help="write the losses of training to this file")
    option("--checkpoint", type=Path, metavar="FILE",
           help="write the training here every minute, and go on from it when run again")  # fmt: skip
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
    option("--balance", action="store_true", help="as many rows of every label")
    option("--fix", action="append", default=[], metavar="COLUMN", help="columns kept by --like; a,b or repeat")
    option("--guidance", action="append", default=[], metavar="W", help="guidance weight, or LABEL=W,LABEL=W")
    option("--interval", type=options.interval, default=(0.0, math.inf), metavar="LOW,HIGH",
           help="noise levels between which guidance acts (default: all)")  # fmt: skip
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
    option("-o", "--output", type=Path, metavar="HTML", help="write one self-contained page with plots")
    option("--json", type=Path, metavar="JSON", help="write every number")
    option("--rows", type=options.count, default=20_000, metavar="N", help="rows compared at most (default: 20_000)")
    option("--seed", type=int, default=0, help="same seed, same report (default: 0)")
    option("--quiet", action="store_true", help="print no report, only write files")


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("what", type=Path, metavar="MODEL_OR_TABLE", help="what fit wrote, or a .csv, .tsv or .parquet file")
    option("--label", action="append", default=[], metavar="COLUMN", help="of a table: count its values")
    option("--kinds", action="append", default=[], type=options.kind, metavar="COLUMN=KIND", help="of a table: see fit")


_COMMANDS = (
    _Command(
        name="fit",
        summary="learn a table: CSV or Parquet in, a model out",
        description="Learn a table. The model is written when training has ended, complete or not at all.",
        examples=_FIT_EXAMPLES,
        add_options=_add_fit,
    ),
    _Command(
        name="sample",
        summary="generate rows from a model",
        description="Generate rows, as CSV to standard output or to a file, which appears when all rows are written.",
        examples=_SAMPLE_EXAMPLES,
        add_options=_add_sample,
    ),
    _Command(
        name="impute",
        summary="fill the missing cells of a table",
        description="Fill the missing cells of a table. A file appears under its name when all rows are written.",
        examples=_IMPUTE_EXAMPLES,
        add_options=_add_impute,
    ),
    _Command(
        name="report",
        summary="judge a synthetic table beside the real one",
        description="Measure quality, utility and privacy of a synthetic table, of this package or any other.",
        examples=_REPORT_EXAMPLES,
        add_options=_add_report,
    ),
    _Command(
        name="inspect",
        summary="say what a model is, or what fit would make of a table",
        description="Say what a model has learnt, or what fit would take the columns of a table for.",
        examples=_INSPECT_EXAMPLES,
        add_options=_add_inspect,
    ),
)
