"""Evaluation in environments of its own, with the mean action and raw rewards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from cfdg_rl.envs.stack import EnvStack
from cfdg_rl.protocols import Agent
from cfdg_rl.streams import derive_seed


class Evaluator:
    """Plays whole episodes for R replicas at once, never touching the training environments.

    Args:
        env_id: a Gymnasium id.
        seeds: one per replica.
        episodes: episodes per replica and evaluation.
        device: where observations are sent.
        workers: threads that step the environments; returns do not depend on it.
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
            raise ValueError(f"episodes must be at least 1, found {episodes}")
        self.env_id, self.seeds, self.episodes, self.device = env_id, tuple(seeds), episodes, torch.device(device)
        self.workers = workers
        self.stack: EnvStack | None = None

    def returns(self, agent: Agent, round_number: int = 0) -> np.ndarray:
        """Undiscounted raw returns ``(R, episodes)`` of the mean policy.

        Start states, and what PEX draws, depend on the seeds and ``round_number`` alone, so a resumed run evaluates
        as an unbroken one.
        Only unfinished episodes are stepped, but the agent sees all: what it draws at random, and how its matrix
        products round, depends on the number of rows, and a replica's returns must not depend on its companions.
        """
        stack = self._begin(round_number)
        streams = getattr(agent, "streams", None)
        if isinstance(streams, dict) and "evaluation" in streams:  # an agent that draws at random in evaluation too
            streams["evaluation"].begin(self.seeds, f"evaluate {round_number}")
        total, active = np.zeros(len(stack)), np.arange(len(stack))
        while len(active):
            obs = stack.obs.reshape(len(self.seeds), self.episodes, -1)
            action = agent.act(torch.as_tensor(obs, dtype=torch.float32, device=self.device), explore=False)
            flat = action.flatten(0, 1).float().cpu().numpy()
            reward, terminated, truncated = stack.step(flat[active], active)
            total[active] += reward
            active = active[~(terminated | truncated)]
        return total.reshape(len(self.seeds), self.episodes)

    def _begin(self, round_number: int) -> EnvStack:
        purposes = [f"evaluate {round_number} {episode}" for episode in range(self.episodes)]
        seeds = [derive_seed(seed, purpose) % 2**31 for seed in self.seeds for purpose in purposes]
        if self.stack is None:
            self.stack = EnvStack(self.env_id, seeds, self.workers)
        self.stack.reset(np.arange(len(seeds)), seeds)  # in a first round a second time, which changes nothing
        return self.stack
