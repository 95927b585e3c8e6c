import numpy as np
import pytest

from cfdg_rl.datasets.scores import FAMILIES, normalised_score
from cfdg_rl.envs import make_env


@pytest.mark.parametrize("family", FAMILIES)
def test_random_is_0_expert_is_100_and_the_scale_is_affine(family):
    reference = FAMILIES[family]
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
