"""Rejection sampling: rows that break a constraint are drawn again until none is left.

Nothing is clipped, swapped or snapped to a bound. A whole new draw replaces a row that breaks a constraint, so the rows
follow the model's distribution under the condition that the constraints hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cfdg_diffusion.tabular.constraints import Constraint, broken

_BARREN = 20_000
"""Draws after the latest success, before giving up."""
_MOST_DRAWS = 1000
"""Draws per row, before giving up."""
_AT_ONCE = 4096
"""Draws per round, or the number of rows if that is larger."""


@dataclass
class SampleReport:
    """Counts of the draws that the constraints of one call took; see ``sample(report=)`` and ``impute(report=)``.

    Attributes:
        rejected: by constraint name, the number of draws that broke it.
        repaired: number of rows that another draw replaced.
        unmet: number of rows that still break a constraint.
        worst: name of the constraint that the latest draws broke most often.
    """

    rejected: dict[str, int] = field(default_factory=dict)
    repaired: int = 0
    unmet: int = 0
    worst: str = ""

    def add(self, counts: dict[str, int]) -> None:
        """Add the counts of one round, by constraint name."""
        for name, count in counts.items():
            self.rejected[name] = self.rejected.get(name, 0) + count
        self.worst = max(counts, key=lambda name: counts[name], default="")

    def merge(self, other: SampleReport) -> None:
        """Add the counts of another call."""
        self.add(other.rejected)
        self.worst = other.worst
        self.repaired += other.repaired
        self.unmet += other.unmet


Draw = Callable[[np.ndarray], pd.DataFrame]
"""Positions of rows ``(n,)``, perhaps repeated -> a table with a new draw for each."""


def draw_until_met(
    draw: Draw,
    count: int,
    constraints: Sequence[Constraint],
    report: SampleReport,
    enforced: Sequence[np.ndarray] | None = None,
) -> pd.DataFrame:
    """Draw one row for each of ``count`` positions, again and again until it meets the constraints.

    Gives up after 20,000 draws without success, or after 1,000 draws per row; ``report`` counts the rows left.

    Args:
        draw: makes rows.
        count: number of positions.
        constraints: to meet.
        report: counts draws and replaced rows.
        enforced: for each constraint bool ``(count,)``, the positions where it is enforced; None stands for all.

    Returns:
        A table of ``count`` rows, which may still break constraints where it gave up.
    """
    table = draw(np.arange(count))
    bad, counts = broken(table, constraints, enforced)
    report.add(counts)
    total = 0
    barren = 0
    copies = 1
    open_places = np.flatnonzero(bad)
    while len(open_places) and barren < _BARREN and total < _MOST_DRAWS * count + _BARREN:
        copies = max(1, min(2 * copies, max(_AT_ONCE, count) // len(open_places)))
        places = np.repeat(open_places, copies)
        fresh = draw(places)
        bad, counts = broken(fresh, constraints, enforced and [part[places] for part in enforced])
        report.add(counts)
        found, first = np.unique(places[~bad], return_index=True)
        total += len(places)
        barren = 0 if len(found) else barren + len(places)
        table = _replaced(table, found, fresh.iloc[np.flatnonzero(~bad)[first]])
        report.repaired += len(found)
        open_places = np.setdiff1d(open_places, found, assume_unique=True)
    report.unmet += len(open_places)
    return table


def _replaced(table: pd.DataFrame, places: np.ndarray, rows: pd.DataFrame) -> pd.DataFrame:
    """Replace the rows of a table at some positions ``(k,)`` by k other rows."""
    if not len(places):
        return table
    source = np.arange(len(table))
    source[places] = len(table) + np.arange(len(places))
    return pd.concat([table, rows], ignore_index=True).take(source).reset_index(drop=True)
