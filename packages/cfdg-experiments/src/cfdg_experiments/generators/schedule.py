"""Gradient steps of a model at each refresh."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cfdg_rl.ranges import COUNT, NATURAL, SWITCH, check_ranges


@dataclass(frozen=True)
class Schedule:
    """Gradient steps of a model at a refresh; the paper states none of these.

    Raises:
        ValueError: if a number of steps is below 1, or there is an offline fit and every refresh starts from scratch.
    """

    first_steps: int = 100_000  # gradient steps of the first fit and of every fit from scratch; SynthER, EDIS
    steps: int = 100_000  # gradient steps of a warm-started fit
    warm_start: bool = False  # continue from the previous refresh's weights; SynthER and EDIS start anew
    offline_steps: int = 0  # of one fit on the offline rows, which cfdg and cfdg-split start from; 0: no such fit

    def __post_init__(self) -> None:
        check_ranges(self, first_steps=COUNT, steps=COUNT, warm_start=SWITCH, offline_steps=NATURAL)
        if self.offline_steps and not self.warm_start:
            raise ValueError(f"offline_steps is {self.offline_steps} without warm_start, expected 0 or a warm start")

    def steps_at(self, refresh: int) -> int:
        """Return the gradient steps of a refresh, counted from 1."""
        return self.steps if self.warm_start and (refresh > 1 or self.offline_steps) else self.first_steps

    def shared_by(self, models: int) -> Schedule:
        """Divide the steps between several models, so that together they take as many as one."""
        return Schedule(max(1, self.first_steps // models), max(1, self.steps // models), self.warm_start)

    def without_offline_fit(self) -> Schedule:
        """Make the schedule of a generator that has no offline fit: its first one keeps its steps."""
        return replace(self, offline_steps=0)
