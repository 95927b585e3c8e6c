"""A world with a maze as an environment of Gymnasium, whatever body moves in it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from cfdg_rl.envs.mazes import MazeWorld


class MazeEnv(gymnasium.Env):
    """A body that has to reach a goal that is not in the observation.

    Args:
        world: the body in its maze, and the task.
        render_mode: None or "rgb_array".

    Attributes:
        world: as given.
        model: MuJoCo's model.
        data: MuJoCo's state.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - Gymnasium's interface

    def __init__(self, world: MazeWorld, render_mode: str | None = None) -> None:
        self.world = world
        self.model = world.model
        self.data = world.data
        self.render_mode = render_mode
        self.observation_space, self.action_space = world.spaces()

    @property
    def goal(self) -> np.ndarray:
        """The goal xy of the episode under way."""
        return self.world.task.goal

    @property
    def task_state(self) -> np.ndarray:
        """State besides the physics, for a checkpoint: the goal ``(2,)``."""
        return self.goal.copy()

    @task_state.setter
    def task_state(self, state: np.ndarray) -> None:
        self.world.task.goal = np.array(state, dtype=np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode at the start cell, with a new goal; a seed makes a new generator."""
        super().reset(seed=seed, options=options)
        return self.world.reset(self.np_random)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Apply an action; see :meth:`MazeWorld.step`."""
        return self.world.step(action)

    def set_state(self, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Put the body into positions ``(nq,)`` and velocities ``(nv,)``; see :meth:`MazeWorld.set_state`."""
        self.world.set_state(qpos, qvel)

    def render(self) -> np.ndarray | None:
        """Draw a picture from above ``(height, width, 3)`` uint8, or None without a render mode."""
        return self.world.render() if self.render_mode else None

    def close(self) -> None:
        """Free the OpenGL context of rendering."""
        self.world.close()
