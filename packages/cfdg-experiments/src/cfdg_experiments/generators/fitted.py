"""Learnt models as generators: their schedule of training, and on which labels they are fitted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings
from cfdg_diffusion.edm.parts import Part
from cfdg_experiments.generators.calls import calls_per_row
from cfdg_experiments.generators.interface import ResumableGenerator, State
from cfdg_experiments.generators.schedule import Schedule
from cfdg_experiments.generators.split import Split
from cfdg_rl.finetune import fit_generator, join
from cfdg_rl.protocols import Parts


class Model(Protocol):
    """The methods of a model that a fitted generator calls; :class:`cfdg_diffusion.ConditionalDiffusion` is one."""

    def fit(self, rows: Tensor, labels: Tensor, *, steps: int | None = None) -> object:
        """Train for some gradient steps on rows ``(R, N, D)`` with labels ``(R, N)``."""
        ...

    def sample(self, labels: Tensor) -> Tensor:
        """Generate one row ``(R, n, D)`` per label ``(R, n)``."""
        ...

    def reset(self) -> None:
        """Forget all that was learnt."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that changes."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state."""
        ...


def unconditional(settings: DiffusionSettings) -> DiffusionSettings:
    """Set a model of one label to waste nothing on guidance: no label is dropped in training, w is 0."""
    return replace(settings, p_uncond=0.0, guidance_weight=0.0)


class Fitted:
    """A model trained on all rows at every refresh, by a schedule.

    Args:
        model: learns and samples.
        schedule: gradient steps of each fit.
        start: state of the model after an offline fit, which the first refresh continues; None without one.

    Attributes:
        fits: refreshes so far.
    """

    def __init__(self, model: Model, schedule: Schedule, start: State | None = None) -> None:
        self.model = model
        self.schedule = schedule
        self.fits = 0
        if start is not None:
            model.load_state_dict(start)

    def fit(self, rows: Tensor, labels: Tensor) -> object:
        """Train on rows ``(R, N, D)`` with labels ``(R, N)``; return the model's report."""
        return self.model.fit(rows, labels, steps=self._begin())

    def fit_parts(self, parts: Parts) -> object:
        """Train on parts, without a copy where the model takes them; return the model's report."""
        if isinstance(self.model, ConditionalDiffusion) and not self.model.settings.gaussian_rows:
            return self.model.fit([Part(rows, label) for rows, label in parts], steps=self._begin())
        if isinstance(self.model, Split):
            return self.model.fit_parts(parts, steps=self._begin())
        return self.fit(*join(parts))

    def _begin(self) -> int:
        """Count a fit, forget the last one if the schedule says so, and return the gradient steps."""
        if self.fits and not self.schedule.warm_start:
            self.model.reset()
        self.fits += 1
        return self.schedule.steps_at(self.fits)

    def sample(self, labels: Tensor) -> Tensor:
        """Generate one row ``(R, n, D)`` per label ``(R, n)``."""
        return self.model.sample(labels)

    def complete(self, rows: Tensor, labels: Tensor, known: int) -> Tensor | None:
        """Predict the other columns of rows ``(R, n, D)`` of labels ``(R, n)`` from the first ``known`` ones.

        Returns:
            Rows ``(R, n, D)``; None for a model that cannot do so.
        """
        if isinstance(self.model, ConditionalDiffusion):
            blank = rows.clone()
            blank[..., known:] = math.nan
            return self.model.sample(labels, known=blank)
        return self.model.complete(rows, known) if isinstance(self.model, Split) else None

    def network_calls(self, rows: int) -> float:
        """Count the rows that go through a network to sample so many; NaN for a model that does not tell."""
        own = getattr(self.model, "network_calls", None)
        if own is not None:
            return float(own(rows))
        settings = getattr(self.model, "settings", None)
        return rows * calls_per_row(settings) if isinstance(settings, DiffusionSettings) else math.nan

    def state(self) -> dict[str, Any]:
        """Return the model's state and the number of fits."""
        return {"model": self.model.state_dict(), "fits": self.fits}

    def restore(self, state: State) -> None:
        """Continue where :meth:`state` was taken."""
        self.model.load_state_dict(state["model"])
        self.fits = int(state["fits"])


class Unlabelled:
    """A generator without labels: SynthER's on the rows of the online label, or the unconditional model of the union.

    A batch of a fit on all rows holds them as often as they occur; nothing makes up for few online rows.

    Args:
        generator: sees one label, 0.
        only: the label of the rows that it is fitted on; None for all rows.
    """

    def __init__(self, generator: ResumableGenerator, *, only: int | None = None) -> None:
        self.generator = generator
        self.only = only

    def fit(self, rows: Tensor, labels: Tensor) -> object:
        """Fit on rows ``(R, N, D)``, or on those of them whose label ``(R, N)`` is the one.

        Raises:
            ValueError: if the label has no rows, or not equally many in every replica.
        """
        own = rows if self.only is None else select_label(rows, labels, self.only)
        return self.generator.fit(own, _one_label(own[..., 0]))

    def fit_parts(self, parts: Parts) -> object:
        """Fit on all parts, or on those of the label."""
        return fit_generator(self.generator, [(rows, 0) for rows, label in parts if self.only in (None, label)])

    def sample(self, labels: Tensor) -> Tensor:
        """Generate ``(R, n, D)`` rows, whatever the labels ``(R, n)`` are."""
        return self.generator.sample(torch.zeros_like(labels))

    def complete(self, rows: Tensor, labels: Tensor, known: int) -> Tensor | None:
        """Predict as the generator does, whatever the labels are; None if it cannot."""
        complete = getattr(self.generator, "complete", None)
        return None if complete is None else complete(rows, torch.zeros_like(labels), known)

    def network_calls(self, rows: int) -> float:
        """Count the generator's network calls for so many rows."""
        return self.generator.network_calls(rows)

    def state(self) -> dict[str, Any]:
        """Return the generator's state."""
        return self.generator.state()

    def restore(self, state: State) -> None:
        """Restore the generator's state."""
        self.generator.restore(state)


class SeparateModels:
    """One generator without labels for each label, which share nothing.

    Args:
        generators: of label 0, 1 and so on; each sees one label, 0.
    """

    def __init__(self, generators: Sequence[ResumableGenerator]) -> None:
        self.generators = tuple(generators)

    def fit(self, rows: Tensor, labels: Tensor) -> list[object]:
        """Fit each generator on its label's rows of ``(R, N, D)``; return what they return.

        Raises:
            ValueError: if a label has no rows, or not equally many in every replica.
        """
        reports = []
        for label, generator in enumerate(self.generators):
            own = select_label(rows, labels, label)
            reports.append(generator.fit(own, _one_label(own[..., 0])))
        return reports

    def fit_parts(self, parts: Parts) -> list[object]:
        """Fit each generator on the parts of its label; return what they return."""
        own = [[(rows, 0) for rows, found in parts if found == label] for label in range(len(self.generators))]
        return [fit_generator(generator, mine) for generator, mine in zip(self.generators, own, strict=True)]

    def sample(self, labels: Tensor) -> Tensor:
        """Generate one row ``(R, n, D)`` per label ``(R, n)``, each by its label's generator.

        Raises:
            ValueError: if there is no generator of a label.
        """
        if int(labels.max()) >= len(self.generators):
            raise ValueError(f"label is {int(labels.max())}, expected 0 to {len(self.generators) - 1}")
        parts = []
        for label, generator in enumerate(self.generators):
            places = (labels == label).any(0).nonzero()[:, 0]
            if len(places):
                parts.append((label, places, generator.sample(torch.zeros_like(labels[:, places]))))
        rows = parts[0][2].new_zeros(*labels.shape, parts[0][2].shape[-1])
        for label, places, drawn in parts:
            own = (labels[:, places] == label)[..., None]
            rows[:, places] = torch.where(own, drawn, rows[:, places])
        return rows

    def network_calls(self, rows: int) -> float:
        """Count the network calls for so many rows, whatever their labels."""
        return self.generators[0].network_calls(rows)

    def state(self) -> dict[str, Any]:
        """Return the state of each generator."""
        return {"generators": [generator.state() for generator in self.generators]}

    def restore(self, state: State) -> None:
        """Restore the state of each generator."""
        for generator, own in zip(self.generators, state["generators"], strict=True):
            generator.restore(own)


def select_label(rows: Tensor, labels: Tensor, label: int) -> Tensor:
    """Take the rows ``(R, n, D)`` of ``(R, N, D)`` whose label ``(R, N)`` is the one, in their order.

    Raises:
        ValueError: if there are none, or not equally many in every replica.
    """
    own = labels == label
    counts = own.sum(1)
    if int(counts.min()) != int(counts.max()) or not int(counts.max()):
        found = sorted(set(counts.tolist()))
        raise ValueError(f"label {label} has {found} rows per replica, expected one number of at least 1")
    return rows[own].unflatten(0, (len(rows), -1))


def _one_label(like: Tensor) -> Tensor:
    return torch.zeros_like(like, dtype=torch.long)
