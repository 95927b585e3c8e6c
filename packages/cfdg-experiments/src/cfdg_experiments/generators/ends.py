"""Rule that tells from a state whether an episode ended in it, learnt from rows with terminal flags.

A sharp rule is wanted: ends are rare, and a blurred line marks the wrong rows. Most simulators end an episode where a
coordinate leaves its range, so ranges are tried first; a classifier takes their place where they do not fit held-out
rows, such as in a maze, whose ends lie around a goal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cfdg_diffusion import Streams
from cfdg_diffusion.edm.batches import BalancedRows
from cfdg_diffusion.edm.learner import Learner, cosine
from cfdg_experiments.generators.perceptron import Perceptron
from cfdg_rl.ranges import COUNT, NOT_NEGATIVE, POSITIVE, check_ranges

_HELD_OUT_EVERY = 10  # one row in so many judges the rule
_FEWEST_ENDS = 2  # a range that fewer ends leave could be chance
_SMALLEST_SHARE = 0.01  # the same, as a share of all ends
_HARD_SHARE = 0.02  # share of the states without an end that the classifier's second half dwells on
_GRADIENT_CLIP = 1.0
_EMA_DECAY = 0.99  # per ten steps


@dataclass(frozen=True)
class EndSettings:
    """Size and training of the classifier, and when ranges will do without it."""

    width: int = 64
    layers: int = 2
    steps: int = 1500  # measured: 3,000 were hardly better
    batch_size: int = 256
    learning_rate: float = 5e-3
    ranges_suffice: float = 0.98  # F1 of the ranges on held-out rows from which on no classifier is trained

    def __post_init__(self) -> None:
        check_ranges(self, width=COUNT, layers=COUNT, steps=COUNT, batch_size=COUNT, learning_rate=POSITIVE)
        check_ranges(self, ranges_suffice=NOT_NEGATIVE)  # above 1 a classifier is always trained


class EndRule:
    """Decides for R replicas whether states ended an episode.

    Args:
        obs_dim: S.
        seeds: one per replica.
        settings: see :class:`EndSettings`.
        device: where everything lives.

    Attributes:
        low: ``(R, S)`` states below end an episode; -inf where a column has no say.
        high: ``(R, S)`` states above do so.
        threshold: ``(R,)`` logit of the classifier above which a state is an end; inf where ranges decide alone.
    """

    def __init__(
        self,
        obs_dim: int,
        seeds: tuple[int, ...],
        settings: EndSettings = EndSettings(),
        device: str | torch.device = "cpu",
    ) -> None:
        self.settings = settings
        self.network = Perceptron(obs_dim, 1, settings.width, settings.layers)
        self._seeds = seeds
        self._device = torch.device(device)
        self.reset()

    def reset(self) -> None:
        """Forget what was learnt: no state is an end."""
        replicas = len(self._seeds)
        weights = self.network.initial(Streams(self._seeds, "ends weights", self._device))
        self._learner = Learner(weights, _GRADIENT_CLIP, _EMA_DECAY)
        self._mean = torch.zeros(replicas, 1, self.network.inputs, device=self._device)
        self._std = torch.ones_like(self._mean)
        self.low = torch.full((replicas, self.network.inputs), -math.inf, device=self._device)
        self.high = torch.full_like(self.low, math.inf)
        self.threshold = torch.full((replicas,), math.inf, device=self._device)

    def fit(self, states: Tensor, ended: Tensor) -> None:
        """Learn from states ``(R, N, S)`` and booleans ``(R, N)``; every fit begins anew."""
        self.reset()
        held_out = torch.arange(states.shape[1], device=states.device) % _HELD_OUT_EVERY == 0
        found = [find_ranges(*pair) for pair in zip(states[:, ~held_out], ended[:, ~held_out], strict=True)]
        self.low = torch.stack([low for low, _ in found])
        self.high = torch.stack([high for _, high in found])
        scores = f1(self(states[:, held_out]), ended[:, held_out])
        scores = torch.minimum(scores, f1(self(states), ended))  # held-out rows may hold no end
        poor = scores < self.settings.ranges_suffice
        if bool(poor.any()):
            self._train(states[:, ~held_out], ended[:, ~held_out])
            for replica in poor.nonzero()[:, 0].tolist():
                self._choose(replica, states[replica, held_out], ended[replica, held_out], float(scores[replica]))

    @torch.inference_mode()
    def __call__(self, states: Tensor) -> Tensor:
        """Tell which states ``(R, n, S)`` are ends: ``(R, n)`` booleans."""
        outside = ((states < self.low[:, None]) | (states > self.high[:, None])).any(-1)
        if bool(self.threshold.isinf().all()):
            return outside
        return outside | (self._logits(self._learner.average, states) > self.threshold[:, None])

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes, as nested dictionaries of tensors."""
        own = {"low": self.low, "high": self.high, "threshold": self.threshold, "mean": self._mean, "std": self._std}
        return {
            "rule": {name: tensor.clone() for name, tensor in own.items()},
            "learner": self._learner.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where :meth:`state_dict` was called."""
        rule = {name: tensor.to(self._device) for name, tensor in state["rule"].items()}
        self.low = rule["low"]
        self.high = rule["high"]
        self.threshold = rule["threshold"]
        self._mean = rule["mean"]
        self._std = rule["std"]
        self._learner.restore(state["learner"])

    def _logits(self, flat: Tensor, states: Tensor) -> Tensor:
        return self.network(flat, (states - self._mean) / self._std)[..., 0]

    def _train(self, states: Tensor, ended: Tensor) -> None:
        """Half of every batch are ends; the second half of training adds the states that look most like ends."""
        self._mean = states.mean(1, keepdim=True)
        self._std = states.std(1, keepdim=True).clamp(min=1e-6)
        streams = Streams(self._seeds, "ends training", self._device)
        labels = ended.long()
        data = BalancedRows(states, labels, 3)
        steps = self.settings.steps
        for step in range(steps):
            if step == steps // 2:
                data = BalancedRows(states, labels + 2 * self._hard(states, ended).long(), 3)
            drawn, kind = data.draw(streams, self.settings.batch_size)
            logits = self._logits(self._learner.weights, drawn)
            loss = functional.binary_cross_entropy_with_logits(logits, (kind == 1).float(), reduction="none")
            self._learner.step(loss.mean(1), cosine(step, steps) * self.settings.learning_rate)

    @torch.inference_mode()
    def _hard(self, states: Tensor, ended: Tensor) -> Tensor:
        """The states without an end that look most like one, ``(R, N)`` booleans."""
        logits = self._logits(self._learner.average, states).masked_fill(ended, -math.inf)
        count = max(1, int(_HARD_SHARE * states.shape[1]))
        return (logits >= logits.topk(count, dim=1).values[:, -1:]) & ~ended

    @torch.inference_mode()
    def _choose(self, replica: int, states: Tensor, ended: Tensor, score: float) -> None:
        """Let the classifier decide where its F1 on held-out states ``(n, S)`` is above that of the ranges."""
        logits = self._logits(self._learner.average, states.expand(len(self._seeds), -1, -1))[replica]
        threshold, reached = best_threshold(logits, ended)
        if reached > score:
            self.threshold[replica] = threshold
            self.low[replica] = -math.inf
            self.high[replica] = math.inf


def find_ranges(states: Tensor, ended: Tensor) -> tuple[Tensor, Tensor]:
    """The fewest bounds of columns that states without an end keep and that ends break, greedily.

    Args:
        states: ``(N, S)``.
        ended: ``(N,)`` booleans.

    Returns:
        Lowest and highest values ``(S,)`` without an end; infinite in columns that explain no end.
    """
    low = states.new_full((states.shape[1],), -math.inf)
    high = -low
    ends = states[ended]
    others = states[~ended]
    if len(ends) == 0 or len(others) == 0:
        return low, high
    signed = torch.cat([-ends, ends], dim=1)  # one upper bound for each of 2 S columns
    bounds = torch.cat([-others, others], dim=1).amax(0)
    least = max(_FEWEST_ENDS, math.ceil(_SMALLEST_SHARE * len(ends)))
    while True:
        counts = (signed > bounds).sum(0)
        column = int(counts.argmax())
        if int(counts[column]) < least:
            return low, high
        beyond = signed[:, column] > bounds[column]
        bound = (bounds[column] + signed[beyond, column].min()) / 2
        if column < states.shape[1]:
            low[column] = -bound
        else:
            high[column - states.shape[1]] = bound
        signed = signed[~beyond]


def f1(found: Tensor, truth: Tensor) -> Tensor:
    """Harmonic mean of recall and precision of booleans ``(..., N)``; 1 where nothing is found and nothing is true."""
    hits = (found & truth).sum(-1)
    total = found.sum(-1) + truth.sum(-1)
    return torch.where(total > 0, 2 * hits / total.clamp(min=1), 1.0)


def best_threshold(scores: Tensor, truth: Tensor) -> tuple[float, float]:
    """The threshold of scores ``(N,)`` with the highest F1 against booleans ``(N,)``, and that F1.

    It lies in the middle between the two scores that it parts; inf and 0 where no row is true.
    """
    if not bool(truth.any()):
        return math.inf, 0.0
    ordered, order = scores.sort(descending=True)
    hits = truth[order].cumsum(0)
    found = torch.arange(1, len(scores) + 1, device=scores.device)
    values = 2 * hits / (found + truth.sum())
    best = int(values.argmax())
    following = ordered[min(best + 1, len(scores) - 1)]
    return float((ordered[best] + following) / 2), float(values[best])
