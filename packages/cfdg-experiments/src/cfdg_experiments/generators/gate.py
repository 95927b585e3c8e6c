"""Quality gate of a refresh: held-out real rows decide whether the generated rows of a label are used.

Rule: the generated (s, a) of a label may lie at most ``distance`` times as far from held-out rows as fitted real rows
do, and given the (s, a) of held-out rows the generator's (r, s') may err at most ``error`` times as much as least
squares. Where either fails, real rows of the label take the places of generated ones until the next refresh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cfdg_diffusion.edm.losses import DivergenceError
from cfdg_experiments.generators.distances import Scale, sliced_wasserstein
from cfdg_experiments.generators.fitted import select_label
from cfdg_experiments.generators.interface import ResumableGenerator, State
from cfdg_experiments.generators.least_squares import least_squares
from cfdg_experiments.generators.rows import StoredRows, counted, draw_different
from cfdg_rl.finetune import fit_generator, in_range, joint_bounds
from cfdg_rl.mixing import OFFLINE, ONLINE, Pools
from cfdg_rl.protocols import Parts, PartsGenerator
from cfdg_rl.ranges import COUNT, PLURAL, POSITIVE, check_ranges
from cfdg_rl.streams import Streams

LABELS = {"offline": OFFLINE, "online": ONLINE}
_FEWEST_ROWS = 2  # of each kind; fewer are not judged, and pass
_SMALLEST_ERROR = 0.01  # of a column's variance: a smaller error of least squares counts as this much

Complete = Callable[[Tensor, Tensor, int], Tensor | None]
Stored = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GateSettings:
    """Rows and limits of the gate.

    Raises:
        ValueError: if a number is out of its range.
    """

    held_out_every: int = 10  # one real row in so many is kept from the generator
    rows: int = 2_000  # of each label and kind that are compared, at most
    completed: int = 500  # held-out rows of each label whose (r, s') the generator predicts, at most
    projections: int = 100  # of the sliced Wasserstein distance
    distance: float = 2.0  # largest distance of (s, a), in that of fitted real rows
    error: float = 1.0  # largest squared error of (r, s') on held-out rows, in that of least squares

    def __post_init__(self) -> None:
        check_ranges(self, held_out_every=PLURAL, rows=PLURAL, completed=PLURAL)
        check_ranges(self, projections=COUNT, distance=POSITIVE, error=POSITIVE)


class HoldingOut:
    """A generator that never sees the rows which judge it, and whose failures do not end a run.

    A fit that diverges, and a label without a single row inside the data's range, are noted in ``failed``; real rows
    stand in for what it would have generated.

    Args:
        generator: fits the other rows.
        every: one row in so many of each label is held out.
        margin: rows further outside the data's range than this share of it are unusable.
        streams: randomness of the rows that stand in.
        stored: makes generated rows what the buffers will hold, see :func:`cfdg_rl.finetune.storable`.

    Attributes:
        failed: ``(R, 2)`` booleans of the latest refresh, by label.
    """

    def __init__(
        self, generator: ResumableGenerator, every: int, margin: float, streams: Streams, stored: Stored
    ) -> None:
        self.generator = generator
        self.every = every
        self.margin = margin
        self.streams = streams
        self.stored = stored
        self.failed = torch.zeros(len(streams), len(LABELS), dtype=torch.bool, device=streams.device)
        self._diverged = False
        self._initial = generator.state()

    def fit(self, rows: Tensor, labels: Tensor) -> object:
        """Fit on those of the rows ``(R, N, D)`` with labels ``(R, N)`` that are not held out."""
        return self.fit_parts([(select_label(rows, labels, label), label) for label in labels.unique().tolist()])

    def fit_parts(self, parts: Parts) -> object:
        """Fit on those of the rows of parts that are not held out.

        A generator that takes parts in any order gets views of them, others copies. The rows have to stay as they are
        until the last sample.
        """
        if self._diverged:
            self.generator.restore(self._initial)
        self.real = StoredRows(parts, len(self.streams))
        self.range = joint_bounds(parts, self.margin)
        any_order = isinstance(self.generator, PartsGenerator) and not getattr(self.generator, "needs_order", False)
        try:
            report = fit_generator(self.generator, (seen_views if any_order else seen_rows)(parts, self.every))
        except DivergenceError as error:
            self._diverged = True
            return error
        self._diverged = False
        return report

    def sample(self, labels: Tensor) -> Tensor:
        """Generate one row ``(R, n, D)`` for each label ``(R, n)``; real rows where the generator failed."""
        real = self.real.draw(labels, self.streams)
        rows = real if self._diverged else self.generator.sample(labels)
        usable = in_range(rows, self.stored(rows), *self.range)
        self.failed.fill_(self._diverged)
        for label in LABELS.values():
            here = labels == label
            self.failed[:, label] |= here.any(1) & ~(usable & here).any(1)
        return torch.where(self.failed.gather(1, labels)[..., None], real, rows)

    def complete(self, rows: Tensor, labels: Tensor, known: int) -> Tensor | None:
        """Predict the other columns of rows ``(R, n, D)`` of labels ``(R, n)`` from the first ``known`` ones.

        Returns:
            Rows ``(R, n, D)``; None for a generator that cannot do so, or whose fit diverged.
        """
        complete = getattr(self.generator, "complete", None)
        return None if complete is None or self._diverged else complete(rows, labels, known)

    def network_calls(self, rows: int) -> float:
        """Count the generator's network calls for so many rows."""
        return self.generator.network_calls(rows)

    def state(self) -> dict[str, Any]:
        """Return the generator's state, the streams, and whether the latest fit diverged."""
        own = {"generator": self.generator.state(), "initial": self._initial, "diverged": self._diverged}
        return own | {"streams": self.streams.state()}

    def restore(self, state: State) -> None:
        """Continue where :meth:`state` was taken; a fit comes first."""
        self.generator.restore(state["generator"])
        self._initial = dict(state["initial"])
        self._diverged = bool(state["diverged"])
        self.streams.restore(state["streams"])


class Gate:
    """Judge of the synthetic buffers after a refresh.

    Args:
        obs_dim: S.
        action_dim: A.
        streams: randomness of what is compared, one stream per replica.
        settings: rows and limits.
    """

    def __init__(
        self, obs_dim: int, action_dim: int, streams: Streams, settings: GateSettings = GateSettings()
    ) -> None:
        self.pairs = obs_dim + action_dim
        self.streams = streams
        self.settings = settings

    def __call__(self, pools: Pools, failed: Tensor, complete: Complete) -> tuple[Tensor, dict[str, Tensor]]:
        """Judge each label of each replica.

        Args:
            pools: the buffers, filled by a generator that was fitted without the held-out rows.
            failed: ``(R, 2)`` labels that have no generated rows, see :class:`HoldingOut`.
            complete: predicts (r, s', d) of rows from their (s, a), see :meth:`HoldingOut.complete`.

        Returns:
            ``(R, 2)`` booleans, True where the generated rows of a label are used, and metrics ``(R,)``:
            ``refresh/gate_distance_L``, in that of fitted real rows, and ``refresh/gate_error_L``, in that of least
            squares; NaN where a label is not generated, has too few rows to judge it, or nothing can be predicted.
        """
        passes = ~failed
        found = {}
        generated = (pools.offline_synthetic.view(), pools.online_synthetic.view())
        real = (pools.offline.view()[None], pools.online.view())
        for name, label in LABELS.items():
            ratios = self.ratios(generated[label], real[label], partial(self._completed, complete, label))
            for limit, ratio in zip((self.settings.distance, self.settings.error), ratios, strict=True):
                passes[:, label] &= ~(ratio > limit)  # NaN passes: there was nothing to judge
            found |= {f"refresh/gate_distance_{name}": ratios[0], f"refresh/gate_error_{name}": ratios[1]}
        return passes, found

    def ratios(
        self, generated: Tensor, real: Tensor, complete: Callable[[Tensor], Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """Compare generated ``(R, n, D)`` with real rows ``(R or 1, N, D)`` of a label: distance, error ``(R,)``."""
        out = is_held_out(real.shape[1], self.settings.held_out_every, real.device)
        held_out = self._pick(real, out.nonzero()[:, 0])
        fitted = self._pick(real, (~out).nonzero()[:, 0])
        generated = self._pick(generated)
        if min(part.shape[1] for part in (held_out, fitted, generated)) < _FEWEST_ROWS:
            nothing = torch.full((len(self.streams),), torch.nan, device=real.device)
            return nothing, nothing
        asked = held_out[:, : self.settings.completed]
        predicted = complete(asked)
        scale = Scale.of(fitted)
        generated, fitted, held_out = (scale(rows) for rows in (generated, fitted, held_out))
        error = torch.full((len(fitted),), torch.nan, device=real.device)
        if predicted is not None:
            error = self._error(scale(predicted), fitted, scale(asked))
        return self._distance(generated, fitted, held_out), error

    def _completed(self, complete: Complete, label: int, rows: Tensor) -> Tensor | None:
        labels = torch.full(rows.shape[:2], label, device=rows.device)
        return complete(rows, labels, self.pairs)

    def _distance(self, generated: Tensor, fitted: Tensor, held_out: Tensor) -> Tensor:
        count = min(part.shape[1] for part in (generated, fitted, held_out))
        directions = self.streams.normal(self.pairs, self.settings.projections)
        parts = [part[:, :count, : self.pairs] for part in (generated, fitted, held_out)]
        return sliced_wasserstein(parts[0], parts[2], directions) / sliced_wasserstein(parts[1], parts[2], directions)

    def _error(self, predicted: Tensor, fitted: Tensor, held_out: Tensor) -> Tensor:
        """Mean squared error of standardised (r, s') on held-out rows, over that of least squares; ``(R,)``."""
        outcomes = slice(self.pairs, -1)
        found = []
        for made, known, truth in zip(predicted, fitted, held_out, strict=True):
            even = torch.full((len(known),), 1 / len(known), device=known.device)
            slope, mean, _ = least_squares(known[:, : self.pairs], known[:, outcomes], even)
            linear = mean + truth[:, : self.pairs] @ slope
            errors = [(guess - truth[:, outcomes]).square().mean() for guess in (made[:, outcomes], linear)]
            found.append(errors[0] / errors[1].clamp(min=_SMALLEST_ERROR))
        return torch.stack(found)

    def _pick(self, rows: Tensor, places: Tensor | None = None) -> Tensor:
        return draw_different(rows, self.settings.rows, self.streams, places)

    def state(self) -> dict[str, Any]:
        """Return the random streams."""
        return {"streams": self.streams.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state` was taken."""
        self.streams.restore(state["streams"])


def is_held_out(rows: int, every: int, device: torch.device) -> Tensor:
    """Mark the last of every ``every`` rows of a label, in the order of its buffer: ``(N,)`` booleans."""
    return torch.arange(rows, device=device) % every == every - 1


def seen_rows(parts: Parts, every: int) -> list[tuple[Tensor, int]]:
    """Copy the rows of parts that are not held out, in their order; a label's parts are counted together."""
    return [
        (rows[..., ~is_held_out(before + rows.shape[-2], every, rows.device)[before:], :], label)
        for rows, label, before in counted(parts)
    ]


def seen_views(parts: Parts, every: int) -> list[tuple[Tensor, int]]:
    """Make views of the rows that :func:`seen_rows` copies: the first of every few, the second, and so on."""
    found = []
    for rows, label, before in counted(parts):
        held_out = (-1 - before) % every
        views = [rows[..., first::every, :] for first in range(every) if first != held_out]
        found += [(view, label) for view in views if view.shape[-2]]
    return found
