"""Command line of the embedded datasets: ``cfdg-record``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cfdg_rl.datasets.load import Dataset, load_dataset, resolve_name
from cfdg_rl.datasets.recorded import recording

_EPILOG = """
A recorded dataset is made on its first use anyway; this makes it beforehand, with all cores, and shows what is in it.
The levels of locomotion are D4RL's:
  random         an untrained policy
  medium         a policy part-way through its training
  medium-replay  everything that policy's training had seen until then (shipped; nothing is rolled out)
  medium-expert  half the medium policy, half the fully trained one
In the point mazes a planner drives a ball, as D4RL's collected AntMaze; the goal itself is met by chance:
  play           from anywhere to one of a few places, then to another
  diverse        from anywhere to anywhere, and on

examples:
  cfdg-record hopper-medium                       200,000 rows, kept in the cache folder
  cfdg-record hopper-medium walker2d-random       two of them
  cfdg-record pointmaze-medium-play               a maze; mean return is the share of trajectories that met the goal
  cfdg-record all --rows 20000 --jobs 2           all seventeen, small
  cfdg-record hopper-medium --seed 1              other rows of the same policy
  cfdg-record --list                              the names, and which are there already

The same name, rows and seed give the same rows, whatever --jobs is. Scores are on D4RL's scale: 0 random, 100 expert.
Files have D4RL's HDF5 layout. The cache folder is --cache, $CFDG_CACHE, $XDG_CACHE_HOME/cfdg or ~/.cache/cfdg.
"""
_COLUMNS = "{:<26} {:>9} {:>9} {:>12} {:>7} {:>9}  {}\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Record datasets and print a table; 2 with one sentence on standard error if something is wrong."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.list:
            _list(arguments)
        else:
            _record(arguments)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cfdg-record",
        description="Make the recorded datasets by rolling shipped policies and a planner out on this machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as hopper-medium, or all")
    parser.add_argument("--rows", type=int, help="rows of each; default 200,000, of a replay all it has")
    parser.add_argument("--seed", type=int, default=0, help="of the rollout; default 0")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; default one per core")
    parser.add_argument("--cache", type=Path, help="cache folder")
    parser.add_argument("--list", action="store_true", help="list the names and which are recorded, then stop")
    return parser


def _list(arguments: argparse.Namespace) -> None:
    for name in recording.NAMES:
        path = _path(f"recorded:{name}", arguments)
        sys.stdout.write(f"{name:<26} {path if path.is_file() else 'not recorded yet'}\n")


def _record(arguments: argparse.Namespace) -> None:
    if not arguments.names:
        raise ValueError("no name given, expected names such as hopper-medium, or all (cfdg-record --list shows them)")
    names = list(recording.NAMES) if arguments.names == ["all"] else arguments.names
    full = [_recorded_name(name) for name in names]
    for name in full:
        _path(name, arguments)  # every plan is checked before the first rollout
    sys.stdout.write(_COLUMNS.format("name", "rows", "episodes", "mean return", "score", "rows/s", "file"))
    for name in full:
        sys.stdout.write(_line(name, arguments))
        sys.stdout.flush()


def _recorded_name(name: str) -> str:
    full = resolve_name(name)
    if not full.startswith("recorded:"):
        raise ValueError(f"{name} is a file to download, not to record")
    return full


def _line(name: str, arguments: argparse.Namespace) -> str:
    path = _path(name, arguments)
    there, begin = path.is_file(), time.perf_counter()
    data = load_dataset(
        name, rows=arguments.rows, seed=arguments.seed, cache=arguments.cache, jobs=arguments.jobs, progress=True
    )
    rows, seconds = _plan(name, arguments).rows, time.perf_counter() - begin
    speed = "cached" if there else f"{rows / seconds:,.0f}"
    return _COLUMNS.format(name.partition(":")[2], f"{rows:,}", *_outcome(data), speed, path)


def _outcome(data: Dataset) -> tuple[str, str, str]:
    episodes = len(data.episode_returns)
    mean = f"{data.episode_returns.mean():,.1f}" if episodes else "-"
    return f"{episodes:,}", mean, f"{data.behaviour_score:.1f}"


def _plan(name: str, arguments: argparse.Namespace) -> recording.Recording:
    return recording.plan_recording(name.partition(":")[2], arguments.rows, arguments.seed)


def _path(name: str, arguments: argparse.Namespace) -> Path:
    return recording.cache_folder(arguments.cache) / _plan(name, arguments).file_name


if __name__ == "__main__":
    sys.exit(main())
