"""Checkpoints."""

import numpy as np
import pytest
import torch

from cfdg_rl.agents.iql import IQL
from cfdg_rl.checkpoint import load_checkpoint, save_checkpoint


def test_nested_values_round_trip(tmp_path):
    state = {"a": torch.arange(3), "b": {"c": [1, 2.5, "x", None, True], 0: np.eye(2)}, "d": ()}
    save_checkpoint(tmp_path / "deep" / "x.safetensors", state)
    back = load_checkpoint(tmp_path / "deep" / "x.safetensors")
    assert torch.equal(back["a"], state["a"])
    assert back["b"]["c"] == [1, 2.5, "x", None, True]
    assert torch.equal(back["b"][0], torch.eye(2, dtype=torch.float64))
    assert back["d"] == []
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.safetensors"]


def test_an_optimiser_round_trips(tmp_path):
    agent = IQL(3, 2)
    for parameter in [*agent.value.parameters(), *agent.critics.parameters()]:
        parameter.grad = torch.ones_like(parameter)
    agent.optimisers["critics"].step()
    save_checkpoint(tmp_path / "x", agent.optimisers["critics"].state_dict())
    agent.optimisers["critics"].load_state_dict(load_checkpoint(tmp_path / "x"))
    assert agent.optimisers["critics"].state_dict()["state"][0]["exp_avg"].abs().sum() > 0


def test_truncated_foreign_and_missing_files_are_named(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(FileNotFoundError, match=r"x\.safetensors"):
        load_checkpoint(path)
    save_checkpoint(path, {"a": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="truncated or not a checkpoint"):
        load_checkpoint(path)
    path.write_text("hello")
    with pytest.raises(ValueError, match="truncated or not a checkpoint"):
        load_checkpoint(path)
