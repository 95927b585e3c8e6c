"""Checkpoints."""

import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cfdg_rl.agents.iql import IQL
from cfdg_rl.checkpoint import load_checkpoint, save_checkpoint
from cfdg_rl.files import HOST, atomic_write
from cfdg_rl.tensor_files import content_digest, write_tensors


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


def test_a_flipped_bit_anywhere_is_refused(tmp_path):
    """Also in the header; a flip that leaves the content as it was may be read, and then gives the same."""
    path = tmp_path / "x.safetensors"
    state = {"weights": torch.arange(40.0).view(5, 8), "step": torch.tensor(7), "names": ["a", "b"], "rate": 0.5}
    save_checkpoint(path, state)
    whole = path.read_bytes()
    for place in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"checkpoint .*x\.safetensors (is|has) "):
            load_checkpoint(path)


def test_a_file_without_checksum_is_still_read(tmp_path):
    tree = {"kind": "map", "items": [["a", {"kind": "tensor", "name": "a"}]]}
    metadata = {"format": "1", "tree": json.dumps(tree)}
    save_file({"a": torch.ones(3)}, tmp_path / "old.safetensors", metadata=metadata)
    assert torch.equal(load_checkpoint(tmp_path / "old.safetensors")["a"], torch.ones(3))


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16, torch.int16, torch.uint8, torch.bool])
def test_every_type_and_shape_is_what_safetensors_reads(tmp_path, kind):
    tensors = {"scalar": torch.ones((), dtype=kind), "none": torch.ones(0, 2, dtype=kind), "t": torch.eye(3)[:, :2].T}
    tensors["one"] = torch.ones(1, dtype=kind).expand(1, 1).as_strided((1, 1), (0, 0))
    digest = write_tensors(tmp_path / "x.safetensors", tensors, {"a": "b"})
    back = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert {name: tensor.dtype for name, tensor in back.items()} == {n: t.dtype for n, t in tensors.items()}
    assert content_digest(tensors, {"a": "b"}) == digest


def test_a_full_disk_keeps_the_last_checkpoint_and_names_the_file(tmp_path, small_files):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, {"a": torch.zeros(10)})
    with small_files(10_000), pytest.raises(OSError, match=r"x\.safetensors"):
        save_checkpoint(path, {"a": torch.zeros(10_000)})
    assert load_checkpoint(path)["a"].shape == (10,)
    assert [found.name for found in tmp_path.iterdir()] == ["x.safetensors"]


def test_drafts_of_ended_processes_are_removed_and_those_of_living_ones_stay(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    drafts = {pid: tmp_path / f".x.{HOST}-{pid}.00112233.partial.json" for pid in (ended.pid, os.getpid())}
    elsewhere = tmp_path / f".x.00000000-{ended.pid}.00112233.partial.json"  # of another machine
    for draft in (*drafts.values(), elsewhere):
        draft.write_text("half")
    with atomic_write(tmp_path / "x.json") as draft:
        draft.write_text("{}")
    assert sorted(tmp_path.iterdir()) == sorted([drafts[os.getpid()], elsewhere, tmp_path / "x.json"])


def test_a_private_umask_is_kept(tmp_path):
    before = os.umask(0o077)
    try:
        save_checkpoint(tmp_path / "x", {"a": torch.zeros(1)})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600
