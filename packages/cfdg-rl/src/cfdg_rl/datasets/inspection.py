"""Inspection of datasets: a page of counts and ranges, and the faults of files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from cfdg_rl.datasets import hdf5
from cfdg_rl.datasets.catalogue import PUBLISHED, find_file, row_fault
from cfdg_rl.datasets.d4rl import read_rows, rows_of
from cfdg_rl.datasets.dataset import Dataset
from cfdg_rl.datasets.load import resolve_name
from cfdg_rl.datasets.recorded import recording
from cfdg_rl.datasets.scores import Family
from cfdg_rl.datasets.text_table import TextTable
from cfdg_rl.datasets.trajectories import RawRows, continues

_WIDTH = 40
_BINS = 10
_FACTS = TextTable(("<17", "<"))
_OBSERVATIONS = TextTable(("<12", ">10", ">10", ">10"), gap=" ")
_BINS_TABLE = TextTable((">10", "<", ">10", ">7", "<"), gap=" ")


def file_of(name: str, cache: Path | None = None) -> Path | None:
    """Return the path of a dataset's file, existing or not; None for Minari, whose datasets are folders."""
    source, _, rest = name.partition(":")
    if source == "recorded":
        return recording.cache_folder(cache) / recording.plan_recording(rest, None, 0).file_name
    if source == "d4rl":
        return PUBLISHED[rest].local
    return hdf5.split_name(rest).path if source == "hdf5" else None


def count_rows(path: Path) -> int | None:
    """Count the raw rows of a file from its header; None if it cannot be opened."""
    try:
        with h5py.File(path, "r") as file:
            return len(file["observations"])
    except (OSError, KeyError, TypeError):
        return None


def raw_rows(name: str, cache: Path | None = None) -> tuple[RawRows, Family] | None:
    """Read the checked raw rows of a dataset and its family; None for a Minari dataset, which is no file.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: if it is not what it should be.
    """
    source, _, rest = name.partition(":")
    path = find_file(rest) if source == "d4rl" else file_of(name, cache)
    if path is None:
        return None
    if source == "hdf5":
        return hdf5.read_own(hdf5.split_name(rest))
    if source == "recorded" and not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: run 'cfdg-datasets record {rest}'")
    if source == "d4rl":
        return read_rows(path, family := PUBLISHED[rest].family), family
    plan = recording.plan_recording(rest, None, 0)
    return rows_of(path, recording.read_recording(path, plan), plan.robot), plan.robot


def faults(name: str, cache: Path | None = None) -> Iterator[str]:
    """Yield a sentence for each fault of a dataset."""
    full = resolve_name(name)
    found = raw_rows(full, cache)
    if found is None:
        yield from _minari_faults(full)
        return
    raw, family = found
    published = PUBLISHED.get(full.partition(":")[2])
    count = row_fault(published, len(raw.reward)) if published else None
    if count:
        yield f"{full} {count}"
    yield from (f"{full}: {note}" for note in raw.notes)
    if not raw.scattered:
        yield from _episode_faults(full, raw, family)
    if family.sparse and not (raw.reward == raw.terminal).all():
        row = int(np.argmax(raw.reward != raw.terminal))
        yield (
            f"{full}: reward {raw.reward[row]:g} and terminal {int(raw.terminal[row])} at row {row}, "
            "expected 1 and 1 at the goal and 0 and 0 elsewhere"
        )


def _episode_faults(full: str, raw: RawRows, family: Family) -> Iterator[str]:
    over = raw.timeout | raw.terminal & ~continues(raw, sparse=family.sparse)
    ends = np.flatnonzero(over if raw.cut is None else over | raw.cut)
    if len(ends) == 0:
        yield f"{full}: no episode ends, expected terminals or timeouts that are true somewhere"
        return
    length = np.diff(ends, prepend=-1)
    longest = int(length.argmax())
    slack = 1 if family.sparse else 0  # D4RL's maze trajectories have one row more than the limit
    if length[longest] > family.max_episode_steps + slack:
        yield (
            f"{full}: the episode that ends at row {ends[longest]} has {length[longest]:,} rows, "
            f"expected at most {family.max_episode_steps:,}"
        )


def _minari_faults(full: str) -> Iterator[str]:
    from cfdg_rl.datasets import minari

    if len(minari.load(full, None).episode_returns) == 0:
        yield f"{full}: no episode is complete"


def describe(data: Dataset, raw: RawRows | None) -> str:
    """Write a page about a loaded dataset: counts, ranges, columns and the returns."""
    returns = data.episode_returns
    table = data.transitions
    lines = [
        ("name", data.name),
        ("environment", data.env_id),
        ("transitions", f"{len(table):,}" + (f" of {len(raw.reward):,} raw rows" if raw else "")),
        ("complete episodes", f"{len(returns):,}"),
        ("mean return", f"{returns.mean():,.2f} +- {returns.std():,.2f}" if len(returns) else "-"),
        (
            "score",
            f"{data.behaviour_score:.1f}" + ("" if data.reference else " (raw returns: no reference returns known)"),
        ),
        ("reference returns", "{:g} and {:g}".format(*data.reference) if data.reference else "-"),
        ("reward", _range(table.reward.numpy())),
        ("terminal rows", f"{int(table.terminal.sum()):,}"),
        ("time-out rows", f"{int(raw.timeout.sum()):,}" if raw else "-"),
        ("action", f"{data.action_dim} columns, {_range(table.action.numpy())}"),
    ]
    lines += [("note", note.removeprefix(f"{data.name}: ")) for note in data.notes]
    page = _FACTS.lines(lines)
    return f"{page}\n{_columns(table.obs.numpy())}" + (f"\n{_histogram(returns)}" if len(returns) else "")


def _range(values: np.ndarray) -> str:
    return f"{values.min():.4g} to {values.max():.4g}, mean {values.mean(dtype=np.float64):.4g}"


def _columns(obs: np.ndarray) -> str:
    columns = zip(obs.min(axis=0), obs.mean(axis=0, dtype=np.float64), obs.max(axis=0), strict=True)
    rows = [(i, *(f"{value:.4g}" for value in column)) for i, column in enumerate(columns)]
    return _OBSERVATIONS.lines([("observation", "min", "mean", "max"), *rows])


def _histogram(returns: np.ndarray) -> str:
    counts, edges = np.histogram(returns, bins=_BINS)
    bars = ["#" * int(np.ceil(_WIDTH * count / counts.max())) for count in counts]
    bins = zip(edges, edges[1:], counts, bars, strict=False)
    rows = [(f"{low:.4g}", "to", f"{high:.4g}", f"{count:,}", bar) for low, high, count, bar in bins]
    return "returns, episodes\n" + _BINS_TABLE.lines(rows)
