"""One file per model: a nested tree in safetensors, its tensors as such and the rest as JSON in the header.

Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from cfdg_diffusion.storage.tensor_files import read_tensors, write_tensors
from cfdg_diffusion.storage.version_1 import tree_of_version_1

Tree = dict[str, Any]
"""Nested dictionaries and lists of tensors, arrays and plain JSON values."""
_FORMAT = "cfdg-diffusion"
_VERSION = "2"


def save(path: Path, tree: Mapping[str, Any]) -> None:
    """Write a tree to a file, complete or not at all; folders that are not there are made.

    Raises:
        OSError: if the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    header = {"format": _FORMAT, "version": _VERSION, "tree": json.dumps(_pack(tree, (), tensors))}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, header)


def load(path: Path) -> Tree:
    """Read the tree that :func:`save` was given; tuples are lists, tensors are on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is truncated, foreign, or written by a newer version.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file, expected a saved model")
    tensors, header = read_tensors(path)
    _check_header(path, header)
    try:
        if header["version"] == "1":
            return tree_of_version_1(dict(json.loads(header["arguments"])), tensors)
        return _unpack(header["tree"], tensors)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} has a header that cannot be read: {error!r}") from error


def read_header(path: Path) -> dict[str, str]:
    """Read the header of a file of :func:`save` without its tensors: ``format``, ``version`` and JSON."""
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def _check_header(path: Path, header: Mapping[str, str]) -> None:
    if header.get("format") != _FORMAT:
        raise ValueError(f"{path} has format {header.get('format')!r}, expected {_FORMAT!r}")
    version = header.get("version", "")
    if version not in ("1", _VERSION):
        raise ValueError(f"{path} has version {version!r}, expected 1 to {_VERSION}: update cfdg-diffusion")
    unknown = header.keys() - {"format", "version", "tree"}
    if unknown and version != "1":
        raise ValueError(f"{path} has {min(unknown)!r} in its header, expected format, version, tree and checksum")


def _pack(value: object, path: tuple[str, ...], tensors: dict[str, Tensor]) -> object:
    """Replace every tensor and array in ``value`` by its name, and collect them by name."""
    if isinstance(value, Mapping):
        return {key: _pack(item, (*path, str(key)), tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_pack(item, (*path, str(index)), tensors) for index, item in enumerate(value)]
    if isinstance(value, Tensor | np.ndarray):
        name = "/".join(path)
        tensor = value.detach().cpu() if isinstance(value, Tensor) else torch.from_numpy(np.array(value, order="C"))
        tensors[name] = tensor
        return {"tensor" if isinstance(value, Tensor) else "array": name}
    return value


def _unpack(text: str, tensors: Mapping[str, Tensor]) -> Tree:
    def put(found: dict[str, Any]) -> object:
        if found.keys() == {"tensor"}:
            return tensors[found["tensor"]]
        return tensors[found["array"]].numpy() if found.keys() == {"array"} else found

    return dict(json.loads(text, object_hook=put))


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """List the leaves of nested dictionaries by their dotted names, such as ``learner.adam.step``."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        own = prefix + name
        found |= leaves(value, f"{own}.") if isinstance(value, Mapping) else {own: value}
    return found
