"""Rule that tells from a state whether an episode ended in it, learnt from rows with terminal flags.

A sharp rule is wanted: ends are rare, and a blurred line marks the wrong rows. Most simulators end an episode where a
coordinate leaves its range, so ranges are tried first; a classifier takes their place where they do not fit held-out
rows, such as in a maze, whose ends lie around a goal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cfdg_diffusion import Streams
from cfdg_diffusion.edm.learner import Learner, cosine
from cfdg_experiments.generators.end_states import CHUNK, EndStates, Flagged, KindBatches
from cfdg_experiments.generators.perceptron import Perceptron
from cfdg_rl.ranges import COUNT, NOT_NEGATIVE, POSITIVE, WIDTH, check_ranges

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
        check_ranges(self, width=WIDTH, layers=COUNT, steps=COUNT, batch_size=COUNT, learning_rate=POSITIVE)
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
        self.fit_parts([(states, ended)])

    def fit_parts(self, parts: Sequence[Flagged]) -> None:
        """Learn as :meth:`fit` does from parts, without joining them."""
        self.reset()
        data = EndStates(parts, len(self._seeds))
        found = [_ranges(data, replica) for replica in range(len(self._seeds))]
        self.low = torch.stack([low for low, _ in found])
        self.high = torch.stack([high for _, high in found])
        scores = self._scores(data)
        poor = scores < self.settings.ranges_suffice
        if bool(poor.any()):
            self._train(data)
            for replica in poor.nonzero()[:, 0].tolist():
                self._choose(replica, *data.held_out(replica), float(scores[replica]), whole=data.is_single)

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

    def _scores(self, data: EndStates) -> Tensor:
        """F1 ``(R,)`` of the ranges on held-out rows, or on all where that is lower: held-out rows may hold no end."""
        judged = Agreement(data.replicas)
        everything = Agreement(data.replicas)
        for states, ended, held_out in data.chunks():
            found = self(states)
            judged.add(found[:, held_out], ended[:, held_out])
            everything.add(found, ended)
        return torch.minimum(judged.f1(), everything.f1())

    def _train(self, data: EndStates) -> None:
        """Half of every batch are ends; the second half of training adds the states that look most like ends."""
        self._mean, std = data.moments()
        self._std = std.clamp(min=1e-6)
        streams = Streams(self._seeds, "ends training", self._device)
        kinds = torch.cat([ended for _, ended in data.fitted()], dim=1).to(torch.uint8)
        batches = KindBatches(data, kinds, 3)
        steps = self.settings.steps
        for step in range(steps):
            if step == steps // 2:
                del batches  # before the next ones take as much memory
                batches = KindBatches(data, kinds + 2 * self._hard(data, kinds > 0), 3)
            drawn, kind = batches.draw(streams, self.settings.batch_size)
            logits = self._logits(self._learner.weights, drawn)
            loss = functional.binary_cross_entropy_with_logits(logits, (kind == 1).float(), reduction="none")
            self._learner.step(loss.mean(1), cosine(step, steps) * self.settings.learning_rate)

    @torch.inference_mode()
    def _hard(self, data: EndStates, ended: Tensor) -> Tensor:
        """The states without an end that look most like one, ``(R, n)`` zeros and ones."""
        logits = torch.empty(ended.shape, device=ended.device)
        done = 0
        for states, _ in data.fitted():  # no list of small tensors between large ones, which would scatter the memory
            logits[:, done : done + states.shape[1]] = self._logits(self._learner.average, states)
            done += states.shape[1]
        logits.masked_fill_(ended, -math.inf)
        count = max(1, int(_HARD_SHARE * logits.shape[1]))
        least = torch.stack([own.topk(count).values[-1:] for own in logits])  # one by one: it copies
        return ((logits >= least) & ~ended).to(torch.uint8)

    @torch.inference_mode()
    def _choose(self, replica: int, states: Tensor, ended: Tensor, score: float, *, whole: bool) -> None:
        """Let the classifier decide where its F1 on held-out states ``(n, S)`` is above that of the ranges."""
        pieces = states.split(len(states) if whole else CHUNK)
        found = [self._logits(self._learner.average, piece.expand(len(self._seeds), -1, -1)) for piece in pieces]
        threshold, reached = best_threshold(torch.cat([logits[replica] for logits in found]), ended)
        if reached > score:
            self.threshold[replica] = threshold
            self.low[replica] = -math.inf
            self.high[replica] = math.inf


class Agreement:
    """Counts of rows that are found, that are true, and that are both, per replica."""

    def __init__(self, replicas: int) -> None:
        self._counts = torch.zeros(2, replicas, dtype=torch.long)

    def add(self, found: Tensor, truth: Tensor) -> None:
        """Count booleans ``(R, n)``."""
        total = found.sum(-1) + truth.sum(-1)
        self._counts = self._counts.to(found.device) + torch.stack([(found & truth).sum(-1), total])

    def f1(self) -> Tensor:
        """Harmonic mean of recall and precision ``(R,)``; 1 where nothing is found and nothing is true."""
        hits, total = self._counts
        return torch.where(total > 0, 2 * hits / total.clamp(min=1), 1.0)


def _ranges(data: EndStates, replica: int) -> tuple[Tensor, Tensor]:
    """Find ranges of one replica, of whose states without an end only the smallest and the largest count."""
    ends: list[Tensor] = []
    others: list[Tensor] = []
    for states, ended in data.fitted():
        ends.append(states[replica, ended[replica]])
        rest = states[replica, ~ended[replica]]
        if len(rest):
            others += [rest.amin(0, keepdim=True), rest.amax(0, keepdim=True)]
    found = torch.cat([*ends, *others])
    return find_ranges(found, torch.arange(len(found), device=found.device) < sum(map(len, ends)))


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
