"""Flat weights of R replicas with their Adam optimiser, gradient clip and moving average."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

_AVERAGE_EVERY = 10
"""Updates between two steps of the moving average, as in SynthER: the same average, a tenth of the memory traffic."""

_EAGER_UPDATES = 100
"""Updates at the start that are averaged one by one, so that a very short fit is averaged too."""


class Learner:
    """Weights ``(R, P)``, Adam and their moving average; each update is one kernel over the flat tensor.

    Args:
        weights: ``(R, P)`` initial float32 weights.
        gradient_clip: largest gradient norm of a replica.
        ema_decay: highest decay of the moving average, per ten updates.

    Attributes:
        weights: the live weights, a leaf that requires grad.
        average: their moving average, from which samples are drawn.
    """

    def __init__(self, weights: Tensor, gradient_clip: float, ema_decay: float) -> None:
        self.weights = weights.detach().clone().requires_grad_()
        self.average = weights.detach().clone()
        self._gradient_clip = gradient_clip
        self._ema_decay = ema_decay
        self._updates = 0
        self._adam = torch.optim.Adam([self.weights], betas=(0.9, 0.99), fused=True)  # betas of SynthER

    def step(self, losses: Tensor, learning_rate: float) -> None:
        """Update every replica by the gradient of its own of the ``losses (R,)``."""
        self.apply(self.gradient(losses), learning_rate)

    def gradient(self, losses: Tensor) -> Tensor:
        """Compute the clipped gradient ``(R, P)`` of ``losses (R,)``; that of their sum keeps replicas independent."""
        (gradient,) = torch.autograd.grad(losses.sum(), self.weights)
        return clipped(gradient, self._gradient_clip)

    def follow(self, compute: Callable[[], tuple[Tensor, Tensor]], learning_rate: float) -> Tensor:
        """Take one step along a gradient and return the losses ``(R,)`` that ``compute`` gives with it."""
        losses, gradient = compute()
        self.apply(gradient, learning_rate)
        return losses.clone()  # the next call may write into the same memory

    def apply(self, gradient: Tensor, learning_rate: float) -> None:
        """Take one step of Adam along a gradient ``(R, P)``, and one of the moving average when it is due."""
        self.weights.grad = gradient
        self._adam.param_groups[0]["lr"] = learning_rate
        self._adam.step()
        self._updates += 1
        if self._updates <= _EAGER_UPDATES or self._updates % _AVERAGE_EVERY == 0:
            self.average.lerp_(self.weights.detach(), 1 - ema_decay(self._updates, self._ema_decay))

    def state(self) -> dict[str, Any]:
        """Copy everything that changes, as a tree of tensors."""
        zeros = torch.zeros_like(self.weights)
        fresh = {"step": torch.zeros(()), "exp_avg": zeros, "exp_avg_sq": zeros}
        adam = self._adam.state.get(self.weights) or fresh
        return {
            "weights": self.weights.detach().clone(),
            "average": self.average.clone(),
            "updates": torch.tensor(self._updates),
            "adam": {name: adam[name].detach().clone() for name in fresh},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where :meth:`state` was taken."""
        with torch.no_grad():
            self.weights.copy_(state["weights"])
            self.average.copy_(state["average"])
        self._updates = int(state["updates"])
        adam = {name: tensor.clone() for name, tensor in state["adam"].items()}
        self._adam.load_state_dict({"state": {0: adam}, "param_groups": self._adam.state_dict()["param_groups"]})


def clipped(gradient: Tensor, largest: float) -> Tensor:
    """Scale the gradient ``(R, P)`` of each replica to a norm of at most ``largest``: a joint one would couple them."""
    norms = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    return gradient * (largest / (norms + 1e-6)).clamp(max=1.0)


def ema_decay(update: int, highest: float) -> float:
    """Compute the decay of the moving average at update k = 1, 2, ...: min(highest, 1 - (1 + k)^(-2/3)).

    The warm-up of ema-pytorch, as SynthER uses it: early averages forget the random start soon.
    """
    return min(highest, 1 - (1 + update) ** (-2 / 3))


def cosine(done: int, steps: int) -> float:
    """Compute the share of the learning rate, 1 to 0, that remains after ``done`` of all steps."""
    return 0.5 * (1 + math.cos(math.pi * done / steps))
