"""Online data collection, where Gymnasium's two end flags become ``terminal``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfdg_rl.envs.stack import EnvStack
from cfdg_rl.protocols import Agent
from cfdg_rl.rewards import RewardMap
from cfdg_rl.streams import derive_seed
from cfdg_rl.transitions import Transitions, to_rows


class EnvCollector:
    """E training environments for each of R replicas, stepped in lock-step with exploring actions.

    Args:
        env_id: a Gymnasium id.
        seeds: one per replica.
        reward: the map that was applied to the dataset's rewards too.
        envs_per_replica: E; the paper collects with one.
        device: where observations are sent and rows are returned.
        workers: threads that step the environments; results do not depend on it.

    Raises:
        ValueError: if the environment cannot be made, or ``workers`` is below 1.
        EnvError: also later, if the environment raises an error or gives a number that is not finite.
    """

    def __init__(
        self,
        env_id: str,
        seeds: Sequence[int],
        reward: RewardMap,
        envs_per_replica: int = 1,
        device: str | torch.device = "cpu",
        workers: int = 1,
    ) -> None:
        self.reward = reward
        self.device = torch.device(device)
        self.shape = (len(seeds), envs_per_replica)
        purposes = [f"collect {e}" for e in range(envs_per_replica)]
        env_seeds = [derive_seed(seed, purpose) % 2**31 for seed in seeds for purpose in purposes]
        self.stack = EnvStack(env_id, env_seeds, workers, "training")
        self.everyone = np.arange(len(self.stack))
        self.running = np.zeros(len(self.stack))  # undiscounted raw return of the episode under way
        self.last_return = np.full(len(self.stack), np.nan)

    def step(self, agent: Agent) -> Tensor:
        """Take one exploring step in every environment.

        Returns:
            Rows ``(R, E, D)`` in the learner's reward units; ``terminal`` is 1 only where the MDP ended.
        """
        obs = self._send(self.stack.obs.copy())
        action = agent.act(obs, explore=True)
        reward, terminated, truncated = self.stack.step(_flat(action), self.everyone)
        data = Transitions(
            obs,
            action,
            self._send(self.reward(reward)),
            self._send(self.stack.obs.copy()),
            self._send(terminated),
        )
        self._count(reward, terminated | truncated)
        return to_rows(data)

    def restart(self) -> None:
        """Begin a new episode in every environment; returns of unfinished episodes are dropped."""
        self.running[:] = 0
        self.stack.reset(self.everyone)

    def state(self) -> dict[str, Any]:
        """Return simulators and running returns, for a checkpoint."""
        return {**self.stack.state(), "running": self.running.copy(), "last_return": self.last_return.copy()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state` was taken: exactly in MuJoCo environments, in new episodes in others."""
        resumed = self.stack.restore(state)
        self.running[:] = state["running"] if resumed else 0
        self.last_return[:] = state["last_return"]

    def close(self) -> None:
        """Close the environments."""
        self.stack.close()

    def _count(self, reward: np.ndarray, done: np.ndarray) -> None:
        """Add up the returns and begin new episodes where the old ones are over."""
        self.running += reward
        over = np.flatnonzero(done)
        self.last_return[over] = self.running[over]
        self.running[over] = 0
        self.stack.reset(over)

    def _send(self, array: np.ndarray) -> Tensor:
        """Send numpy ``(R E, ...)`` to the device as a float32 tensor ``(R, E, ...)``."""
        return torch.as_tensor(array.reshape(*self.shape, *array.shape[1:]), dtype=torch.float32, device=self.device)


def _flat(action: Tensor) -> np.ndarray:
    """Bring ``(R, E, A)`` on any device into numpy ``(R E, A)``."""
    return action.flatten(0, 1).float().cpu().numpy()
