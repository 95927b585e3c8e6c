"""Recorder of the point mazes: a planner sends the ball to one goal after another; columns as in D4RL's AntMaze files.

As in D4RL's version 2, the data are not collected for the evaluation goal: the ball starts in any free cell, is sent to
many places, and passes the evaluation goal by chance. No trajectory stops there, so rewards and terminals come in runs.
They are set for one goal in the whole file. D4RL draws it once; here it is the mean of the evaluation goals, so that
the fit of data and task does not depend on a single draw. A way from the start cell to the evaluation goal has to be
stitched together from parts of trajectories.

Trajectories all last for the time limit, 16 of them are stepped together, and such a chunk is the unit of work and of
randomness: its generator depends on the seed and on the chunk's number alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from cfdg_rl.datasets.recorded.rollout import Columns, counted, joined, worker_map
from cfdg_rl.envs.mazes import RESET_NOISE, SUCCESS_RADIUS, Cell, Maze, find_maze
from cfdg_rl.envs.pointmaze import PointMaze
from cfdg_rl.streams import derive_seed

CHUNK_TRAJECTORIES = 16


@dataclass(frozen=True)
class Steering:
    """Gains and noise of the controller that drives the ball.

    Attributes:
        stiffness: action per metre of distance from the next waypoint, before it saturates at 1.
        braking: action per m/s of velocity.
        noise: deviation of the noise on actions, which are clipped afterwards; D4RL's.
        lane: largest distance per axis of the way from the middle of the corridors, drawn anew with each commanded
            goal, so that the data cover more than a line. D4RL draws waypoints off the middle too.
    """

    stiffness: float = 0.5
    braking: float = 0.15
    noise: float = 0.2
    lane: float = 1.0


class Planner:
    """A planner of shortest ways between cells: to the centre of the next cell, and in the last cell to the goal.

    Args:
        maze: the maze.
        steering: the controller that follows the way.
    """

    def __init__(self, maze: Maze, steering: Steering | None = None) -> None:
        self.maze = maze
        self.steering = steering or Steering()
        self.after = np.zeros((*maze.shape, *maze.shape, 2), np.int64)  # [goal cell][cell] -> next cell
        for goal in maze.free:
            self.after[goal] = maze.next_cells(goal)

    def act(self, obs: np.ndarray, goals: np.ndarray, lanes: np.ndarray | float = 0.0) -> np.ndarray:
        """Steer balls to their next waypoints; actions ``(N, 2)`` in [-1, 1].

        Args:
            obs: observations ``(N, 4)``.
            goals: commanded goals ``(N, 2)``.
            lanes: ``(N, 2)``, added to the centres of cells on the way.
        """
        here = self.maze.cell(obs[:, :2])
        there = self.maze.cell(goals)
        follow = self.maze.centre(self.after[there[:, 0], there[:, 1], here[:, 0], here[:, 1]]) + lanes
        waypoint = np.where((here == there).all(axis=1, keepdims=True), goals, follow)
        steering = self.steering
        return np.clip(steering.stiffness * (waypoint - obs[:, :2]) - steering.braking * obs[:, 2:], -1.0, 1.0)


@dataclass(frozen=True)
class Command:
    """Cells where trajectories begin and to which the ball is sent.

    Attributes:
        starts: cells to begin in.
        goals: cells to be sent to, except the ball's own.
    """

    starts: tuple[Cell, ...]
    goals: tuple[Cell, ...]


@dataclass(frozen=True)
class MazeData:
    """A maze, the level of its data, and the length of trajectories.

    Attributes:
        maze: "umaze", "medium" or "large".
        level: see :func:`find_command`.
        limit: steps of every trajectory.
    """

    maze: str
    level: str
    limit: int


@dataclass(frozen=True)
class Chunk:
    """Trajectories that are rolled out together.

    Attributes:
        data: what is collected.
        seed: of this chunk alone.
        trajectories: number of balls.
    """

    data: MazeData
    seed: int
    trajectories: int


def find_command(maze: Maze, level: str) -> Command:
    """Choose the command of a level, after ``generate_ant_maze_datasets.py`` of D4RL.

    Args:
        maze: the maze.
        level: "play": from anywhere to a few goals; "diverse": from anywhere to anywhere; "": from the start to the
            goal and back.
    """
    anywhere = tuple(maze.free)
    if level == "diverse":
        return Command(anywhere, anywhere)
    if level == "play":
        return Command(anywhere, tuple(maze.goals))
    return Command((maze.start,), (maze.start, maze.goal))


def record_maze(data: MazeData, rows: int, seed: int, *, jobs: int = 1, progress: bool = False) -> Columns:
    """Roll the planner out.

    Args:
        data: maze, level and length of the trajectories.
        rows: number of rows returned; only the last trajectory may be cut.
        seed: the same seed gives the same rows, whatever ``jobs`` is.
        jobs: processes; with more than one, a script that calls this needs the ``__main__`` guard.
        progress: draw a bar.

    Returns:
        observations ``(N, 4)``, actions ``(N, 2)``, rewards ``(N,)``, infos/goal, infos/qpos, infos/qvel ``(N, 2)``
        float32; terminals, timeouts ``(N,)`` bool. Rewards and terminals are those of :class:`PointMaze` with its goal
        at :attr:`Maze.mean_goal`. The state columns are those before it; infos/goal is the commanded goal. There are no
        next_observations, as there are none in D4RL's AntMaze files.
    """
    chunks = _chunks(data, -(-rows // data.limit), seed)
    with (
        worker_map(min(jobs, len(chunks))) as run,
        tqdm(total=rows, unit="row", disable=not progress, desc=f"{data.maze} {data.level}", leave=False) as bar,
    ):
        columns = joined(list(counted(run(roll_out, chunks), bar)))
    return {key: column[:rows] for key, column in columns.items()}


def roll_out(chunk: Chunk) -> Columns:
    """Roll out the trajectories of a chunk; their rows one after another."""
    maze = find_maze(chunk.data.maze)
    rng = np.random.default_rng(chunk.seed)
    limit = chunk.data.limit
    balls = [PointMaze(chunk.data.maze) for _ in range(chunk.trajectories)]
    command = find_command(maze, chunk.data.level)
    obs = _begin(balls, maze, command.starts, rng)
    driver = Driver(Planner(maze), command, obs, rng)
    steps = []
    for step in range(limit):
        actions = driver.act(obs)
        row = {"observations": obs, "actions": actions, "infos/goal": driver.goals.copy()}
        stepped = [ball.step(action) for ball, action in zip(balls, actions, strict=True)]
        obs = np.stack([result[0] for result in stepped])
        success = np.array([result[2] for result in stepped])  # the environment's own rule, so that both pay alike
        timeouts = np.full(len(balls), step == limit - 1)
        steps.append(row | {"rewards": success.astype(np.float32), "terminals": success, "timeouts": timeouts})
        driver.send_on(obs)
    return _table(steps)


class Driver:
    """A driver of N balls from goal to goal with noisy actions.

    Args:
        planner: finds the way and steers.
        command: the goals to choose from.
        obs: first observations ``(N, 4)``.
        rng: draws goals, lanes and noise.
    """

    def __init__(self, planner: Planner, command: Command, obs: np.ndarray, rng: np.random.Generator) -> None:
        self.planner = planner
        self.command = command
        self.rng = rng
        self.goals, self.lanes = np.zeros((2, len(obs), 2))
        self._send(np.arange(len(obs)), obs)

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Add noise to the planner's actions; ``(N, 2)`` float32 in [-1, 1]."""
        noise = self.planner.steering.noise * self.rng.standard_normal(self.goals.shape)
        return np.clip(self.planner.act(obs, self.goals, self.lanes) + noise, -1.0, 1.0).astype(np.float32)

    def send_on(self, obs: np.ndarray) -> None:
        """Command a new goal and lane where the old goal is reached."""
        self._send(np.flatnonzero(np.linalg.norm(obs[:, :2] - self.goals, axis=1) <= SUCCESS_RADIUS), obs)

    def _send(self, members: np.ndarray, obs: np.ndarray) -> None:
        maze = self.planner.maze
        width = self.planner.steering.lane
        for i in members:
            here = tuple(maze.cell(obs[i, :2]))
            cells = [cell for cell in self.command.goals if cell != here]
            self.goals[i] = maze.draw_goal(_choice(cells, self.rng), self.rng)
            self.lanes[i] = self.rng.uniform(-width, width, 2)


def _begin(balls: Sequence[PointMaze], maze: Maze, starts: Sequence[Cell], rng: np.random.Generator) -> np.ndarray:
    """Put balls, rewarded at the mean goal, into some of the cells with a reset's noise; observations ``(N, 4)``."""
    for ball in balls:
        ball.task_state = maze.mean_goal
        qpos = maze.centre(_choice(starts, rng)) + rng.uniform(-RESET_NOISE, RESET_NOISE, 2)
        ball.set_state(qpos, RESET_NOISE * rng.standard_normal(2))
    return np.stack([ball.world.obs for ball in balls])


def _choice(cells: Sequence[Cell], rng: np.random.Generator) -> Cell:
    return cells[int(rng.integers(len(cells)))]


def _table(steps: Sequence[Columns]) -> Columns:
    """Reorder T steps of ``(N, ...)`` into rows, trajectory after trajectory, real numbers as float32."""
    columns = {key: np.stack([step[key] for step in steps], axis=1) for key in steps[0]}
    table = {key: column.reshape(-1, *column.shape[2:]) for key, column in columns.items()}
    flat = {key: column if column.dtype == bool else column.astype(np.float32) for key, column in table.items()}
    return flat | {"infos/qpos": flat["observations"][:, :2], "infos/qvel": flat["observations"][:, 2:]}


def _chunks(data: MazeData, trajectories: int, seed: int) -> list[Chunk]:
    sizes = [min(CHUNK_TRAJECTORIES, trajectories - i) for i in range(0, trajectories, CHUNK_TRAJECTORIES)]
    return [Chunk(data, derive_seed(seed, f"maze chunk {i}"), size) for i, size in enumerate(sizes)]
