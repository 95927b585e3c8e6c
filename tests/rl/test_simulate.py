"""Steps from an observation: they are the environment's own, and what cannot be simulated is said."""

import numpy as np
import pytest

from cfdg_rl.datasets import load_dataset
from cfdg_rl.envs import make_env
from cfdg_rl.envs.simulate import MazeSimulator, make_simulator

ROBOTS = ("hopper", "halfcheetah", "walker2d")


@pytest.fixture(scope="module", params=ROBOTS)
def recorded(request, tmp_path_factory):
    """The first rows of a shipped replay, raw rewards, and the simulator of its environment."""
    data = load_dataset(f"recorded:{request.param}-medium-replay", rows=1500, cache=tmp_path_factory.mktemp("data"))
    return data, make_simulator(data.env_id)


def columns(data):
    rows = data.transitions
    return [getattr(rows, name).numpy() for name in ("obs", "action", "reward", "next_obs", "terminal")]


def test_recorded_rows_have_no_dynamics_error_but_rounding(recorded):
    data, simulator = recorded
    obs, action, reward, next_obs, terminal = columns(data)
    found = simulator.step_from(obs, action)
    whole = ~simulator.hides(obs)
    error = (((found.next_obs - next_obs) / next_obs.std(0)) ** 2).mean(1)[whole]
    assert np.median(error) < 1e-7
    assert error.max() < 1e-2
    assert np.median(np.abs(found.reward - reward)[whole]) < 1e-3
    np.testing.assert_array_equal(found.terminal[whole], terminal[whole] > 0.5)


def test_only_rows_with_a_clipped_velocity_have_another_outcome(recorded):
    data, simulator = recorded
    obs, action, _, next_obs, _ = columns(data)
    error = (((simulator.step_from(obs, action).next_obs - next_obs) / next_obs.std(0)) ** 2).mean(1)
    assert simulator.hides(obs)[error > 1e-2].all()


def test_no_recorded_state_is_impossible_and_every_fallen_one_is(recorded):
    data, simulator = recorded
    obs, _, _, next_obs, terminal = columns(data)
    assert not simulator.is_impossible(obs).any()
    np.testing.assert_array_equal(simulator.is_impossible(next_obs), terminal > 0.5)


def test_the_way_travelled_changes_neither_state_nor_reward(recorded):
    data, simulator = recorded
    obs, action = (column[:50].astype(np.float64) for column in columns(data)[:2])
    qpos, qvel = simulator._state(obs)
    far = qpos + np.eye(qpos.shape[1])[0] * 7.5
    here = simulator.physics.step(qpos, qvel, action)
    there = simulator.physics.step(far, qvel, action)
    np.testing.assert_allclose(there[0] - far[:, :1] * np.eye(qpos.shape[1])[0], here[0], atol=1e-9)
    np.testing.assert_allclose(there[1], here[1], atol=1e-9)


def test_threads_and_company_change_no_bit(recorded):
    data, simulator = recorded
    obs, action = (column[:101] for column in columns(data)[:2])
    several = make_simulator(data.env_id, threads=2).step_from(obs, action)
    together = simulator.step_from(obs, action)
    np.testing.assert_array_equal(several.next_obs, together.next_obs)
    np.testing.assert_array_equal(simulator.step_from(obs[40:41], action[40:41]).next_obs[0], together.next_obs[40])


def test_states_that_cannot_be_simulated_are_nan_and_silent(recorded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo would write its log there
    data, simulator = recorded
    obs, action = (column[:4].copy() for column in columns(data)[:2])
    obs[1, 0] = np.nan
    obs[2, -1] = 99.0
    obs[2, 2:5] = 40.0
    obs[3, -1] = 1e6
    found = simulator.step_from(obs, action)
    assert np.isfinite(found.next_obs[0]).all()
    assert np.isnan(found.next_obs[[1, 3]]).all()
    assert np.isnan(found.reward[[1, 3]]).all()
    assert not found.terminal[[1, 3]].any()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("env_id", ["cfdg/PointMazeMedium-v0", "cfdg/AntMazeUMaze-v2"])
def test_a_maze_steps_as_its_environment(env_id):
    env = make_env(env_id)
    obs, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(30):
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        after = env.step(action)[0]
        rows.append((obs, action, after))
        obs = after
    before, action, after = (np.stack(column) for column in zip(*rows, strict=True))
    found = make_simulator(env_id).step_from(before, action)
    np.testing.assert_allclose(found.next_obs, after, atol=1e-5)
    assert not found.reward.any()


def test_a_maze_pays_at_the_mean_goal_and_has_no_bodies_in_walls():
    simulator = MazeSimulator("cfdg/PointMazeMedium-v0")
    goal = simulator.maze.mean_goal
    wall = simulator.maze.centre(simulator.maze.walls[10])
    obs = np.zeros((4, 4))
    obs[0, :2] = goal
    obs[1, :2] = wall
    obs[2, :2] = 1e4
    found = simulator.step_from(obs, np.zeros((4, 2)))
    assert found.reward[0] == 1
    assert found.terminal.tolist() == [True, False, False, False]
    assert simulator.is_impossible(obs).tolist() == [False, True, True, False]


def test_refusals():
    with pytest.raises(ValueError, match=r"'Ant-v5' has no simulator .* expected one of Half"):
        make_simulator("Ant-v5")
    with pytest.raises(ValueError, match="threads is 0, expected at least 1"):
        make_simulator("Hopper-v5", threads=0)
