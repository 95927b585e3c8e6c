"""Gymnasium's Hopper, HalfCheetah and Walker2d stepped together, without Gymnasium's Python per member and step.

A step of these environments is ``data.ctrl[:] = action`` and ``mj_step``; observation, reward and end are a few sums
over positions and velocities, done here for all members at once. Every bit is Gymnasium's own: float64 up to the
observation, the same order of additions, and the same warm start of the constraint solver from step to step.

* Nothing clips an action. MuJoCo clamps its copy to the motors' range, and the cost is that of the action as sent.
* Resets stay Gymnasium's, and so do generators, reset noise and models (Walker2d-v5 has a model of its own).
* ``mj_rnePostConstraint``, which Gymnasium calls last, fills contact forces that these environments do not observe.

MuJoCo 4.0 brought ``mujoco.batch``: one call steps any members on threads of its own and keeps the whole of
``mjSTATE_INTEGRATION``, warm start included. ``mujoco.rollout`` takes an ``initial_warmstart`` as well but returns
``mjSTATE_FULLPHYSICS``, which has none to go on with: a call per step leaves Gymnasium's path within a few steps.
With an older MuJoCo each member's own ``MjData`` is therefore stepped by ``mj_step``, which lets go of the interpreter
while it computes; but Python threads queue for the interpreter between the calls, and gain less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Protocol

import gymnasium
import mujoco
import numpy as np

HAS_BATCH = find_spec("mujoco.batch") is not None  # since MuJoCo 4.0, which needs Python 3.11
FULL_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
Spread = Callable[[Callable[[int, int], None], int], None]  # run work(begin, end) over parts of range(count)


@dataclass(frozen=True)
class Health:
    """Bounds within which a walker has not fallen, the bounds excluded.

    Attributes:
        height: of the torso, ``qpos[1]``, in metres.
        angle: of the torso, ``qpos[2]``, in radians.
        others: bound on the absolute value of every position and velocity after the height; None for no bound.
        paid_at_the_end: True if the step that ends in a fall still earns the bonus.
    """

    height: tuple[float, float]
    angle: tuple[float, float]
    others: float | None = None
    paid_at_the_end: bool = False


@dataclass(frozen=True)
class Task:
    """Constants of an environment's observation, reward and end.

    Attributes:
        control_cost: weight of the squared action.
        top_speed: observed velocities are clipped to it; None for no clipping.
        health: earns a bonus of 1 per step, and its loss ends the episode; None for an environment without an end.
    """

    control_cost: float
    top_speed: float | None = None
    health: Health | None = None


# The defaults in gymnasium/envs/mujoco/{hopper,half_cheetah,walker2d}_v{4,5}.py. Version 5 stopped paying at a fall.
_V5 = {
    "HalfCheetah": Task(0.1),
    "Hopper": Task(1e-3, 10.0, Health((0.7, np.inf), (-0.2, 0.2), 100.0)),
    "Walker2d": Task(1e-3, 10.0, Health((0.8, 2.0), (-1.0, 1.0))),
}
_V4 = {
    name: replace(task, health=task.health and replace(task.health, paid_at_the_end=True)) for name, task in _V5.items()
}
TASKS = {f"{name}-v{version}": task for version, tasks in ((4, _V4), (5, _V5)) for name, task in tasks.items()}


class Engine(Protocol):
    """The physics of N members, whose positions ``(N, nq)`` and velocities ``(N, nv)`` can be read at any time."""

    qpos: np.ndarray
    qvel: np.ndarray

    def step(self, actions: np.ndarray, members: np.ndarray) -> None:
        """Apply one action ``(len(members), nu)`` to each of some members for the environment's frame skip."""
        ...

    def take(self, member: int) -> None:
        """Continue from the state of the member's own ``MjData``."""
        ...

    def give(self, member: int) -> None:
        """Bring the member's own ``MjData`` up to date."""
        ...


class BatchEngine:
    """All members in one ``mujoco.batch.Batch``, which steps them on ``workers`` threads of its own."""

    def __init__(self, envs: Sequence[Any], workers: int) -> None:
        from mujoco.batch import Batch

        self.simulators = [(env.unwrapped.model, env.unwrapped.data) for env in envs]
        self.frame_skip = envs[0].unwrapped.frame_skip
        self.batch = Batch(self.simulators[0][0], len(envs), min(workers, len(envs)))
        self.qpos, self.qvel, self.ctrl = (self.batch.bind(name) for name in ("qpos", "qvel", "ctrl"))

    def step(self, actions: np.ndarray, members: np.ndarray) -> None:
        """Apply one action ``(len(members), nu)`` to each of some members for the environment's frame skip."""
        chosen = np.zeros(len(self.simulators), bool)
        chosen[members] = True
        self.ctrl[members] = actions
        self.batch.step(chosen, nstep=self.frame_skip)

    def take(self, member: int) -> None:
        """Continue from the state of the member's own ``MjData``."""
        mujoco.mj_getState(*self.simulators[member], self.batch.state[member], FULL_STATE)

    def give(self, member: int) -> None:
        """Bring the member's own ``MjData`` up to date."""
        set_physics(*self.simulators[member], self.batch.state[member])


class LoopEngine:
    """Each member in its own ``MjData``, stepped by ``mj_step`` on Python threads."""

    def __init__(self, envs: Sequence[Any], spread: Spread) -> None:
        self.simulators = [(env.unwrapped.model, env.unwrapped.data) for env in envs]
        self.frame_skip = envs[0].unwrapped.frame_skip
        self.spread = spread
        self.qpos, self.qvel = (np.stack([getattr(d, name) for _, d in self.simulators]) for name in ("qpos", "qvel"))

    def step(self, actions: np.ndarray, members: np.ndarray) -> None:
        """Apply one action ``(len(members), nu)`` to each of some members for the environment's frame skip."""

        def work(begin: int, end: int) -> None:
            for i, action in zip(members[begin:end], actions[begin:end], strict=True):
                model, data = self.simulators[i]
                data.ctrl[:] = action
                mujoco.mj_step(model, data, nstep=self.frame_skip)
                self.take(i)

        self.spread(work, len(members))

    def take(self, member: int) -> None:
        """Read positions and velocities of the member's ``MjData``."""
        data = self.simulators[member][1]
        self.qpos[member] = data.qpos
        self.qvel[member] = data.qvel

    def give(self, member: int) -> None:
        """Do nothing: the member's ``MjData`` itself is stepped."""


class Locomotion:
    """N members of one of :data:`TASKS`.

    The members' Gymnasium environments are needed for resets, and lag behind until :meth:`lend`.

    Args:
        env_id: one of :data:`TASKS`.
        envs: the members as Gymnasium makes them.
        engine: their physics.
    """

    def __init__(self, env_id: str, envs: Sequence[gymnasium.Env], engine: Engine) -> None:
        self.task = TASKS[env_id]
        self.envs = envs
        self.engine = engine
        self.dt: float = envs[0].unwrapped.dt  # pyrefly: ignore[missing-attribute]
        self.shape = envs[0].action_space.shape or ()
        self.limits = [time_limit(env) for env in envs]
        self.longest = np.array([limit._max_episode_steps for limit in self.limits])
        self.clock = np.zeros(len(envs), np.int64)
        self.lent = True

    def step(self, actions: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, ...]:
        """Step n members; observations ``(n, S)``, rewards, terminations and truncations ``(n,)`` as Gymnasium's.

        Raises:
            ValueError: if ``actions`` is not ``(n, A)``.
        """
        if actions.shape != (len(members), *self.shape):
            raise ValueError(f"actions have shape {actions.shape}, expected {(len(members), *self.shape)}")
        if self.lent:
            self.lent = False
            self.take(np.arange(len(self.envs)))
        before = self.engine.qpos[members, 0]
        self.engine.step(actions, members)
        self.clock[members] += 1
        qpos = self.engine.qpos[members]
        qvel = self.engine.qvel[members]
        reward, terminated = outcome(self.task, (qpos[:, 0] - before) / self.dt, (qpos, qvel), actions)
        return observe(self.task, qpos, qvel), reward, terminated, self.clock[members] >= self.longest[members]

    def take(self, members: np.ndarray) -> None:
        """Continue from the state of the members' environments, for instance after a reset."""
        if self.lent:
            return  # the next step takes everything
        for i in members:
            self.engine.take(i)
            self.clock[i] = self.limits[i]._elapsed_steps or 0

    def lend(self) -> None:
        """Bring the members' environments up to date; until the next step they may be read and changed."""
        if self.lent:
            return
        self.lent = True
        for i, limit in enumerate(self.limits):
            self.engine.give(i)
            limit._elapsed_steps = int(self.clock[i])


def make_engine(envs: Sequence[gymnasium.Env], workers: int, spread: Spread) -> Engine:
    """Make the fastest physics that the installed MuJoCo has."""
    return BatchEngine(envs, workers) if HAS_BATCH else LoopEngine(envs, spread)


def observe(task: Task, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
    """Join positions without the way travelled ``qpos[:, 0]`` and velocities: ``(n, nq - 1 + nv)``."""
    speed = qvel if task.top_speed is None else np.clip(qvel, -task.top_speed, task.top_speed)
    return np.concatenate((qpos[:, 1:], speed), axis=1)


def outcome(
    task: Task, velocity: np.ndarray, state: tuple[np.ndarray, np.ndarray], actions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute rewards ``(n,)``, velocity in m/s plus the bonus of health less the cost of control, and terminations."""
    cost = task.control_cost * np.square(actions).sum(1)  # in the actions' own precision, as Gymnasium's
    if task.health is None:
        return velocity - cost, np.zeros(len(velocity), bool)
    healthy = is_healthy(task.health, *state)
    return velocity + (healthy | task.health.paid_at_the_end) - cost, ~healthy


def is_healthy(health: Health, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
    """Find the members that have not fallen, ``(n,)`` bool."""
    height = qpos[:, 1]
    angle = qpos[:, 2]
    healthy = (health.height[0] < height) & (height < health.height[1])
    healthy &= (health.angle[0] < angle) & (angle < health.angle[1])
    if health.others is not None:
        healthy &= (np.abs(qpos[:, 2:]) < health.others).all(1) & (np.abs(qvel) < health.others).all(1)
    return healthy


def set_physics(model: Any, data: Any, state: np.ndarray) -> None:  # noqa: ANN401 - MuJoCo has no stubs
    """Put a simulator into a full state, and recompute the quantities that derive from it."""
    mujoco.mj_setState(model, data, state, FULL_STATE)
    mujoco.mj_forward(model, data)
    mujoco.mj_setState(model, data, state, FULL_STATE)  # should mj_forward have moved the warm start, as it may


def time_limit(env: gymnasium.Env) -> Any:  # noqa: ANN401 - its clock is private to Gymnasium
    """Find the time limit among the wrappers of ``env``; None without one."""
    while not isinstance(env, gymnasium.wrappers.TimeLimit):
        if not isinstance(env, gymnasium.Wrapper):
            return None
        env = env.env
    return env
