"""Evaluation in separate environments, with the mean action and raw rewards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from cfdg_rl.envs.stack import EnvStack
from cfdg_rl.protocols import Agent
from cfdg_rl.streams import derive_seed


class Evaluator:
    """An evaluator that plays whole episodes for R replicas at once, apart from the training environments.

    Args:
        env_id: a Gymnasium id.
        seeds: one per replica.
        episodes: episodes per replica and evaluation, at least 1.
        device: where observations are sent.
        workers: threads that step the environments; returns do not depend on it.

    Raises:
        ValueError: if ``episodes`` is below 1.
    """

    def __init__(
        self,
        env_id: str,
        seeds: Sequence[int],
        episodes: int = 10,
        device: str | torch.device = "cpu",
        workers: int = 1,
    ) -> None:
        if episodes < 1:
            raise ValueError(f"episodes is {episodes}, expected at least 1")
        self.env_id = env_id
        self.seeds = tuple(seeds)
        self.episodes = episodes
        self.device = torch.device(device)
        self.workers = workers
        self.stack: EnvStack | None = None

    def returns(self, agent: Agent, round_number: int = 0) -> np.ndarray:
        """Play the mean policy; undiscounted raw returns ``(R, episodes)``, float64.

        Start states, and the random draws of PEX, depend on the seeds and ``round_number`` alone, so that a resumed
        run evaluates as an unbroken one. Only unfinished episodes are stepped, but the agent receives the observations
        of all: its random draws and the rounding of its matrix products depend on the number of rows, and a replica's
        returns must not depend on the other replicas.
        """
        stack = self._begin(round_number)
        streams = getattr(agent, "streams", None)
        if isinstance(streams, dict) and "evaluation" in streams:  # an agent that draws at random in evaluation too
            streams["evaluation"].begin(self.seeds, f"evaluate {round_number}")
        total = np.zeros(len(stack))
        active = np.arange(len(stack))
        while len(active):
            obs = stack.obs.reshape(len(self.seeds), self.episodes, -1)
            action = agent.act(torch.as_tensor(obs, dtype=torch.float32, device=self.device), explore=False)
            flat = action.flatten(0, 1).float().cpu().numpy()
            reward, terminated, truncated = stack.step(flat[active], active)
            total[active] += reward
            active = active[~(terminated | truncated)]
        return total.reshape(len(self.seeds), self.episodes)

    def close(self) -> None:
        """Close the environments; another evaluation makes new ones."""
        if self.stack is not None:
            self.stack.close()
        self.stack = None

    def _begin(self, round_number: int) -> EnvStack:
        purposes = [f"evaluate {round_number} {episode}" for episode in range(self.episodes)]
        seeds = [derive_seed(seed, purpose) % 2**31 for seed in self.seeds for purpose in purposes]
        if self.stack is None:
            self.stack = EnvStack(self.env_id, seeds, self.workers, "evaluation")
        self.stack.reset(np.arange(len(seeds)), seeds)  # in a first round a second time, which changes nothing
        return self.stack
