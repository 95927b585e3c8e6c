"""D4RL's three mazes and the task of reaching a goal in them, for any body that moves in a plane.

Facts: D4RL's ``locomotion/maze_env.py``, ``goal_reaching_env.py`` and ``ant.py`` (Apache-2.0); nothing of
them is copied. The start cell is centred on (0, 0), x grows with the column and y with the row of a map.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from xml.etree import ElementTree

import gymnasium
import mujoco
import numpy as np

CELL = 4.0  # side of a cell, and of a wall
WALL_HEIGHT = 2.0  # 0.5 cells
SUCCESS_RADIUS = 0.5
RESET_NOISE = 0.1  # half-width on positions, deviation of velocities

Cell = tuple[int, int]


@dataclass(frozen=True)
class Maze:
    """A map and its geometry.

    Attributes:
        rows: ``#`` a wall, ``S`` the start, ``G`` the evaluation goal, ``g`` another goal of D4RL's data collection.
    """

    rows: tuple[str, ...]

    @cached_property
    def start(self) -> Cell:
        """Row and column of the start."""
        return self._find("S")[0]

    @cached_property
    def goal(self) -> Cell:
        """Row and column of the evaluation goal."""
        return self._find("G")[0]

    @cached_property
    def goals(self) -> list[Cell]:
        """The few goals of D4RL's "play" data and the evaluation goal, which in the medium maze is not one of them."""
        return self._find("Gg")

    @cached_property
    def free(self) -> list[Cell]:
        """Every cell that is no wall, row by row."""
        return self._find("SGg.")

    @cached_property
    def walls(self) -> list[Cell]:
        """Every wall, row by row."""
        return self._find("#")

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns, the surrounding walls included."""
        return len(self.rows), len(self.rows[0])

    def centre(self, cells: Cell | np.ndarray) -> np.ndarray:
        """Compute the centres xy ``(..., 2)`` of cells ``(..., 2)``, in metres."""
        return CELL * (np.asarray(cells, dtype=np.float64) - self.start)[..., ::-1]

    def cell(self, xy: np.ndarray) -> np.ndarray:
        """Find the cells ``(..., 2)``, row and column, of positions xy ``(..., 2)``."""
        return np.rint(np.asarray(xy)[..., ::-1] / CELL).astype(np.int64) + self.start

    def draw_goal(self, cell: Cell, rng: np.random.Generator) -> np.ndarray:
        """Draw a goal xy in a cell as D4RL does: centre + U(0, 1) + U(0, 0.5) per axis, never below 0."""
        return np.maximum(self.centre(cell) + rng.uniform(0, CELL / 4, 2) + rng.uniform(0, CELL / 8, 2), 0.0)

    @cached_property
    def mean_goal(self) -> np.ndarray:
        """The mean xy of the evaluation goals, of which two thirds lie within ``SUCCESS_RADIUS`` of it."""
        return self.centre(self.goal) + CELL * 3 / 16

    def distances(self, goal: Cell) -> np.ndarray:
        """Count steps between cells from everywhere to ``goal``, of the maze's shape; -1 in walls."""
        steps = np.full(self.shape, -1)
        steps[goal] = 0
        queue = deque([goal])
        while queue:
            cell = queue.popleft()
            for near in self._neighbours(cell):
                if steps[near] < 0:
                    steps[near] = steps[cell] + 1
                    queue.append(near)
        return steps

    def next_cells(self, goal: Cell) -> np.ndarray:
        """Find each cell's next on a shortest way to ``goal``: ``(rows, columns, 2)``; the goal and walls stay."""
        steps = self.distances(goal)
        after = np.moveaxis(np.indices(self.shape), 0, -1).copy()
        for cell in self.free:
            if cell != goal:
                after[cell] = min(self._neighbours(cell), key=lambda near: steps[near])
        return after

    def _neighbours(self, cell: Cell) -> Iterator[Cell]:
        i, j = cell
        return (near for near in ((i - 1, j), (i, j - 1), (i, j + 1), (i + 1, j)) if self.rows[near[0]][near[1]] != "#")

    def _find(self, kinds: str) -> list[Cell]:
        return [(i, j) for i, row in enumerate(self.rows) for j, kind in enumerate(row) if kind in kinds]


MAZES = {
    "umaze": Maze(("#####", "#S..#", "###.#", "#G..#", "#####")),
    "medium": Maze(
        ("########", "#S.##..#", "#..#..g#", "##...###", "#..#...#", "#g#..#.#", "#...#gG#", "########"),
    ),
    "large": Maze(
        (
            "############",
            "#S...#g....#",
            "#.##.#.#.#.#",
            "#....g.#..g#",
            "#.####.###.#",
            "#.g#.#.....#",
            "##.#.#.#.###",
            "#..#g.g#.G.#",
            "############",
        )
    ),
}


def find_maze(name: str) -> Maze:
    """Find the maze of a name.

    Raises:
        ValueError: if there is none.
    """
    if name not in MAZES:
        raise ValueError(f"no maze {name!r}, expected one of {', '.join(MAZES)}")
    return MAZES[name]


class GoalTask:
    """The goal of the episode under way in a maze: drawn anew at each reset in the evaluation goal's cell."""

    def __init__(self, maze: Maze, reach: float = SUCCESS_RADIUS) -> None:
        self.maze = maze
        self.reach = reach
        self.goal = maze.centre(maze.goal)

    def reset(self, rng: np.random.Generator) -> None:
        """Draw the goal of a new episode."""
        self.goal = self.maze.draw_goal(self.maze.goal, rng)

    def reached(self, xy: np.ndarray) -> bool:
        """Tell if a position xy is within reach of the goal."""
        return bool(np.linalg.norm(xy - self.goal) <= self.reach)

    def info(self, success: bool = False) -> dict[str, Any]:
        """Return the ``info`` of a step: the goal, which the observation lacks, and success."""
        return {"goal": self.goal.copy(), "success": success}


class MazeWorld:
    """A simulated body in a maze, whose first two coordinates are its place, and the task of reaching the goal.

    Args:
        body: XML of the body; walls and a camera are added to it.
        maze: the maze.
        frame_skip: simulator steps per action.
        reach: distance from the goal, in metres, at which it counts as reached.

    Attributes:
        model: MuJoCo's model.
        data: MuJoCo's state.
        task: the goal and its reward.
    """

    def __init__(self, body: ElementTree.Element, maze: Maze, frame_skip: int, reach: float = SUCCESS_RADIUS) -> None:
        _add_walls(body, maze)
        _add_camera(body, maze)
        self.model = mujoco.MjModel.from_xml_string(ElementTree.tostring(body, encoding="unicode"))
        self.data = mujoco.MjData(self.model)
        self.task = GoalTask(maze, reach)
        self.frame_skip = frame_skip
        self._view: TopView | None = None

    @property
    def dt(self) -> float:
        """Seconds per action."""
        return self.model.opt.timestep * self.frame_skip

    @property
    def obs(self) -> np.ndarray:
        """All positions, then all velocities."""
        return np.concatenate((self.data.qpos, self.data.qvel))

    def spaces(self) -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Box]:
        """Return the spaces of observations and actions."""
        width = self.model.nq + self.model.nv
        obs = gymnasium.spaces.Box(-np.inf, np.inf, (width,), np.float64)
        return obs, gymnasium.spaces.Box(-1.0, 1.0, (self.model.nu,), np.float32)

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw a new goal, and the default pose with the reset noise of D4RL's ant; observation and info."""
        self.task.reset(rng)
        qpos = self.model.qpos0 + rng.uniform(-RESET_NOISE, RESET_NOISE, self.model.nq)
        self.set_state(qpos, RESET_NOISE * rng.standard_normal(self.model.nv))
        return self.obs, self.task.info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Apply an action, clipped to [-1, 1]; the five results of Gymnasium's ``step``.

        The reward is 1 and the episode ends when the body is at the goal afterwards; nothing else ends it.

        Raises:
            ValueError: if the action has another width than the model has motors.
        """
        if np.shape(action) != (self.model.nu,):
            raise ValueError(f"action has shape {np.shape(action)}, expected ({self.model.nu},)")
        self.data.ctrl[:] = np.clip(action, -1.0, 1.0)
        mujoco.mj_step(self.model, self.data, nstep=self.frame_skip)
        success = self.task.reached(self.data.qpos[:2])
        return self.obs, float(success), success, False, self.task.info(success)

    def set_state(self, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Put the simulator into a state; clock, forces and the solver's warm start are reset."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = qpos
        self.data.qvel[:] = qvel
        mujoco.mj_forward(self.model, self.data)

    def render(self) -> np.ndarray:
        """Draw a picture from above ``(height, width, 3)`` uint8, row 0 of the map at the bottom."""
        if self._view is None:
            self._view = TopView(self.model, self.task.maze)
        return self._view.draw(self.data)

    def close(self) -> None:
        """Free the OpenGL context, if there is one."""
        if self._view is not None:
            self._view.close()
            self._view = None


def _add_walls(root: ElementTree.Element, maze: Maze) -> None:
    shape = {"type": "box", "size": _numbers(CELL / 2, CELL / 2, WALL_HEIGHT / 2), "rgba": "0.35 0.3 0.25 1"}
    for i, j in maze.walls:
        place = _numbers(*maze.centre((i, j)), WALL_HEIGHT / 2)
        attributes = {"name": f"wall_{i}_{j}", "pos": place, "contype": "1", "conaffinity": "1"}
        ElementTree.SubElement(find(root, "worldbody"), "geom", attributes, **shape)


def _add_camera(root: ElementTree.Element, maze: Maze) -> None:
    """Add a camera above the whole maze, x to the right and y upwards, so that row 0 is at the bottom."""
    rows, columns = maze.shape
    x, y = (maze.centre((0, 0)) + maze.centre((rows - 1, columns - 1))) / 2
    height = 3.0 * CELL * max(rows, columns)  # far away, so that walls hide little
    angle = 2 * np.degrees(np.arctan(CELL * rows / 2 / (height - WALL_HEIGHT)))
    camera = {"name": "top", "pos": _numbers(x, y, height), "fovy": _numbers(angle)}
    ElementTree.SubElement(find(root, "worldbody"), "camera", camera)
    visual = ElementTree.SubElement(root, "visual")
    ElementTree.SubElement(visual, "global", offwidth="1280", offheight="960")


def find(root: ElementTree.Element, path: str) -> ElementTree.Element:
    """Find an element of a model's XML.

    Raises:
        ValueError: if it is not.
    """
    element = root.find(path)
    if element is None:
        raise ValueError(f"the XML of the body has no {path!r}, expected one")
    return element


class TopView:
    """Pictures of a maze from above; needs an OpenGL that works without a screen, such as ``MUJOCO_GL=egl``."""

    def __init__(self, model: mujoco.MjModel, maze: Maze, height: int = 480) -> None:
        rows, columns = maze.shape
        self.renderer = mujoco.Renderer(model, height, height * columns // rows)

    def draw(self, data: mujoco.MjData) -> np.ndarray:
        """Draw a state as an image ``(height, width, 3)`` uint8."""
        self.renderer.update_scene(data, camera="top")
        return self.renderer.render()

    def close(self) -> None:
        """Free the OpenGL context."""
        self.renderer.close()


def _numbers(*values: float) -> str:
    return " ".join(f"{value:.6f}" for value in values)
