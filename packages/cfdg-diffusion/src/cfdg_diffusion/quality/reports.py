"""Quality reports: :func:`report` measures a synthetic table, :class:`Report` shows the numbers."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from tqdm import tqdm

from cfdg_diffusion.quality.as_html import as_html
from cfdg_diffusion.quality.as_text import as_text
from cfdg_diffusion.quality.detection import FOLDS, detection
from cfdg_diffusion.quality.identifiers import identifiers
from cfdg_diffusion.quality.privacy import privacy
from cfdg_diffusion.quality.scores import Scores, Sizes
from cfdg_diffusion.quality.shapes import shapes
from cfdg_diffusion.quality.tables import Tables, read_tables
from cfdg_diffusion.quality.trees import require_scikit_learn
from cfdg_diffusion.quality.trends import trends
from cfdg_diffusion.quality.utility import utility
from cfdg_diffusion.storage import atomic_write

ROWS = 20_000
"""Default cap on the rows of each table: 20,000 x 15 takes about 20 s on one core."""
_NAMED = 20
"""Columns that an error lists."""
_MEASURES = 5

Measured = TypeVar("Measured")


@dataclass(frozen=True, slots=True)
class Report(Scores):
    """The scores of a synthetic table, printable as text and as a page; see :class:`Scores` for the attributes."""

    def __str__(self) -> str:
        """Return the headline numbers, the worst columns and pairs, and the classes as text tables."""
        return as_text(self)

    def to_html(self, path: str | os.PathLike[str], *, title: str = "Synthetic data report") -> Path:
        """Write one self-contained page (no network, no script).

        The file appears complete or not at all; missing folders are made.

        Returns:
            The path of the page.

        Raises:
            ImportError: if Jinja2 is missing.
            OSError: if the file cannot be written.
        """
        text = as_html(self, title)
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as partial:
            partial.write_text(text, encoding="utf-8")
        return target


def report(  # noqa: PLR0913 - the front door: all but two tables have a default
    real_train: pd.DataFrame,
    synthetic: pd.DataFrame,
    holdout: pd.DataFrame | None = None,
    *,
    label: Hashable | None = None,
    seed: int = 0,
    rows: int = ROWS,
    progress: bool = False,
) -> Report:
    """Measure a synthetic table: shapes, trends, detection, utility, privacy.

    Everything is compared with ``holdout``, real rows that the generator never saw: compared with the training rows, a
    copy of them would win. Each score comes with the score of the training rows against the same holdout, which is
    what a perfect generator can reach.

    Args:
        real_train: the rows the generator was fitted on; numbers, dates, booleans, categories, text, missing values.
        synthetic: generated rows with the same columns (any order) of the same kinds.
        holdout: real rows of the same source that trained nothing, as many as can be spared. Without them there is
            no utility and no privacy, and detection compares with the training rows.
        label: the column to predict, for utility and per-class scores; a number with more than 20 distinct values or
            with fractions is regressed on.
        seed: for every draw and every tree; the same seed gives the same report.
        rows: cap on the rows of each table, subsampled at random; copies are counted among all rows.
        progress: show a bar with the measures that are done.

    Raises:
        ValueError: if a table is empty, has fewer than 10 rows or more than 1,000 columns, columns differ in name or
            kind, a number is infinite, the label is not a column or has no value, or ``rows`` is below 10.
        ImportError: if scikit-learn is missing.
    """
    require_scikit_learn()
    fewest = 2 * FOLDS
    if rows < fewest:
        raise ValueError(f"rows is {rows}, expected at least {fewest} for {FOLDS} folds")
    whole = read_tables(real_train, synthetic, holdout, fewest)
    place = None if label is None else _place(real_train, label)
    with tqdm(total=_MEASURES, desc="report", unit=" measures", disable=not progress) as bar:
        return _measured(whole, place, seed, rows, bar)


def _measured(whole: Tables, label: int | None, seed: int, rows: int, bar: tqdm) -> Report:
    rng = np.random.default_rng([seed, 0])
    sampled = whole.sampled(rows, rng)

    def measure(name: str, function: Callable[[], Measured]) -> Measured:
        bar.set_postfix_str(name)
        found = function()
        bar.update()
        return found

    return Report(
        sizes=_sizes(whole, sampled),
        reference="train" if whole.holdout is None else "holdout",
        shapes=measure("shapes", lambda: shapes(sampled)),
        trends=measure("trends", lambda: trends(sampled, rng)),
        detection=measure("detection", lambda: detection(sampled, seed)),
        utility=measure("utility", lambda: None if label is None else utility(sampled, label, seed)),
        privacy=measure("privacy", lambda: privacy(whole, sampled, seed)),
        identifiers=identifiers(whole),
    )


def _place(train: pd.DataFrame, label: Hashable) -> int:
    names = list(train.columns)
    if label not in names:
        some = ", ".join(map(repr, names[:_NAMED])) + (", ..." if len(names) > _NAMED else "")
        raise ValueError(f"the label {label!r} is no column of real_train, expected one of {some}")
    return next(place for place, name in enumerate(names) if name == label)


def _sizes(whole: Tables, sampled: Tables) -> Sizes:
    return Sizes(
        columns=len(whole.columns),
        train=len(whole.train),
        synthetic=len(whole.synthetic),
        holdout=None if whole.holdout is None else len(whole.holdout),
        compared_synthetic=len(sampled.synthetic),
        compared_reference=len(sampled.reference),
    )
