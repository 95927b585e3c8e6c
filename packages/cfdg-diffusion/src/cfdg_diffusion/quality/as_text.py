"""The report as a text table."""

from __future__ import annotations

from collections.abc import Sequence

from cfdg_diffusion.quality.reports import Report
from cfdg_diffusion.quality.utility import ClassScore
from cfdg_diffusion.quality.verdicts import TELLING, headlines, number, percent, worst_columns, worst_pairs

_SHOWN = 5
_WIDTH = 40


def as_text(report: Report) -> str:
    """Headlines, worst columns, worst pairs, telling columns and classes, a blank line between."""
    parts = [_sizes(report), _headlines(report), _columns(report), _pairs(report), _telling(report), _classes(report)]
    return "\n\n".join(part for part in parts if part)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell, long cells cut."""
    cells = [[_one_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _one_line(cell: str) -> str:
    """Printable and short: a value of the data may hold a line break or a control character."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in cell)
    return clean if len(clean) <= _WIDTH else clean[: _WIDTH - 1] + "…"


def _sizes(report: Report) -> str:
    sizes = report.sizes
    holdout = "no holdout" if sizes.holdout is None else f"{sizes.holdout} holdout rows"
    return (
        f"{sizes.synthetic} synthetic rows, {sizes.train} training rows, {holdout}, {sizes.columns} columns; "
        f"{sizes.compared_synthetic} synthetic rows compared with {sizes.compared_reference} {report.reference} rows"
    )


def _headlines(report: Report) -> str:
    rows = [(line.name, line.value, line.fresh or "–", line.verdict) for line in headlines(report)]
    return table(("score", "synthetic", "real rows get", ""), rows)


def _columns(report: Report) -> str:
    rows = [(c.name, number(c.score), number(c.baseline)) for c in worst_columns(report)[:_SHOWN]]
    mean = ("(mean of all)", number(report.shapes.mean), number(report.shapes.baseline))
    return table(("worst columns", "shape", "real rows get"), [*rows, mean])


def _pairs(report: Report) -> str:
    rows = [
        (f"{pair.first} / {pair.second}", number(pair.score), number(pair.baseline))
        for pair in worst_pairs(report)[:_SHOWN]
    ]
    return table(("worst pairs", "trend", "real rows get"), rows) if rows else ""


def _telling(report: Report) -> str:
    rows = [(name, f"{lost:+.3f}") for name, lost in report.detection.importance[:_SHOWN] if lost > TELLING]
    return table(("columns that give synthetic rows away", "AUC lost"), rows) if rows else ""


def _classes(report: Report) -> str:
    if report.utility is None or not report.utility.classes:
        return ""
    header = ("share real", "synthetic", "recall real", "synthetic", "precision real", "synthetic", "detection")
    rows = [class_cells(found) for found in report.utility.classes]
    return table((f"class of {report.utility.label}", *header), rows)


def class_cells(found: ClassScore) -> tuple[str, ...]:
    """A class as the cells of a table: name, shares, recalls and precisions (real, synthetic), detection."""
    scores = (found.recall_real, found.recall_synthetic, found.precision_real, found.precision_synthetic)
    detected = number(found.detection.value if found.detection else None)
    return (found.name, percent(found.share_real), percent(found.share_synthetic), *map(number, scores), detected)
