"""Contents of one's own data, looked at before they are loaded: is the task sparse, and are they still the same."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np

from cfdg_rl.datasets import hdf5, minari
from cfdg_rl.datasets.trajectories import looks_sparse

_BLOCK = 1 << 22  # bytes read at a time
_DIGITS = 16  # of a digest

Stamp = tuple[str, int, int]  # path, size in bytes, time of the last change: an unchanged file is read once


def looks_sparse_on_disk(source: str, rest: str) -> bool:
    """Tell if the rewards of own data are a maze's; False for data that cannot be read, which loading then refuses.

    Args:
        source: "hdf5" or "minari".
        rest: the name without its source.
    """
    try:
        if source == "hdf5":
            return _sparse_file(_stamp(hdf5.split_name(rest).path))
        return _sparse_episodes(minari.split_name(rest)[0], tuple(map(_stamp, _files(source, rest))))
    except (OSError, KeyError, ValueError, TypeError, ImportError):
        return False


def digest_on_disk(source: str, rest: str) -> str:
    """Compute 16 hexadecimal digits of the files of own data and the module of its environment; "" without files."""
    try:
        files = _files(source, rest)
        parts = [_digest(_stamp(file)) for file in files + _modules(source, rest)] if files else []
    except (OSError, ImportError):
        return ""
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:_DIGITS] if parts else ""


def _files(source: str, rest: str) -> list[Path]:
    if source == "hdf5":
        return [hdf5.split_name(rest).path]
    return minari.files_of(minari.split_name(rest)[0])


def _modules(source: str, rest: str) -> list[Path]:
    """Find the file of the module in "module:ENV_ID", without importing it; none for other environments."""
    env_id = hdf5.split_name(rest).env_id if source == "hdf5" else minari.split_name(rest)[1] or ""
    module, mark, _ = env_id.partition(":")
    with suppress(ImportError, ValueError):
        found = importlib.util.find_spec(module) if mark else None
        return [Path(found.origin)] if found and found.has_location and found.origin else []
    return []


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return str(path), found.st_size, found.st_mtime_ns


@functools.lru_cache(maxsize=1024)
def _digest(stamp: Stamp) -> str:
    with Path(stamp[0]).open("rb") as file:
        found = hashlib.sha256()
        for block in iter(lambda: file.read(_BLOCK), b""):
            found.update(block)
    return found.hexdigest()


@functools.lru_cache(maxsize=256)
def _sparse_file(stamp: Stamp) -> bool:
    with h5py.File(stamp[0], "r") as file:
        columns = [np.asarray(file[key][()], np.float32).reshape(-1) for key in ("rewards", "terminals")]
    return looks_sparse(columns[0], columns[1] != 0)


@functools.lru_cache(maxsize=256)
def _sparse_episodes(dataset_id: str, stamps: tuple[Stamp, ...]) -> bool:
    """Stop at the first episode of other rewards; ``stamps`` tell the dataset from an earlier one of the same id."""
    some = False
    for reward, terminal in _flags(dataset_id):
        if not (reward == terminal).all():
            return False
        some = some or bool(terminal.any())
    return some


def _flags(dataset_id: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for episode in minari.stored_episodes(dataset_id):
        yield np.asarray(episode.rewards, np.float32), np.asarray(episode.terminations)
