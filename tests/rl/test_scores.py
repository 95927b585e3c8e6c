import numpy as np
import pytest

from cfdg_rl.datasets.scores import (
    ADROIT,
    FAMILIES,
    MAZES,
    family_of_environment,
    find_family,
    normalised_score,
    reference_of,
)
from cfdg_rl.envs import inspect_env, make_env

ALL = FAMILIES | MAZES | ADROIT


@pytest.mark.parametrize("family", ALL)
def test_random_is_0_expert_is_100_and_the_scale_is_affine(family):
    reference = ALL[family]
    ends = normalised_score(family, [reference.random_return, reference.expert_return])
    assert ends == pytest.approx([0.0, 100.0])
    assert normalised_score(family, (reference.random_return + reference.expert_return) / 2) == pytest.approx(50.0)


def test_any_shape_is_kept():
    assert normalised_score("hopper", np.zeros((3, 4))).shape == (3, 4)


def test_unknown_family_is_refused():
    with pytest.raises(
        ValueError, match="no reference returns for 'ant', expected one of hopper, halfcheetah, walker2d"
    ):
        normalised_score("ant", 0.0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("version", ["v4", "v5"])
def test_widths_and_time_limit_are_those_of_gymnasium(family, version):
    robot = FAMILIES[family]
    env = make_env(f"{robot.env}-{version}")
    assert env.observation_space.shape == (robot.obs_dim,)
    assert env.action_space.shape == (robot.action_dim,)
    assert env.spec is not None
    assert env.spec.max_episode_steps == robot.max_episode_steps
    env.close()


def test_the_family_of_a_dataset_and_of_an_environment():
    assert find_family("hopper-medium-replay-v2") == "hopper"
    assert find_family("antmaze-umaze-diverse-v2") == "antmaze-umaze"
    assert find_family("pen-human-v1") == "pen"
    assert find_family("ant-medium-v2") is None
    assert family_of_environment("Hopper-v5") == family_of_environment("Hopper-v4") == "hopper"
    assert family_of_environment("cfdg/AntMazeLarge-v2") == "antmaze-large"
    assert family_of_environment("cfdg/AdroitHandPen-v1") == "pen"
    assert family_of_environment("HopperBullet-v0") is None


def test_references_of_an_environment():
    assert reference_of("Walker2d-v5", sparse=False) == FAMILIES["walker2d"].reference
    assert reference_of("Own-v0", sparse=True) == (0.0, 1.0)
    assert reference_of("Own-v0", sparse=False) is None


@pytest.mark.parametrize("task", ADROIT)
def test_the_hands_have_d4rls_widths(task):
    pytest.importorskip("gymnasium_robotics", reason="gymnasium-robotics is not installed (extra adroit)")
    hand = ADROIT[task]
    shape = inspect_env(hand.env)
    assert (shape.obs_dim, len(shape.action_low)) == (hand.obs_dim, hand.action_dim)
    assert shape.max_episode_steps == hand.max_episode_steps
