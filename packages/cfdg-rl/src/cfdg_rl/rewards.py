"""Reward maps: one object for the rewards of the dataset and of the environment."""

from __future__ import annotations

from collections.abc import Callable, Collection
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

    def pair(self, elsewhere: float, goal: float) -> tuple[float, float]:
        """Map the two raw rewards of a task with a goal (:attr:`Dataset.goal_rewards`)."""
        return self.scale * elsewhere + self.shift, self.scale * goal + self.shift


def by_return_range(episode_returns: np.ndarray) -> RewardMap:
    """Divide by the spread of the dataset's returns and multiply by 1000 (Kostrikov et al. 2021, locomotion).

    Raises:
        ValueError: if fewer than two distinct returns are known.
    """
    spread = float(np.ptp(episode_returns)) if len(episode_returns) else 0.0
    if spread <= 0:
        found = f"the return range of {len(episode_returns)} complete episodes is {spread:g}"
        hint = "the setting reward: raw needs none (cfdg table1 --set iql.reward=raw)"
        raise ValueError(f"{found}, expected two episodes with different returns; {hint}")
    return RewardMap(scale=1000.0 / spread)


def raw(episode_returns: np.ndarray) -> RewardMap:
    """Leave the environment's rewards unchanged (PEX and APL, locomotion)."""
    return RewardMap()


def minus_one(episode_returns: np.ndarray) -> RewardMap:
    """Subtract one: every step of a maze costs one until the goal ends it (IQL, PEX and CORL, AntMaze)."""
    return RewardMap(shift=-1.0)


REWARDS: dict[str, Callable[[np.ndarray], RewardMap]] = {
    "raw": raw,
    "return-range": by_return_range,
    "minus-one": minus_one,
}


def check_choice(settings: object, **choices: Collection[str]) -> None:
    """Refuse a setting (``reward`` among them, where there is one) that is none of its allowed values.

    Raises:
        ValueError: naming the setting, the values allowed and the one found.
    """
    if hasattr(settings, "reward"):
        choices["reward"] = REWARDS
    for name, allowed in choices.items():
        if getattr(settings, name) not in allowed:
            raise ValueError(f"{name} is {getattr(settings, name)!r}, expected one of {', '.join(allowed)}")
