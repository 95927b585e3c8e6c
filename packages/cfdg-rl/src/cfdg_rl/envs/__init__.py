"""Environments: construction in one place, so that every part of the library steps the same ones."""

from __future__ import annotations

import warnings

import gymnasium


def make_env(env_id: str) -> gymnasium.Env:
    """Build a Gymnasium environment whose actions lie in [-1, 1] and whose time limit truncates.

    D4RL's v2 physics lives on in Gymnasium's ``-v4`` locomotion environments, so its "out of date" notice is silenced.

    Raises:
        ValueError: if Gymnasium does not know ``env_id`` or its spaces are not flat boxes.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*out of date.*")
            env = gymnasium.make(env_id, disable_env_checker=True)
    except gymnasium.error.Error as error:
        raise ValueError(f"environment {env_id!r} cannot be made: {error}") from error
    spaces = (env.observation_space, env.action_space)
    if not all(isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1 for space in spaces):
        raise ValueError(f"environment {env_id!r} needs flat box observations and actions, found {spaces}")
    return env
