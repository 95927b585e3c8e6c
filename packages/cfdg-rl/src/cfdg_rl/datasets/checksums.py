"""HDF5 files of recordings: written in memory first, with a SHA-256 of their content that reading compares."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cfdg_rl.files import atomic_write

CHECKSUM = "sha256"
_PREFIX = "metadata/"
UNREADABLE = (OSError, RuntimeError, KeyError, TypeError, AttributeError, UnicodeDecodeError, OverflowError)
"""Errors of h5py about damaged files."""


def write_hdf5(path: Path, columns: Mapping[str, np.ndarray], metadata: Mapping[str, str | int]) -> None:
    """Write columns such as ``observations`` or ``infos/qpos`` in D4RL's layout, metadata as root attributes.

    The file is complete or not there. It is made in memory, since HDF5 can end the process where a disk is full.

    Raises:
        OSError: if the file cannot be written; the error names it.
    """
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        for key, column in columns.items():
            file.create_dataset(key, data=column, compression="gzip", compression_opts=1, shuffle=True)
        for key, value in {**metadata, CHECKSUM: content_digest(columns, metadata)}.items():
            file.attrs[f"{_PREFIX}{key}"] = value
        file.flush()
        image = file.id.get_file_image()
    with atomic_write(path) as draft:
        draft.write_bytes(image)


def content_digest(columns: Mapping[str, np.ndarray], metadata: Mapping[str, str | int]) -> str:
    """Hash names, types, shapes and numbers of columns, and metadata: 64 hexadecimal digits of SHA-256."""
    found = hashlib.sha256(json.dumps(sorted((key, str(value)) for key, value in metadata.items())).encode())
    for key in sorted(columns):
        column = np.ascontiguousarray(columns[key])
        found.update(json.dumps([key, column.dtype.str, list(np.shape(columns[key]))]).encode())
        found.update(column.data)
    return found.hexdigest()


def read_checked(path: Path, expected: Mapping[str, str | int], rows: int) -> dict[str, np.ndarray]:
    """Read the columns of a file of :func:`write_hdf5`, unless metadata or rows are others or its content is damaged.

    Raises:
        ValueError: naming the file; one without a checksum, of an older version, is compared by its metadata alone.
    """
    try:
        with h5py.File(path, "r") as file:
            columns = {key: dataset[()] for key, dataset in _datasets(file).items()}
            metadata = {key.removeprefix(_PREFIX): plain(value) for key, value in file.attrs.items()}
    except UNREADABLE as error:
        raise ValueError(f"{path} is not a complete HDF5 file ({error}): delete it to record it again") from error
    written = metadata.pop(CHECKSUM, None)
    if written not in (None, content_digest(columns, metadata)):
        raise ValueError(f"{path} is damaged, its content has not the SHA-256 that is in it: delete it to record again")
    for key, value in {**expected, "rows": rows}.items():
        found = len(columns.get("rewards", ())) if key == "rows" else metadata.get(key)
        if found != value:
            raise ValueError(f"{path} has {key} {found}, expected {value} as its name says: delete it to record again")
    return columns


def plain(value: Any) -> str | int:  # noqa: ANN401 - an attribute of h5py
    """Turn an attribute into what was written: text or a whole number."""
    if isinstance(value, np.integer):
        return int(value)
    return value if isinstance(value, str) else str(value)


def _datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    """List the datasets of a file by their names, those in groups too."""
    found: dict[str, h5py.Dataset] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item

    file.visititems(visit)
    return found
