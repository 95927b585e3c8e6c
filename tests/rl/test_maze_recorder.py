import h5py
import numpy as np
import pytest
import torch

from cfdg_rl.datasets import load_dataset
from cfdg_rl.datasets.cli import main
from cfdg_rl.datasets.recorded import recording
from cfdg_rl.datasets.recorded.mazes import CHUNK_TRAJECTORIES, Driver, MazeData, Planner, find_command, record_maze
from cfdg_rl.datasets.scores import MAZES as FAMILIES
from cfdg_rl.envs.mazes import find_maze
from cfdg_rl.envs.pointmaze import Ball, PointMaze

LIMIT = 300
ROWS = 20 * LIMIT - 100  # two chunks, and a last trajectory that is cut
PLAY = MazeData("medium", "play", LIMIT)


@pytest.fixture(scope="module")
def play():
    return record_maze(PLAY, ROWS, seed=0)


def inside(rows):
    """Rows that the next row continues."""
    return ~rows["timeouts"][:-1]


def test_the_rows_do_not_depend_on_the_number_of_processes_but_on_the_seed(play):
    for other, same in ((record_maze(PLAY, ROWS, seed=0, jobs=2), True), (record_maze(PLAY, ROWS, seed=1), False)):
        for key in ("observations", "actions", "infos/goal"):
            assert np.array_equal(other[key], play[key]) is same
    fewer = record_maze(PLAY, LIMIT * CHUNK_TRAJECTORIES, seed=0)
    np.testing.assert_array_equal(fewer["observations"], play["observations"][: LIMIT * CHUNK_TRAJECTORIES])


def test_the_layout_is_that_of_d4rls_antmaze_files(play):
    layout = {key: (column.shape[1:], column.dtype.name) for key, column in play.items()}
    assert layout == {
        "observations": ((4,), "float32"),
        "actions": ((2,), "float32"),
        "rewards": ((), "float32"),
        "terminals": ((), "bool"),
        "timeouts": ((), "bool"),
        "infos/goal": ((2,), "float32"),
        "infos/qpos": ((2,), "float32"),
        "infos/qvel": ((2,), "float32"),
    }
    assert {len(column) for column in play.values()} == {ROWS}
    np.testing.assert_array_equal(np.hstack([play["infos/qpos"], play["infos/qvel"]]), play["observations"])


def test_trajectories_last_for_the_time_limit(play):
    assert np.flatnonzero(play["timeouts"]).tolist() == list(range(LIMIT - 1, ROWS, LIMIT))


def test_every_row_is_a_step_of_the_environment_from_the_one_before(play):
    env = PointMaze("medium")
    checked = 0
    for i in np.flatnonzero(inside(play))[::53]:
        place = play["infos/qpos"][i]
        env.set_state(place, play["infos/qvel"][i])
        obs, *_ = env.step(play["actions"][i])
        if env.data.ncon == 0:  # a contact amplifies the rounding to float32
            np.testing.assert_allclose(obs, play["observations"][i + 1], atol=1e-4)
            checked += 1
    assert checked > 50


def test_rewards_are_for_one_goal_at_the_next_row_and_come_in_runs(play):
    target = find_maze("medium").mean_goal
    np.testing.assert_array_equal(play["rewards"], play["terminals"])
    at_goal = np.linalg.norm(play["observations"][1:, :2] - target, axis=1) <= Ball().reach
    np.testing.assert_array_equal(play["terminals"][:-1][inside(play)], at_goal[inside(play)])
    assert (play["terminals"][1:] & play["terminals"][:-1] & inside(play)).sum() > 10
    leaves = play["terminals"][:-1] & ~play["terminals"][1:] & inside(play)
    assert leaves.sum() > 3  # a trajectory goes on after the goal


def test_rewards_and_terminals_are_what_the_environment_pays_at_the_same_goal(play):
    env = PointMaze("medium")
    env.task_state = find_maze("medium").mean_goal
    ring = np.linalg.norm(play["observations"][1:, :2] - env.goal, axis=1)
    near = np.flatnonzero(inside(play) & (ring < 2) & (np.abs(ring - Ball().reach) > 1e-3))
    assert len(near) > 50
    for i in near:
        env.set_state(play["infos/qpos"][i], play["infos/qvel"][i])
        _, reward, terminated, *_ = env.step(play["actions"][i])
        assert (reward, terminated) == (play["rewards"][i], play["terminals"][i])


def test_commanded_goals_change_where_they_are_reached_and_only_there(play):
    goal = play["infos/goal"]
    place = play["observations"][1:, :2]
    changed = (goal[1:] != goal[:-1]).any(axis=1)
    reached = np.linalg.norm(place - goal[:-1], axis=1) <= 0.5
    np.testing.assert_array_equal(changed[inside(play)], reached[inside(play)])


@pytest.mark.parametrize(
    ("maze", "level", "starts", "goals"),
    [("umaze", "", 1, 2), ("medium", "play", 26, 4), ("large", "play", 46, 7), ("large", "diverse", 46, 46)],
)
def test_starts_and_commanded_goals_are_those_of_the_level(maze, level, starts, goals):
    rows = record_maze(MazeData(maze, level, 100), 40_000, seed=0)
    plan = find_maze(maze)
    command = find_command(plan, level)
    begins = np.concatenate([[0], np.flatnonzero(rows["timeouts"])[:-1] + 1])
    began = {tuple(cell) for cell in plan.cell(rows["observations"][begins, :2]).tolist()}
    sent = {tuple(cell) for cell in plan.cell(rows["infos/goal"]).tolist()}
    assert (began, sent) == (set(command.starts), set(command.goals))
    assert (len(began), len(sent)) == (starts, goals)
    assert (
        np.abs(rows["observations"][begins, :2] - plan.centre(plan.cell(rows["observations"][begins, :2]))).max()
        < 0.1001
    )


def test_actions_are_the_planners_with_clipped_gaussian_noise():
    maze = find_maze("medium")
    balls = 20_000
    obs = np.zeros((balls, 4))
    obs[:, 2] = 6.0  # at top speed, which the planner brakes by 0.9
    driver = Driver(Planner(maze), find_command(maze, "play"), obs, np.random.default_rng(0))
    actions = driver.act(obs)
    planned = driver.planner.act(obs, driver.goals, driver.lanes)
    assert np.abs(actions).max() == 1.0
    free = np.abs(planned) < 0.3  # clipping is then more than three deviations away
    noise = (actions - planned)[free]
    assert len(noise) > 5_000
    assert noise.std() == pytest.approx(0.2, rel=0.03)
    assert abs(noise.mean()) < 0.01


def test_ways_keep_off_the_middle_by_a_lane_of_their_own():
    maze = find_maze("medium")
    obs = np.zeros((2_000, 4))
    driver = Driver(Planner(maze), find_command(maze, "diverse"), obs, np.random.default_rng(0))
    assert np.abs(driver.lanes).max() <= 1.0
    np.testing.assert_allclose(driver.lanes.var(axis=0), 1 / 3, rtol=0.1)
    here = np.zeros((1, 4))
    far = maze.centre(np.array([[3, 3]]))
    middle, aside = (driver.planner.act(here, far, np.array([[0.0, y]])) for y in (0.0, 0.5))
    np.testing.assert_allclose(middle, [[1.0, 0.0]])  # the way goes to the right first
    np.testing.assert_allclose(aside, [[1.0, 0.25]])


def test_the_planner_steers_to_the_next_cell_and_at_last_to_the_goal():
    maze = find_maze("umaze")
    planner = Planner(maze)
    goals = np.tile(maze.mean_goal, (3, 1))
    obs = np.array([[0.0, 0.0, 0.0, 0.0], [8.0, 0.0, 0.0, 0.0], [0.75, 7.75, 0.0, 0.0]])
    np.testing.assert_allclose(planner.act(obs, goals), [[1, 0], [0, 1], [0, 0.5]])
    moving = obs[2:] + np.array([0.0, 0.0, 2.0, 0.0])
    assert planner.act(moving, goals[2:])[0, 0] == pytest.approx(-0.3)  # it brakes


@pytest.mark.parametrize("name", recording.MAZE_NAMES)
def test_every_maze_dataset_loads_with_its_family_and_environment(name, tmp_path):
    data = load_dataset(f"recorded:{name}", rows=6_000, cache=tmp_path)
    family = FAMILIES["-".join(name.split("-")[:2])]
    assert (data.env_id, data.sparse, data.reference) == (family.env, True, (0.0, 1.0))
    assert (data.obs_dim, data.action_dim) == (4, 2)
    ended = 6_000 // family.max_episode_steps
    assert len(data.transitions) == 6_000 - ended - (6_000 % family.max_episode_steps > 0)
    assert len(data.episode_returns) == ended
    assert set(data.episode_returns.tolist()) <= {0.0, 1.0}
    move = (data.transitions.next_obs - data.transitions.obs)[:, :2].norm(dim=-1)
    assert move.max() < 0.1 * 6 * 2**0.5 + 0.01  # nothing jumps: 0.1 s at top speed along both axes


def test_success_is_rarer_the_harder_the_data(tmp_path):
    """Whole trajectories that were ever at the goal, in percent; starts and commands make it rare."""
    scores = [
        load_dataset(f"pointmaze-{level}", rows=30_000, cache=tmp_path).behaviour_score
        for level in ("umaze", "medium-play", "medium-diverse")
    ]
    assert 100 >= scores[0] > scores[1] > scores[2] > 2


def test_the_file_says_what_made_it_and_the_second_load_reads_it(tmp_path, monkeypatch):
    first = load_dataset("pointmaze-large-play", rows=1_000, seed=3, cache=tmp_path)
    (path,) = (tmp_path / "datasets").iterdir()
    assert path.name == f"pointmaze-large-play-rows1000-seed3-v{recording.MAZE_FORMAT}.hdf5"
    with h5py.File(path) as file:
        assert "next_observations" not in file
        facts = {key: file.attrs[f"metadata/{key}"] for key in ("environment", "level", "seed")}
    assert facts == {"environment": "cfdg/PointMazeLarge-v0", "level": "play", "seed": 3}
    monkeypatch.setattr(recording, "record_maze", lambda *_, **__: pytest.fail("rolled out again"))
    second = load_dataset("recorded:pointmaze-large-play", rows=1_000, seed=3, cache=tmp_path)
    assert torch.equal(first.transitions.obs, second.transitions.obs)


def test_plans_name_the_family_and_its_environment():
    plan = recording.plan_recording("pointmaze-medium-diverse", None, 5)
    assert (plan.robot, plan.env_id) == (FAMILIES["pointmaze-medium"], "cfdg/PointMazeMedium-v0")
    assert (plan.rows, plan.level, plan.name) == (200_000, "diverse", "pointmaze-medium-diverse")
    assert recording.plan_recording("pointmaze-umaze", 150, 0).name == "pointmaze-umaze"
    with pytest.raises(ValueError, match="rows is 149 for recorded:pointmaze-umaze, expected at least 150"):
        recording.plan_recording("pointmaze-umaze", 149, 0)
    with pytest.raises(ValueError, match="seed is -1, expected a non-negative integer"):
        recording.plan_recording("pointmaze-umaze", None, -1)


def test_the_command_line_records_a_maze(tmp_path, capsys):
    assert main(["record", "pointmaze-umaze", "--rows", "1500", "--jobs", "1", "--cache", str(tmp_path)]) == 0
    _, line = capsys.readouterr().out.splitlines()
    name, rows, episodes, share, score, *_ = line.split()
    assert (name, rows, episodes) == ("pointmaze-umaze", "1,500", "10")
    assert float(score) == pytest.approx(100 * float(share))
