"""Checkpoints: nested dictionaries of tensors, arrays and plain values in one safetensors file, never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cfdg_rl.files import atomic_write

FORMAT = 1


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a tree of mappings, lists, tensors, arrays and JSON values; a kill leaves the old file or the new one."""
    tensors: dict[str, Tensor] = {}
    tree = _pack(state, (), tensors)
    with atomic_write(path) as draft:
        save_file(tensors, draft, metadata={"format": str(FORMAT), "tree": json.dumps(tree)})


def load_checkpoint(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote; arrays come back as tensors.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is truncated, foreign or of a newer format.
    """
    if not path.exists():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise ValueError(f"checkpoint {path} is truncated or not a checkpoint ({error})") from error
    if metadata.get("format") != str(FORMAT):
        raise ValueError(f"checkpoint {path} has format {metadata.get('format')}, expected {FORMAT}")
    return _unpack(json.loads(metadata["tree"]), tensors)


def _pack(value: object, path: tuple[str, ...], tensors: dict[str, Tensor]) -> dict[str, object]:
    """Replace every tensor in ``value`` by a reference, and collect the tensors by their path."""
    if isinstance(value, Mapping):
        keys = [[key, _pack(item, (*path, str(key)), tensors)] for key, item in value.items()]
        return {"kind": "map", "items": keys}
    if isinstance(value, (list, tuple)):
        return {"kind": "list", "items": [_pack(item, (*path, str(i)), tensors) for i, item in enumerate(value)]}
    if isinstance(value, (Tensor, np.ndarray)):
        name = "/".join(path)
        tensors[name] = torch.as_tensor(value).detach().contiguous().clone()
        return {"kind": "tensor", "name": name}
    return {"kind": "value", "value": value}


def _unpack(tree: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:  # noqa: ANN401 - whatever was saved
    kind = tree["kind"]
    if kind == "map":
        return {key: _unpack(item, tensors) for key, item in tree["items"]}
    if kind == "list":
        return [_unpack(item, tensors) for item in tree["items"]]
    return tensors[tree["name"]] if kind == "tensor" else tree["value"]
