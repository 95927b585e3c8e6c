"""The numbers of a quality report as plain dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from cfdg_diffusion.quality.detection import Detection
from cfdg_diffusion.quality.identifiers import Identifier
from cfdg_diffusion.quality.privacy import Privacy
from cfdg_diffusion.quality.shapes import Shapes
from cfdg_diffusion.quality.trends import Trends
from cfdg_diffusion.quality.utility import Utility


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
class Scores:
    """All measures of a synthetic table. Holds histograms and level names of the real table, no rows.

    Attributes:
        sizes: rows given and compared.
        reference: the real rows that synthetic ones were compared with, ``"holdout"`` or ``"train"``.
        shapes: each column on its own.
        trends: each pair of columns; None for a table of one column.
        detection: boosted trees telling synthetic from real rows, the headline.
        utility: training on synthetic rows; None without a label.
        privacy: closeness to the training rows; None without a holdout.
        identifiers: columns in which synthetic rows have real identifiers; needs no holdout.
    """

    sizes: Sizes
    reference: str
    shapes: Shapes
    trends: Trends | None
    detection: Detection
    utility: Utility | None
    privacy: Privacy | None
    identifiers: tuple[Identifier, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return every number as plain JSON values (dicts, lists, text, numbers, None)."""
        return _plain(self)


def _plain(value: Any) -> Any:  # noqa: ANN401 (any field of a report)
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
