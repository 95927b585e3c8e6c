"""Profiles: shipped ones, overrides, mistakes, and the settings of one cell."""

import pytest
import yaml

from cfdg_diffusion.edm.network import ResidualMLP
from cfdg_experiments.cells.cell import cells_of
from cfdg_experiments.profiles.files import PROFILES, dump_profile, load_profile, parse_overrides
from cfdg_experiments.profiles.profile import profile_for
from cfdg_rl.datasets import suite


@pytest.mark.parametrize("name", PROFILES)
def test_shipped_profiles_load_and_round_trip(name, tmp_path):
    profile = load_profile(name)
    path = tmp_path / "copy.yaml"
    path.write_text(dump_profile(profile))
    assert load_profile(str(path)) == profile
    assert profile.name == name


def test_the_paper_profile_is_the_papers():
    paper = load_profile("paper")
    assert (paper.pretrain.steps, paper.finetune.steps, paper.finetune.refresh_every) == (10**6, 10**6, 10**5)
    assert paper.mixing.synthetic_ratio == pytest.approx(1 / 3)
    assert (paper.finetune.online_share, paper.finetune.synthetic_rows) == (0.8, 10**6)
    assert len(paper.seeds) == 5
    assert (paper.diffusion.width, paper.diffusion.ema_decay) == (1024, 0.995)  # SynthER's
    network = ResidualMLP(27, 2, paper.diffusion.width, paper.diffusion.blocks)
    assert 6.6e6 < network.size < 7.5e6  # SynthER's Hopper model: 6.67M
    assert [suite(name) for name in paper.data.datasets].count("locomotion") == 12
    assert [suite(name) for name in paper.data.datasets].count("maze") == 4
    assert (paper.iql.expectile, paper.iql.inverse_temperature) == (0.9, 10.0)
    assert (paper.maze.iql.reward, paper.maze.evaluation.episodes) == ("minus-one", 100)
    assert (paper.apl.finetune.steps, paper.apl.finetune.refresh_every) == (10**5, 10**4)
    assert (paper.apl.finetune.round_steps, paper.apl.finetune.updates_per_round) == (1_000, 10_000)
    assert paper.apl.learner == "conservative"
    cells = cells_of(paper)
    assert (len(cells), len(cells) * len(paper.seeds)) == (88, 440)


def test_the_quick_profile_has_all_algorithms_a_robot_and_a_maze_with_three_seeds():
    quick = load_profile("quick")
    cells = {(cell.algorithm, suite(cell.dataset)) for cell in cells_of(quick)}
    assert cells == {("iql", "maze"), ("pex", "maze"), ("apl", "locomotion")}
    assert quick.arms == ("base", "repeat", "cfdg-split")
    assert len(quick.seeds) == 3


def test_a_group_keeps_its_own_defaults_where_a_profile_mentions_only_some_of_its_keys():
    profile = load_profile("quick", {"apl": {"finetune": {"steps": 20_000}}, "maze": {"iql": {"expectile": 0.8}}})
    assert (profile.apl.finetune.round_steps, profile.apl.finetune.updates_per_round) == (1_000, 10_000)
    assert (profile.maze.iql.expectile, profile.maze.iql.reward) == (0.8, "minus-one")
    assert profile.maze.evaluation.episodes == 100


@pytest.mark.parametrize("group", ["finetune", "apl.finetune"])
def test_the_rewards_of_a_task_are_no_setting(group):
    with pytest.raises(
        ValueError, match=rf"^profile quick: {group}.sparse_reward is \[0.0, 1.0\], expected false: the"
    ):
        load_profile("quick", {f"{group}.sparse_reward": [0, 1]})
    assert load_profile("quick", {f"{group}.sparse_reward": False}) == load_profile("quick")


def test_numbers_may_be_written_as_people_write_them():
    profile = load_profile("quick", parse_overrides(["iql.learning_rate=3e-4", "data.rows=2000", "device=cpu"]))
    assert (profile.iql.learning_rate, profile.data.rows, profile.device) == (3e-4, 2000, "cpu")


def keys(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_every_key_can_be_overridden():
    quick = load_profile("quick")
    for key, value in keys(yaml.safe_load(dump_profile(quick))):
        again = load_profile("quick", parse_overrides([f"{key}={yaml.safe_dump(value, default_flow_style=True)}"]))
        assert again == quick, key
    assert load_profile("quick", parse_overrides(["finetune.steps=7000"])).finetune.steps == 7000


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("finetune.step=1", r"profile quick: unknown key finetune.step \(did you mean steps or round_steps\?\)"),
        ("fintune.steps=1", "unknown key fintune .*finetune"),
        ("finetune.steps=many", "profile quick: finetune.steps is 'many', expected a valid integer"),
        ("finetune.steps=1.5", "finetune.steps is 1.5, expected a valid integer"),
        ("refresh.warm_start=1", "refresh.warm_start is 1, expected a valid boolean"),
        ("refresh.warm_start='yes'", "refresh.warm_start is 'yes', expected a valid boolean"),
        ("device=5", "device is 5, expected a valid string"),
        ("seeds=3", "seeds is 3, expected a valid array"),
        ("seeds=['1']", "seeds.0 is '1', expected a valid integer"),
        ("iql.hidden=[16,0.5]", "iql.hidden.1 is 0.5, expected a valid integer"),
        ("iql.log_std_range=[1,2,3]", r"iql.log_std_range is \[1, 2, 3\], expected at most 2 items"),
        ("iql.log_std_range=[1]", r"iql.log_std_range.1 is missing in \[1\], expected a value"),
        ("iql.expectile=null", "iql.expectile is None, expected a valid number"),
        ("iql=3", "iql is 3, expected an object"),
        ("diffusion.sampler=hein", "diffusion.sampler is 'hein', expected 'dpm'"),
        ("seeds=[]", "seeds is empty"),
        ("seeds=[1,1]", r"seeds is \[1, 1\], expected distinct integers >= 0"),
        ("seeds=[-1]", r"seeds is \[-1\], expected distinct integers >= 0"),
        ("arms=[cfgd]", r"arms is 'cfgd' \(did you mean cfdg"),
        ("algorithms=[sac]", "algorithms is 'sac', expected some of iql, pex, apl"),
        ("data.datasets=[]", "data.datasets is empty"),
        ("finetune.refresh_every=6000", "T_diff.* is 6000, expected at most the 2500 steps"),
        ("iql.expectile=1.5", "expectile is 1.5, expected above 0"),
        ("diffusion.width=0", "width is 0"),
        ("apl.replay.gate=20000", "gate is 20000, expected .*less than online_rows, 20000"),
        ("pretrain.steps=0", "pretrain.steps is 0, expected at least 1"),
        ("name.first=a", "name is a value, expected a group of keys"),
    ],
)
def test_mistakes_are_one_sentence_that_names_the_key(override, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_profile("quick", parse_overrides([override]))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_profiles(tmp_path):
    with pytest.raises(ValueError, match=r"profile is 'qick' \(did you mean quick"):
        load_profile("qick")
    with pytest.raises(FileNotFoundError, match=r"mine\.yaml does not exist"):
        load_profile(str(tmp_path / "mine.yaml"))
    path = tmp_path / "bad.yaml"
    path.write_text("a: [1")
    with pytest.raises(ValueError, match=r"bad\.yaml is not YAML"):
        load_profile(str(path))
    path.write_text("- 1")
    with pytest.raises(ValueError, match="is a list, expected keys and values"):
        load_profile(str(path))
    path.write_text("nam: x")
    with pytest.raises(ValueError, match=r"unknown key nam \(did you mean name"):
        load_profile(str(path))


def test_overrides_need_an_equals_sign():
    with pytest.raises(ValueError, match="key=value"):
        parse_overrides(["finetune.steps"])


def test_override_values_are_yaml():
    with pytest.raises(ValueError, match=r"override seeds is '\[1', expected a YAML value"):
        parse_overrides(["seeds=[1"])


def test_mazes_have_their_own_rewards_and_evaluations_and_apl_its_own_schedule():
    profile = load_profile("quick")
    maze, robot = (profile_for(profile, f"recorded:{name}", "pex") for name in ("pointmaze-umaze", "hopper-medium"))
    assert (maze.learner, maze.evaluation) == (profile.maze.iql, profile.maze.evaluation)
    assert (robot.learner, robot.evaluation) == (profile.iql, profile.evaluation)
    assert (robot.pex, robot.replay) == (profile.pex, None)
    assert (robot.pretrain, robot.finetune, robot.refresh) == (profile.pretrain, profile.finetune, profile.refresh)
    apl = profile_for(profile, "recorded:hopper-medium", "apl")
    assert (apl.pretrain, apl.finetune, apl.refresh) == (
        profile.apl.pretrain,
        profile.apl.finetune,
        profile.apl.refresh,
    )
    assert (apl.learner, apl.replay, apl.pex) == (profile.apl.td3_bc, profile.apl.replay, None)
    other = profile_for(load_profile("quick", {"apl.learner": "conservative"}), "recorded:hopper-medium", "apl")
    assert other.learner == profile.apl.conservative


def test_the_settings_of_a_cell_do_not_depend_on_the_rest_of_the_table():
    profile = load_profile("quick")
    alone = load_profile("quick", {"data.datasets": ["recorded:pointmaze-medium-play"], "algorithms": ["iql"]})
    assert set(cells_of(alone)) <= set(cells_of(profile))


def test_a_profile_written_before_a_setting_was_renamed_still_loads(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text("name: old\ndiffusion:\n  waves: 2\n")
    assert load_profile(str(path)).diffusion.fourier_octaves == 2
    assert load_profile("quick", {"diffusion.waves": 3}).diffusion.fourier_octaves == 3


def test_rows_may_differ_by_dataset():
    rows = {"recorded:hopper-medium": 5_000, "others": 20_000}
    profile = load_profile("quick", {"data.rows": rows})
    assert profile_for(profile, "recorded:hopper-medium", "iql").rows == 5_000
    assert profile_for(profile, "recorded:pointmaze-medium-play", "iql").rows == 20_000
    one = load_profile("quick", {"data.rows": {"recorded:hopper-medium": 5_000}})
    assert profile_for(one, "recorded:walker2d-medium", "iql").rows is None  # the source's own
    named = next(name for name in load_profile("reduced").data.rows if name != "others")
    assert profile_for(load_profile("reduced", {"data.rows": 300}), named, "apl").rows == 300


@pytest.mark.parametrize("wrong", [{"recorded:hopper-medium": 0}, {"others": "many"}, [5], 1.5, "all", True])
def test_wrong_rows_are_one_sentence(wrong):
    with pytest.raises(
        ValueError, match=r"profile quick: data\.rows is .*, expected a whole number of at least 1, or one"
    ):
        load_profile("quick", {"data.rows": wrong})
