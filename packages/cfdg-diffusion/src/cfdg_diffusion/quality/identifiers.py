"""Identifiers in a synthetic table: columns in which every training row has its own value, and synthetic rows too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cfdg_diffusion.quality.tables import Column, Tables

FEWEST_ROWS = 50
"""Training rows with a value from which on a column may be an identifier, as in a fit."""
LEAST_SHARE = 0.95
"""Least share of different values among them, as in a fit."""


@dataclass(frozen=True, slots=True)
class Identifier:
    """A column of levels with nearly as many values as training rows.

    Attributes:
        name: of the column.
        distinct: number of different values in the training rows.
        synthetic: number of synthetic rows with a value.
        real: how many of them have a value of a training row.
    """

    name: str
    distinct: int
    synthetic: int
    real: int

    @property
    def sentence(self) -> str:
        """The finding and its remedy."""
        return (
            f"{self.name}: nearly every training row has its own value, and {self.real:,} of {self.synthetic:,} "
            "synthetic values are among them: real identifiers, drop the column before fit."
        )


def identifiers(whole: Tables) -> tuple[Identifier, ...]:
    """Find the columns in which synthetic rows have identifiers of training rows, among all rows given."""
    found = []
    for place, column in enumerate(whole.columns):
        own = _identifier(column, whole.train[:, place], whole.synthetic[:, place])
        if own is not None:
            found.append(own)
    return tuple(found)


def _identifier(column: Column, train: np.ndarray, synthetic: np.ndarray) -> Identifier | None:
    if column.kind != "category":
        return None
    present = train[~np.isnan(train)]
    distinct = np.unique(present)
    if len(present) < FEWEST_ROWS or len(distinct) < LEAST_SHARE * len(present):
        return None
    drawn = synthetic[~np.isnan(synthetic)]
    real = int(np.isin(drawn, distinct).sum())
    return Identifier(column.name, len(distinct), len(drawn), real) if real else None
