"""Columns: one column of a table <-> its dimensions, a missing dimension and then the dimensions of its components."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from cfdg_diffusion.tabular.columns.components import (
    CodecSettings,
    Component,
    Mode,
    code_words,
    learn_component,
    nearest_word,
)
from cfdg_diffusion.tabular.columns.dtypes import NO_BOUNDS, Dtype
from cfdg_diffusion.tabular.columns.families import (
    OF_LEVELS,
    Family,
    Kind,
    asked_kind,
    family_state,
    kind_of,
    learn_family,
    missing_rows,
    restore_family,
)
from cfdg_diffusion.tabular.columns.forms import DateForm, Form, learn_forms, restore_form
from cfdg_diffusion.tabular.columns.plain import plain

Role = Literal["missing", "category", "spike", "number"]


@dataclass(frozen=True)
class Column:
    """The codec of one column.

    Attributes:
        name: of the column.
        kind: of its values; "constant" takes no dimension, or one if some values are missing.
        family: reads and writes its dtype, or the one it is converted to.
        missing: ``(2, 1)`` float32 code words of present and missing; ``(1, 0)`` if all or no rows are missing.
        missing_share: share of the training rows that are missing, in [0, 1].
        components: codec of each array of ``family``.
        summary: levels or range, in words.
        forms: conversions of the user's values to those of the family, the outermost first.
    """

    name: Hashable
    kind: Kind
    family: Family
    missing: np.ndarray
    missing_share: float
    components: tuple[Component, ...]
    summary: str
    forms: tuple[Form, ...] = ()

    @property
    def dtype(self) -> Dtype:
        """Dtype of the user's column."""
        return self.forms[0].dtype if self.forms else self.family.dtype

    @property
    def writes_dates(self) -> bool:
        """True if the user's column holds texts or whole numbers, which are learnt as dates."""
        return any(isinstance(form, DateForm) for form in self.forms)

    @property
    def width(self) -> int:
        """Number of dimensions."""
        return self.missing.shape[1] + sum(component.width for component in self.components)

    def parts(self) -> Iterator[tuple[Role, str, int, np.ndarray | None]]:
        """Iterate over role, part of a date, width and code words of each block; blocks of width 0 are left out."""
        if self.missing.shape[1]:
            yield "missing", "", 1, self.missing
        parts = ("day", "second", "fraction") if len(self.components) == 3 else ("",)
        for part, component in zip(parts, self.components, strict=True):
            if component.words.shape[1]:
                yield "spike" if component.scale else "category", part, component.words.shape[1], component.words
            if component.scale:
                yield "number", part, 1, None

    def encode(self, series: pd.Series, rng: np.random.Generator) -> np.ndarray:
        """Encode a series of N rows as float32 ``(N, width)``; a missing value is 0 in all dimensions but the first.

        Raises:
            ValueError: if training had no such dtype, level or number, or no missing values.
        """
        series = self._converted(series)
        missing = missing_rows(series)
        if missing.any() and self.missing_share == 0:
            raise ValueError(f"column {self.name!r} has missing values, expected none as in training")
        if self.missing_share == 1 and not missing.all():
            raise ValueError(f"column {self.name!r} holds {series[~missing].iloc[0]}, expected nothing as in training")
        rows = np.zeros((len(series), self.width), dtype=np.float32, order="F")
        start = self.missing.shape[1]
        if start:
            rows[:, :start] = self.missing[missing.astype(np.int64)]
        present, places = (series[~missing], np.flatnonzero(~missing)) if missing.any() else (series, slice(None))
        if len(present) == 0 < len(series):  # the dtype of an empty series means nothing
            return rows
        between = any(component.scale for component in self.components)  # moments that training does not have
        for place, (component, values) in enumerate(zip(self.components, self._read(present), strict=True)):
            values = component.nearest(values) if place or between else values
            known = component.known(values)
            if not known.all():
                value = _shown(present[~known].iloc[0])
                raise ValueError(f"column {self.name!r} holds {value}, expected a value seen in training")
            rows[places, start : start + component.width] = component.encode(values, rng)
            start += component.width
        return rows

    def check_dtype(self, series: pd.Series) -> None:
        """Refuse other types of values than in training, while unknown levels and any numbers pass.

        Raises:
            ValueError: with the column's name and both dtypes.
        """
        series = self._converted(series)
        present = series[~missing_rows(series)]
        try:
            if len(present):
                self.family.check(present)
        except ValueError as error:
            raise ValueError(f"column {self.name!r} {error}") from error

    def converted(self, series: pd.Series) -> pd.Series:
        """Convert a user's values to those that are learnt, such as texts to the dates that they say.

        Raises:
            ValueError: if one is not written as in training; the caller puts a name before the message.
        """
        series = plain(series)
        for form in self.forms:
            series = form.read(series)
        return series

    def _converted(self, series: pd.Series) -> pd.Series:
        try:
            return self.converted(series)
        except ValueError as error:
            raise ValueError(f"column {self.name!r} {error}") from error

    def _read(self, present: pd.Series) -> list[np.ndarray]:
        try:
            return self.family.read(present)
        except ValueError as error:
            raise ValueError(f"column {self.name!r} {error}") from error

    def decode(self, rows: np.ndarray) -> pd.Series:
        """Decode any finite float32 ``(N, width)`` to a series."""
        start = self.missing.shape[1]
        missing = np.full(len(rows), self.missing_share == 1)
        if start:
            missing = nearest_word(rows[:, :start], self.missing) == 1
        arrays = []
        for component in self.components:
            arrays.append(component.decode(rows[:, start : start + component.width]))
            start += component.width
        series = self.family.write(arrays, missing)
        for form in reversed(self.forms):
            series = form.write(series)
        return series

    def state(self) -> dict[str, Any]:
        """Return a tree of arrays and JSON, as :meth:`restore` takes it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "family": family_state(self.family),
            "missing": self.missing,
            "missing_share": self.missing_share,
            "components": [component.state() for component in self.components],
            "summary": self.summary,
            **({"forms": [form.state() for form in self.forms]} if self.forms else {}),
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Column:
        """Rebuild what :meth:`state` was taken of."""
        fields = dict(state)
        fields["family"] = restore_family(state["family"])
        fields["forms"] = tuple(restore_form(own) for own in state.get("forms", ()))
        fields["components"] = tuple(Component.restore(own) for own in state["components"])
        return cls(**fields)


def learn_column(name: Hashable, series: pd.Series, kind: str | None, settings: CodecSettings) -> Column:
    """Learn the codec of a column of at least one row.

    Args:
        name: of the column.
        series: training rows.
        kind: one of :data:`Kind` or "datetime:FORMAT"; None decides by dtype and content.
        settings: see :class:`CodecSettings`.

    Raises:
        ValueError: if its dtype or a value is not supported, or does not fit ``kind``; the message names the column.
    """
    try:
        forms = learn_forms(series, kind)
        for form in forms:
            series = form.read(series)
        family = learn_family(series, settings.keeps_range(name) is True)
        own = kind_of(family, series)
        asked = asked_kind(kind, own, series)
        mode = "levels" if asked in OF_LEVELS else "auto" if kind is None else "numbers"
        return replace(_learn(name, series, family, asked, mode, settings=settings), forms=forms)
    except ValueError as error:
        raise ValueError(f"column {name!r} {error}") from error


def _learn(
    name: Hashable, series: pd.Series, family: Family, kind: Kind, mode: Mode, *, settings: CodecSettings
) -> Column:
    missing = missing_rows(series)
    present = series[~missing]
    share = float(missing.mean())
    arrays = [values if len(values) else np.zeros(1, dtype=values.dtype) for values in family.read(present)]
    bounds = family.bounds(arrays) if settings.keep_bounds and len(present) else [NO_BOUNDS] * len(arrays)
    keeps = settings.keeps_range(name)
    keeps = False if keeps is None and kind != "integer" else keeps
    components = tuple(
        learn_component(values, mode, family.precision, limits, settings, keep_range=keeps and place == 0)
        for place, (values, limits) in enumerate(zip(arrays, bounds, strict=True))
    )
    missing_words = code_words(np.array([1 - share, share]) if 0 < share < 1 else np.ones(1), settings)
    constant = all(component.width == 0 for component in components)
    summary = _summary(present, components, constant)
    return Column(
        name=name,
        kind="constant" if constant else kind,
        family=family,
        missing=missing_words,
        missing_share=share,
        components=components,
        summary=summary,
    )


def _summary(present: pd.Series, components: tuple[Component, ...], constant: bool) -> str:
    if not len(present):
        return "always missing"
    if constant:
        return f"always {_shown(present.iloc[0])}"
    scales = sum(component.scale is not None for component in components)
    if not scales and len(components) == 1:
        return f"{len(components[0].levels)} levels"
    spikes = sum(len(component.levels) for component in components if component.scale is not None)
    return f"{_shown(present.min())} to {_shown(present.max())}" + (
        f", {spikes} spike{'s' * (spikes > 1)}" if spikes else ""
    )


def _shown(value: Any) -> str:  # noqa: ANN401 - a cell of any kind
    """Return the text of a cell; pandas has none for a time of a zone beyond the year 9999."""
    try:
        return str(value)
    except NotImplementedError:
        return f"{value.tz_convert('UTC').tz_localize(None)} UTC"
