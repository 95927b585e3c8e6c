"""Command line of the datasets: ``cfdg-datasets``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cfdg_rl.command_line import parse
from cfdg_rl.datasets import commands
from cfdg_rl.datasets.download import Patience
from cfdg_rl.envs.errors import ToldError

_DESCRIPTION = "List, inspect, check, download and record datasets."
_EPILOG = """
names:
  recorded:hopper-medium           made on this machine on first use (see also cfdg-datasets record --help)
  d4rl:hopper-medium-v2            a file of D4RL in $D4RL_DATASET_DIR, or ~/.d4rl/datasets
  minari:mujoco/hopper/medium-v0   a dataset of Minari in $MINARI_DATASETS_PATH; pip install 'cfdg-rl[minari]'
  minari:ID@ENV_ID                 the same, evaluated in another environment
  hdf5:PATH@ENV_ID                 your own file in D4RL's layout, and the Gymnasium environment it belongs to
  ...?actions=normalised           behind one of the last two: its actions lie in [-1, 1] whatever the environment's do

examples:
  cfdg-datasets list                                      what there is, and what is on this machine
  cfdg-datasets show recorded:hopper-medium               rows, returns, ranges, a histogram of the returns
  cfdg-datasets download hopper-medium-v2                 one file of D4RL, from its host
  cfdg-datasets download 'antmaze-*' --url http://mirror/offline_rl
  cfdg-datasets record all                                make the recorded datasets now, with all cores
  cfdg-datasets verify d4rl:hopper-medium-v2 hdf5:run.hdf5@Hopper-v5

Only download uses the network. A broken-off download goes on where it stopped when you type it again. When the host is
down, get the file from elsewhere, under the same name, and put it into the folder above.

exit status: 0; 1 if verify found something wrong or download failed; 2 if the arguments make no sense.
"""
_RECORD_DESCRIPTION = "Make the recorded datasets by rolling shipped policies and a planner out on this machine."
_RECORD_EPILOG = """
A recorded dataset is made on its first use anyway; this makes it beforehand, with all cores, and shows what is in it.
The levels of locomotion are D4RL's:
  random         an untrained policy
  medium         a policy part-way through its training
  medium-replay  all rows of that policy's training until then (shipped; nothing is rolled out)
  medium-expert  half the medium policy, half the fully trained one
In the point mazes a planner drives a ball, as D4RL's collected AntMaze; the goal itself is met by chance:
  play           from anywhere to one of a few places, then to another
  diverse        from anywhere to anywhere, and on

examples:
  cfdg-datasets record hopper-medium                   200,000 rows, kept in the cache folder
  cfdg-datasets record hopper-medium walker2d-random   two of them
  cfdg-datasets record pointmaze-medium-play           a maze; the mean return is its share of successes
  cfdg-datasets record all --rows 20000 --jobs 2       all seventeen, small
  cfdg-datasets record hopper-medium --seed 1          other rows of the same policy
  cfdg-datasets record --list                          the names, and which are there already

The same name, rows and seed give the same rows, whatever --jobs is. Scores are on D4RL's scale: 0 random, 100 expert.
Files have D4RL's HDF5 layout. The cache folder is --cache, $CFDG_CACHE, $XDG_CACHE_HOME/cfdg or ~/.cache/cfdg.
"""
_PLAIN = argparse.RawDescriptionHelpFormatter


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the five commands; bad input is one sentence on standard error and exit status 2."""
    arguments = parse(build_parser(), argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except (ValueError, OSError, ImportError, ToldError) as error:
        sys.stderr.write(f"error: {error}\n{getattr(error, 'details', '')}")
        return 2


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of ``cfdg-datasets``."""
    parser = argparse.ArgumentParser(
        prog="cfdg-datasets", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=_PLAIN
    )
    subparsers = parser.add_subparsers(required=True, metavar="{list,show,verify,download,record}")
    cache = argparse.ArgumentParser(add_help=False)
    cache.add_argument("--cache", type=Path, help="cache folder of the recorded datasets instead of $CFDG_CACHE")
    add = subparsers.add_parser("list", parents=[cache], help="every name, and what is on this machine")
    add.set_defaults(run=commands.list_datasets)
    about = "what is in one dataset; a recorded one is made if need be"
    add = subparsers.add_parser("show", parents=[cache], help=about)
    add.add_argument("name", metavar="NAME")
    add.set_defaults(run=commands.show)
    about = "check files: keys, widths, row counts, bounds, episodes"
    add = subparsers.add_parser("verify", parents=[cache], help=about)
    add.add_argument("names", nargs="+", metavar="NAME")
    add.set_defaults(run=commands.verify)
    _add_download(subparsers)
    _add_record(subparsers)
    return parser


def _add_download(subparsers: Any) -> None:  # noqa: ANN401 - argparse's type is private
    add = subparsers.add_parser("download", help="fetch files of D4RL, or datasets of Minari")
    add.add_argument("names", nargs="+", metavar="NAME", help="such as hopper-medium-v2, antmaze-*, minari:ID")
    add.add_argument("--url", help="folder of a mirror, instead of D4RL's host or $CFDG_D4RL_URL")
    add.add_argument("--timeout", type=float, default=Patience.timeout, help="seconds; default %(default)g")
    add.add_argument("--tries", type=int, default=Patience.tries, help="in a row without a byte; default %(default)s")
    add.set_defaults(run=commands.download_datasets)


def _add_record(subparsers: Any) -> None:  # noqa: ANN401 - argparse's type is private
    add = subparsers.add_parser(
        "record",
        help="make recorded datasets beforehand",
        description=_RECORD_DESCRIPTION,
        epilog=_RECORD_EPILOG,
        formatter_class=_PLAIN,
    )
    add.add_argument("names", nargs="*", metavar="NAME", help="such as hopper-medium, or all")
    add.add_argument("--rows", type=int, help="rows of each; default 200,000, of a replay all it has")
    add.add_argument("--seed", type=int, default=0, help="of the rollout; default 0")
    add.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; default one per core")
    add.add_argument("--cache", type=Path, help="cache folder")
    add.add_argument("--list", action="store_true", help="list the names and which are recorded, then stop")
    add.set_defaults(run=commands.record)


if __name__ == "__main__":
    sys.exit(main())
