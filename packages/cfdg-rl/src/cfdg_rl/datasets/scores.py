"""The families of tasks and the scale on which their returns are compared."""

from __future__ import annotations

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
    """

    env: str
    obs_dim: int
    action_dim: int
    random_return: float
    expert_return: float
    max_episode_steps: int = 1000
    sparse: bool = False  # a maze: reward 1 at the goal, where the episode terminates, 0 elsewhere


# Reference returns: REF_MIN_SCORE and REF_MAX_SCORE of D4RL's infos.py, the same for all of its dataset versions.
FAMILIES = {
    "hopper": Family("Hopper", 11, 3, -20.272305, 3234.3),
    "halfcheetah": Family("HalfCheetah", 17, 6, -280.178953, 12135.0),
    "walker2d": Family("Walker2d", 17, 6, 1.629008, 4592.3),
}
MAZES = {  # the score is the rate of success in percent
    "antmaze-umaze": Family("cfdg/AntMazeUMaze-v2", 29, 8, 0.0, 1.0, 700, sparse=True),
    "antmaze-medium": Family("cfdg/AntMazeMedium-v2", 29, 8, 0.0, 1.0, 1000, sparse=True),
    "antmaze-large": Family("cfdg/AntMazeLarge-v2", 29, 8, 0.0, 1.0, 1000, sparse=True),
    "pointmaze-umaze": Family("cfdg/PointMazeUMaze-v0", 4, 2, 0.0, 1.0, 150, sparse=True),
    "pointmaze-medium": Family("cfdg/PointMazeMedium-v0", 4, 2, 0.0, 1.0, 300, sparse=True),
    "pointmaze-large": Family("cfdg/PointMazeLarge-v0", 4, 2, 0.0, 1.0, 400, sparse=True),
}


def normalised_score(family: str, returns: float | Sequence[float] | np.ndarray) -> np.ndarray:
    """D4RL's scale, 100 (R - random) / (expert - random), of undiscounted raw returns of any shape.

    Args:
        family: a key of ``FAMILIES``.
        returns: undiscounted returns of raw rewards.

    Raises:
        ValueError: if the family has no reference returns.
    """
    if family not in FAMILIES:
        raise ValueError(f"no reference returns for {family!r}, expected one of {', '.join(FAMILIES)}")
    reference = FAMILIES[family]
    span = reference.expert_return - reference.random_return
    return 100.0 * (np.asarray(returns, dtype=np.float64) - reference.random_return) / span
