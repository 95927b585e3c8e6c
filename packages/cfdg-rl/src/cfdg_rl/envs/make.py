"""Construction of environments, with flat observations and actions in [-1, 1]."""

from __future__ import annotations

import contextlib
import importlib
import re
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from cfdg_rl.envs.errors import EnvError

_MAZES = {"UMaze": 700, "Medium": 1000, "Large": 1000}  # time limits of D4RL's antmaze-*-v2
_ROBOTICS = "gymnasium-robotics, run pip install 'cfdg-rl[adroit]'"
_LARGEST_BOUND = 1e9  # of an action; the largest numbers of float32, int32 and int64 are above it
_DISCRETE = (spaces.Discrete, spaces.MultiDiscrete)  # of a dict: one column of 0 and 1 for each value
_POINT_MAZES = {"UMaze": 150, "Medium": 300, "Large": 400}


def _register() -> None:
    for maze, limit in _MAZES.items():
        gymnasium.register(
            f"cfdg/AntMaze{maze}-v2",
            "cfdg_rl.envs.antmaze:AntMaze",
            max_episode_steps=limit,
            kwargs={"maze": maze.lower()},
        )
    for maze, limit in _POINT_MAZES.items():
        gymnasium.register(
            f"cfdg/PointMaze{maze}-v0",
            "cfdg_rl.envs.pointmaze:PointMaze",
            max_episode_steps=limit,
            kwargs={"maze": maze.lower()},
        )
    gymnasium.register(  # D4RL's limit; gymnasium-robotics' own AdroitHandPen-v1 runs on to 200
        "cfdg/AdroitHandPen-v1",
        "gymnasium_robotics.envs.adroit_hand.adroit_pen:AdroitHandPenEnv",
        max_episode_steps=100,
    )


_register()


@dataclass(frozen=True)
class EnvShape:
    """Spaces and time limit of a dataset's environment.

    Attributes:
        observation_space: the space before it is flattened.
        obs_dim: width of a flattened observation.
        action_low: ``(A,)`` smallest actions in the environment's own units.
        action_high: ``(A,)`` largest ones.
        max_episode_steps: the time limit; None if there is none.
    """

    observation_space: spaces.Space
    obs_dim: int
    action_low: np.ndarray
    action_high: np.ndarray
    max_episode_steps: int | None

    @property
    def obs_keys(self) -> tuple[str, ...] | None:
        """Keys of a dict observation in the order of the flattened columns, "a/b" within a dict; else None."""
        keys = tuple(name for name, _ in _leaves(self.observation_space, ""))
        return keys if isinstance(self.observation_space, spaces.Dict) else None

    @property
    def one_hot(self) -> dict[str, list[tuple[int, int]]]:
        """Of each discrete part of a dict observation, by its key, the least value and the number of values."""
        parts = {name: part for name, part in _leaves(self.observation_space, "") if isinstance(part, _DISCRETE)}
        return {name: _values(part) for name, part in parts.items()}

    def unit_actions(self, action: np.ndarray) -> np.ndarray:
        """Map actions ``(N, A)`` from the environment's own units to [-1, 1], the inverse of :func:`make_env`.

        A column whose box holds one value only becomes 0.

        Raises:
            ValueError: if such a column holds another value.
        """
        low, high = (bound if bound.dtype.kind == "f" else bound.astype(np.float64) for bound in self.bounds)
        if (low == -1).all() and (high == 1).all():
            return action
        frozen = low == high
        wrong = frozen & ~np.isclose(action, low, rtol=1e-5, atol=1e-6)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            found = f"column {column} of actions is {action[row, column]:g} at row {row}"
            raise ValueError(f"{found}, expected {low[column]:g}, the only value of the environment's box")
        unit = 2.0 * (action - low) / np.where(frozen, 1, high - low) - 1.0
        return np.where(frozen, 0, unit)

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest actions."""
        return self.action_low, self.action_high


class ScaledActions(gymnasium.ActionWrapper):
    """Actions in [-1, 1] for a box that Gymnasium's ``RescaleAction`` cannot map: whole numbers, or frozen columns.

    Whole numbers are rounded to the nearest; a column whose box holds one value only gets that value.

    Args:
        env: an environment with a bounded box of actions.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.box = cast("spaces.Box", env.action_space)
        self.low = self.box.low.astype(np.float64)
        self.high = self.box.high.astype(np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, self.box.shape, np.float32)

    def action(self, action: np.ndarray) -> np.ndarray:
        """Map an action ``(A,)`` in [-1, 1] to the box."""
        own = self.low + 0.5 * (np.asarray(action, np.float64) + 1.0) * (self.high - self.low)
        return _within(self.box, np.rint(own) if self.box.dtype.kind in "iu" else own)


def _within(box: spaces.Box, action: np.ndarray) -> np.ndarray:
    """Bring an action ``(A,)`` that rounding has moved out of a box back to its bounds, in the type of the box."""
    return np.clip(action, box.low, box.high).astype(box.dtype)


def _values(space: spaces.Space) -> list[tuple[int, int]]:
    """List the least value and the number of values, each a column once it is flattened, of every number of a space."""
    if isinstance(space, spaces.Discrete):
        return [(int(space.start), int(space.n))]
    many = cast("spaces.MultiDiscrete", space)
    return list(zip(many.start.ravel().tolist(), many.nvec.ravel().tolist(), strict=True))


def _leaves(space: spaces.Space, name: str) -> Iterator[tuple[str, spaces.Space]]:
    """Yield names and spaces of the parts of a dict, in the order of ``gymnasium.spaces.flatten``."""
    if not isinstance(space, spaces.Dict):
        yield name, space
        return
    for key, part in space.spaces.items():
        yield from _leaves(part, f"{name}/{key}" if name else str(key))


def make_env(env_id: str) -> gymnasium.Env:
    """Build a Gymnasium environment with flat observations and actions in [-1, 1] whose time limit truncates.

    Dict observations are flattened in the order of ``gymnasium.spaces.flatten``, and actions of another box are mapped
    affinely; an environment that needs neither gets no wrapper. Gymnasium's ``-v4`` locomotion environments have the
    physics of D4RL's v2, so their "out of date" notice is silenced.

    Raises:
        ValueError: if Gymnasium has no ``env_id``, or its spaces are no boxes.
    """
    env = make_plain_env(env_id)
    _check_spaces(env_id, env)
    if isinstance(env.observation_space, spaces.Dict):
        env = gymnasium.wrappers.FlattenObservation(env)
    box = cast("spaces.Box", env.action_space)
    if box.dtype.kind in "iu" or (box.low == box.high).any():
        return ScaledActions(env)
    if (box.low != -1).any() or (box.high != 1).any():
        # Gymnasium's map rounds, to 0.90000004 for a bound of 0.9 in single precision, which strict environments refuse
        env = gymnasium.wrappers.TransformAction(env, partial(_within, box), box)
        env = gymnasium.wrappers.RescaleAction(env, np.full_like(box.low, -1), np.full_like(box.high, 1))
    return env


def inspect_env(env_id: str) -> EnvShape:
    """Read widths, action bounds and time limit of an environment; see :func:`make_env` for the errors."""
    env = make_plain_env(env_id)
    _check_spaces(env_id, env)
    box = cast("spaces.Box", env.action_space)
    obs = env.observation_space
    env.close()
    return EnvShape(obs, spaces.flatdim(obs), box.low, box.high, env.spec.max_episode_steps if env.spec else None)


def make_plain_env(env_id: str, render_mode: str | None = None) -> gymnasium.Env:
    """Build a Gymnasium environment as it is, in its own units, with the names that this library knows.

    Raises:
        ValueError: if Gymnasium cannot make it.
        EnvError: if the environment itself raises another error.
    """
    drawing = {} if render_mode is None else {"render_mode": render_mode}
    options: dict[str, Any] = {"disable_env_checker": True, **drawing}
    try:
        with warnings.catch_warnings(), _quiet_compiler():
            warnings.filterwarnings("ignore", message=".*out of date.*")
            try:
                return gymnasium.make(env_id, **options)
            except gymnasium.error.NameNotFound as error:
                _register_robotics(error)
                warnings.filterwarnings("ignore", message=".*reward functions were updated.*")
                return gymnasium.make(env_id, **options)
    except (gymnasium.error.Error, ImportError) as error:
        raise ValueError(f"environment {env_id!r} cannot be made: {error}{_hint(env_id, error)}") from error
    except Exception as error:
        sentence = f"environment {env_id!r} cannot be made ({type(error).__name__}: {error})"
        raise EnvError(sentence, traceback.format_exc()) from error


def _hint(env_id: str, error: Exception) -> str:
    """Say what to do about an environment that cannot be made, as the rest of a sentence."""
    module = env_id.partition(":")[0].partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and f"No module named '{module}'" in str(error):
        return f" Put the folder of {module} on PYTHONPATH, such as PYTHONPATH=."
    old = re.fullmatch(r"(Hopper|HalfCheetah|Walker2d|Ant|Humanoid|Swimmer|Reacher|Pusher)-v[0-3]", env_id)
    if old:
        return f"; {old[1]}-v4 has the same physics on present MuJoCo"
    text = str(error)
    return "" if "pip install" in text or "robotics" not in text else f"; for {_ROBOTICS}"


def _register_robotics(error: gymnasium.error.Error) -> None:
    """Register gymnasium-robotics' environments: the hands, and those of several Minari datasets."""
    try:
        gymnasium.register_envs(importlib.import_module("gymnasium_robotics"))
    except ImportError:
        own = "if it is your own, write module:ENV_ID and put the module's folder on PYTHONPATH"
        raise gymnasium.error.NameNotFound(f"{str(error).rstrip('.')}; {own}; if it is of {_ROBOTICS}") from error


def _check_spaces(env_id: str, env: gymnasium.Env) -> None:
    """Refuse spaces that no policy of this library can act in."""
    obs = env.observation_space
    action = env.action_space
    if isinstance(action, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        raise ValueError(f"environment {env_id!r} has discrete actions, {action}, expected a box of real numbers")
    if not isinstance(action, spaces.Box) or len(action.shape) != 1 or not action.is_bounded():
        raise ValueError(f"environment {env_id!r} has actions {action}, expected one row of a bounded box")
    largest = max(np.abs(action.low.astype(np.float64)).max(), np.abs(action.high.astype(np.float64)).max())
    if largest > _LARGEST_BOUND:
        found = f"environment {env_id!r} has an action bound of {largest:.3g}, which stands for none"
        raise ValueError(f"{found}, expected at most {_LARGEST_BOUND:g}: give it a box of its own")
    flat = isinstance(obs, spaces.Box) and len(obs.shape) == 1
    parts = [part for _, part in _leaves(obs, "")] if isinstance(obs, spaces.Dict) else []
    fit = all(isinstance(part, (spaces.Box, spaces.MultiBinary, *_DISCRETE)) for part in parts)
    if not flat and not (parts and fit):
        raise ValueError(
            f"environment {env_id!r} has observations {obs}, expected a flat box or a dict of boxes and numbers"
        )


@contextlib.contextmanager
def _quiet_compiler() -> Iterator[None]:
    """Drop the notice about Gymnasium's half_cheetah.xml, which MuJoCo also writes into the working folder."""
    before = mujoco.get_mju_user_warning()

    def warn(message: str) -> None:
        if "settotalmass" not in message:
            warnings.warn(message.strip(), RuntimeWarning, stacklevel=2)

    mujoco.set_mju_user_warning(warn)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)
