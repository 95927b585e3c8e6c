"""Cells on a GPU: every algorithm and kind of arm runs, with captured updates, and continues after a kill."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from cfdg_experiments.cells.cell import Cell, Workspace
from cfdg_experiments.cells.run import CellRun, pretrain_cell, run_cell
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.profiles.profile import profile_for
from cfdg_rl.checkpoint import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none")

TINY = yaml.safe_load(Path(__file__).with_name("tiny.yaml").read_text(encoding="utf-8"))
HOPPER = "recorded:hopper-medium"


def silent(event):
    pass


def cell_of(algorithm, arm, **changes):
    profile = load_profile("quick", {**TINY, **changes})
    return Cell(HOPPER, algorithm, arm, profile_for(profile, HOPPER, algorithm))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def space(tmp_path, cache):
    return Workspace(tmp_path / "runs", cache)


@pytest.mark.parametrize("capture", [False, True], ids=["eager", "captured"])
@pytest.mark.parametrize("algorithm", ["iql", "pex", "apl"])
@pytest.mark.parametrize("arm", ["base", "cfdg", "cfdg-split", "cfdg-simulated"])
def test_a_cell_runs(space, algorithm, arm, capture):
    if capture and arm in ("cfdg-simulated",):
        pytest.skip("the arm differs from others in its generator alone")
    result = run_cell(cell_of(algorithm, arm, device="cuda", capture=capture), space, silent)
    assert result.scores.shape == (2, 3)
    assert np.isfinite(result.scores).all()


@pytest.mark.parametrize("arm", ["cfdg", "base"])
def test_a_killed_cell_continues(space, arm):
    cell = cell_of("iql", arm, device="cuda")
    pretrain_cell(cell, space, silent)
    first = CellRun(cell, space)
    try:
        for event in first.run():
            if event.step >= 30:
                break
        save_checkpoint(first.path, first.state())
    finally:
        first.close()
    second = CellRun(cell, space)
    try:
        second.restore(load_checkpoint(second.path, second.device))
        assert second.done == first.done
        for _ in second.run():
            pass
        assert second.result().scores.shape == (2, 3)
    finally:
        second.close()


def test_a_cell_that_was_trained_offline_on_the_cpu_continues_on_the_gpu(space):
    offline = cell_of("iql", "cfdg", device="cpu")
    pretrain_cell(offline, space, silent)
    cell = cell_of("iql", "cfdg", device="cuda")
    assert space.pretrained(cell) == space.pretrained(offline)
    result = run_cell(cell, space, silent)
    assert np.isfinite(result.scores).all()
