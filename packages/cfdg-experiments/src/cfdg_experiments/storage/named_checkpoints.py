"""Checkpoints that know their own file's name, which tells the cell: one in the place of another is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cfdg_rl.checkpoint import load_checkpoint, save_checkpoint

_NAME = "name"


def save_named(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state with the name of its file; see :func:`cfdg_rl.checkpoint.save_checkpoint`."""
    save_checkpoint(path, {_NAME: path.stem, **state})


def load_named(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a state; one of an earlier version has no name, and is taken as it is.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or was written under another name.
    """
    state = load_checkpoint(path, device)
    if not isinstance(state, dict) or state.get(_NAME, path.stem) != path.stem:
        found = state.get(_NAME) if isinstance(state, dict) else "something else"
        raise ValueError(f"checkpoint {path} is that of {found}, expected {path.stem}; delete it")
    return state
