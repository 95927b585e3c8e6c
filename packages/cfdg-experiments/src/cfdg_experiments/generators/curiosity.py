"""Curiosity as relevance: the error of a small forward model, high where a transition is new or hard to foresee."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cfdg_experiments.generators.distances import Scale
from cfdg_experiments.generators.interface import State
from cfdg_experiments.generators.rows import rows_at
from cfdg_rl.agents.networks import StackedMLP, adam, descend
from cfdg_rl.ranges import COUNT, POSITIVE, WIDTH, check_ranges
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import from_rows


@dataclass(frozen=True)
class CuriositySettings:
    """Network and training of the forward model.

    Raises:
        ValueError: if a number is not positive.
    """

    width: int = 128
    steps: int = 500  # gradient steps at each fit
    batch_size: int = 256
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_ranges(self, width=WIDTH, steps=COUNT, batch_size=COUNT, learning_rate=POSITIVE)


class Curiosity:
    """A forward model (s, a) -> s' - s of each replica, and its squared error as relevance.

    Its weights persist from fit to fit; PGR (Wang et al. 2025) measures the error in the features of an intrinsic
    curiosity module instead, which were made for pictures.

    Args:
        obs_dim: S.
        action_dim: A.
        seeds: one per replica.
        settings: network and training.
        device: where everything lives.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        seeds: tuple[int, ...],
        settings: CuriositySettings = CuriositySettings(),
        device: str | torch.device = "cpu",
    ) -> None:
        self.dims = (obs_dim, action_dim)
        self.settings = settings
        self.streams = Streams(seeds, "curiosity batches", device)
        sizes = [obs_dim + action_dim, settings.width, settings.width, obs_dim]
        self.network = StackedMLP(sizes, Streams(seeds, "curiosity weights", device))
        self._adam = adam(list(self.network.parameters()), settings.learning_rate)

    def fit(self, rows: Tensor) -> None:
        """Train on rows ``(R, N, D)``, standardised by themselves."""
        known, change = self._columns(rows)
        for _ in range(self.settings.steps):
            index = self.streams.integers(rows.shape[1], self.settings.batch_size)
            error = self._errors(rows_at(known, index), rows_at(change, index)).mean(1)
            descend(self._adam, error)

    @torch.no_grad()
    def relevance(self, rows: Tensor) -> Tensor:
        """Compute the mean squared error ``(R, N)`` of each of the rows ``(R, N, D)``, in standardised columns."""
        return self._errors(*self._columns(rows))

    def _columns(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        data = from_rows(rows, *self.dims)
        known = torch.cat([data.obs, data.action], dim=-1)
        change = data.next_obs - data.obs
        return Scale.of(known)(known), Scale.of(change)(change)

    def _errors(self, known: Tensor, change: Tensor) -> Tensor:
        return (self.network(known) - change).square().mean(-1)

    def state(self) -> dict[str, Any]:
        """Return weights, moments and random streams."""
        weights = {name: weight.detach().clone() for name, weight in self.network.state_dict().items()}
        return {"weights": weights, "adam": self._adam.state_dict(), "streams": self.streams.state()}

    def restore(self, state: State) -> None:
        """Continue where :meth:`state` was taken."""
        self.network.load_state_dict(dict(state["weights"]))
        self._adam.load_state_dict(state["adam"])
        self.streams.restore(state["streams"])
