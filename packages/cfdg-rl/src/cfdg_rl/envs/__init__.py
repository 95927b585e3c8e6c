"""Environments: construction in one place, so that every part of the library steps the same ones."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import gymnasium
import mujoco

_MAZES = {"UMaze": 700, "Medium": 1000, "Large": 1000}  # time limits of D4RL's antmaze-*-v2
_POINT_MAZES = {"UMaze": 150, "Medium": 300, "Large": 400}


def _register() -> None:
    for maze, limit in _MAZES.items():
        gymnasium.register(
            f"cfdg/AntMaze{maze}-v2", "cfdg_rl.envs.antmaze:AntMaze", max_episode_steps=limit, kwargs={"maze": maze.lower()}
        )
    for maze, limit in _POINT_MAZES.items():
        gymnasium.register(
            f"cfdg/PointMaze{maze}-v0",
            "cfdg_rl.envs.pointmaze:PointMaze",
            max_episode_steps=limit,
            kwargs={"maze": maze.lower()},
        )


_register()


def make_env(env_id: str) -> gymnasium.Env:
    """Build a Gymnasium environment whose actions lie in [-1, 1] and whose time limit truncates.

    D4RL's v2 physics lives on in Gymnasium's ``-v4`` locomotion environments, so its "out of date" notice is silenced.

    Raises:
        ValueError: if Gymnasium does not know ``env_id`` or its spaces are not flat boxes.
    """
    try:
        with warnings.catch_warnings(), _quiet_compiler():
            warnings.filterwarnings("ignore", message=".*out of date.*")
            env = gymnasium.make(env_id, disable_env_checker=True)
    except gymnasium.error.Error as error:
        raise ValueError(f"environment {env_id!r} cannot be made: {error}") from error
    spaces = (env.observation_space, env.action_space)
    if not all(isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1 for space in spaces):
        raise ValueError(f"environment {env_id!r} needs flat box observations and actions, found {spaces}")
    return env


@contextlib.contextmanager
def _quiet_compiler() -> Iterator[None]:
    """Drop the notice about Gymnasium's own half_cheetah.xml, which MuJoCo also writes to a file where we are."""
    before = mujoco.get_mju_user_warning()

    def say(message: str) -> None:
        if "settotalmass" not in message:
            warnings.warn(message.strip(), RuntimeWarning, stacklevel=2)

    mujoco.set_mju_user_warning(say)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)
