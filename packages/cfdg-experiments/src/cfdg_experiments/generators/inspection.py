"""Inspection of a refresh: are its rows true to the simulator, faithful to their label, and new?

Algorithm 1 fits on every real row, so none is held out. A real row without itself takes the place of a held-out row:
its distance to the nearest other real row is what a fresh draw would have, and a second draw of real rows tells how
far apart two draws are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cfdg_experiments.generators.distances import Scale, nearest_distance, sliced_wasserstein
from cfdg_experiments.generators.interface import State
from cfdg_experiments.generators.rows import draw_different
from cfdg_experiments.generators.simulated import Outcomes
from cfdg_rl.mixing import Pools
from cfdg_rl.protocols import Metrics
from cfdg_rl.ranges import PLURAL, SWITCH, check_ranges
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions

_OF_LABELS = [f"{name}_{label}" for label in ("offline", "online") for name in ("swd", "swd_real", "novelty", "copies")]
_OF_TRUTH = ["impossible", "dynamics_median", "dynamics_mean", "reward_error", "end_recall", "end_precision"]
MEASURES = tuple(f"refresh/{name}" for name in (*_OF_LABELS, *_OF_TRUTH))
_CLOSE = 0.05  # share of real rows that are as near to another one as a copy is taken to be


@dataclass(frozen=True)
class InspectionSettings:
    """Rows of a refresh that are inspected, per replica; the learner does not depend on it.

    Raises:
        ValueError: if a number is below 2.
    """

    enabled: bool = True  # inspect every refresh
    rows: int = 2_000  # generated rows of each label
    neighbours: int = 10_000  # real rows of each label among which the nearest is searched
    queries: int = 400  # rows whose nearest neighbour is searched
    projections: int = 100

    def __post_init__(self) -> None:
        check_ranges(self, enabled=SWITCH, rows=PLURAL, neighbours=PLURAL, queries=PLURAL, projections=PLURAL)


class Inspection:
    """Measures of the synthetic rings after a refresh.

    Args:
        streams: randomness of what is inspected, one stream per replica.
        outcomes: the simulator in the learner's units; None where there is none.
        settings: how many rows are inspected.
    """

    def __init__(
        self, streams: Streams, outcomes: Outcomes | None = None, settings: InspectionSettings = InspectionSettings()
    ) -> None:
        self.streams = streams
        self.outcomes = outcomes
        self.settings = settings

    def __call__(self, pools: Pools) -> Metrics:
        """Measure the synthetic rings, one value per replica ``(R,)``; NaN where there is nothing to measure.

        * ``refresh/swd_L``: sliced Wasserstein distance of the rows of label L to real ones, standardised;
          ``refresh/swd_real_L``: the same of two draws of real rows.
        * ``refresh/novelty_L``: median distance to the nearest real row, over that of real rows; 1 for a fresh draw.
        * ``refresh/copies_L``: share of rows nearer to a real row than all but 5 % of the real rows; 0.05 for a fresh
          draw.
        * with a simulator, over both labels: see :func:`truth_of`.
        """
        found = {name: torch.full((len(self.streams),), torch.nan, device=self.streams.device) for name in MEASURES}
        drawn = []
        for label, real, generated in self._labels(pools):
            if generated.shape[1] == 0 or real.shape[1] < 4:
                continue
            rows = self._pick(generated, self.settings.rows)
            drawn.append(rows)
            found |= {f"refresh/{name}_{label}": value for name, value in self.label(rows, real).items()}
        if self.outcomes is not None and drawn:
            spread = self._pick(pools.offline.view()[None], self.settings.rows).std(1, keepdim=True)
            data = pools.decode(torch.cat(drawn, dim=1))
            truth = truth_of(self.outcomes, data, pools.decode(spread).next_obs)
            found |= {f"refresh/{name}": value for name, value in truth.items()}
        return found

    def label(self, generated: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Compare generated rows ``(R, n, D)`` of one label with real ones ``(R or 1, N, D)``; each ``(R,)``."""
        near = self._pick(real, self.settings.neighbours)
        scale = Scale.of(near)
        near = scale(near)
        generated = scale(generated)
        directions = self.streams.normal(near.shape[2], self.settings.projections)
        count = min(generated.shape[1], near.shape[1] // 2)
        fresh = near[:, count : 2 * count]
        queries = min(self.settings.queries, near.shape[1])
        own = torch.arange(queries, device=near.device).expand(len(near), -1)
        usual = nearest_distance(near[:, :queries], near, own)
        distance = nearest_distance(generated[:, :queries], near)
        closest = usual.quantile(_CLOSE, dim=1, keepdim=True)
        return {
            "swd": sliced_wasserstein(generated[:, :count], fresh, directions),
            "swd_real": sliced_wasserstein(near[:, :count], fresh, directions),
            "novelty": distance.median(1).values / usual.median(1).values,
            "copies": (distance < closest).float().mean(1),
        }

    def _labels(self, pools: Pools) -> list[tuple[str, Tensor, Tensor]]:
        return [
            ("offline", pools.offline.view()[None], pools.offline_synthetic.view()),
            ("online", pools.online.view(), pools.online_synthetic.view()),
        ]

    def _pick(self, rows: Tensor, count: int) -> Tensor:
        return draw_different(rows, count, self.streams)

    def state(self) -> dict[str, Any]:
        """Return the random streams."""
        return {"streams": self.streams.state()}

    def restore(self, state: State) -> None:
        """Continue where :meth:`state` was taken."""
        self.streams.restore(state["streams"])


def truth_of(outcomes: Outcomes, data: Transitions, spread: Tensor) -> dict[str, Tensor]:
    """Compare transitions ``(R, n)`` with the simulator's outcomes of their (s, a); each ``(R,)``.

    States that are impossible, or that the observation does not hold whole, have no outcome to compare with.

    Args:
        outcomes: the simulator in the learner's units.
        data: generated transitions.
        spread: ``(R, 1, S)`` standard deviations of real next observations.

    Returns:
        ``impossible``, the share of impossible s; ``dynamics_median`` and ``dynamics_mean`` of the standardised squared
        error of s'; ``reward_error``, the median absolute error in the environment's units; ``end_recall`` and
        ``end_precision`` of the terminals, NaN without a true or without a marked one.
    """
    true = outcomes(data.obs, data.action)
    impossible = outcomes.is_impossible(data.obs)
    unknown = impossible | outcomes.hides(data.obs) | ~true.reward.isfinite()
    spread = torch.where(spread > 1e-6, spread, 1.0)
    dynamics = ((data.next_obs - true.next_obs) / spread).square().mean(-1).masked_fill(unknown, torch.nan)
    reward = ((data.reward - true.reward) / outcomes.reward.scale).abs().masked_fill(unknown, torch.nan)
    ends = (true.terminal > 0.5) & ~unknown
    marked = (data.terminal > 0.5) & ~unknown
    hits = (ends & marked).sum(1).float()
    return {
        "impossible": impossible.float().mean(1),
        "dynamics_median": dynamics.nanmedian(1).values,
        "dynamics_mean": dynamics.nanmean(1),
        "reward_error": reward.nanmedian(1).values,
        "end_recall": hits / ends.sum(1),
        "end_precision": hits / marked.sum(1),
    }
