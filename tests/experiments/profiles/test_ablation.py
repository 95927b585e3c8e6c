"""Grids on the command line: keys that exist, values that differ, and what is refused."""

import pytest

from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.profiles.grid import (
    dotted_keys,
    in_words,
    is_of_generator,
    parse_grid,
    points_of,
    resolve_key,
)
from cfdg_experiments.profiles.profile import Profile

IQL = load_profile("quick", {"algorithms": ["iql"], "data.datasets": ["recorded:hopper-medium"]})
ALL = load_profile("quick")


def test_a_short_key_finds_its_group_and_a_dotted_one_is_taken_as_it_is():
    assert resolve_key("guidance_weight", IQL) == ("diffusion.guidance_weight",)
    assert resolve_key("p_uncond", IQL) == ("diffusion.p_uncond",)
    assert resolve_key("synthetic_ratio", IQL) == ("mixing.synthetic_ratio",)
    assert resolve_key("refresh_every", IQL) == ("finetune.refresh_every",)
    assert resolve_key("finetune.refresh_every", ALL) == ("finetune.refresh_every",)


def test_a_short_key_is_set_for_apl_and_mazes_where_they_are_run():
    assert resolve_key("refresh_every", ALL) == ("finetune.refresh_every", "apl.finetune.refresh_every")
    assert resolve_key("expectile", ALL) == ("iql.expectile", "maze.iql.expectile")
    apl = load_profile("quick", {"algorithms": ["apl"], "data.datasets": ["recorded:hopper-medium"]})
    assert resolve_key("refresh_every", apl) == ("apl.finetune.refresh_every",)


def test_every_key_of_a_group_is_known_and_nothing_outside_groups():
    keys = dotted_keys(Profile)
    assert {"data.rows", "diffusion.guidance_weight", "apl.replay.gate", "maze.iql.hidden"} <= set(keys)
    assert not {"seeds", "arms", "name"} & set(keys)
    assert len(set(keys)) == len(keys)


def test_a_grid_has_every_combination_the_last_axis_fastest():
    axes = parse_grid(["guidance_weight=0,0.5", "iql.hidden=[64,64],[16]", "learning_rate=3e-4"][:2], IQL)
    points = points_of(axes)
    assert [point.label for point in points] == [
        "guidance_weight=0 hidden=[64,64]",
        "guidance_weight=0 hidden=[16]",
        "guidance_weight=0.5 hidden=[64,64]",
        "guidance_weight=0.5 hidden=[16]",
    ]
    assert points[3].overrides == {"diffusion.guidance_weight": 0.5, "iql.hidden": [16]}
    assert in_words(axes) == "guidance_weight 0, 0.5; hidden [64,64], [16]"
    assert [point.overrides for point in points_of(())] == [{}]


def test_numbers_without_a_dot_are_numbers():
    assert parse_grid(["diffusion.learning_rate=3e-4,1e-3"], IQL)[0].values == (3e-4, 1e-3)


def test_settings_of_a_generator_are_known_as_such():
    def grid(*words):
        return is_of_generator(parse_grid(words, ALL))

    assert grid("guidance_weight=0,1", "refresh_every=1000,2000")
    assert not grid("guidance_weight=0,1", "iql.expectile=0.7,0.9")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["guidance_wight=0,1"], r"unknown key 'guidance_wight' \(did you mean guidance_weight"),
        (["finetune.step=1,2"], r"unknown key 'finetune.step' \(did you mean finetune.steps"),
        (["seeds=1,2"], "unknown key 'seeds'"),
        (["steps=1,2"], r"key 'steps' is ambiguous, expected one of pretrain.steps, finetune.steps"),
        (["data.datasets=[a],[b]"], "--over has data.datasets, expected another setting: all datasets are rows"),
        (["apl_datasets=[a],[b]"], "--over has apl_datasets, expected another setting"),
        (["guidance_weight"], "--over is 'guidance_weight', expected KEY=VALUE,VALUE"),
        (["guidance_weight="], "expected KEY=VALUE,VALUE"),
        (["guidance_weight=1,1.0"], "is '1,1.0', expected different values"),
        (["guidance_weight=1,,2"], "guidance_weight is .*, expected"),
        (["p_uncond=0.1", "diffusion.p_uncond=0.2"], "--over has diffusion.p_uncond twice, expected every key once"),
    ],
)
def test_refusals(words, message):
    with pytest.raises(ValueError, match=message):
        parse_grid(words, IQL)
