"""Seeds of cells: a seed more trains one seed more, and results of seeds in any company are joined."""

import functools
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfdg_experiments.cells.cell import Cell, Event, Workspace
from cfdg_experiments.cells.policy_store import stored_policies
from cfdg_experiments.cells.results import CellResult, Evaluation
from cfdg_experiments.cells.run import run_cell
from cfdg_experiments.cells.seeds import SeedParts, adopt, finished_results, join_seeds, parts_to_run
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.profiles.profile import profile_for
from cfdg_rl.checkpoint import save_checkpoint
from cfdg_rl.datasets.checksums import write_hdf5

HOPPER = "recorded:hopper-medium"
TINY = {
    "data.rows": None,
    "data.datasets": [HOPPER],
    "iql.hidden": [16, 16],
    "pretrain.steps": 20,
    "finetune.steps": 60,
    "finetune.warm_up": 10,
    "finetune.refresh_every": 60,
    "evaluation.every": 60,
    "evaluation.episodes": 1,
}


@functools.cache
def profile_of(dataset, expectile):
    changes = {"data.datasets": [dataset], "iql.expectile": expectile}
    return profile_for(load_profile("quick", TINY | changes), dataset, "iql")


def cell_of(*seeds, arm="base", dataset=HOPPER, expectile=0.7):
    return Cell(dataset, "iql", arm, replace(profile_of(dataset, expectile), seeds=seeds))


def result_of(cell):
    """Make up a result whose numbers tell the seeds."""
    seeds = np.array(cell.profile.seeds, float)
    own = 10 * seeds[:, None] + np.arange(3)
    metrics = {"train/episode_return": -own, "refresh/seconds": np.arange(3.0)}
    return CellResult(*cell.key, cell.profile.seeds, np.arange(3), own, 38.5, 6.0 * len(seeds), metrics)


def groups(parts):
    return [part.profile.seeds for part in parts]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    finished=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True), max_size=4),
    pretrained=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True), max_size=3),
    wanted=st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True),
)
def test_property_of_seeds(finished, pretrained, wanted, tmp_path):
    """No finished seed is run again, every missing one is run once, and the joined curves are each seed's own."""
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    space = Workspace(tmp_path / "runs")
    for group in finished:
        result_of(cell_of(*group)).to_json(space.result(cell_of(*group)))
    result_of(cell_of(*wanted, arm="cfdg")).to_json(space.result(cell_of(*wanted, arm="cfdg")))  # another cell
    for group in pretrained:
        save_checkpoint(space.pretrained(cell_of(*group)), {"step": 0})
    cell = cell_of(*wanted)
    parts = [] if cell in finished_results([cell], space) else parts_to_run(cell, space)
    done = {seed for group in finished for seed in group}
    assert sorted(seed for part in parts for seed in part.profile.seeds) == sorted(set(wanted) - done)
    for part in parts:
        result_of(part).to_json(space.result(part))
    joined = finished_results([cell], space)[cell]
    assert joined.seeds == tuple(wanted)
    np.testing.assert_array_equal(joined.scores, result_of(cell).scores)
    np.testing.assert_array_equal(
        joined.metrics["train/episode_return"], result_of(cell).metrics["train/episode_return"]
    )
    assert joined.seconds == pytest.approx(6 * len(wanted))
    adopt(cell, joined, space)
    assert CellResult.from_json(space.result(cell)).seeds == joined.seeds


def test_missing_seeds_start_from_the_checkpoint_of_their_group(tmp_path):
    """The arm cfdg is new: its seed 0 starts from what the base's seed 0 started from."""
    space = Workspace(tmp_path)
    result_of(cell_of(0)).to_json(space.result(cell_of(0)))
    save_checkpoint(space.pretrained(cell_of(0)), {"step": 0})
    assert groups(parts_to_run(cell_of(0, 1), space)) == [(1,)]
    assert groups(parts_to_run(cell_of(0, 1, arm="cfdg"), space)) == [(0,), (1,)]
    assert groups(parts_to_run(cell_of(2, 3), space)) == [(2, 3)]
    assert groups(parts_to_run(cell_of(0, 1, expectile=0.9), space)) == [(0, 1)]
    save_checkpoint(space.checkpoint(cell_of(0, 1)), {"step": 5})
    assert groups(parts_to_run(cell_of(0, 1), space)) == [(0, 1)], "a half-finished one is continued"


def test_listeners_hear_of_whole_cells(tmp_path):
    space = Workspace(tmp_path)
    whole = cell_of(0, 1)
    result_of(cell_of(0)).to_json(space.result(cell_of(0)))
    parts = {part: whole for part in parts_to_run(whole, space)}
    heard = []
    listener = SeedParts(parts, space, heard.append, lambda cell, result: heard.append((cell, result.seeds)))
    (part,) = parts
    listener.event(Event(part, "fine-tuning", 1, 3, Evaluation(1, np.zeros(1), {})))
    assert (heard[0].cell, heard[0].step, heard[0].evaluation.step) == (whole, 1, 1)
    assert heard[0].evaluation.seeds == (1,)
    result_of(part).to_json(space.result(part))
    listener.result(part, result_of(part))
    assert heard[1] == (whole, (0, 1))


def test_results_of_parts_with_other_metrics_are_joined(tmp_path):
    first = result_of(cell_of(0))
    second = replace(result_of(cell_of(1)), metrics={})
    joined = join_seeds([second, first], (1, 0))
    assert np.isnan(joined.metrics["train/episode_return"][0]).all()
    np.testing.assert_array_equal(joined.metrics["train/episode_return"][1], first.metrics["train/episode_return"][0])


def test_a_seed_more_trains_one_seed_more(tmp_path):
    rng = np.random.default_rng(0)
    columns = {
        "observations": rng.normal(size=(600, 3)).astype(np.float32),
        "actions": rng.uniform(-2, 2, (600, 1)).astype(np.float32),
        "rewards": -rng.uniform(size=600),
        "terminals": np.zeros(600, bool),
        "timeouts": np.arange(600) % 200 == 199,
    }
    write_hdf5(tmp_path / "mine.hdf5", columns, {})
    mine = f"hdf5:{tmp_path / 'mine.hdf5'}@Pendulum-v1"
    space = Workspace(tmp_path / "runs")
    alone = run_cell(cell_of(0, dataset=mine), space, lambda event: None)
    whole = cell_of(0, 1, dataset=mine)
    (part,) = parts_to_run(whole, space)
    assert part.profile.seeds == (1,)
    run_cell(part, space, lambda event: None)
    joined = finished_results([whole], space)[whole]
    np.testing.assert_array_equal(joined.scores[0], alone.scores[0])
    adopt(whole, joined, space)
    again = run_cell(whole, space, lambda event: pytest.fail("a finished seed was trained again"))
    np.testing.assert_array_equal(again.scores, joined.scores)
    names = {policy.path.name for policy in stored_policies(space.folder) if space.result(whole).stem in policy.name}
    assert names == {f"seed{seed}-{kind}.safetensors" for seed in (0, 1) for kind in ("best", "final")}
