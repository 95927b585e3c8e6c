import itertools
from xml.etree import ElementTree

import numpy as np
import pytest

from cfdg_rl.envs.mazes import CELL, MAZES, SUCCESS_RADIUS, GoalTask, MazeWorld, find_maze

GOALS = {"umaze": (0, 8), "medium": (20, 20), "large": (32, 24)}  # centres in D4RL's frame
mazes = pytest.mark.parametrize("name", MAZES)


@mazes
def test_start_and_goal_are_where_d4rl_has_them(name):
    maze = find_maze(name)
    np.testing.assert_array_equal(maze.centre(maze.start), (0, 0))
    np.testing.assert_array_equal(maze.centre(maze.goal), GOALS[name])


@mazes
def test_walls_surround_every_maze_and_with_the_free_cells_fill_it(name):
    maze = find_maze(name)
    rows, columns = maze.shape
    assert {len(row) for row in maze.rows} == {columns}
    border = {cell for cell in itertools.product(range(rows), range(columns)) if 0 in cell or cell[0] == rows - 1}
    border |= {(i, columns - 1) for i in range(rows)}
    assert border <= set(maze.walls)
    assert len(maze.walls) + len(maze.free) == rows * columns
    assert not set(maze.walls) & set(maze.free)


def test_the_mazes_have_d4rls_numbers_of_free_cells_and_play_goals():
    counts = {name: (maze.shape, len(maze.free), len(maze.goals)) for name, maze in MAZES.items()}
    assert counts == {"umaze": ((5, 5), 7, 1), "medium": ((8, 8), 26, 4), "large": ((9, 12), 46, 7)}


@mazes
def test_the_cell_of_a_place_is_the_one_whose_centre_is_nearest(name):
    maze = find_maze(name)
    rng = np.random.default_rng(0)
    cells = np.array(maze.free)
    places = maze.centre(cells) + rng.uniform(-0.499 * CELL, 0.499 * CELL, (100, len(cells), 2))
    np.testing.assert_array_equal(maze.cell(places), np.broadcast_to(cells, (100, *cells.shape)))


@mazes
def test_goals_are_a_sum_of_two_uniforms_off_the_centre(name):
    maze = find_maze(name)
    rng = np.random.default_rng(0)
    offset = np.stack([maze.draw_goal(maze.goal, rng) for _ in range(20_000)]) - GOALS[name]
    assert (offset >= 0).all()
    assert (offset <= 1.5).all()
    np.testing.assert_allclose(offset.mean(axis=0), 0.75, atol=0.01)
    np.testing.assert_allclose(offset.var(axis=0), (1 + 0.25) / 12, atol=0.003)
    # The density rises to 1 over [0, 0.5], stays, and falls: P(offset < 0.5) = 0.25 / (2 * 0.5)
    np.testing.assert_allclose((offset < 0.5).mean(axis=0), 0.25, atol=0.012)
    np.testing.assert_allclose((offset > 1.0).mean(axis=0), 0.25, atol=0.012)
    assert abs(np.corrcoef(offset.T)[0, 1]) < 0.03
    np.testing.assert_allclose(maze.mean_goal - GOALS[name], 0.75)


def test_a_goal_never_has_a_negative_coordinate():
    maze = find_maze("umaze")
    left_of_the_start = (1, 0)
    assert maze.draw_goal(left_of_the_start, np.random.default_rng(0))[0] == 0.0


@mazes
def test_distances_are_those_of_the_shortest_ways(name):
    maze = find_maze(name)
    steps = maze.distances(maze.goal)
    assert steps[maze.goal] == 0
    assert all(steps[cell] == -1 for cell in maze.walls)
    for i, j in maze.free:
        near = [steps[cell] for cell in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)) if steps[cell] >= 0]
        assert (i, j) == maze.goal or steps[i, j] == 1 + min(near)  # the equation that shortest distances solve


def test_the_shortest_ways_from_start_to_goal():
    assert {name: maze.distances(maze.goal)[maze.start] for name, maze in MAZES.items()} == {
        "umaze": 6,
        "medium": 10,
        "large": 14,
    }


@mazes
def test_following_the_next_cells_takes_a_shortest_way_to_any_goal(name):
    maze = find_maze(name)
    for goal in maze.free:
        steps = maze.distances(goal)
        after = maze.next_cells(goal)
        np.testing.assert_array_equal(after[goal], goal)
        for cell in set(maze.free) - {goal}:
            assert np.abs(after[cell] - cell).sum() == 1
            assert steps[tuple(after[cell])] == steps[cell] - 1


def test_the_goal_is_reached_within_its_radius_only():
    task = GoalTask(find_maze("medium"))
    task.reset(np.random.default_rng(0))
    direction = np.array([0.6, -0.8])
    assert task.reached(task.goal + 0.9999 * SUCCESS_RADIUS * direction)
    assert not task.reached(task.goal + 1.0001 * SUCCESS_RADIUS * direction)


def test_info_does_not_change_with_the_next_goal():
    task = GoalTask(find_maze("medium"))
    rng = np.random.default_rng(0)
    task.reset(rng)
    info = task.info()
    goal = task.goal.copy()
    task.reset(rng)
    assert (task.goal != goal).all()
    np.testing.assert_array_equal(info["goal"], goal)


@mazes
def test_the_walls_of_the_model_are_the_map(name):
    maze = find_maze(name)
    world = MazeWorld(floor_and_body(), maze, 1)
    world.set_state(np.zeros(1), np.zeros(1))
    names = {world.model.geom(i).name for i in range(world.model.ngeom)}
    assert names == {"floor", "body"} | {f"wall_{i}_{j}" for i, j in maze.walls}
    for i, j in maze.walls:
        geom = world.data.geom(f"wall_{i}_{j}")
        np.testing.assert_allclose(geom.xpos, (*maze.centre((i, j)), 1.0))
        np.testing.assert_allclose(world.model.geom(f"wall_{i}_{j}").size, (2.0, 2.0, 1.0))


def floor_and_body():
    return ElementTree.fromstring(
        '<mujoco><worldbody><geom name="floor" type="plane" size="9 9 1"/><body><joint type="slide"/>'
        '<geom name="body" size="0.1"/></body></worldbody></mujoco>'
    )


def test_an_unknown_maze_and_a_body_without_a_world_are_refused():
    with pytest.raises(ValueError, match="no maze 'huge', expected one of umaze, medium, large"):
        find_maze("huge")
    with pytest.raises(ValueError, match="the XML of the body has no 'worldbody'"):
        MazeWorld(ElementTree.fromstring("<mujoco/>"), find_maze("umaze"), 1)
