"""Simulators that can be set to the state of an observation: the true outcome of any (s, a), row by row.

The observation of Gymnasium's Hopper, HalfCheetah and Walker2d is the whole state but for the way travelled,
``qpos[0]``, on which neither the dynamics nor the reward depends. That of the mazes of this library is the whole state
but for the goal, in whose place stands the mean of the evaluation goals.

Two things are not in an observation, and bound what a step from it can be true to:

* the warm start of MuJoCo's constraint solver, and what float32 rounds away: standardised squared errors of recorded
  rows are 1e-9 in the median and below 1e-2 at the hardest impacts;
* velocities beyond 10, which Hopper and Walker2d clip in the observation. :meth:`Simulator.hides` tells such rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import mujoco
import numpy as np
from mujoco import rollout

from cfdg_rl.envs.make import make_env
from cfdg_rl.envs.mazes import MazeWorld
from cfdg_rl.envs.native import TASKS, is_healthy, observe, outcome

_FULL_PHYSICS = mujoco.mjtState.mjSTATE_FULLPHYSICS
_CHUNK = 10_000  # rows whose simulator steps are held at once
_LARGEST_POSITION = 1e3  # beyond these a state is not simulated: MuJoCo calls such states unstable
_LARGEST_VELOCITY = 1e2


@dataclass(frozen=True)
class Outcome:
    """Outcomes of N rows; those of a state that cannot be simulated are NaN, and do not end.

    Attributes:
        reward: ``(N,)`` in the environment's own units.
        next_obs: ``(N, S)``.
        terminal: ``(N,)`` bool, True where the MDP ends.
    """

    reward: np.ndarray
    next_obs: np.ndarray
    terminal: np.ndarray


class Simulator(Protocol):
    """An environment that can be set to the state of an observation."""

    def step_from(self, obs: np.ndarray, action: np.ndarray) -> Outcome:
        """Take one step from each of N states; ``obs (N, S)``, ``action (N, A)`` in [-1, 1]."""
        ...

    def is_impossible(self, obs: np.ndarray) -> np.ndarray:
        """Tell the observations ``(N, S)`` from which no step of an episode begins, ``(N,)`` bool."""
        ...

    def hides(self, obs: np.ndarray) -> np.ndarray:
        """Tell the observations ``(N, S)`` that do not hold the whole state, ``(N,)`` bool."""
        ...


@dataclass(frozen=True)
class Physics:
    """MuJoCo's steps from given states, on threads of MuJoCo's own.

    Attributes:
        model: MuJoCo's model.
        frame_skip: simulator steps per action.
        threads: number of threads, at least 1; results do not depend on it.
    """

    model: Any
    frame_skip: int
    threads: int = 1

    def step(self, qpos: np.ndarray, qvel: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Step positions ``(N, nq)`` and velocities ``(N, nv)``; rows that the simulator gives up on become NaN."""
        sound = np.all(np.abs(qpos) < _LARGEST_POSITION, axis=1) & np.all(np.abs(qvel) < _LARGEST_VELOCITY, axis=1)
        sound &= np.all(np.isfinite(action), axis=1)
        after = np.full((len(qpos), self.model.nq + self.model.nv), np.nan)
        data = [mujoco.MjData(self.model) for _ in range(self.threads)]
        chosen = np.flatnonzero(sound)
        with _unstable_rows_stay_quiet():
            for begin in range(0, len(chosen), _CHUNK):
                rows = chosen[begin : begin + _CHUNK]
                after[rows] = self._steps(data, np.concatenate([qpos[rows], qvel[rows]], axis=1), action[rows])
        return after[:, : self.model.nq], after[:, self.model.nq :]

    def _steps(self, data: list[Any], state: np.ndarray, action: np.ndarray) -> np.ndarray:
        start = np.zeros((len(state), mujoco.mj_stateSize(self.model, _FULL_PHYSICS)))
        start[:, 1 : 1 + state.shape[1]] = state  # the first number is the time
        steps, _ = rollout.rollout(self.model, data, start, action[:, None], nstep=self.frame_skip)
        last = steps[:, -1, : 1 + state.shape[1]]
        reset = last[:, 0] < (self.frame_skip - 0.5) * self.model.opt.timestep  # an unstable state was begun anew
        return np.where(reset[:, None], np.nan, last[:, 1:])


class LocomotionSimulator:
    """Gymnasium's Hopper, HalfCheetah or Walker2d, from any observation.

    Args:
        env_id: a key of :data:`cfdg_rl.envs.native.TASKS`, such as "Hopper-v5".
        threads: threads that share the rows.
    """

    def __init__(self, env_id: str, threads: int = 1) -> None:
        robot: Any = make_env(env_id).unwrapped
        self.task = TASKS[env_id]
        self.dt: float = robot.dt
        self.physics = Physics(robot.model, robot.frame_skip, threads)

    def step_from(self, obs: np.ndarray, action: np.ndarray) -> Outcome:
        """Take one step from each of N states; ``obs (N, S)``, ``action (N, A)`` in [-1, 1]."""
        action = np.asarray(action, np.float64)
        qpos, qvel = self.physics.step(*self._state(obs), action)
        reward, terminal = outcome(self.task, qpos[:, 0] / self.dt, (qpos, qvel), action)
        return Outcome(reward, observe(self.task, qpos, qvel), terminal & np.isfinite(qpos[:, 0]))

    def is_impossible(self, obs: np.ndarray) -> np.ndarray:
        """Tell the observations ``(N, S)`` of a robot that has fallen, which ended the episode before, ``(N,)``."""
        if self.task.health is None:
            return np.zeros(len(obs), bool)
        return ~is_healthy(self.task.health, *self._state(obs))

    def hides(self, obs: np.ndarray) -> np.ndarray:
        """Tell the observations ``(N, S)`` with a velocity that may have been clipped, ``(N,)``."""
        if self.task.top_speed is None:
            return np.zeros(len(obs), bool)
        return np.any(np.abs(self._state(obs)[1]) >= 0.999 * self.task.top_speed, axis=1)

    def _state(self, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        places = self.physics.model.nq - 1
        obs = np.asarray(obs, np.float64)
        return np.concatenate([np.zeros((len(obs), 1)), obs[:, :places]], axis=1), obs[:, places:]


class MazeSimulator:
    """A maze of this library with the mean of its evaluation goals as the goal, from any observation.

    Args:
        env_id: id of a point maze or an ant maze, such as "cfdg/PointMazeMedium-v0".
        threads: threads that share the rows.
    """

    def __init__(self, env_id: str, threads: int = 1) -> None:
        world = _maze_world(env_id)
        self.maze = world.task.maze
        self.reach = world.task.reach
        self.physics = Physics(world.model, world.frame_skip, threads)
        self._walls = np.ones(tuple(size + 2 for size in self.maze.shape), bool)  # framed, so that outside is a wall
        for row, column in self.maze.free:
            self._walls[row + 1, column + 1] = False

    def step_from(self, obs: np.ndarray, action: np.ndarray) -> Outcome:
        """Take one step from each of N states; the reward is 1 at the goal, where the MDP ends."""
        places = self.physics.model.nq
        obs = np.asarray(obs, np.float64)
        clipped = np.clip(np.asarray(action, np.float64), -1, 1)
        qpos, qvel = self.physics.step(obs[:, :places], obs[:, places:], clipped)
        reached = np.linalg.norm(qpos[:, :2] - self.maze.mean_goal, axis=1) <= self.reach
        reward = np.where(np.isfinite(qpos[:, 0]), reached, np.nan)
        return Outcome(reward, np.concatenate([qpos, qvel], axis=1), reached)

    def is_impossible(self, obs: np.ndarray) -> np.ndarray:
        """Tell the observations ``(N, S)`` of a body whose centre is in a wall, ``(N,)``."""
        finite = np.all(np.isfinite(obs[:, :2]), axis=1)
        last = np.array(self._walls.shape) - 1
        cells = self.maze.cell(np.where(finite[:, None], obs[:, :2], 0.0)) + 1
        row, column = np.clip(cells, 0, last).T
        return ~finite | self._walls[row, column]

    def hides(self, obs: np.ndarray) -> np.ndarray:
        """Tell that no observation ``(N, S)`` hides a part of the physics, ``(N,)``."""
        return np.zeros(len(obs), bool)


def make_simulator(env_id: str, threads: int = 1) -> Simulator:
    """Make the simulator of an environment's states.

    Args:
        env_id: a Gymnasium id.
        threads: threads that share the rows.

    Raises:
        ValueError: if the environment cannot be set to the state of an observation, or threads is below 1.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}, expected at least 1")
    if env_id in TASKS:
        return LocomotionSimulator(env_id, threads)
    if _is_maze(env_id):
        return MazeSimulator(env_id, threads)
    raise ValueError(
        f"environment {env_id!r} has no simulator that can be set to an observation's state, "
        f"expected one of {', '.join(TASKS)} or a cfdg maze"
    )


def has_simulator(env_id: str) -> bool:
    """Tell if :func:`make_simulator` makes one for the environment of a Gymnasium id."""
    return env_id in TASKS or _is_maze(env_id)


def _is_maze(env_id: str) -> bool:
    return env_id.startswith(("cfdg/PointMaze", "cfdg/AntMaze"))


def _maze_world(env_id: str) -> MazeWorld:
    maze: Any = make_env(env_id).unwrapped
    return maze.world


@contextmanager
def _unstable_rows_stay_quiet() -> Iterator[None]:
    """Drop MuJoCo's warnings of unstable states, which it also writes to a file in the working directory."""
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)
