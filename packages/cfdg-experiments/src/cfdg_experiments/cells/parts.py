"""Parts of a cell's runs, made from its settings: data, buffers, learners, and the state of the offline phase."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cfdg_experiments.cells.agents import (
    load_learner,
    offline_learner,
    offline_pools,
    online_learner,
    reward_map,
    save_learner,
)
from cfdg_experiments.cells.cell import Cell, Workspace
from cfdg_experiments.storage.named_checkpoints import load_named
from cfdg_rl.agents.capture import Captured
from cfdg_rl.datasets.load import Dataset, content_digest, load_dataset
from cfdg_rl.mixing import Pools
from cfdg_rl.protocols import Learner
from cfdg_rl.streams import Streams


def untrained(cell: Cell, data: Dataset, device: torch.device) -> Learner:
    """Make the learner of the offline phase."""
    return offline_learner(cell.profile.learner, (data.obs_dim, data.action_dim), cell.profile.seeds, device)


def pretrained_learner(cell: Cell, data: Dataset, state: Mapping[str, Any], device: torch.device) -> Learner:
    """Make the learner of the online phase from the offline checkpoint."""
    offline = untrained(cell, data, device)
    load_learner(offline, state)
    return captured(online_learner(offline, cell.profile.pex), cell)


def captured(agent: Learner, cell: Cell) -> Learner:
    """Replay the learner's updates as CUDA graphs where the profile asks for it; a CPU refuses."""
    return Captured(agent) if cell.profile.capture else agent


def pools_of(cell: Cell, data: Dataset, device: torch.device) -> Pools:
    """Make the buffers of the offline phase."""
    return offline_pools(data, reward_map(cell.profile.learner, data), len(cell.profile.seeds), device)


def learner_state(agent: Learner, streams: Streams, step: int) -> dict[str, Any]:
    """Collect what changes in the offline phase."""
    return {"agent": save_learner(agent), "streams": streams.state(), "step": step}


def resume(path: Path, agent: Learner, streams: Streams, device: torch.device) -> int:
    """Restore an interrupted pre-training; returns the number of updates that are done."""
    if not path.exists():
        return 0
    state = load_named(path, device)
    load_learner(agent, state["agent"])
    streams.restore(state["streams"])
    return int(state["step"])


def load_data(cell: Cell, space: Workspace) -> Dataset:
    """Load the dataset of a cell.

    Raises:
        ValueError: if its files are no longer those that the cell's key was made of.
    """
    if cell.content and content_digest(cell.dataset) != cell.content:
        raise ValueError(f"{cell.dataset} has changed since the command began, expected the same files; run it again")
    return load_dataset(cell.dataset, rows=cell.profile.rows, seed=cell.profile.data_seed, cache=space.cache)
