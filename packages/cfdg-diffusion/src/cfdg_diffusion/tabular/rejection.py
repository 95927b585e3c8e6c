"""Rows that break a constraint are drawn again until none is left.

Nothing is clipped, swapped or snapped to a bound: a row that breaks a constraint is replaced by a whole new draw, so
that what comes out is the model's distribution under the condition that the constraints hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cfdg_diffusion.tabular.constraints import Constraint, broken

_BARREN = 20_000
"""Draws in a row that fulfil nothing, before giving up."""
_MOST_DRAWS = 1000
"""Draws for each row, before giving up."""
_AT_ONCE = 4096
"""Draws of a round, if more than there are rows."""


@dataclass
class Tally:
    """What enforcing constraints took.

    Attributes:
        rejected: draws that broke each constraint.
        repaired: rows that another draw replaced.
        unmet: rows given up.
        worst: name of the constraint that the latest draws broke most often.
    """

    rejected: dict[str, int] = field(default_factory=dict)
    repaired: int = 0
    unmet: int = 0
    worst: str = ""

    def add(self, counts: dict[str, int]) -> None:
        """Count the draws of one round."""
        for name, count in counts.items():
            self.rejected[name] = self.rejected.get(name, 0) + count
        self.worst = max(counts, key=lambda name: counts[name], default="")


Draw = Callable[[np.ndarray], pd.DataFrame]
"""Places of rows, repeated or not -> a new draw for each of them."""


def drawn(
    draw: Draw,
    count: int,
    constraints: Sequence[Constraint],
    tally: Tally,
    counted: Sequence[np.ndarray] | None = None,
) -> pd.DataFrame:
    """One row that fulfils the constraints for each of ``count`` places.

    Gives up after 20,000 draws in a row, or 1,000 for each row, that did not do; ``tally`` counts what is left.

    Args:
        draw: makes rows.
        count: number of places.
        constraints: to fulfil.
        tally: counts what it took.
        counted: for each constraint the places ``(count,)`` where it counts; None stands for all.
    """
    table = draw(np.arange(count))
    bad, counts = broken(table, constraints, counted)
    tally.add(counts)
    total = barren = 0
    open_places, copies = np.flatnonzero(bad), 1
    while len(open_places) and barren < _BARREN and total < _MOST_DRAWS * count + _BARREN:
        copies = max(1, min(2 * copies, max(_AT_ONCE, count) // len(open_places)))
        places = np.repeat(open_places, copies)
        fresh = draw(places)
        bad, counts = broken(fresh, constraints, counted and [part[places] for part in counted])
        tally.add(counts)
        found, first = np.unique(places[~bad], return_index=True)
        total, barren = total + len(places), 0 if len(found) else barren + len(places)
        table = _replaced(table, found, fresh.iloc[np.flatnonzero(~bad)[first]])
        tally.repaired += len(found)
        open_places = np.setdiff1d(open_places, found, assume_unique=True)
    tally.unmet += len(open_places)
    return table


def _replaced(table: pd.DataFrame, places: np.ndarray, rows: pd.DataFrame) -> pd.DataFrame:
    """The table with other rows at some places."""
    if not len(places):
        return table
    source = np.arange(len(table))
    source[places] = len(table) + np.arange(len(places))
    return pd.concat([table, rows], ignore_index=True).take(source).reset_index(drop=True)
