"""One file per model: a nested tree in safetensors, its tensors as such and the rest as JSON in the header.

Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

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
    with atomic_write(path) as partial:
        save_file(tensors, partial, metadata=header)


def load(path: Path) -> Tree:
    """Read the tree that :func:`save` was given; tuples are lists, tensors are on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is truncated, foreign, or written by a newer version.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file, expected a saved model")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            _check_header(path, header)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file or is cut short: {error}") from error
    try:
        if header["version"] == "1":
            return _tree_of_version_1(dict(json.loads(header["arguments"])), tensors)
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


def _pack(value: object, path: tuple[str, ...], tensors: dict[str, Tensor]) -> object:
    """Replace every tensor and array in ``value`` by its name, and collect them by name."""
    if isinstance(value, Mapping):
        return {key: _pack(item, (*path, str(key)), tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_pack(item, (*path, str(index)), tensors) for index, item in enumerate(value)]
    if isinstance(value, Tensor | np.ndarray):
        name = "/".join(path)
        tensor = value.detach().cpu() if isinstance(value, Tensor) else torch.from_numpy(np.array(value, order="C"))
        tensors[name] = tensor.contiguous()
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


def nested(named: Mapping[str, Any]) -> Tree:
    """Nest values by their dotted names, the inverse of :func:`leaves`; a tree comes back as it is."""
    tree: Tree = {}
    for name, value in named.items():
        *folders, last = name.split(".")
        inner = tree
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[last] = value
    return tree


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield the name of an empty file in the same folder, which replaces ``path`` unless something is raised.

    The permissions are those of the file that is replaced, or those that ``open`` gives to a new one.

    Raises:
        OSError: if the folder cannot be written to.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.unlink(missing_ok=True)  # of a killed process with the same number
        partial.touch(exist_ok=False)
        permissions = _permissions(path if path.exists() else partial)
        _permit(partial, permissions | stat.S_IRUSR | stat.S_IWUSR)
        yield partial
        _permit(partial, permissions)  # safetensors makes its files private
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _permit(path: Path, permissions: int) -> None:
    """Change permissions if need be: file systems without them refuse every change."""
    if _permissions(path) != permissions:
        path.chmod(permissions)


def _tree_of_version_1(old: dict[str, Any], tensors: Mapping[str, Tensor]) -> Tree:
    """Translate a file of version 1, which kept JSON (``old``) apart from tensors with dotted names."""
    parts = nested(tensors)
    if old.get("kind") == "tabular checkpoint":
        run = old["run"] | {"settings": _table_settings_of_version_1(old["run"]["settings"])}
        stopping = {"best": old["best"], "looks_since_best": old["since"], "best_step": old["history"]["best_step"]}
        stopping["weights"] = parts.get("best")
        return {
            "kind": old["kind"],
            "run": run,
            "history": old["history"],
            "stopping": stopping,
            "model": parts["model"],
        }
    if old.get("kind") == "tabular":
        schema = {name: old.pop(name) for name in ("order", "names_dtype", "names_title")}
        schema["codec"] = _codec_of_version_1(old.pop("codec"), parts.get("codec", {}))
        schema["labels"] = _labels_of_version_1(old.pop("labels"), parts["labels"])
        settings = _table_settings_of_version_1(old["settings"])
        return old | {"settings": settings, "schema": schema, "model": parts.get("model")}
    codes = parts.pop("words", {})
    starts = enumerate(old.get("categories", []))
    categories = [{"start": start, "codes": codes[str(index)].numpy()} for index, start in starts]
    settings = _settings_of_version_1(old.get("settings", {}))
    return {"arguments": old | {"settings": settings, "categories": categories}, "state": parts}


def _settings_of_version_1(old: dict[str, Any]) -> dict[str, Any]:
    return {"fourier_octaves" if name == "waves" else name: value for name, value in old.items()}


def _table_settings_of_version_1(old: dict[str, Any]) -> dict[str, Any]:
    return old | {"diffusion": _settings_of_version_1(old["diffusion"])}


def _labels_of_version_1(old: dict[str, Any], parts: dict[str, Any]) -> Tree:
    codec = _codec_of_version_1(old["codec"], parts.pop("codec", {}))
    return old | {"codec": codec} | {name: tensor.numpy() for name, tensor in parts.items()}


def _codec_of_version_1(old: dict[str, Any] | None, parts: Mapping[str, Any]) -> Tree | None:
    if old is None:
        return None
    return old | {"columns": [_column_of_version_1(own, parts[str(i)]) for i, own in enumerate(old["columns"])]}


def _column_of_version_1(old: dict[str, Any], parts: Mapping[str, Any]) -> Tree:
    components = [_component_of_version_1(own, parts[str(i)]) for i, own in enumerate(old["components"])]
    return old | {"missing": parts["missing"].numpy(), "components": components}


def _component_of_version_1(old: dict[str, Any], parts: Mapping[str, Tensor]) -> Tree:
    arrays = {name: tensor.numpy() for name, tensor in parts.items()}
    grid = old["lattice"] and old["lattice"] | {"seen": arrays["grid"]}
    scale = old["scale"] and old["scale"] | {"knots": arrays["knots"]}
    return {"levels": arrays["levels"], "words": arrays["words"], "grid": grid, "scale": scale}
