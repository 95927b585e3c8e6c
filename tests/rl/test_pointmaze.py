import numpy as np
import pytest

from cfdg_rl.datasets.recorded.mazes import Planner
from cfdg_rl.datasets.scores import MAZES as FAMILIES
from cfdg_rl.envs import make_env
from cfdg_rl.envs.mazes import find_maze
from cfdg_rl.envs.pointmaze import Ball, PointMaze

MAZES = {"umaze": "UMaze", "medium": "Medium", "large": "Large"}
ALONG_X = np.array([1.0, 0.0])


@pytest.fixture
def medium():
    env = PointMaze("medium")
    env.reset(seed=0)
    return env


@pytest.mark.parametrize("maze", MAZES)
def test_the_registered_environment_is_that_of_the_family(maze):
    family = FAMILIES[f"pointmaze-{maze}"]
    env = make_env(family.env)
    assert family.env == f"cfdg/PointMaze{MAZES[maze]}-v0"
    assert env.observation_space.shape == (family.obs_dim,)
    assert env.action_space.shape == (family.action_dim,)
    env.reset(seed=0)
    flags = [env.step(np.zeros(2))[2:4] for _ in range(family.max_episode_steps)]
    assert flags[:-1] == [(False, False)] * (family.max_episode_steps - 1)
    assert flags[-1] == (False, True)


def test_the_same_seed_gives_the_same_goals_and_trajectories_whatever_another_environment_does(medium):
    first = PointMaze("medium")
    second = PointMaze("medium")
    actions = np.random.default_rng(1).uniform(-1, 1, (50, 2))

    def run(env, disturb=None):
        rows = [np.concatenate([env.reset(seed=7)[0], env.goal])]
        for action in actions:
            rows.append(np.concatenate([env.step(action)[0], env.goal]))
            if disturb:
                disturb.step(-action)
        return np.stack([*rows, np.concatenate([env.reset()[0], env.goal])])

    alone = run(first)
    np.testing.assert_array_equal(run(second, disturb=medium), alone)
    assert (alone[0, 4:] != alone[-1, 4:]).all()  # a reset without a seed draws another goal
    second.reset(seed=8)
    assert (second.goal != alone[0, 4:]).all()


def test_observations_are_place_and_velocity_and_do_not_have_the_goal(medium):
    medium.set_state(np.array([1.0, 2.0]), np.array([-3.0, 0.5]))
    np.testing.assert_array_equal(medium.world.obs, (1.0, 2.0, -3.0, 0.5))
    assert medium.observation_space.contains(medium.reset(seed=0)[0])


def test_a_reset_is_near_the_start(medium):
    obs = np.stack([medium.reset()[0] for _ in range(2_000)])
    assert np.abs(obs[:, :2]).max() <= 0.1
    np.testing.assert_allclose(obs[:, :2].std(axis=0), 0.1 / np.sqrt(3), rtol=0.1)
    np.testing.assert_allclose(obs[:, 2:].std(axis=0), 0.1, rtol=0.1)


def test_the_ball_is_a_damped_mass(medium):
    """m v' = F a - b v has the solution v = F a / b (1 - exp(-b t / m)); the simulator's step makes it implicit."""
    ball = Ball()
    action = 0.5
    medium.set_state(np.zeros(2), np.zeros(2))
    steps = 5
    for _ in range(steps):
        obs, *_ = medium.step(action * ALONG_X)
    h = ball.timestep * ball.damping / ball.mass
    speed = action * ball.force / ball.damping * (1 - (1 + h) ** -(steps * ball.frame_skip))
    assert obs[2] == pytest.approx(speed, rel=1e-9)
    assert obs[1] == obs[3] == 0.0
    assert medium.world.dt == pytest.approx(0.1)


def test_actions_are_clipped(medium):
    ends = []
    for size in (1.0, 40.0):
        medium.set_state(np.zeros(2), np.zeros(2))
        ends.append(medium.step(size * np.array([1.0, -1.0]))[0])
    np.testing.assert_array_equal(*ends)


def test_an_action_of_another_width_is_refused(medium):
    with pytest.raises(ValueError, match=r"action has shape \(1, 2\), expected \(2,\)"):
        medium.step(np.zeros((1, 2)))


def test_success_pays_and_terminates_and_nothing_else_does(medium):
    medium.set_state(medium.goal + np.array([0.49, 0.0]), np.zeros(2))
    _, reward, terminated, truncated, info = medium.step(np.zeros(2))
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)
    np.testing.assert_array_equal(info["goal"], medium.goal)
    medium.set_state(medium.goal - np.array([Ball().reach + 0.01, 0.0]), np.zeros(2))
    assert medium.step(np.zeros(2))[1:3] == (0.0, False)


def test_the_task_state_brings_the_goal_to_another_copy(medium):
    other = PointMaze("medium")
    other.reset(seed=5)
    saved = medium.task_state
    other.task_state = saved
    saved[:] = 0
    np.testing.assert_array_equal(other.goal, medium.goal)
    other.set_state(medium.goal, np.zeros(2))
    assert other.step(np.zeros(2))[2]


@pytest.mark.parametrize("maze", MAZES)
def test_no_push_gets_a_ball_into_a_wall(maze):
    env = PointMaze(maze)
    rng = np.random.default_rng(0)
    radius = Ball().radius
    env.reset(seed=0)
    walls = env.world.task.maze.centre(np.array(env.world.task.maze.walls))
    for _ in range(25):
        env.set_state(env.world.task.maze.centre((1, 1)), rng.normal(0, 10, 2))  # up to five times the top speed
        push = rng.choice((-1.0, 1.0), 2)
        for _ in range(60):
            place = env.step(push * rng.uniform(0.5, 1))[0][:2]
            outside = np.maximum(np.abs(place - walls) - 2.0, 0)  # of every wall, along x and y
            assert np.linalg.norm(outside, axis=1).min() > 0.5 * radius


def test_a_wall_stops_a_ball_where_it_stands(medium):
    medium.set_state(np.zeros(2), np.zeros(2))
    for _ in range(100):
        obs, *_ = medium.step(-ALONG_X)
    np.testing.assert_allclose(obs, (-1.5, 0, 0, 0), atol=0.01)  # the wall's face is at -2, the radius 0.5


@pytest.mark.parametrize("maze", ["medium", "large"])
def test_pushing_blindly_towards_the_goal_does_not_reach_it(maze):
    env = PointMaze(maze)
    for push in ((1.0, 1.0), (1.0, 0.5), (0.5, 1.0)):
        env.reset(seed=0)
        assert not any(env.step(np.array(push))[2] for _ in range(400))


@pytest.mark.parametrize("maze", MAZES)
def test_a_planner_reaches_every_goal_in_about_a_third_of_the_time(maze):
    planner = Planner(find_maze(maze))
    rng = np.random.default_rng(0)
    env = make_env(f"cfdg/PointMaze{MAZES[maze]}-v0")
    lengths = []
    successes = []
    for seed in range(20):
        (obs, info) = env.reset(seed=seed)
        steps = 0
        over = False
        while not over:
            action = planner.act(obs[None], info["goal"][None])[0] + 0.2 * rng.standard_normal(2)
            obs, _, terminated, truncated, info = env.step(np.clip(action, -1, 1))
            steps = steps + 1
            over = terminated or truncated
        lengths.append(steps)
        successes.append(terminated)
    assert np.mean(successes) >= 0.95
    share = np.mean(lengths) / FAMILIES[f"pointmaze-{maze}"].max_episode_steps
    assert 0.2 < share < 0.4
