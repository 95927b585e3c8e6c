"""HTML page of a quality report: one file without script and network, from ``report.html.jinja`` and ``report.css``."""

from __future__ import annotations

from typing import Any

from cfdg_diffusion.quality import svg
from cfdg_diffusion.quality.as_text import class_cells
from cfdg_diffusion.quality.scores import Scores
from cfdg_diffusion.quality.shapes import ColumnShape
from cfdg_diffusion.quality.trends import PairTrend, Trends
from cfdg_diffusion.quality.verdicts import TELLING, headlines, number, percent, worst_columns, worst_pairs

_MOST_PICTURES = 60
_MOST_PAIRS = 15
_MOST_CELLS = 22
"""Most columns of a heat map."""
_MOST_BARS = 12
_CAPTIONS = ("Real", "Synthetic", "Synthetic minus real (red: too weak)")


def require_jinja() -> None:
    """Raise an ImportError with the command that helps, unless Jinja2 can be imported."""
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise ImportError("the page of a report needs Jinja2: pip install 'cfdg-diffusion[report]'") from error


def as_html(scores: Scores, title: str) -> str:
    """Render the whole page as text; every name and value of the data is escaped.

    Raises:
        ImportError: if Jinja2 is missing.
    """
    columns = worst_columns(scores)
    pairs = worst_pairs(scores)
    classes = scores.utility.classes if scores.utility else ()
    return _template().render(
        title=title,
        scores=scores,
        svg=svg,
        headlines=headlines(scores),
        telling=[(name, lost) for name, lost in scores.detection.importance[:_MOST_BARS] if lost > TELLING],
        columns=columns,
        pictured=columns[:_MOST_PICTURES],
        column_rows=[_column_cells(column) for column in columns],
        heat_maps=_heat_maps(scores.trends, pairs) if scores.trends else [],
        pair_rows=[(f"{p.first} / {p.second}", number(p.score), number(p.baseline)) for p in pairs[:_MOST_PAIRS]],
        class_rows=[class_cells(found) for found in classes],
    )


def _template() -> Any:  # noqa: ANN401 - of Jinja2, which is imported only when it is needed
    require_jinja()
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__package__ or "", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": number,
        "percent": percent,
        "thousands": "{:,}".format,
        "column_picture": _column_picture,
    }
    return environment.get_template("report.html.jinja")


def _column_picture(column: ColumnShape) -> str:
    has_levels = column.kind in ("boolean", "category", "empty")
    return svg.level_bars(column.bars) if has_levels else svg.upright_bars(column.bars)


def _column_cells(column: ColumnShape) -> tuple[str, ...]:
    missing = (percent(column.missing_real), percent(column.missing_synthetic))
    return (column.name, column.kind, number(column.score), number(column.baseline), *missing)


def _heat_maps(found: Trends, pairs: list[PairTrend]) -> list[tuple[str, str]]:
    """Draw the associations of the columns of the worst pairs: real, synthetic and their difference."""
    names = _telling_names(found, pairs)
    places = [found.columns.index(name) for name in names]
    matrices = [
        [[matrix[i][j] for j in places] for i in places]
        for matrix in (found.association_real, found.association_synthetic)
    ]
    difference = [[b - a for a, b in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]
    maps = [svg.heat_map(names, values) for values in (*matrices, difference)]
    return list(zip(_CAPTIONS, maps, strict=True))


def _telling_names(found: Trends, pairs: list[PairTrend]) -> list[str]:
    """Return the columns of the worst pairs, in the order of the table."""
    names: dict[str, None] = {}
    for pair in pairs:
        if len(names) >= _MOST_CELLS:
            break
        names |= {pair.first: None, pair.second: None}
    return [name for name in dict.fromkeys(found.columns) if name in names]
