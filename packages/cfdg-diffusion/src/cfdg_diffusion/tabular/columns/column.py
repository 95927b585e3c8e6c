"""Columns: one column of a table <-> its dimensions, a missing dimension and then the dimensions of its components."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from cfdg_diffusion.tabular.columns.categories import Levels, learn_levels
from cfdg_diffusion.tabular.columns.components import (
    CodecSettings,
    Component,
    Mode,
    code_words,
    learn_component,
    nearest_word,
)
from cfdg_diffusion.tabular.columns.dtypes import (
    NO_BOUNDS,
    Numbers,
    Times,
    dtype_state,
    dtype_unit,
    known_by_name,
    learn_times,
    restore_dtype,
)

Family = Numbers | Times | Levels
Kind = Literal["number", "integer", "category", "boolean", "datetime", "timedelta", "constant"]
Role = Literal["missing", "category", "spike", "number"]

_MASKED = {"boolean", "Float32", "Float64", *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))}
_UNITS = ("s", "ms", "us", "ns")


@dataclass(frozen=True)
class Column:
    """The codec of one column.

    Attributes:
        name: of the column.
        kind: of its values; "constant" takes no dimension, or one if some values are missing.
        family: reads and writes its dtype.
        missing: ``(2, 1)`` float32 code words of present and missing; ``(1, 0)`` if all or no rows are missing.
        missing_share: share of the training rows that are missing, in [0, 1].
        components: codec of each array of ``family``.
        summary: levels or range, in words.
    """

    name: Hashable
    kind: Kind
    family: Family
    missing: np.ndarray
    missing_share: float
    components: tuple[Component, ...]
    summary: str

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
        missing = _missing(series)
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
        for component, values in zip(self.components, self._read(present), strict=True):
            known = component.known(values)
            if not known.all():
                value = present[~known].iloc[0]
                raise ValueError(f"column {self.name!r} holds {value}, expected a value seen in training")
            rows[places, start : start + component.width] = component.encode(values, rng)
            start += component.width
        return rows

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
        return self.family.write(arrays, missing)

    def state(self) -> dict[str, Any]:
        """Return a tree of arrays and JSON, as :meth:`restore` takes it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "family": _family_state(self.family),
            "missing": self.missing,
            "missing_share": self.missing_share,
            "components": [component.state() for component in self.components],
            "summary": self.summary,
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Column:
        """Rebuild what :meth:`state` was taken of."""
        fields = dict(state)
        fields["family"] = _restore_family(state["family"])
        fields["components"] = tuple(Component.restore(own) for own in state["components"])
        return cls(**fields)


def learn_column(name: Hashable, series: pd.Series, kind: Kind | None, settings: CodecSettings) -> Column:
    """Learn the codec of a column of at least one row.

    Args:
        name: of the column.
        series: training rows.
        kind: how to read the column; None decides by dtype and content.
        settings: see :class:`CodecSettings`.

    Raises:
        ValueError: if its dtype or a value is not supported, or does not fit ``kind``; the message names the column.
    """
    try:
        family = _learn_family(series)
        own = _kind(family, series)
        if kind is not None and kind not in _choices(own):
            raise ValueError(f"cannot be read as {kind!r}, expected {' or '.join(_choices(own))} for {series.dtype}")
        mode = "levels" if (kind or own) in ("category", "boolean") else "auto" if kind is None else "numbers"
        return _learn(name, series, family, kind or own, mode, settings=settings)
    except ValueError as error:
        raise ValueError(f"column {name!r} {error}") from error


def _learn(
    name: Hashable, series: pd.Series, family: Family, kind: Kind, mode: Mode, *, settings: CodecSettings
) -> Column:
    missing = _missing(series)
    present = series[~missing]
    share = float(missing.mean())
    arrays = [values if len(values) else np.zeros(1, dtype=values.dtype) for values in family.read(present)]
    bounds = family.bounds(arrays) if settings.keep_bounds and len(present) else [NO_BOUNDS] * len(arrays)
    components = tuple(
        learn_component(values, mode, family.precision, limits, settings)
        for values, limits in zip(arrays, bounds, strict=True)
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


def _learn_family(series: pd.Series) -> Family:
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype | pd.StringDtype) or pd.api.types.is_object_dtype(dtype):
        return learn_levels(series)
    if str(dtype) in _MASKED or (isinstance(dtype, np.dtype) and dtype.kind in "biuf" and dtype.itemsize <= 8):
        return Numbers(dtype)
    if isinstance(dtype, np.dtype | pd.DatetimeTZDtype) and dtype.kind in "mM" and dtype_unit(dtype) in _UNITS:
        if not known_by_name(dtype):
            raise ValueError(f"has dtype {dtype}, expected a time zone known by its name such as Europe/Paris")
        return learn_times(series)
    raise ValueError(f"has dtype {dtype}, expected numbers, booleans, text, categories, dates or durations")


def _kind(family: Family, series: pd.Series) -> Kind:
    """Decide the kind by the dtype; floats without decimals are integers."""
    if isinstance(family, Levels):
        return "category"
    if isinstance(family, Times):
        return "datetime" if family.dtype.kind == "M" else "timedelta"
    if family.precision.kind == "b":
        return "boolean"
    values = series[~_missing(series)].to_numpy(dtype=np.float64)
    return "integer" if family.precision.kind in "iu" or (values == np.rint(values)).all() else "number"


def _choices(own: Kind) -> tuple[str, ...]:
    """List the kinds that a column of a kind can be read as."""
    choices = {"number": ("number", "category"), "integer": ("integer", "number", "category")}
    return {**choices, "boolean": ("boolean", "category")}.get(own, (own,))


def _missing(series: pd.Series) -> np.ndarray:
    """Find missing rows, bool ``(N,)``, including NaN inside a nullable float column."""
    missing = series.isna().to_numpy()
    if str(series.dtype) in _MASKED and series.dtype.kind == "f":
        missing = missing | np.isnan(series.to_numpy(dtype=np.float64, na_value=np.nan))
    return missing


def _summary(present: pd.Series, components: tuple[Component, ...], constant: bool) -> str:
    if not len(present):
        return "always missing"
    if constant:
        return f"always {present.iloc[0]}"
    scales = sum(component.scale is not None for component in components)
    if not scales and len(components) == 1:
        return f"{len(components[0].levels)} levels"
    spikes = sum(len(component.levels) for component in components if component.scale is not None)
    return f"{present.min()} to {present.max()}" + (f", {spikes} spike{'s' * (spikes > 1)}" if spikes else "")


def _family_state(family: Family) -> dict[str, Any]:
    if isinstance(family, Levels):
        return {"type": "levels", **family.state()}
    if isinstance(family, Times):
        return {"type": "times", "dtype": dtype_state(family.dtype), "offset": family.offset}
    return {"type": "numbers", "dtype": dtype_state(family.dtype)}


def _restore_family(state: Mapping[str, Any]) -> Family:
    if state["type"] == "levels":
        return Levels.restore(state)
    dtype = restore_dtype(state["dtype"])
    return Times(dtype, state["offset"]) if state["type"] == "times" else Numbers(dtype)
