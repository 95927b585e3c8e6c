"""Offline fits of generators: shared by arms and algorithms, continued after a kill, and switched off by default."""

import numpy as np
import pytest
import torch

from cfdg_experiments.cells import offline_fit
from cfdg_experiments.cells.cell import Cell, Workspace
from cfdg_experiments.cells.keys import cell_key, generator_key
from cfdg_experiments.cells.offline_fit import fit_generator, load_start
from cfdg_experiments.cells.run import CellRun, pretrain_cell
from cfdg_experiments.generators import Schedule
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.profiles.profile import profile_for
from cfdg_experiments.storage import saver
from cfdg_experiments.storage.saver import StoppedError
from cfdg_rl.checkpoint import load_checkpoint

HOPPER = "recorded:hopper-medium"
TINY = {
    "seeds": [0, 1],
    "device": "cpu",
    "data.rows": 1_000,
    "data.datasets": [HOPPER],
    "iql.hidden": [16, 16],
    "iql.reward": "raw",
    "apl.td3_bc.hidden": [16],
    "pretrain.steps": 10,
    "finetune.steps": 60,
    "finetune.warm_up": 10,
    "finetune.batch_size": 24,
    "finetune.refresh_every": 20,
    "finetune.synthetic_rows": 64,
    "finetune.margin": 100.0,
    "diffusion.width": 16,
    "diffusion.blocks": 1,
    "diffusion.sampling_steps": 4,
    "generators.outcomes.ends.steps": 5,
    "refresh.offline_steps": 6,
    "refresh.first_steps": 4,
    "refresh.steps": 2,
    "inspection.enabled": False,
    "evaluation.every": 30,
    "evaluation.episodes": 1,
}


def cell_of(arm, algorithm="iql", **changes):
    profile = load_profile("quick", {**TINY, **{key.replace("__", "."): value for key, value in changes.items()}})
    return Cell(HOPPER, algorithm, arm, profile_for(profile, HOPPER, algorithm))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def space(tmp_path, cache):
    return Workspace(tmp_path / "runs", cache)


def silent(event):
    pass


CPU = torch.device("cpu")


def same(one, other):
    """Tell if two nested mappings hold equal tensors and values."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, torch.Tensor):
        return bool(torch.equal(one.nan_to_num(), other.nan_to_num()))
    return one == other


@pytest.mark.parametrize("arm", ["cfdg", "cfdg-split"])
def test_a_killed_fit_continues_bit_for_bit(arm, tmp_path, cache, monkeypatch):
    cell = cell_of(arm)
    whole = Workspace(tmp_path / "whole", cache)
    fit_generator(cell, whole, silent)
    broken = Workspace(tmp_path / "broken", cache)
    save = saver.save_named

    def dying(path, state):
        save(path, state)
        if state.get("step") == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(offline_fit, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(saver, "SHARE", 0)
    monkeypatch.setattr(saver, "save_named", dying)
    with pytest.raises(KeyboardInterrupt):
        fit_generator(cell, broken, silent)
    assert not broken.generator(cell).exists()
    monkeypatch.setattr(saver, "save_named", save)
    fit_generator(cell, broken, silent)
    found = [load_checkpoint(space.generator(cell)) for space in (whole, broken)]
    assert same(*found)
    assert [path.suffix for path in broken.generator(cell).parent.iterdir()] == [".safetensors"]


class Stops:
    """Asks for the end from its so many-th answer on."""

    def __init__(self, answers):
        self.left = answers

    def __call__(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize(("arm", "answers"), [("cfdg", 2), ("cfdg-split", 2), ("cfdg-split", 10)])
def test_a_fit_that_is_asked_to_end_writes_a_checkpoint_and_goes_on_bit_for_bit(arm, answers, tmp_path, cache):
    cell = cell_of(arm)
    whole = Workspace(tmp_path / "whole", cache)
    fit_generator(cell, whole, silent)
    told = []
    place = tmp_path / "stopped"
    asked = Workspace(place, cache, on_saved=lambda step, files: told.append((step, files)), stops=Stops(answers))
    with pytest.raises(StoppedError) as stopped:
        fit_generator(cell, asked, silent)
    assert stopped.value.status == 143
    draft = asked.generator(cell).with_suffix(".partial")
    last = 6 if answers == 10 else 3  # of the diffusion; the eleventh answer is one of the regression's
    assert told == [(-last, [draft])]
    assert load_checkpoint(draft)["step"] == last
    fit_generator(cell, Workspace(place, cache), silent)
    assert same(*[load_checkpoint(space.generator(cell)) for space in (whole, asked)])
    assert not draft.exists()


def test_a_draft_that_a_kill_left_beside_the_finished_fit_is_removed(space):
    cell = cell_of("cfdg")
    fit_generator(cell, space, silent)
    draft = space.generator(cell).with_suffix(".partial")
    draft.write_bytes(b"half")
    space.sweep([cell])
    assert not draft.exists()
    assert space.generator(cell).exists()


def test_arms_and_algorithms_of_the_same_units_share_a_fit():
    keys = {arm: generator_key(cell_of(arm)) for arm in ("cfdg", "cfdg-simulated", "cfdg-unguided", "cfdg-split")}
    assert keys["cfdg"] == keys["cfdg-simulated"] == keys["cfdg-unguided"] != keys["cfdg-split"]
    assert generator_key(cell_of("cfdg-split-gated")) == keys["cfdg-split"]
    assert generator_key(cell_of("cfdg", "pex")) == keys["cfdg"]
    assert generator_key(cell_of("cfdg", diffusion__guidance_weight=1.0)) == keys["cfdg"]
    for changes in ({"iql__reward": "return-range"}, {"data__rows": 2000}, {"diffusion__width": 8}, {"seeds": [0]}):
        assert generator_key(cell_of("cfdg", **changes)) != keys["cfdg"], changes
    assert generator_key(cell_of("cfdg", generators__outcomes__width=8)) == keys["cfdg"]
    assert generator_key(cell_of("cfdg-split", generators__outcomes__width=8)) != keys["cfdg-split"]


def test_the_first_refresh_continues_the_fit(space):
    cell = cell_of("cfdg")
    pretrain_cell(cell, space, silent)
    run = CellRun(cell, space)
    start = load_start(cell, space, CPU, silent)
    model = run.augmentation.generator.model
    assert same(model.state_dict(), start)
    assert int(start["learner"]["updates"]) == 6
    list(run.run())
    assert int(model.state_dict()["learner"]["updates"]) == 6 + 2 + 2, "steps, not first_steps, at both refreshes"
    assert np.isfinite(run.result().scores).all()


def test_arms_without_such_a_fit_keep_their_first_steps(space):
    cell = cell_of("synther")
    assert load_start(cell, space, CPU, silent) is None
    pretrain_cell(cell, space, silent)
    run = CellRun(cell, space)
    list(run.run())
    assert int(run.augmentation.generator.generator.model.state_dict()["learner"]["updates"]) == 4 + 2


def test_without_offline_steps_nothing_changes(space):
    off = cell_of("cfdg", refresh__offline_steps=0)
    assert load_start(off, space, CPU, silent) is None
    assert cell_key(off) != cell_key(cell_of("cfdg"))
    assert Schedule(4, 2, warm_start=True).steps_at(1) == 4
    assert Schedule(4, 2, warm_start=True, offline_steps=6).steps_at(1) == 2


def test_a_gated_cell_continues_bit_for_bit(space, tmp_path):
    cell = cell_of("cfdg-split-adaptive", generators__on_policy__steps=3, finetune__steps=50)
    pretrain_cell(cell, space, silent)
    whole = CellRun(cell, space)
    list(whole.run())
    first = CellRun(cell, space)
    first.path = tmp_path / "state.safetensors"
    for event in first.run():
        if event.step == 30 and event.evaluation:
            break
    offline_fit.save_named(first.path, first.state())
    second = CellRun(cell, space)
    second.path = first.path
    list(second.run())
    assert torch.equal(second.pools.kept, whole.pools.kept)
    assert second.pools.kept is second.augmentation.kept
    for ours, theirs in zip(second.agent.parameters(), whole.agent.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert {"refresh/kept_online", "refresh/gate_error_online"} <= whole.result().metrics.keys()


def test_an_offline_fit_without_a_warm_start_is_refused():
    with pytest.raises(ValueError, match="offline_steps is 6 without warm_start, expected 0 or a warm start"):
        Schedule(offline_steps=6)


def test_settings_of_mixing_make_other_cells_only_where_they_matter():
    for change in ("extra", "gate", "adaptive"):
        key = {f"mixing__{change}": True}
        assert cell_key(cell_of("cfdg", **key)) != cell_key(cell_of("cfdg")), change
        assert cell_key(cell_of("base-share", **key)) == cell_key(cell_of("base-share")), change
    assert cell_key(cell_of("repeat", mixing__gate=True)) == cell_key(cell_of("repeat"))
    assert cell_key(cell_of("cfdg-split-gated", mixing__gate=True)) == cell_key(cell_of("cfdg-split-gated"))
