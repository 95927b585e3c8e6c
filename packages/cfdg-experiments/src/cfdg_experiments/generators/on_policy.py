"""Adaptive ratio: how many of the generated rows count as rows of the present policy.

The density ratio of real online and generated state-action pairs, w(s, a) = d_on(s, a) / d_syn(s, a), is estimated as
in balanced replay (Lee et al., CoRL 2021) by a classifier c between the two: w = c / (1 - c). The generated rows of a
label, weighted by w, are worth

    n_eff / n = (mean w)^2 / mean w^2

rows each (the effective sample size of importance sampling, Kong 1992): 1 where they are distributed as the online
rows, near 0 where few of them are. A batch keeps that share of the generated rows of the label, and real rows of the
label fill the other places.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cfdg_experiments.generators.distances import Scale
from cfdg_experiments.generators.gate import LABELS
from cfdg_experiments.generators.rows import draw_different, rows_at
from cfdg_rl.agents.networks import StackedMLP, descend
from cfdg_rl.mixing import Pools
from cfdg_rl.ranges import COUNT, NOT_NEGATIVE, POSITIVE, WIDTH, check_ranges
from cfdg_rl.streams import Streams

Pairs = tuple[Tensor, Tensor]
_FEWEST_ROWS = 4  # half of them train the classifier


@dataclass(frozen=True)
class OnPolicySettings:
    """Classifier of the adaptive ratio.

    Raises:
        ValueError: if a number is not positive.
    """

    width: int = 64
    steps: int = 300  # gradient steps for each label at each refresh
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2  # of the decoupled kind; keeps the ratio of two overlapping sets near 1
    rows: int = 4_000  # of each kind, at most; half of them train the classifier
    check_every: int = 10  # steps; the classifier that tells the other half apart best is taken

    def __post_init__(self) -> None:
        check_ranges(self, width=WIDTH, steps=COUNT, batch_size=COUNT, rows=COUNT, check_every=COUNT)
        check_ranges(self, learning_rate=POSITIVE, weight_decay=NOT_NEGATIVE)


class OnPolicy:
    """Shares of the generated rows of each label that count as rows of the present policy.

    Args:
        obs_dim: S.
        action_dim: A.
        seeds: one per replica.
        settings: of the classifier.
        device: where everything lives.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        seeds: tuple[int, ...],
        settings: OnPolicySettings = OnPolicySettings(),
        device: str | torch.device = "cpu",
    ) -> None:
        self.pairs = obs_dim + action_dim
        self.settings = settings
        self.streams = Streams(seeds, "on-policyness", device)

    def __call__(self, pools: Pools) -> Tensor:
        """Return ``(R, 2)`` shares in [0, 1] by label; 1 for a label with too few rows to judge it."""
        shares = torch.ones(len(self.streams), len(LABELS), device=self.streams.device)
        online = pools.online.view()[..., : self.pairs]
        for label, ring in enumerate((pools.offline_synthetic, pools.online_synthetic)):
            generated = ring.view()[..., : self.pairs]
            if min(len(pools.online), len(ring)) >= _FEWEST_ROWS:
                shares[:, label] = self.share(generated, online)
        return shares

    def share(self, generated: Tensor, online: Tensor) -> Tensor:
        """Estimate n_eff / n ``(R,)`` of generated pairs ``(R, n, S + A)`` beside online ones ``(R, m, S + A)``."""
        scale = Scale.of(online)
        parts = [scale(self._pick(rows)) for rows in (generated, online)]
        halves = [rows.tensor_split(2, dim=1) for rows in parts]
        return effective_share(self._logits(*zip(*halves, strict=True)))

    def _logits(self, train: Pairs, judge: Pairs) -> Tensor:
        """Train a fresh classifier to tell online pairs (1) from generated ones (0); its logits of the judging ones.

        Of all steps the one with the least cross-entropy of the judging pairs counts: a classifier that knows its own
        pairs by heart would find hardly a generated one like the online ones, be they all so. Where none is better than
        a coin, logits are 0.

        Args:
            train: generated and online pairs ``(R, n, S + A)`` that it learns.
            judge: those that it is judged by.

        Returns:
            ``(R, n)``, of the generated pairs.
        """
        network, take_step = self._fresh(train)
        best = torch.zeros(judge[0].shape[:2], device=judge[0].device)
        least = torch.full((len(best), 1), math.log(2), device=best.device)
        for step in range(1, self.settings.steps + 1):
            take_step()
            if step % self.settings.check_every == 0:
                with torch.no_grad():
                    generated, online = (network(rows)[..., 0] for rows in judge)
                loss = (functional.softplus(generated).mean(1) + functional.softplus(-online).mean(1))[:, None] / 2
                best = torch.where(loss < least, generated, best)
                least = torch.minimum(loss, least)
        return best

    def _fresh(self, train: Pairs) -> tuple[StackedMLP, Callable[[], object]]:
        """Make a classifier and what takes a step of it."""
        own = self.settings
        network = StackedMLP([self.pairs, own.width, own.width, 1], self.streams)
        optimiser = torch.optim.AdamW(network.parameters(), own.learning_rate, weight_decay=own.weight_decay)
        half = own.batch_size // 2
        truth = torch.cat([torch.zeros(half), torch.ones(half)]).to(train[0]).expand(len(self.streams), -1)

        def step() -> None:
            logits = network(torch.cat([self._drawn(rows, half) for rows in train], dim=1))[..., 0]
            loss = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
            descend(optimiser, loss.mean(1))

        return network, step

    def _drawn(self, rows: Tensor, count: int) -> Tensor:
        return rows_at(rows, self.streams.integers(rows.shape[1], count))

    def _pick(self, rows: Tensor) -> Tensor:
        return draw_different(rows, self.settings.rows, self.streams)

    def state(self) -> dict[str, Any]:
        """Return the random streams."""
        return {"streams": self.streams.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state` was taken."""
        self.streams.restore(state["streams"])


def effective_share(logits: Tensor) -> Tensor:
    """Compute n_eff / n ``(R,)`` of weights w = exp(logit) = c / (1 - c), from logits ``(R, n)``."""
    weights = (logits - logits.amax(1, keepdim=True)).exp()
    return weights.mean(1).square() / weights.square().mean(1)
