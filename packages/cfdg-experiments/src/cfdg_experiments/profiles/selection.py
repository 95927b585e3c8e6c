"""Selection of a table's datasets on the command line: names, patterns, another source, a file of one's own."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path

from cfdg_experiments.names import near_names
from cfdg_rl.datasets.load import dataset_names, is_own, resolve_name
from cfdg_rl.datasets.minari import library


def own_file(file: Path | None, env_id: str | None, only: Sequence[str] | None, source: str | None) -> list[str] | None:
    """Name the user's own HDF5 file and environment as the table's one dataset; None where neither is given.

    Raises:
        ValueError: if only one of them is given, or a selection besides.
    """
    if file is None and env_id is None:
        return None
    if file is None or env_id is None:
        given, other = ("--env", "--file") if file is None else ("--file", "--env")
        raise ValueError(
            f"{other} is missing beside {given}, expected --file and --env together: an HDF5 file in D4RL's layout and "
            "the id of its environment"
        )
    if only or source:
        raise ValueError("--datasets or --data is given, expected neither beside --file, the table's one dataset")
    return [resolve_name(f"hdf5:{file}@{env_id}")]


def choose_datasets(datasets: Sequence[str], only: Sequence[str] | None, source: str | None) -> list[str]:
    """List the profile's datasets, those of ``only`` (patterns allowed), or either taken from another source.

    Raises:
        ValueError: if a name or pattern matches no dataset, with near names.
        ImportError: if a dataset is Minari's, which is not installed.
    """
    source_of = source or datasets[0].partition(":")[0]
    wanted = list(datasets) if only is None else [name if ":" in name else f"{source_of}:{name}" for name in only]
    chosen: list[str] = []
    for name in wanted:
        name = _from_source(name, source) if source else name
        chosen += [match for match in _matches(name) if match not in chosen]
    return chosen


def _from_source(name: str, source: str) -> str:
    """Name the dataset of the same task in another source; the recorded mazes have a point in place of the ant."""
    task = name.partition(":")[2].removesuffix("-v2")
    bodies = ("antmaze", "pointmaze") if source == "recorded" else ("pointmaze", "antmaze")
    task = task.replace(*bodies)
    return f"{source}:{task}" + ("-v2" if source == "d4rl" and not task.endswith("*") else "")


def _matches(name: str) -> list[str]:
    if name.startswith("minari:"):
        library()  # said before a plan is made
    if is_own(name):
        return [resolve_name(name)]
    known = dataset_names()
    versioned = [name, f"{name}-v2"] if name.startswith("d4rl:") else [name]
    found = [other for other in known if any(fnmatch.fnmatch(other, pattern) for pattern in versioned)]
    if not found:
        raise ValueError(f"unknown dataset {name!r}{near_names(name, known)}")
    return found
