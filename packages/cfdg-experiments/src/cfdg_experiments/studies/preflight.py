"""Checks before the work: folder, device and rewards, each refused in one sentence."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from cfdg_experiments.cells.agents import reward_map
from cfdg_experiments.cells.cell import Cell
from cfdg_experiments.profiles.profile import Profile
from cfdg_rl.datasets.load import Dataset


def check_writable(out: Path) -> None:
    """Refuse a folder that cannot be written before hours are spent.

    Raises:
        PermissionError: in one sentence.
    """
    parent = out.resolve()
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"folder {out} cannot be written: {parent} is not a writable folder")
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise PermissionError(f"folder {out} cannot be written: {error.strerror}") from error


def check_device(profile: Profile) -> None:
    """Refuse a device that there is none of, and graphs on a CPU, before the data are read.

    Raises:
        ValueError: with the device, and how many there are.
    """
    name = profile.device
    count = torch.cuda.device_count()
    index = int(name.partition(":")[2] or 0)
    if name.startswith("cuda") and index >= count:
        raise ValueError(f"device is {name!r}, and PyTorch sees {count} CUDA devices here, expected one of them or cpu")
    if profile.capture and (name == "cpu" or not count):
        raise ValueError("capture is true on a CPU, expected a CUDA device for CUDA graphs")


def check_rewards(cells: Sequence[Cell], data: Dataset) -> None:
    """Refuse data whose returns do not give the reward map that a cell asks for."""
    try:
        for cell in cells:
            if cell.dataset == data.name:
                reward_map(cell.profile.learner, data)
    except ValueError as error:
        raise ValueError(f"{data.name}: {error}") from error
