"""PGR, prioritised generative replay (Wang et al. 2025): rows of high relevance, through classifier-free guidance.

The relevance of a row is cut into classes of equal size, which are the labels of the diffusion model; rows are
generated under the labels of the highest relevance. The published code conditions on the number itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from cfdg_diffusion import DiffusionSettings
from cfdg_experiments.generators.fitted import Fitted, Model, select_label
from cfdg_experiments.generators.interface import State
from cfdg_experiments.generators.schedule import Schedule
from cfdg_rl.finetune import join
from cfdg_rl.mixing import ONLINE
from cfdg_rl.protocols import Parts
from cfdg_rl.ranges import PLURAL, POSITIVE_SHARE, check_ranges
from cfdg_rl.streams import Streams


class Relevance(Protocol):
    """A measure of how much a row is worth replaying; :class:`Curiosity` is one, a TD error another."""

    def fit(self, rows: Tensor) -> None:
        """Learn from rows ``(R, N, D)``, where there is something to learn."""
        ...

    def relevance(self, rows: Tensor) -> Tensor:
        """Measure rows ``(R, N, D)``: ``(R, N)``, higher is more relevant."""
        ...

    def state(self) -> dict[str, Any]:
        """Return everything that changes."""
        ...

    def restore(self, state: State) -> None:
        """Continue where :meth:`state` was taken."""
        ...


@dataclass(frozen=True)
class PgrSettings:
    """Settings of PGR beside those of its model.

    Raises:
        ValueError: if a value is unknown or outside its range.
    """

    source: Literal["online", "merged"] = "online"  # rows of the model; PGR is an online method
    classes: int = 8  # of equal size, by relevance
    top_fraction: float = 0.25  # rows are generated under the classes of the highest relevance; PGR

    def __post_init__(self) -> None:
        if self.source not in ("online", "merged"):
            raise ValueError(f"source is {self.source!r}, expected one of online, merged")
        check_ranges(self, classes=PLURAL, top_fraction=POSITIVE_SHARE)

    @property
    def top_classes(self) -> int:
        """Number of classes that rows are generated under."""
        return max(1, round(self.classes * self.top_fraction))


def pgr_diffusion(settings: DiffusionSettings) -> DiffusionSettings:
    """Set PGR's guidance: p_uncond 0.25, and a scale of 2, which is 1 + w of equation 7."""
    return replace(settings, p_uncond=0.25, guidance_weight=1.0)


class Pgr:
    """A model of labelled relevance.

    Args:
        model: a model with ``settings.classes`` labels; see :func:`pgr_diffusion` for its guidance.
        schedule: gradient steps of the model at a fit.
        relevance: measures the rows.
        streams: randomness of the classes that rows are generated under, one stream per replica.
        settings: classes and what is generated.
    """

    def __init__(
        self,
        model: Model,
        schedule: Schedule,
        relevance: Relevance,
        streams: Streams,
        settings: PgrSettings = PgrSettings(),
    ) -> None:
        self.fitted = Fitted(model, schedule)
        self.relevance = relevance
        self.streams = streams
        self.settings = settings
        self._measured = 0  # rows of the latest fit

    def fit(self, rows: Tensor, labels: Tensor) -> object:
        """Measure the relevance of rows ``(R, N, D)`` with labels ``(R, N)``, and train the model; return its report.

        Raises:
            ValueError: if there are fewer rows than classes.
        """
        return self._fit(rows if self.settings.source == "merged" else select_label(rows, labels, ONLINE))

    def fit_parts(self, parts: Parts) -> object:
        """Fit as :meth:`fit` does; offline rows that the settings leave out are not touched."""
        merged = self.settings.source == "merged"
        return self._fit(join([part for part in parts if merged or part[1] == ONLINE])[0])

    def _fit(self, own: Tensor) -> object:
        self._measured = own.shape[1]
        self.relevance.fit(own)
        return self.fitted.fit(own, quantile_classes(self.relevance.relevance(own), self.settings.classes))

    def sample(self, labels: Tensor) -> Tensor:
        """Generate ``(R, n, D)`` rows of high relevance, whatever the labels ``(R, n)`` are."""
        below = self.streams.integers(self.settings.top_classes, labels.shape[1])
        return self.fitted.sample(self.settings.classes - 1 - below)

    def network_calls(self, rows: int) -> float:
        """Count the model's network calls for so many rows, and one for each row whose relevance was measured."""
        return self.fitted.network_calls(rows) + self._measured

    def state(self) -> dict[str, Any]:
        """Return the model, the relevance and the random streams."""
        return {
            "fitted": self.fitted.state(),
            "relevance": self.relevance.state(),
            "streams": self.streams.state(),
        }

    def restore(self, state: State) -> None:
        """Continue where :meth:`state` was taken."""
        self.fitted.restore(state["fitted"])
        self.relevance.restore(state["relevance"])
        self.streams.restore(state["streams"])


def quantile_classes(values: Tensor, classes: int) -> Tensor:
    """Cut values ``(R, N)`` into classes of equal size, 0 for the lowest: ``(R, N)`` integers.

    Raises:
        ValueError: if there are fewer values than classes.
    """
    count = values.shape[1]
    if count < classes:
        raise ValueError(f"there are {count} rows for {classes} classes, expected at least one of each")
    ranks = values.argsort(dim=1, stable=True).argsort(dim=1)
    return torch.div(ranks * classes, count, rounding_mode="floor")
