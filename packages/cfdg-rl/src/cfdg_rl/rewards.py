"""One reward map, applied to the dataset and to the environment by the same object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
from torch import Tensor

Rewards = TypeVar("Rewards", Tensor, np.ndarray)


@dataclass(frozen=True)
class RewardMap:
    """The affine map ``scale * reward + shift`` from raw rewards to the rewards a learner sees."""

    scale: float = 1.0
    shift: float = 0.0

    def __call__(self, reward: Rewards) -> Rewards:
        """Map raw rewards of any shape."""
        return cast("Rewards", self.scale * reward + self.shift)


def by_return_range(episode_returns: np.ndarray) -> RewardMap:
    """Divide by the spread of the dataset's returns and multiply by 1000 (Kostrikov et al. 2021, locomotion).

    Raises:
        ValueError: if fewer than two distinct returns are known.
    """
    spread = float(np.ptp(episode_returns)) if len(episode_returns) else 0.0
    if spread <= 0:
        raise ValueError(f"the return range needs two episodes with different returns, found {len(episode_returns)}")
    return RewardMap(scale=1000.0 / spread)
