"""The dataset that every source gives: transitions, and the task they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cfdg_rl.datasets.scores import on_scale
from cfdg_rl.transitions import Transitions


@dataclass(frozen=True)
class Dataset:
    """Transitions, with the environment and the returns to evaluate against.

    Attributes:
        name: full name with its source, such as "recorded:hopper-medium".
        env_id: Gymnasium id of the environment to evaluate in.
        transitions: ``(N,)`` float32 on the CPU; raw rewards; rows whose next observation is unknown are left out.
        episode_returns: ``(episodes,)`` undiscounted raw returns of the complete episodes; of a maze 1 or 0.
        reference: returns of a random policy and of an expert (D4RL's, or a Minari dataset's own); None if unknown.
        sparse: a maze: the reward is 1 at the goal, where an episode terminates, and 0 elsewhere.

    Raises:
        ValueError: if there are no transitions.
    """

    name: str
    env_id: str
    transitions: Transitions
    episode_returns: np.ndarray
    reference: tuple[float, float] | None
    sparse: bool

    def __post_init__(self) -> None:
        """Refuse a dataset without transitions."""
        if len(self.transitions) == 0:
            raise ValueError(f"{self.name} has no transitions, expected at least two rows of one episode")

    @property
    def obs_dim(self) -> int:
        """Width S of an observation."""
        return self.transitions.obs.shape[-1]

    @property
    def action_dim(self) -> int:
        """Width A of an action."""
        return self.transitions.action.shape[-1]

    @property
    def behaviour_score(self) -> float:
        """Mean normalised score of the complete episodes; NaN if there are none."""
        if len(self.episode_returns) == 0:
            return float("nan")
        return float(self.normalised_score(self.episode_returns).mean())

    def normalised_score(self, returns: float | Sequence[float] | np.ndarray) -> np.ndarray:
        """Map returns of any shape to D4RL's scale, 0 random and 100 expert; unchanged without reference returns."""
        if self.reference is None:
            return np.asarray(returns, dtype=np.float64)
        return on_scale(self.reference, returns)
