"""The dataset that every source gives: transitions, and the task they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cfdg_rl.datasets.scores import on_scale
from cfdg_rl.transitions import Transitions

NORMALISED = "?actions=normalised"  # at the end of a name: actions lie in [-1, 1] whatever the environment's box is


class DataWarning(UserWarning):
    """Rows of a dataset are not what its layout promises."""


def split_option(rest: str) -> tuple[str, str]:
    """Split an option off a name: "..." and :data:`NORMALISED` or "".

    Raises:
        ValueError: if there is another option.
    """
    plain, mark, option = rest.partition("?")
    if mark and mark + option != NORMALISED:
        raise ValueError(f"the option of {rest!r} is {option!r}, expected {NORMALISED[1:]!r}")
    return plain, mark + option


@dataclass(frozen=True)
class Dataset:
    """Transitions, with the environment and the returns to evaluate against.

    Attributes:
        name: full name with its source, such as "recorded:hopper-medium".
        env_id: Gymnasium id of the environment to evaluate in.
        transitions: ``(N,)`` float32 on the CPU; raw rewards; rows whose next observation is unknown are left out.
        episode_returns: ``(episodes,)`` undiscounted raw returns of the complete episodes; of a maze 1 or 0.
        reference: returns of a random policy and of an expert (D4RL's, or a Minari dataset's own); None if unknown.
        sparse: the reward is 1 at the goal, where an episode terminates, and 0 elsewhere, as in a maze.
        notes: sentences about rows that are left out, or are not what their layout promises.

    Raises:
        ValueError: if there are no transitions.
    """

    name: str
    env_id: str
    transitions: Transitions
    episode_returns: np.ndarray
    reference: tuple[float, float] | None
    sparse: bool
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a dataset without transitions."""
        if len(self.transitions) == 0:
            raise ValueError(f"{self.name} has no transitions, expected at least two rows of one episode")

    def first(self, rows: int | None) -> Dataset:
        """Keep the first ``rows`` transitions (None: all), with a note if that leaves some out."""
        total = len(self.transitions)
        if rows is None or rows >= total:
            return self
        note = f"{self.name}: the first {rows:,} of {total:,} transitions are used; episodes and score are of these"
        return replace(self, transitions=self.transitions.map(lambda column: column[:rows]), notes=(*self.notes, note))

    @property
    def obs_dim(self) -> int:
        """Width S of an observation."""
        return self.transitions.obs.shape[-1]

    @property
    def action_dim(self) -> int:
        """Width A of an action."""
        return self.transitions.action.shape[-1]

    @property
    def goal_rewards(self) -> tuple[float, float] | None:
        """Raw rewards of all rows but the terminal ones, and of these; None unless they are one each and differ."""
        if self.sparse:
            return 0.0, 1.0
        ended = self.transitions.terminal > 0.5
        elsewhere, goal = (self.transitions.reward[rows].unique().tolist() for rows in (~ended, ended))
        return (*elsewhere, *goal) if len(elsewhere) == len(goal) == 1 and elsewhere != goal else None

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
