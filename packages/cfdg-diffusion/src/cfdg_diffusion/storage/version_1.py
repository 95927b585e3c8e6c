"""Files of version 1, which kept JSON apart from tensors with dotted names, as trees of the present version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

Tree = dict[str, Any]


def nested(named: Mapping[str, Any]) -> Tree:
    """Nest values by their dotted names, such as ``learner.adam.step``; a tree comes back as it is."""
    tree: Tree = {}
    for name, value in named.items():
        *folders, last = name.split(".")
        inner = tree
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[last] = value
    return tree


def tree_of_version_1(old: dict[str, Any], tensors: Mapping[str, Tensor]) -> Tree:
    """Translate the JSON ``old`` and the tensors of a file of version 1."""
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
