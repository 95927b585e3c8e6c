"""Model files of tables: the arguments of a model and the result of its fit, in one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cfdg_diffusion import storage
from cfdg_diffusion.tabular.constraint_files import constraint_state, restore_constraint
from cfdg_diffusion.tabular.constraints import Constraint
from cfdg_diffusion.tabular.fitted import FittedTable
from cfdg_diffusion.tabular.settings import TabularSettings

_KIND = "tabular"


def write_model(path: Path, arguments: Mapping[str, Any], fitted: FittedTable) -> None:
    """Write the constructor's arguments and the result of the fit; the device is not stored."""
    tree = {
        "kind": _KIND,
        "seed": arguments["seed"],
        "settings": asdict(arguments["settings"]),
        "constraints": [constraint_state(constraint) for constraint in arguments["constraints"]],
        **fitted.state(),
    }
    storage.save(path, tree)


def read_model(path: Path, device: str, constraints: Sequence[Constraint] | None) -> tuple[dict[str, Any], FittedTable]:
    """Read the arguments (without the device) and the result of the fit; see :meth:`TabularDiffusion.load`."""
    tree = storage.load(path)
    if tree.get("kind") != _KIND:
        raise ValueError(f"{path} holds no tabular model, expected a file of TabularDiffusion.save")
    stored = tree.get("constraints", [])
    code = [state["name"] for state in stored if state.get("type") == "code"]
    if code and constraints is None:
        raise ValueError(
            f"{path} had the constraint {code[0]!r}, which is code and never stored: give all constraints to load"
        )
    try:
        settings = TabularSettings.restore(tree["settings"])
        own = [restore_constraint(state) for state in stored] if constraints is None else constraints
        arguments = {"seed": tree["seed"], "settings": settings, "constraints": own}
        return arguments, FittedTable.restore(tree, settings, device)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ValueError(f"{path} does not describe a model of this version: {error}") from error
