"""Losses of a training: noted at some sixty steps, refused if they are not finite."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_FIRST_LOOK = 8
_LATEST_LOOK = 500
"""Steps between two looks at the losses: few at first, never more."""


@dataclass(frozen=True)
class FitReport:
    """Losses and counts of one call of ``fit``.

    Attributes:
        steps: gradient steps of this call.
        seconds: wall-clock time of this call.
        loss_steps: step at which each loss was noted.
        losses: ``(len(loss_steps), R)`` mean denoising loss since the previous note; without categories, 1 is an
            untrained network.
        label_counts: ``(R, L)`` rows of each label.
    """

    steps: int
    seconds: float
    loss_steps: tuple[int, ...]
    losses: Tensor
    label_counts: Tensor


def looks(training: Iterable[tuple[int, Tensor]], steps: int, start: int = 0) -> Iterator[tuple[int, Tensor]]:
    """Yield ``(step, mean losses (R,) since the look before)`` some 60 times, the most of them at first.

    Args:
        training: pairs of :meth:`ConditionalDiffusion.training`, called with the same ``steps`` and ``start``.
        steps: number of the last step, which is always looked at.
        start: steps done before, a look itself.
    """
    latest = start
    total = torch.zeros(())
    for step, losses in training:
        total = losses if step == latest + 1 else total + losses
        if step == _next_look(latest, steps):
            yield step, total / (step - latest)
            latest = step


def _next_look(step: int, steps: int) -> int:
    """Step of the look after one at ``step``: a small table is learnt in dozens of steps."""
    soon = step + max(_FIRST_LOOK, step // 4)
    return min(soon, step + math.ceil(steps / 50), step + _LATEST_LOOK, steps)


class DivergenceError(RuntimeError):
    """A training whose loss is no longer finite."""


def check_losses(losses: Tensor) -> None:
    """Refuse the losses of a training that diverged.

    Raises:
        DivergenceError: if a loss is not finite.
    """
    if not bool(losses.isfinite().all()):
        raise DivergenceError("the loss is no longer finite, expected finite numbers: lower learning_rate")
