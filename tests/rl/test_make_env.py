"""Environments whose spaces are not yet those a policy acts in."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from cfdg_rl.envs import inspect_env, make_env


class Odd(gymnasium.Env):
    """Dict observations, actions between -2 and 6; the observation says which action it got."""

    observation_space = spaces.Dict(
        {"b": spaces.Box(-9, 9, (2,), np.float32), "a": spaces.Dict({"c": spaces.Box(-9, 9, (1,), np.float32)})}
    )
    action_space = spaces.Box(np.array([-2, 0], np.float32), np.array([6, 1], np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._seen(np.zeros(2, np.float32)), {}

    def step(self, action):
        return self._seen(action), 0.0, False, False, {}

    def _seen(self, action):
        return {"b": np.asarray(action, np.float32), "a": {"c": np.ones(1, np.float32)}}


@pytest.fixture(scope="session")
def odd():
    if "CfdgTestOdd-v0" not in gymnasium.registry:
        gymnasium.register("CfdgTestOdd-v0", Odd, max_episode_steps=7)
    return "CfdgTestOdd-v0"


def test_dict_observations_are_flattened_as_gymnasium_does(odd):
    env = make_env(odd)
    assert env.observation_space.shape == (3,)
    obs, _ = env.reset(seed=0)
    assert obs.tolist() == spaces.flatten(Odd.observation_space, Odd()._seen(np.zeros(2))).tolist() == [1, 0, 0]


def test_actions_are_mapped_and_the_dataset_map_is_the_inverse(odd):
    env = make_env(odd)
    shape = inspect_env(odd)
    assert (env.action_space.low == -1).all()
    assert (env.action_space.high == 1).all()
    env.reset(seed=0)
    own = np.array([[-2, 0], [6, 1], [2, 0.25]], np.float32)
    unit = shape.unit_actions(own)
    assert unit.tolist() == [[-1, -1], [1, 1], [0, -0.5]]
    for action, expected in zip(unit, own, strict=True):
        assert env.step(action)[0][1:].tolist() == expected.tolist()


def test_the_shape_of_an_environment(odd):
    shape = inspect_env(odd)
    assert (shape.obs_dim, shape.max_episode_steps) == (3, 7)
    assert inspect_env("Hopper-v4").unit_actions(np.ones((1, 3))).tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("env_id", ["Hopper-v4", "HalfCheetah-v5", "Walker2d-v5"])
def test_locomotion_gets_no_wrapper(env_id):
    env = make_env(env_id)
    while isinstance(env, gymnasium.Wrapper):
        assert not isinstance(env, gymnasium.wrappers.FlattenObservation | gymnasium.wrappers.RescaleAction)
        env = env.env


def test_discrete_actions_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match=r"'CartPole-v1' has discrete actions, Discrete\(2\), expected a box"):
        make_env("CartPole-v1")


def test_an_unknown_environment_is_one_sentence():
    with pytest.raises(ValueError, match=r"environment 'Hoper-v5' cannot be made: .*Hoper"):
        make_env("Hoper-v5")


def test_pen_has_d4rls_time_limit():
    pytest.importorskip("gymnasium_robotics", reason="gymnasium-robotics is not installed (extra adroit)")
    assert inspect_env("cfdg/AdroitHandPen-v1").max_episode_steps == 100
    assert inspect_env("AdroitHandPen-v1").max_episode_steps == 200
