"""Cells: their list, their own settings, and the keys that name their files."""

import pytest

from cfdg_experiments.cells import cell as cells_module
from cfdg_experiments.cells.cell import Cell, Workspace, cells_of, finished_cells
from cfdg_experiments.cells.keys import cell_key, pretrain_key
from cfdg_experiments.cells.results import CellResult
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.profiles.profile import profile_for
from cfdg_rl.datasets.recorded import recording

HOPPER = "recorded:hopper-medium"
MAZE = "recorded:pointmaze-umaze"

# Keys of the first version, which named its files by them: a change of a setting's name or default, or of the hash,
# makes every finished cell run again. (The paper profile's generator has changed since: SynthER's depth and average.)
ROBOT = "recorded:halfcheetah-medium"
RECORDED = {"data.datasets": [ROBOT], "data.rows": 100_000}
FIRST_KEYS = {
    (ROBOT, "iql", "base"): ("3eb790b0e2db", "c0caf7cc87d4"),
    (ROBOT, "pex", "cfdg"): ("3eb790b0e2db", "66d262b91f85"),
    (ROBOT, "apl", "cfdg"): ("4111ce63d52c", "6b167552166b"),
    ("d4rl:antmaze-large-play-v2", "iql", "cfdg"): ("3aa42d3830fd", "0de02a4f5b39"),
    ("d4rl:hopper-medium-v2", "pex", "base"): ("e1483f71a840", "6104a79538ac"),
    ("d4rl:hopper-medium-v2", "apl", "cfdg"): ("71e8bac1b4e5", "56d07b85702d"),
}


def cell(algorithm="iql", arm="base", **changes):
    profile = load_profile("quick", {key.replace("__", "."): value for key, value in changes.items()})
    return Cell(HOPPER, algorithm, arm, profile_for(profile, HOPPER, algorithm))


@pytest.mark.parametrize(("place", "keys"), FIRST_KEYS.items())
def test_workspaces_of_the_first_version_are_continued(place, keys):
    profile = load_profile("paper", RECORDED if place[0] == ROBOT else {})
    found = {cell.key: cell for cell in cells_of(profile)}[place]
    assert (pretrain_key(found), cell_key(found)) == keys


def test_a_table_has_every_pair_but_apl_on_mazes():
    two = {"data.datasets": [MAZE, HOPPER], "data.apl_datasets": None, "arms": ["base", "cfdg"]}
    profile = load_profile("quick", two)
    cells = cells_of(profile)
    assert [cell.key for cell in cells[:3]] == [(MAZE, "iql", "base"), (MAZE, "iql", "cfdg"), (HOPPER, "iql", "base")]
    assert len(cells) == 2 * 2 * 2 + 2
    assert not [cell for cell in cells if (cell.dataset, cell.algorithm) == (MAZE, "apl")]


def test_the_settings_of_a_pair_are_chosen_once(monkeypatch):
    chosen = []

    def counting(profile, dataset, algorithm):
        chosen.append((dataset, algorithm))
        return profile_for(profile, dataset, algorithm)

    monkeypatch.setattr(cells_module, "profile_for", counting)
    cells = cells_of(load_profile("quick"))
    assert len(chosen) == len(set(chosen)) == len(cells) / 3


def test_cells_of_other_settings_are_other_cells():
    assert cell() == cell()
    assert cell() != cell(iql__expectile=0.8)
    assert cell().key == cell(iql__expectile=0.8).key == (HOPPER, "iql", "base")
    assert cell(algorithm="pex").pretraining == cell().pretraining == f"{HOPPER}/iql pre-training"
    assert cell(algorithm="apl").pretraining != cell().pretraining


def test_keys_follow_what_a_result_depends_on():
    base = cell()
    cfdg = cell(arm="cfdg")
    pex = cell("pex")
    apl = cell("apl")
    assert pretrain_key(base) == pretrain_key(cfdg)
    assert cell_key(base) != cell_key(cfdg)
    assert cell_key(cell(diffusion__width=32)) == cell_key(base), "the base arm has no model"
    assert cell_key(cell(arm="cfdg", diffusion__width=32)) != cell_key(cfdg)
    assert pretrain_key(cell(seeds=[0])) != pretrain_key(base)
    assert pretrain_key(cell(data__rows=20_000)) != pretrain_key(base)
    other_rate = cell(iql__online_learning_rate=1e-4)
    assert pretrain_key(other_rate) == pretrain_key(base)
    assert cell_key(other_rate) != cell_key(base)
    assert cell_key(cell(evaluation__every=20)) != cell_key(base)
    assert pretrain_key(pex) == pretrain_key(base) != pretrain_key(apl)
    assert cell_key(cell("pex", pex__epsilon=0.2)) != cell_key(pex)
    assert cell_key(cell(pex__epsilon=0.2)) == cell_key(base)
    assert pretrain_key(cell("apl", apl__learner="conservative")) != pretrain_key(apl)
    assert cell_key(cell("pex", apl__learner="conservative")) == cell_key(pex)
    assert cell_key(cell("apl", apl__replay__gate=12)) != cell_key(apl)


def test_a_cell_depends_on_the_rows_that_its_offline_fit_lacks():
    started = {"refresh__offline_steps": 20, "refresh__warm_start": True}
    other = {"generators__gate__held_out_every": 3}
    for arm, settings in (("cfdg", started), ("cfdg-split", started), ("cfdg-split-gated", {})):
        assert cell_key(cell(arm=arm, **settings, **other)) != cell_key(cell(arm=arm, **settings))
    for arm, settings in (("base", started), ("synther", started), ("cfdg", {})):
        assert cell_key(cell(arm=arm, **settings, **other)) == cell_key(cell(arm=arm, **settings))


def test_recordings_of_another_format_are_other_data(monkeypatch):
    maze = {"data.datasets": [MAZE], "algorithms": ["iql"]}
    first = cells_of(load_profile("quick", maze))[0]
    before = (pretrain_key(first), pretrain_key(cell()))
    monkeypatch.setattr(recording, "MAZE_FORMAT", recording.MAZE_FORMAT + 1)
    assert pretrain_key(first) != before[0]
    assert pretrain_key(cell()) == before[1]


def test_finished_cells_are_found_by_their_settings(tmp_path, made_up):
    space = Workspace(tmp_path)
    made_up.cell().to_json(space.result(cell()))
    found = finished_cells([cell(), cell(arm="cfdg"), cell(iql__expectile=0.8)], space)
    assert list(found) == [cell()]
    assert isinstance(found[cell()], CellResult)
