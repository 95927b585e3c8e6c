"""The front door: :func:`report` measures, :class:`Report` keeps the numbers and shows them."""

from __future__ import annotations

import os
from collections.abc import Hashable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.quality.detection import FOLDS, Detection, detection
from cfdg_diffusion.quality.privacy import Privacy, privacy
from cfdg_diffusion.quality.shapes import Shapes, shapes
from cfdg_diffusion.quality.tables import Tables, read_tables
from cfdg_diffusion.quality.trees import require_scikit_learn
from cfdg_diffusion.quality.trends import Trends, trends
from cfdg_diffusion.quality.utility import Utility, utility
from cfdg_diffusion.storage import atomic_write

ROWS = 20_000
"""Default cap on the rows of each table: 20,000 x 15 takes some 20 s on one core."""
_NAMED = 20
"""Columns that an error lists."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Rows given, and rows compared after the cap (as many training as synthetic rows)."""

    columns: int
    train: int
    synthetic: int
    holdout: int | None
    compared_synthetic: int
    compared_reference: int


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured. Holds histograms and level names of the real table, no rows.

    Attributes:
        sizes: rows given and compared.
        reference: the real rows synthetic ones were compared with, ``"holdout"`` or ``"train"``.
        shapes: each column on its own.
        trends: each pair of columns; None for a table of one column.
        detection: boosted trees telling synthetic from real rows, the headline.
        utility: training on synthetic rows; None without a label.
        privacy: closeness to the training rows; None without a holdout.
    """

    sizes: Sizes
    reference: str
    shapes: Shapes
    trends: Trends | None
    detection: Detection
    utility: Utility | None
    privacy: Privacy | None

    def to_dict(self) -> dict[str, Any]:
        """Every number as plain JSON values (dicts, lists, text, numbers, None)."""
        return _plain(self)

    def __str__(self) -> str:
        """The headline numbers, the worst columns and pairs, and the classes as a text table."""
        from cfdg_diffusion.quality.as_text import as_text

        return as_text(self)

    def to_html(self, path: str | os.PathLike[str], *, title: str = "Synthetic data report") -> Path:
        """Write one self-contained page (no network, no script) and return where it lies.

        The file appears complete or not at all; missing folders are made.
        """
        from cfdg_diffusion.quality.as_html import as_page

        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as partial:
            partial.write_text(as_page(self, title), encoding="utf-8")
        return target


def report(
    real_train: pd.DataFrame,
    synthetic: pd.DataFrame,
    holdout: pd.DataFrame | None = None,
    *,
    label: Hashable | None = None,
    seed: int = 0,
    rows: int = ROWS,
) -> Report:
    """Judge a synthetic table: shapes, trends, detection, utility, privacy.

    Everything is compared with ``holdout``, real rows the generator never saw: compared with the training rows, a
    copy of them would win. Each score comes with what the training rows get against the same holdout, which is what
    a perfect generator can reach.

    Args:
        real_train: the rows the generator was fitted on; numbers, dates, booleans, categories, text, missing values.
        synthetic: generated rows with the same columns (any order) of the same kinds.
        holdout: real rows of the same source that trained nothing, as many as can be spared. Without them there is
            no utility and no privacy, and detection compares with the training rows.
        label: the column to predict, for utility and per-class scores; a number with more than 20 distinct values or
            with fractions is regressed on.
        seed: for every draw and every tree; the same seed gives the same report.
        rows: cap on the rows of each table, subsampled at random; copies are counted among all rows.

    Raises:
        ValueError: if a table is empty or has fewer than 10 rows, columns differ in name or kind, a number is
            infinite, the label is no column or has no value, or ``rows`` is below 10.
        ImportError: if scikit-learn is missing.
    """
    require_scikit_learn()
    fewest = 2 * FOLDS
    if rows < fewest:
        raise ValueError(f"rows is {rows}, expected at least {fewest} for {FOLDS} folds")
    whole = read_tables(real_train, synthetic, holdout, fewest)
    place = None if label is None else _place(real_train, label)
    rng = np.random.default_rng([seed, 0])
    sampled = whole.sampled(rows, rng)
    return Report(
        _sizes(whole, sampled),
        "train" if holdout is None else "holdout",
        shapes(sampled),
        trends(sampled, rng),
        detection(sampled, seed),
        None if place is None else utility(sampled, place, seed),
        privacy(whole, sampled, seed),
    )


def _place(train: pd.DataFrame, label: Hashable) -> int:
    names = list(train.columns)
    if label not in names:
        some = ", ".join(map(repr, names[:_NAMED])) + (", ..." if len(names) > _NAMED else "")
        raise ValueError(f"the label {label!r} is no column of real_train, expected one of {some}")
    return next(place for place, name in enumerate(names) if name == label)


def _sizes(whole: Tables, sampled: Tables) -> Sizes:
    return Sizes(
        len(whole.columns),
        len(whole.train),
        len(whole.synthetic),
        None if whole.holdout is None else len(whole.holdout),
        len(sampled.synthetic),
        len(sampled.reference),
    )


def _plain(value: Any) -> Any:  # noqa: ANN401 (any field of a report)
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
