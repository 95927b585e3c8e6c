"""Checkpoints: nested dictionaries of tensors, arrays and plain values in one safetensors file, never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfdg_rl.tensor_files import CHECKSUM, read_tensors, write_tensors

FORMAT = 2  # 1 had no checksum


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a tree of mappings, lists, tensors, arrays and JSON values; a kill leaves the old file or the new one.

    Raises:
        OSError: if the file cannot be written; an earlier one stays.
    """
    tensors: dict[str, Tensor] = {}
    tree = _pack(state, (), tensors)
    write_tensors(path, tensors, {"format": str(FORMAT), "tree": json.dumps(tree)})


def load_checkpoint(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote; arrays come back as tensors.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is truncated, damaged, foreign or of a newer format.
    """
    tensors, metadata = read_tensors(path, "checkpoint", "checkpoint")
    found = metadata.get("format")
    if found not in ("1", str(FORMAT)) or (found != "1" and CHECKSUM not in metadata):
        raise ValueError(f"checkpoint {path} has format {found} or no checksum, expected format 1 to {FORMAT}")
    try:
        return _unpack(json.loads(metadata["tree"]), {name: tensor.to(device) for name, tensor in tensors.items()})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"checkpoint {path} has a header that cannot be read: {error!r}") from error


def _pack(value: object, path: tuple[str, ...], tensors: dict[str, Tensor]) -> dict[str, object]:
    """Replace every tensor in ``value`` by a reference, and collect the tensors by their path."""
    if isinstance(value, Mapping):
        keys = [[key, _pack(item, (*path, str(key)), tensors)] for key, item in value.items()]
        return {"kind": "map", "items": keys}
    if isinstance(value, (list, tuple)):
        return {"kind": "list", "items": [_pack(item, (*path, str(i)), tensors) for i, item in enumerate(value)]}
    if isinstance(value, (Tensor, np.ndarray)):
        name = "/".join(path)
        tensors[name] = torch.as_tensor(value)
        return {"kind": "tensor", "name": name}
    return {"kind": "value", "value": value}


def _unpack(tree: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:  # noqa: ANN401 - whatever was saved
    kind = tree["kind"]
    if kind == "map":
        return {key: _unpack(item, tensors) for key, item in tree["items"]}
    if kind == "list":
        return [_unpack(item, tensors) for item in tree["items"]]
    return tensors[tree["name"]] if kind == "tensor" else tree["value"]
