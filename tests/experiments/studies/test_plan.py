"""Plans: columns of a grid, cells that several columns share, and what each column is compared with."""

import pytest

from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.profiles.grid import parse_grid
from cfdg_experiments.reports.header import caption, warning
from cfdg_experiments.studies.plan import make_plan, refresh_steps
from cfdg_experiments.studies.study import ABLATION, STUDIES, TABLE_1

PAPER = ["d4rl:hopper-medium-v2"]
ONE = {"algorithms": ["iql"], "data.datasets": ["recorded:hopper-medium"], "arms": ["base", "cfdg"]}


def plan(*words, **changes):
    profile = load_profile("quick", ONE | changes)
    return make_plan(ABLATION, profile, parse_grid(words, profile))


def test_a_table_has_its_cells_under_their_own_names():
    found = make_plan(TABLE_1, load_profile("quick", TABLE_1.settings["quick"]))
    assert [cell.key for cell in found.cells()] == list(found.places) == found.header.cells()
    assert found.name == "table1-quick"
    assert found.header.pairs() == [("repeat", "base"), ("cfdg-split", "base")]


def test_the_base_is_run_once_where_only_generators_read_what_varies():
    found = plan("guidance_weight=0,0.5")
    assert found.header.arms == ("base", "cfdg guidance_weight=0", "cfdg guidance_weight=0.5")
    assert [cell.profile.diffusion.guidance_weight for cell in found.cells()][1:] == [0, 0.5]
    assert {reference for _, reference in found.header.pairs()} == {"base"}
    assert found.name == "ablation-quick-guidance_weight"
    assert "over:" in found.settings


def test_each_arm_is_compared_under_its_own_settings_where_the_reference_varies_too():
    found = plan("data.rows=5000,20000")
    assert found.header.pairs() == [
        ("cfdg rows=5000", "base rows=5000"),
        ("cfdg rows=20000", "base rows=20000"),
    ]
    assert [cell.profile.rows for cell in found.cells()] == [5000, 20000, 5000, 20000]


def test_a_caption_has_the_steps_of_every_point_of_a_grid():
    found = plan("finetune.steps=3000,5000", "pretrain.steps=100,200")
    assert "100 / 200 offline updates + 3k / 5k environment steps" in caption(found.header)
    assert "3k / 5k environment steps for IQL (paper: 1M)" in warning(found.header)
    assert not plan("guidance_weight=0,1").header.grid_steps


@pytest.mark.parametrize(
    "changes",
    [
        {"diffusion.guidance_weight": 5.0}, {"iql.discount": 0.5}, {"diffusion.width": 16}, {"evaluation.episodes": 1},
        {"maze.iql.expectile": 0.7, "generators.gate.held_out_every": 5}, {"data.rows": 9}, {"apl.learner": "td3-bc"},
    ],
)  # fmt: skip
def test_a_paper_profile_with_other_settings_is_no_reproduction(changes):
    found = make_plan(TABLE_1, load_profile("paper", changes))
    assert found.header.changed == tuple(changes)
    assert "changed " + ", ".join(changes) in warning(found.header)


def test_the_papers_own_settings_are_a_reproduction_on_any_machine():
    own = {"device": "cpu", "seeds": [5, 6, 7, 8, 9], "inspection.enabled": False, "algorithms": ["iql"]}
    assert warning(make_plan(TABLE_1, load_profile("paper", {**own, "data.datasets": PAPER})).header) == ""
    assert not plan("guidance_weight=0,1").header.changed, "quick is no paper in the first place"


def test_apl_may_have_datasets_of_its_own():
    own = {"data.datasets": ["recorded:pointmaze-umaze"], "data.apl_datasets": ["recorded:hopper-random"]}
    found = make_plan(TABLE_1, load_profile("quick", own | {"algorithms": ["pex", "apl"], "arms": ["base"]}))
    assert [key[:2] for key in found.places] == [("recorded:pointmaze-umaze", "pex"), ("recorded:hopper-random", "apl")]
    assert found.header.datasets == ("recorded:pointmaze-umaze", "recorded:hopper-random")


def test_one_arm_alone_is_compared_with_its_first_value():
    found = plan("guidance_weight=0,1,2", arms=["cfdg"])
    assert [reference for _, reference in found.header.pairs()] == ["cfdg guidance_weight=0"] * 2


def test_columns_that_are_the_same_run_share_one_cell():
    found = plan("p_uncond=0.1,0.2", arms=["cfdg", "cfdg-unguided"])
    assert len(found.cells()) == len(found.places) == 4
    both = plan("pex.epsilon=0.1,0.2", arms=["base"], algorithms=["iql", "pex"])  # IQL does not read it
    assert [key.arm for key in both.places] == ["base epsilon=0.1", "base epsilon=0.2"] * 2
    assert list(map(len, both.keys().values())) == [2, 1, 1]
    assert both.header.copies == {"recorded:hopper-medium/iql/base epsilon=0.2": "base epsilon=0.1"}


def test_a_setting_that_an_arm_does_not_read_makes_no_columns_of_it():
    found = plan("guidance_weight=0,0.5,1", arms=["base", "repeat", "cfdg"])
    guided = [f"cfdg guidance_weight={weight}" for weight in (0, 0.5, 1)]
    assert found.header.arms == ("base", "repeat", *guided)
    assert found.header.pairs() == [(arm, "base") for arm in ("repeat", *guided)]
    grid = plan("guidance_weight=0,1", "expectile=0.7,0.9", arms=["base", "cfdg"])
    assert grid.header.arms[:2] == ("base expectile=0.7", "base expectile=0.9")
    assert dict(grid.header.pairs())["cfdg guidance_weight=1 expectile=0.9"] == "base expectile=0.9"
    assert plan("guidance_weight=0.5", arms=["repeat"]).header.arms == ("repeat guidance_weight=0.5",)


def test_the_base_keeps_its_run_whatever_generators_read():
    (alone,) = plan(arms=["base"]).cells()
    assert plan("refresh_every=100,200", arms=["base", "cfdg"]).cells()[0] == alone
    grid = plan("refresh_every=100,200", "expectile=0.7,0.9", arms=["base"])
    assert [cell.profile.finetune for cell in grid.cells()] == [alone.profile.finetune] * 2


@pytest.mark.parametrize("still", ["base", "repeat"])
def test_an_arm_that_does_not_vary_may_stand_behind_one_that_does(still):
    found = plan("guidance_weight=0,0.5", arms=["cfdg", still])
    first, second = "cfdg guidance_weight=0", "cfdg guidance_weight=0.5"
    assert found.header.arms == (first, second, still)
    assert found.header.pairs() == [(second, first), (still, first)]
    three = plan("guidance_weight=0,0.5", arms=["cfdg", still, "union"])
    union = [("union guidance_weight=0", first), ("union guidance_weight=0.5", second)]
    assert three.header.pairs() == [(still, first), *union]


def test_a_value_of_the_wrong_type_is_one_sentence():
    with pytest.raises(ValueError, match=r"--over: diffusion.width is 'wide', expected a valid integer"):
        plan("width=wide,64")


def test_refreshes_are_marked_where_they_happen():
    profile = load_profile("quick", {"finetune.steps": 5000, "finetune.refresh_every": 2000, "algorithms": ["iql"]})
    assert {name: list(steps) for name, steps in refresh_steps(profile).items()} == {"iql": [2000, 4000]}


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
@pytest.mark.parametrize("algorithm", ["iql", "pex", "apl"])
def test_every_study_has_quick_cells_of_every_algorithm(study, algorithm):
    settings = {"arms": ["cfdg"], **study.settings["quick"], "algorithms": [algorithm]}
    assert make_plan(study, load_profile("quick", settings)).places


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_the_settings_of_every_study_are_those_of_a_shipped_profile(study):
    for name, settings in study.settings.items():
        profile = load_profile(name, settings)
        assert profile.algorithms == tuple(settings.get("algorithms", profile.algorithms))
        assert all(dataset.startswith("d4rl:") == (name == "paper") for dataset in profile.data.datasets)
