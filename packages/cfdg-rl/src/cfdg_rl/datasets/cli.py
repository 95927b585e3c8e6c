"""Command line of all datasets: ``cfdg-datasets``."""

from __future__ import annotations

import argparse
import fnmatch
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cfdg_rl.datasets import minari
from cfdg_rl.datasets.catalogue import PUBLISHED
from cfdg_rl.datasets.download import Patience, download
from cfdg_rl.datasets.inspection import count_rows, describe, faults, file_of, raw_rows
from cfdg_rl.datasets.load import dataset_names, load_dataset, resolve_name

_DESCRIPTION = "List, inspect, check and download datasets."
_EPILOG = """
names:
  recorded:hopper-medium           made on this machine on first use (see also cfdg-record --help)
  d4rl:hopper-medium-v2            a file of D4RL in $D4RL_DATASET_DIR, or ~/.d4rl/datasets
  minari:mujoco/hopper/medium-v0   a dataset of Minari in $MINARI_DATASETS_PATH; pip install 'cfdg-rl[minari]'
  minari:ID@ENV_ID                 the same, evaluated in another environment
  hdf5:PATH@ENV_ID                 your own file in D4RL's layout, and the Gymnasium environment it belongs to

examples:
  cfdg-datasets list                                      what there is, and what is on this machine
  cfdg-datasets show recorded:hopper-medium               rows, returns, ranges, a histogram of the returns
  cfdg-datasets download hopper-medium-v2                 one file of D4RL, from its host
  cfdg-datasets download 'antmaze-*' --url http://mirror/offline_rl
  cfdg-datasets verify d4rl:hopper-medium-v2 hdf5:run.hdf5@Hopper-v5

Only download uses the network. A broken-off download goes on where it stopped when you type it again. When the host is
down, get the file from elsewhere, under the same name, and put it into the folder above.

exit status: 0; 1 if verify found something wrong or download failed; 2 if the words make no sense.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the four commands; bad input is one sentence on standard error."""
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="cfdg-datasets", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=shape
    )
    commands = parser.add_subparsers(required=True, metavar="{list,show,verify,download}")
    cache = argparse.ArgumentParser(add_help=False)
    cache.add_argument("--cache", type=Path, help="cache folder of the recorded datasets instead of $CFDG_CACHE")
    add = commands.add_parser("list", parents=[cache], help="every name, and what is on this machine")
    add.set_defaults(run=_list)
    add = commands.add_parser("show", parents=[cache], help="what is in one dataset; a recorded one is made if need be")
    add.add_argument("name", metavar="NAME")
    add.set_defaults(run=_show)
    add = commands.add_parser("verify", parents=[cache], help="check files: keys, widths, row counts, bounds, episodes")
    add.add_argument("names", nargs="+", metavar="NAME")
    add.set_defaults(run=_verify)
    add = commands.add_parser("download", help="fetch files of D4RL, or datasets of Minari")
    add.add_argument("names", nargs="+", metavar="NAME", help="such as hopper-medium-v2, antmaze-*, minari:ID")
    add.add_argument("--url", help="folder of a mirror, instead of D4RL's host or $CFDG_D4RL_URL")
    add.add_argument("--timeout", type=float, default=Patience.timeout, help="seconds; default %(default)g")
    add.add_argument("--tries", type=int, default=Patience.tries, help="in a row without a byte; default %(default)s")
    add.set_defaults(run=_download)
    return parser


def _list(arguments: argparse.Namespace) -> int:
    line = "{:<36} {:>10}  {}\n"
    sys.stdout.write(line.format("name", "rows", "file"))
    for name in dataset_names():
        path = file_of(name, arguments.cache)
        if path is None or not path.is_file():
            absent = "made on first use" if name.startswith("recorded:") else "absent: cfdg-datasets download " + name
            sys.stdout.write(line.format(name, "-", absent))
            continue
        rows = count_rows(path)
        sys.stdout.write(line.format(name, "damaged" if rows is None else f"{rows:,}", path))
    for name in minari.local_names():
        sys.stdout.write(line.format(name, "-", "in Minari's folder"))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    name = resolve_name(_with_source(arguments.name))
    data = load_dataset(name, cache=arguments.cache, progress=True)
    found = raw_rows(name, arguments.cache)
    sys.stdout.write(describe(data, found[0] if found else None))
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    wrong = False
    for name in [resolve_name(_with_source(name)) for name in arguments.names]:
        try:
            found = list(faults(name, arguments.cache))
        except (ValueError, OSError, ImportError) as error:
            found = [str(error)]
        sys.stdout.write("".join(f"wrong: {fault}\n" for fault in found) or f"right: {name}\n")
        wrong = wrong or bool(found)
    return int(wrong)


def _download(arguments: argparse.Namespace) -> int:
    patience = Patience(tries=arguments.tries, timeout=arguments.timeout)
    failed = False
    for name in [each for word in arguments.names for each in _downloadable(word)]:
        try:
            sys.stdout.write(f"{_fetch(name, arguments.url, patience)}\n")
        except OSError as error:  # a host that is down for one file may have another: go on
            sys.stderr.write(f"error: {error}\n")
            failed = True
    return int(failed)


def _fetch(name: str, url: str | None, patience: Patience) -> str:
    source, _, rest = name.partition(":")
    if source == "minari":
        minari.download(minari.split_name(rest)[0])
        return f"{name} is in Minari's folder"
    return str(download(PUBLISHED[rest], base=url, patience=patience, progress=True))


def _downloadable(word: str) -> list[str]:
    """Full names of a word such as "hopper-medium-v2", "d4rl:antmaze-*" or "minari:ID"."""
    if word.startswith("minari:"):
        return [resolve_name(word)]
    if word.startswith(("recorded:", "hdf5:")):
        raise ValueError(f"{word} is made on your machine, there is nothing to download")
    pattern = word.removeprefix("d4rl:")
    names = [f"d4rl:{name}" for name in PUBLISHED if fnmatch.fnmatchcase(name, pattern)]
    return names or [resolve_name(f"d4rl:{pattern}")]


def _with_source(name: str) -> str:
    """Names of D4RL's files need no source here."""
    return f"d4rl:{name}" if name in PUBLISHED else name


if __name__ == "__main__":
    sys.exit(main())
