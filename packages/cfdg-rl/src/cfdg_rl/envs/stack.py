"""Environments stepped in lock-step, of which finished ones can rest, and whose state can be saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np

from cfdg_rl.envs import make_env

_FULL_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


class EnvStack:
    """A list of copies of one environment.

    Gymnasium's vector environments step finished members too and reset them on their own; here the caller decides, so
    that no reset can slip into a buffer as a transition.

    Args:
        env_id: a Gymnasium id.
        seeds: one per copy; seeds the copy's first reset, later resets continue its generator.
    """

    def __init__(self, env_id: str, seeds: Sequence[int]) -> None:
        self.envs: list[gymnasium.Env] = [make_env(env_id) for _ in seeds]
        self.obs = np.zeros((len(seeds), *(self.envs[0].observation_space.shape or ())), np.float32)
        for i, seed in enumerate(seeds):
            self.obs[i] = self.envs[i].reset(seed=int(seed))[0]

    def __len__(self) -> int:
        """Number of copies."""
        return len(self.envs)

    def reset(self, members: np.ndarray) -> None:
        """Begin a new episode in the given members."""
        for i in members:
            self.obs[i] = self.envs[i].reset()[0]

    def step(self, actions: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Step the given members; their rewards, terminations and truncations, and new observations in ``obs``."""
        reward, terminated, truncated = (np.zeros(len(members), kind) for kind in (np.float64, bool, bool))
        for k, i in enumerate(members):
            self.obs[i], reward[k], terminated[k], truncated[k], _ = self.envs[i].step(actions[k])
        return reward, terminated, truncated

    def state(self) -> dict[str, Any]:
        """Physics, episode clock and random generator of every copy, for a checkpoint of MuJoCo environments.

        Raises:
            ValueError: if the environment is not a MuJoCo one.
        """
        return {
            "obs": self.obs.copy(),
            "physics": np.stack([_physics(env) for env in self.envs]),
            "clock": np.array([_limit(env)._elapsed_steps or 0 for env in self.envs]),
            "random": json.dumps([env.unwrapped.np_random.bit_generator.state for env in self.envs]),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue exactly where :meth:`state` was taken."""
        self.obs[:] = state["obs"]
        copies = zip(self.envs, state["physics"], state["clock"], json.loads(state["random"]), strict=True)
        for env, physics, clock, random in copies:
            mujoco.mj_setState(*_model_data(env), physics, _FULL_STATE)
            mujoco.mj_forward(*_model_data(env))
            mujoco.mj_setState(*_model_data(env), physics, _FULL_STATE)  # mj_forward moves the solver's warm start
            _limit(env)._elapsed_steps = int(clock)
            env.unwrapped.np_random.bit_generator.state = random

    def close(self) -> None:
        """Free the simulators."""
        for env in self.envs:
            env.close()


def _model_data(env: gymnasium.Env) -> tuple[Any, Any]:
    inner: Any = env.unwrapped
    if not hasattr(inner, "model") or not hasattr(inner, "data"):
        raise ValueError(f"{env.spec.id if env.spec else env}: only MuJoCo environments can be saved and restored")
    return inner.model, inner.data


def _physics(env: gymnasium.Env) -> np.ndarray:
    model, data = _model_data(env)
    state = np.empty(mujoco.mj_stateSize(model, _FULL_STATE))
    mujoco.mj_getState(model, data, state, _FULL_STATE)
    return state


def _limit(env: gymnasium.Env) -> Any:  # noqa: ANN401 - its clock is private to Gymnasium
    """The time limit among the wrappers of ``env``."""
    while not isinstance(env, gymnasium.wrappers.TimeLimit):
        if not isinstance(env, gymnasium.Wrapper):
            raise ValueError(f"{env} has no time limit")
        env = env.env
    return env
