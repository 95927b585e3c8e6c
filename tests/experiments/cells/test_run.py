"""Runs of cells: their files, shared pre-trainings, and continuation bit for bit after a kill."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from cfdg_experiments.cells.cell import Cell, Workspace
from cfdg_experiments.cells.results import CellResult
from cfdg_experiments.cells.run import CellRun, pretrain_cell, run_cell
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.profiles.profile import profile_for
from cfdg_rl.checkpoint import load_checkpoint, save_checkpoint

TINY = yaml.safe_load(Path(__file__).parents[1].joinpath("tiny.yaml").read_text(encoding="utf-8"))
HOPPER = "recorded:hopper-medium"
SOME_ARMS = ("base", "cfdg", "synther", "edis", "base-share", "base-updates", "jitter")


def silent(event):
    pass


def tiny(**changes):
    return load_profile("quick", {**TINY, **{key.replace("__", "."): value for key, value in changes.items()}})


def cell_of(algorithm="iql", arm="cfdg", **changes):
    return Cell(HOPPER, algorithm, arm, profile_for(tiny(**changes), HOPPER, algorithm))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def space(tmp_path, cache):
    return Workspace(tmp_path / "runs", cache)


def test_a_cell_leaves_curves_a_shared_checkpoint_and_nothing_unfinished(space):
    events = []
    result = run_cell(cell_of(), space, events.append)
    assert result.steps.tolist() == [0, 30, 60]
    assert result.scores.shape == (2, 3)
    assert np.isfinite(result.metrics["refresh/rejected"][:, 1:]).all()
    assert 20 < result.behaviour_score < 45
    assert [event.evaluation.step for event in events if event.evaluation] == [0, 30, 60]
    files = sorted(path.relative_to(space.folder).parts[0] for path in space.folder.rglob("*") if path.is_file())
    assert files == ["cells", *["policies"] * 4, "pretrained"], "a final and a best policy of both seeds"
    again = run_cell(cell_of(), space, lambda event: pytest.fail("a finished cell was run again"))
    assert np.array_equal(again.scores, result.scores)


def test_an_evaluation_has_the_last_refresh_before_it(space):
    often, rarely = (run_cell(cell_of(arm="jitter", evaluation__every=n), space, silent) for n in (20, 60))
    assert np.isfinite(often.metrics["refresh/swd_online"][0]).tolist() == [False, True, True, False]
    for name in ("refresh/swd_online", "refresh/novelty_offline"):
        assert np.array_equal(rarely.metrics[name][:, 1], often.metrics[name][:, 2])


def test_both_arms_start_from_the_same_checkpoint(space):
    results = [run_cell(cell_of(arm=arm), space, silent) for arm in ("base", "cfdg")]
    assert np.array_equal(results[0].offline, results[1].offline)
    assert not np.array_equal(results[0].final, results[1].final)
    late = [run_cell(cell_of(arm=arm, finetune__refresh_every=40), space, silent) for arm in SOME_ARMS]
    assert all(np.array_equal(late[0].scores[:, 1], other.scores[:, 1]) for other in late), "the same until T_diff"
    assert len(list((space.folder / "pretrained").iterdir())) == 1
    assert "refresh/rejected" not in results[0].metrics


@pytest.mark.parametrize(
    ("algorithm", "arm", "learner"),
    [
        ("iql", "base", ""),
        ("iql", "cfdg", ""),
        ("iql", "cfdg-unguided", ""),
        ("iql", "cfdg-online-only", ""),
        ("pex", "cfdg", ""),
        ("apl", "base", "conservative"),
        ("apl", "cfdg", "conservative"),
        ("apl", "cfdg", "td3-bc"),
    ],
)
def test_a_killed_cell_continues_bit_for_bit(space, algorithm, arm, learner):
    """Stop in the middle between two refreshes, with rings, simulators, coin and the model in motion."""
    cell = cell_of(algorithm, arm, apl__learner=learner or "conservative")
    pretrain_cell(cell, space, silent)
    whole = CellRun(cell, space)
    list(whole.run())

    class Killed(Exception):
        pass

    first = CellRun(cell, space)
    update = first.agent.update
    count = 0

    def dying(batch):
        nonlocal count
        count += 1
        if count == 37:  # in the middle of environment step 47
            raise Killed
        return update(batch)

    first.agent.update = dying
    path = space.checkpoint(cell)
    with pytest.raises(Killed):
        list(_saving(first, path))
    assert path.exists()
    second = CellRun(cell, space)
    list(second.run())
    assert second.result().steps.tolist() == whole.result().steps.tolist()
    assert np.array_equal(second.result().scores, whole.result().scores)
    for ours, theirs in zip(second.agent.parameters(), whole.agent.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(second.pools.online.view(), whole.pools.online.view())
    if algorithm == "apl":
        assert torch.equal(second.pools.archive.view(), whole.pools.archive.view())
        assert second.pools.archive.size == 60
        assert second.pools.online.size == 25
    assert torch.equal(second.pools.online_synthetic.view(), whole.pools.online_synthetic.view())


def _saving(run, path):
    """Yield the run's events, with its state saved at each of them."""
    for event in run.run():
        save_checkpoint(path, run.state())
        yield event


def test_a_killed_pre_training_continues_bit_for_bit(tmp_path, cache, monkeypatch):
    cell = cell_of(pretrain__steps=30)
    spaces = [Workspace(tmp_path / name, cache) for name in ("whole", "killed")]
    pretrain_cell(cell, spaces[0], silent)
    monkeypatch.setattr("cfdg_experiments.cells.run.SAVE_SECONDS", 0.0)
    monkeypatch.setattr("cfdg_experiments.cells.run.NOTIFY_SECONDS", 0.0)

    def stop(event):
        if event.step == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain_cell(cell, spaces[1], stop)
    pretrain_cell(cell, spaces[1], silent)
    files = [load_checkpoint(space.pretrained(cell))["agent"]["weights"] for space in spaces]
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0])


def test_a_seed_does_not_depend_on_its_company(tmp_path, cache):
    """Replica 1 of seeds (0, 1) is the run of seed 1 alone, up to the rounding of batched products."""
    together = run_cell(cell_of(arm="base"), Workspace(tmp_path / "a", cache), silent)
    alone = run_cell(cell_of(arm="base", seeds=[1]), Workspace(tmp_path / "b", cache), silent)
    assert together.scores[1, 0] == pytest.approx(alone.scores[0, 0], abs=0.05)


def test_iql_and_pex_share_their_pre_training_and_apl_has_its_own(space):
    scores = {name: run_cell(cell_of(name, "base"), space, silent).offline for name in ("iql", "apl")}
    run_cell(cell_of("pex", "base"), space, silent)
    names = sorted(path.name.rsplit("-", 1)[0] for path in (space.folder / "pretrained").iterdir())
    assert names == ["hopper-medium-apl", "hopper-medium-iql"]
    assert not np.array_equal(scores["iql"], scores["apl"])


def test_results_on_disk_are_read_back(space):
    result = run_cell(cell_of(arm="base"), space, silent)
    assert np.array_equal(CellResult.from_json(space.result(cell_of(arm="base"))).scores, result.scores)


def test_graphs_are_refused_on_a_cpu(space):
    with pytest.raises(ValueError, match="the agent is on device 'cpu', expected a CUDA device for CUDA graphs"):
        run_cell(cell_of(capture=True, device="cpu"), space, silent)
