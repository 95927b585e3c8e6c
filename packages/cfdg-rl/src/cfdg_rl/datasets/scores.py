"""The families of tasks and the scale on which their returns are compared."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Family:
    """One robot or maze: its environment, its widths and D4RL's two reference returns.

    Attributes:
        env: Gymnasium's name; of locomotion without the version, such as "Hopper".
        obs_dim: width of an observation.
        action_dim: width of an action.
        random_return: undiscounted return of a random policy, score 0.
        expert_return: undiscounted return of an expert, score 100.
        max_episode_steps: the time limit.
        sparse: a maze: the reward is 1 at the goal, where the episode terminates, and 0 elsewhere.
    """

    env: str
    obs_dim: int
    action_dim: int
    random_return: float
    expert_return: float
    max_episode_steps: int = 1000
    sparse: bool = False

    @property
    def reference(self) -> tuple[float, float]:
        """Returns of a random policy and of an expert."""
        return self.random_return, self.expert_return


# Reference returns: REF_MIN_SCORE and REF_MAX_SCORE of D4RL's infos.py, the same for all of its dataset versions.
FAMILIES = {
    "hopper": Family("Hopper", 11, 3, -20.272305, 3234.3),
    "halfcheetah": Family("HalfCheetah", 17, 6, -280.178953, 12135.0),
    "walker2d": Family("Walker2d", 17, 6, 1.629008, 4592.3),
}


def _maze(env: str, obs_dim: int, action_dim: int, *, steps: int) -> Family:
    return Family(env, obs_dim, action_dim, 0.0, 1.0, max_episode_steps=steps, sparse=True)


MAZES = {  # the score is the rate of success in percent
    "antmaze-umaze": _maze("cfdg/AntMazeUMaze-v2", 29, 8, steps=700),
    "antmaze-medium": _maze("cfdg/AntMazeMedium-v2", 29, 8, steps=1000),
    "antmaze-large": _maze("cfdg/AntMazeLarge-v2", 29, 8, steps=1000),
    "pointmaze-umaze": _maze("cfdg/PointMazeUMaze-v0", 4, 2, steps=150),
    "pointmaze-medium": _maze("cfdg/PointMazeMedium-v0", 4, 2, steps=300),
    "pointmaze-large": _maze("cfdg/PointMazeLarge-v0", 4, 2, steps=400),
}

ADROIT = {  # gymnasium-robotics' hands; its reward functions have changed since D4RL (docs/data.md)
    "pen": Family("cfdg/AdroitHandPen-v1", 45, 24, 96.262799, 3076.8331017826877, max_episode_steps=100),
    "door": Family("AdroitHandDoor-v1", 39, 28, -56.512833, 2880.5693087298737, max_episode_steps=200),
    "hammer": Family("AdroitHandHammer-v1", 46, 26, -274.856578, 12794.134825156867, max_episode_steps=200),
    "relocate": Family("AdroitHandRelocate-v1", 39, 30, -6.425911, 4233.877797728884, max_episode_steps=200),
}


def find_family(name: str) -> str | None:
    """Find the family of a dataset's name without its source, such as "antmaze-medium" of "antmaze-medium-play-v2"."""
    known = [family for family in (*FAMILIES, *MAZES, *ADROIT) if f"{name}-".startswith(f"{family}-")]
    return known[0] if known else None


def normalised_score(family: str, returns: float | Sequence[float] | np.ndarray) -> np.ndarray:
    """Compute D4RL's score 100 (R - random) / (expert - random) of undiscounted raw returns of any shape.

    Args:
        family: a key of ``FAMILIES``, ``MAZES`` or ``ADROIT``.
        returns: undiscounted returns of raw rewards.

    Raises:
        ValueError: if the family has no reference returns.
    """
    families = FAMILIES | MAZES | ADROIT
    if family not in families:
        raise ValueError(f"no reference returns for {family!r}, expected one of {', '.join(families)}")
    return on_scale(families[family].reference, returns)


def on_scale(reference: tuple[float, float], returns: float | Sequence[float] | np.ndarray) -> np.ndarray:
    """Compute 100 (R - low) / (high - low) of returns of any shape, float64, for reference returns (low, high)."""
    low, high = reference
    return 100.0 * (np.asarray(returns, dtype=np.float64) - low) / (high - low)


def family_of_environment(env_id: str) -> str | None:
    """Find the family of an environment, of locomotion in any version; None for another environment."""
    for name, family in (FAMILIES | MAZES | ADROIT).items():
        if env_id == family.env or (name in FAMILIES and re.fullmatch(rf"{family.env}-v\d+", env_id)):
            return name
    return None


def reference_of(env_id: str, *, sparse: bool) -> tuple[float, float] | None:
    """Find the reference returns of an environment: D4RL's if it has some, (0, 1) for another maze, else None."""
    family = family_of_environment(env_id)
    if family is not None:
        return (FAMILIES | MAZES | ADROIT)[family].reference
    return (0.0, 1.0) if sparse else None
