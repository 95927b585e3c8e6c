"""Text of a quality report: plain tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from cfdg_diffusion.quality.scores import Scores
from cfdg_diffusion.quality.text_table import aligned
from cfdg_diffusion.quality.utility import ClassScore
from cfdg_diffusion.quality.verdicts import TELLING, headlines, number, percent, worst_columns, worst_pairs

_SHOWN = 5
"""Rows of a table of the worst."""
_WIDTH = 40
"""Widest cell in characters."""


def as_text(scores: Scores) -> str:
    """Return headlines, identifiers, worst columns and pairs, telling columns, classes; blank lines between them."""
    first = [_sizes(scores), _headlines(scores), _identifiers(scores)]
    parts = [*first, _columns(scores), _pairs(scores), _telling(scores), _classes(scores)]
    return "\n\n".join(part for part in parts if part)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the header, a line of dashes and the rows in columns as wide as their widest cell; long cells are cut."""
    cells = [[_one_line(cell) for cell in row] for row in (header, *rows)]
    dashes = ["-" * max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(aligned([cells[0], dashes, *cells[1:]]))


def _one_line(cell: str) -> str:
    """Make a cell printable and short: a value of the data may hold a line break or a control character."""
    clean = _printable(cell)
    return clean if len(clean) <= _WIDTH else clean[: _WIDTH - 1] + "…"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _sizes(scores: Scores) -> str:
    sizes = scores.sizes
    holdout = "no holdout" if sizes.holdout is None else f"{sizes.holdout} holdout rows"
    return (
        f"{sizes.synthetic} synthetic rows, {sizes.train} training rows, {holdout}, {sizes.columns} columns; "
        f"{sizes.compared_synthetic} synthetic rows compared with {sizes.compared_reference} {scores.reference} rows"
    )


def _headlines(scores: Scores) -> str:
    rows = [(line.name, line.value, line.fresh or "–", line.verdict) for line in headlines(scores)]
    return table(("score", "synthetic", "real rows get", ""), rows)


def _identifiers(scores: Scores) -> str:
    return "\n".join(_printable(found.sentence) for found in scores.identifiers)


def _columns(scores: Scores) -> str:
    rows = [(c.name, number(c.score), number(c.baseline)) for c in worst_columns(scores)[:_SHOWN]]
    mean = ("(mean of all)", number(scores.shapes.mean), number(scores.shapes.baseline))
    return table(("worst columns", "shape", "real rows get"), [*rows, mean])


def _pairs(scores: Scores) -> str:
    rows = [
        (f"{pair.first} / {pair.second}", number(pair.score), number(pair.baseline))
        for pair in worst_pairs(scores)[:_SHOWN]
    ]
    return table(("worst pairs", "trend", "real rows get"), rows) if rows else ""


def _telling(scores: Scores) -> str:
    rows = [(name, f"{lost:+.3f}") for name, lost in scores.detection.importance[:_SHOWN] if lost > TELLING]
    return table(("columns that give synthetic rows away", "AUC lost"), rows) if rows else ""


def _classes(scores: Scores) -> str:
    if scores.utility is None or not scores.utility.classes:
        return ""
    header = ("share real", "synthetic", "recall real", "synthetic", "precision real", "synthetic", "detection")
    rows = [class_cells(found) for found in scores.utility.classes]
    return table((f"class of {scores.utility.label}", *header), rows)


def class_cells(found: ClassScore) -> tuple[str, ...]:
    """Return a class as the cells of a table: name, shares, recalls and precisions (real, synthetic), detection."""
    measured = (found.recall_real, found.recall_synthetic, found.precision_real, found.precision_synthetic)
    detected = number(found.detection.value if found.detection else None)
    return (found.name, percent(found.share_real), percent(found.share_synthetic), *map(number, measured), detected)
