"""Checkpoints of runs: their pace, full disks, metrics between evaluations, and the way from one device to another."""

import dataclasses
import itertools
import re

import numpy as np
import pytest
import torch

from cfdg_experiments.cells.agents import load_learner, offline_learner, save_learner
from cfdg_experiments.cells.cell import Cell, Workspace
from cfdg_experiments.cells.results import write_text
from cfdg_experiments.cells.run import CellRun, pretrain_cell
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.profiles.profile import profile_for
from cfdg_experiments.storage import ring_files
from cfdg_experiments.storage import saver as saver_module
from cfdg_experiments.storage.named_checkpoints import load_named
from cfdg_experiments.storage.ring_files import RingFiles
from cfdg_experiments.storage.saver import SHARE, Saver
from cfdg_rl.agents.apl import APLSettings
from cfdg_rl.agents.capture import make_capturable
from cfdg_rl.agents.iql import IQLSettings
from cfdg_rl.agents.td3_bc import TD3BCSettings
from cfdg_rl.buffer import Ring
from cfdg_rl.checkpoint import load_checkpoint, save_checkpoint
from cfdg_rl.files import save_arrays
from cfdg_rl.mixing import OFFLINE, Batch
from cfdg_rl.streams import Streams
from cfdg_rl.tensor_files import write_tensors
from cfdg_rl.transitions import Transitions

HOPPER = "recorded:hopper-medium"
TINY = {
    "seeds": [0, 1], "data.rows": 3000, "data.datasets": [HOPPER], "iql.hidden": [8], "pretrain.steps": 5,
    "finetune.steps": 40, "finetune.warm_up": 5, "finetune.refresh_every": 15, "finetune.synthetic_rows": 32,
    "diffusion.width": 8, "diffusion.blocks": 1, "diffusion.sampling_steps": 3, "refresh.first_steps": 4,
    "refresh.steps": 2, "inspection.enabled": False, "evaluation.every": 20, "evaluation.episodes": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    space = Workspace(tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("cache"))
    pretrain_cell(CELL, space, lambda event: None)
    return space


CELL = Cell(HOPPER, "iql", "cfdg", profile_for(load_profile("quick", TINY), HOPPER, "iql"))


def test_metrics_since_the_last_evaluation_are_part_of_the_state(space, tmp_path):
    """The refresh of step 15 is reported by the evaluation of step 20, also by a run that was killed in between."""
    whole = CellRun(CELL, space)
    list(whole.run())
    first = CellRun(CELL, space)
    first.path = tmp_path / "state.safetensors"
    first.progress.seconds = 0.0
    list(itertools.takewhile(lambda event: event.step < 17, first.run()))
    save_checkpoint(first.path, first.state())
    second = CellRun(CELL, space)
    second.path = first.path
    list(second.run())
    ours, theirs = second.result(), whole.result()
    assert ours.metrics.keys() == theirs.metrics.keys()
    for name in ours.metrics:
        if "second" not in name:
            assert np.array_equal(ours.metrics[name], theirs.metrics[name], equal_nan=True), name


def test_checkpoints_come_seldom_where_they_take_long(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(saver_module.time, "perf_counter", lambda: clock[0])
    saver = Saver(tmp_path / "x.safetensors", 60.0)

    def slow():
        clock[0] += 10.0
        return {}

    clock[0] = 61.0
    assert saver.due()
    saver.save(slow)
    clock[0] += 10.0 * SHARE - 1
    assert not saver.due()
    clock[0] += 2.0
    assert saver.due()
    saver.save(dict)
    clock[0] += 59.0
    assert not saver.due()


def test_a_run_goes_on_without_its_checkpoint_when_the_disk_is_full(tmp_path, small_files, caplog):
    saver = Saver(tmp_path / "x.safetensors", 0.0)
    saver.save(lambda: {"step": 1})
    with small_files(2000):
        for _ in range(2):
            saver.save(lambda: {"rows": torch.zeros(1000)})
    assert load_named(saver.path)["step"] == 1
    assert [record.message for record in caplog.records] == [
        f"checkpoint {saver.path} cannot be written (File too large); the run goes on"
    ], "told once"


def batch(replicas):
    numbers = torch.Generator().manual_seed(0)
    rows = {"obs": 3, "action": 2, "reward": 0, "next_obs": 3, "terminal": 0}
    shapes = {name: (replicas, 16, width)[: 3 if width else 2] for name, width in rows.items()}
    data = Transitions(**{name: torch.rand(shape, generator=numbers) for name, shape in shapes.items()})
    return Batch(data, torch.zeros(16, dtype=torch.long), OFFLINE)


@pytest.mark.parametrize(
    "settings", [IQLSettings(hidden=(8,)), TD3BCSettings(hidden=(8,)), APLSettings(hidden=(8,), sampled_actions=2)]
)
def test_a_learner_that_was_captured_on_a_gpu_goes_on_here(settings, tmp_path):
    """Its file has learning rates and step counters in tensors, capturable optimisers, and streams of 16 bytes."""
    agents = [offline_learner(settings, (3, 2), (0, 1), torch.device("cpu")) for _ in range(2)]
    for agent in agents:
        agent.fit_scaler(torch.randn(50, 3, generator=torch.Generator().manual_seed(1)))
    agents[0].update(batch(2))
    for optimiser in agents[0].optimisers.values():
        make_capturable(optimiser)
    saved = save_learner(agents[0])
    saved["streams"] = {name: torch.zeros(2, 16, dtype=torch.uint8) for name in saved["streams"]}
    save_checkpoint(tmp_path / "gpu.safetensors", saved)
    load_learner(agents[1], load_checkpoint(tmp_path / "gpu.safetensors"))
    for name, own in agents[1].optimisers.items():
        assert all(type(group["lr"]) is float and not group["capturable"] for group in own.param_groups)
        assert own.state_dict()["state"].keys() == agents[0].optimisers[name].state_dict()["state"].keys()
    for name, streams in agents[1].streams.items():
        assert torch.equal(streams.state(), Streams((0, 1), name).state()), "from the seeds"
    assert all(value.isfinite().all() for value in agents[1].update(batch(2)).values())


def test_a_cell_of_another_device_goes_on_here(space, tmp_path):
    """All streams begin anew; curves, rings and weights are those of the file."""
    first = CellRun(CELL, space)
    events = first.run()
    list(itertools.takewhile(lambda event: not event.evaluation or event.step < 20, events))
    state = first.state()
    state["streams"] = torch.zeros(2, 16, dtype=torch.uint8)
    state["agent"]["streams"] = {name: state["streams"] for name in state["agent"]["streams"]}
    state["augmentation"]["policy"] = state["streams"]
    model = state["augmentation"]["generator"]["model"]
    model["streams"] = dict.fromkeys(model["streams"], state["streams"])
    second = CellRun(CELL, space)
    second.path = tmp_path / "gpu.safetensors"
    save_checkpoint(second.path, state)
    list(second.run())
    assert second.result().steps.tolist() == [0, 20, 40]
    assert np.array_equal(second.result().scores[:, :2], first.result().scores)
    assert len(second.pools.online) == 40
    assert dataclasses.asdict(second.plan) == dataclasses.asdict(first.plan)


@pytest.mark.parametrize("capacity", [5, 8, 100])
def test_rings_come_back_from_their_pieces(tmp_path, capacity, monkeypatch):
    """Rows are written once, also by a ring that wraps; a cleared ring begins anew; what is not needed goes."""
    monkeypatch.setattr(ring_files, "PIECE", 4)
    numbers = torch.Generator().manual_seed(0)
    ring = Ring(2, capacity, 3)
    files = RingFiles(tmp_path / "rings")
    for count in (3, 1, 0, 7, 2, -1, 4, 2, 9):
        if count < 0:
            ring.clear()
        else:
            ring.add(torch.randn(2, count, 3, generator=numbers))
        saved = files.save({"online": ring})
        files.prune()
        copy = Ring(2, capacity, 3)
        RingFiles(tmp_path / "rings").load({"online": copy}, saved)
        assert torch.equal(copy.view(), ring.view())
        assert (copy.cursor, copy.size, copy.added) == (ring.cursor, ring.size, ring.added)
        assert sorted((tmp_path / "rings").iterdir()) == sorted(files.files())
    lengths = [piece.last - piece.first for piece in files.pieces["online"]]
    assert all(length >= 4 for length in lengths[:-1])


def test_a_piece_that_is_missing_damaged_or_another_one_is_refused(tmp_path):
    ring = Ring(1, 9, 2)
    ring.add(torch.ones(1, 4, 2))
    files = RingFiles(tmp_path)
    saved = files.save({"online": ring})
    (path,) = files.files()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"online-0-0-4\.safetensors is damaged"):
        files.load({"online": Ring(1, 9, 2)}, saved)
    write_tensors(path, {"rows": torch.zeros(1, 4, 2)}, {"format": "1"})
    with pytest.raises(ValueError, match="are other ones than its checkpoint lists"):
        files.load({"online": Ring(1, 9, 2)}, saved)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="online-0-0-4"):
        files.load({"online": Ring(1, 9, 2)}, saved)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("stop", [3, 18, 37])
def test_a_run_that_is_killed_continues_from_its_own_files(space, tmp_path, monkeypatch, stop):
    monkeypatch.setattr("cfdg_experiments.cells.run.SAVE_SECONDS", 0.0)
    monkeypatch.setattr(saver_module, "SHARE", 0)
    whole = CellRun(CELL, space)
    whole.path = tmp_path / "whole.safetensors"
    list(whole.run())
    first = CellRun(CELL, space)
    first.path = tmp_path / "state.safetensors"
    collect = first.collector.step

    def dying(agent):
        if len(first.pools.online) == stop:
            raise Stopped
        return collect(agent)

    monkeypatch.setattr(first.collector, "step", dying)
    with pytest.raises(Stopped):
        list(first.run())
    second = CellRun(CELL, space)
    second.path = first.path
    list(second.run())
    assert np.array_equal(second.result().scores, whole.result().scores)
    for name in ("online", "online_synthetic", "offline_synthetic"):
        assert torch.equal(getattr(second.pools, name).view(), getattr(whole.pools, name).view()), name
    names = {path.name for path in first.path.with_suffix(".rings").iterdir()}
    assert names == {path.name for path in whole.path.with_suffix(".rings").iterdir()}


def big_ring():
    ring = Ring(2, 500, 9)
    ring.add(torch.zeros(2, 500, 9))
    return ring


WRITERS = {
    "result.json": lambda path, cell: cell.to_json(path),
    "table.md": lambda path, cell: write_text(path, "x" * 9000),
    "state.safetensors": lambda path, cell: save_checkpoint(path, {"a": torch.zeros(9000)}),
    "policy.safetensors": lambda path, cell: write_tensors(path, {"a": torch.zeros(9000)}, {}),
    "arrays.npz": lambda path, cell: save_arrays(path, {"a": np.random.default_rng(0).random(9000)}),
    "online-0-0-500.safetensors": lambda path, cell: RingFiles(path.parent).save({"online": big_ring()}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_keeps_the_last_good_file_of_every_kind_and_names_it(tmp_path, small_files, made_up, name):
    path = tmp_path / name
    path.write_text("the last good one")
    cell = made_up.cell(steps=tuple(range(0, 20_000, 100)))
    with small_files(4000), pytest.raises(OSError, match=f"File too large: '.*{re.escape(name)}'"):
        WRITERS[name](path, cell)
    assert path.read_text() == "the last good one"
    assert list(tmp_path.iterdir()) == [path]
