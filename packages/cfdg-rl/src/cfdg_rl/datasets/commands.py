"""Commands of ``cfdg-datasets``; each takes parsed arguments and returns an exit status."""

from __future__ import annotations

import argparse
import fnmatch
import sys
import time
import warnings
from pathlib import Path

from cfdg_rl.datasets import minari
from cfdg_rl.datasets.catalogue import PUBLISHED
from cfdg_rl.datasets.dataset import Dataset, DataWarning
from cfdg_rl.datasets.download import Patience, download
from cfdg_rl.datasets.inspection import count_rows, describe, faults, file_of, raw_rows
from cfdg_rl.datasets.load import dataset_names, load_dataset, resolve_name
from cfdg_rl.datasets.recorded import recording
from cfdg_rl.datasets.text_table import TextTable

_LIST = TextTable(("<35", ">10", "<"))
_RECORD = TextTable(("<25", ">9", ">8", ">11", ">6", ">8", "<"))


def list_datasets(arguments: argparse.Namespace) -> int:
    """Print every name, and rows and file of those on this machine."""
    sys.stdout.write(_LIST.line(("name", "rows", "file")))
    for name in dataset_names():
        sys.stdout.write(_LIST.line((name, *_rows_and_file(name, arguments.cache))))
    for name in minari.local_names():
        sys.stdout.write(_LIST.line((name, "-", "in Minari's folder")))
    return 0


def _rows_and_file(name: str, cache: Path | None) -> tuple[str, str]:
    path = file_of(name, cache)
    if path is None or not path.is_file():
        absent = "made on first use" if name.startswith("recorded:") else f"absent: cfdg-datasets download {name}"
        return "-", absent
    rows = count_rows(path)
    return "damaged" if rows is None else f"{rows:,}", str(path)


def show(arguments: argparse.Namespace) -> int:
    """Print a page about one dataset."""
    name = resolve_name(_with_source(arguments.name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the page has its notes
        data = load_dataset(name, cache=arguments.cache, progress=True)
    found = raw_rows(name, arguments.cache)
    sys.stdout.write(describe(data, found[0] if found else None))
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """Print all faults of datasets; 1 if there are any."""
    wrong = False
    for name in [resolve_name(_with_source(name)) for name in arguments.names]:
        try:
            found = list(faults(name, arguments.cache))
        except (ValueError, OSError, ImportError) as error:
            found = [str(error)]
        sys.stdout.write("".join(f"wrong: {fault}\n" for fault in found) or f"right: {name}\n")
        wrong = wrong or bool(found)
    return int(wrong)


def download_datasets(arguments: argparse.Namespace) -> int:
    """Download files one after the other; 1 if any failed."""
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
    """List the full names of a word such as "hopper-medium-v2", "d4rl:antmaze-*" or "minari:ID"."""
    if word.startswith("minari:"):
        return [resolve_name(word)]
    if word.startswith(("recorded:", "hdf5:")):
        raise ValueError(f"{word} is made on your machine, expected a name of D4RL or Minari to download")
    pattern = word.removeprefix("d4rl:")
    names = [f"d4rl:{name}" for name in PUBLISHED if fnmatch.fnmatchcase(name, pattern)]
    return names or [resolve_name(f"d4rl:{pattern}")]


def _with_source(name: str) -> str:
    """Add the source to a name of D4RL's files, which need none here."""
    return f"d4rl:{name}" if name in PUBLISHED else name


def record(arguments: argparse.Namespace) -> int:
    """Record datasets and print a line for each, or list them."""
    if arguments.list:
        for name in recording.NAMES:
            path = _recorded_path(f"recorded:{name}", arguments)
            sys.stdout.write(f"{name:<26} {path if path.is_file() else 'not recorded yet'}\n")
        return 0
    names = _names_to_record(arguments)
    sys.stdout.write(_RECORD.line(("name", "rows", "episodes", "mean return", "score", "rows/s", "file")))
    for name in names:
        sys.stdout.write(_RECORD.line(_record_one(name, arguments)))
        sys.stdout.flush()
    return 0


def _names_to_record(arguments: argparse.Namespace) -> list[str]:
    """Resolve the names and check every plan before the first rollout."""
    if not arguments.names:
        known = "hopper-medium, or all (cfdg-datasets record --list shows them)"
        raise ValueError(f"no name given, expected names such as {known}")
    names = list(recording.NAMES) if arguments.names == ["all"] else arguments.names
    full = [resolve_name(name) for name in names]
    for name, resolved in zip(names, full, strict=True):
        if not resolved.startswith("recorded:"):
            raise ValueError(f"{name} is a file to download, expected a dataset to record")
        _plan(resolved, arguments)
    return full


def _record_one(name: str, arguments: argparse.Namespace) -> tuple[str, ...]:
    path = _recorded_path(name, arguments)
    cached = path.is_file()
    begin = time.perf_counter()
    data = load_dataset(
        name, rows=arguments.rows, seed=arguments.seed, cache=arguments.cache, jobs=arguments.jobs, progress=True
    )
    rows = _plan(name, arguments).rows
    speed = "cached" if cached else f"{rows / (time.perf_counter() - begin):,.0f}"
    return (name.partition(":")[2], f"{rows:,}", *_outcome(data), speed, str(path))


def _outcome(data: Dataset) -> tuple[str, str, str]:
    episodes = len(data.episode_returns)
    mean = f"{data.episode_returns.mean():,.1f}" if episodes else "-"
    return f"{episodes:,}", mean, f"{data.behaviour_score:.1f}"


def _plan(name: str, arguments: argparse.Namespace) -> recording.Recording:
    return recording.plan_recording(name.partition(":")[2], arguments.rows, arguments.seed)


def _recorded_path(name: str, arguments: argparse.Namespace) -> Path:
    return recording.cache_folder(arguments.cache) / _plan(name, arguments).file_name
