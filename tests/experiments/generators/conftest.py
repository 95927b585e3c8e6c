"""Labelled rows of a few replicas for the tests of generators."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions, to_rows

SEEDS = (0, 1)
OBS = 2
ACTION = 1


def _rows(offline=60, online=30):
    """Rows whose label can be read from their reward: 0 offline, 1 online; replicas differ."""
    rng = torch.Generator().manual_seed(0)
    count = offline + online
    labels = torch.arange(count).ge(offline).long().expand(len(SEEDS), -1)
    obs = torch.randn(len(SEEDS), count, OBS, generator=rng)
    action = torch.rand(len(SEEDS), count, ACTION, generator=rng) * 2 - 1
    terminal = (torch.rand(len(SEEDS), count, generator=rng) < 0.1).float()
    return to_rows(Transitions(obs, action, labels.float(), obs + action, terminal)), labels


@pytest.fixture
def data():
    """``rows (2, 90, 7)``, ``labels``, ``streams(purpose)``, and the labels of a refresh, 5 offline and 20 online."""
    rows, labels = _rows()
    asked = torch.arange(25).ge(5).long().expand(len(SEEDS), -1)
    return SimpleNamespace(
        rows=rows,
        labels=labels,
        asked=asked,
        dims=(OBS, ACTION),
        seeds=SEEDS,
        streams=lambda name: Streams(SEEDS, name),
    )
