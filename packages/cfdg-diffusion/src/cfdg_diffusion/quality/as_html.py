"""The report as one page of HTML: no script, no network, nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from cfdg_diffusion.quality import svg
from cfdg_diffusion.quality.as_text import class_cells
from cfdg_diffusion.quality.reports import Report
from cfdg_diffusion.quality.shapes import ColumnShape
from cfdg_diffusion.quality.trends import PairTrend, Trends
from cfdg_diffusion.quality.verdicts import TELLING, Headline, headlines, number, percent, worst_columns, worst_pairs

_MOST_PICTURES = 60
_MOST_PAIRS = 15
_MOST_CELLS = 22
_MOST_BARS = 12
_SIGNS = {"good": "●", "fair": "◐", "poor": "○", "not judged": "–"}

_STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --card: #fff; --ink: #1c1f24; --soft: #646b75; --line: #e3e4e6;
  --real: #b9c4d3; --synthetic: #d2601a; --more: #24589c; --less: #c0392b;
  --good: #1d7a46; --fair: #9a6700; --poor: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --page: #16181c; --card: #1f2227; --ink: #e8e9eb; --soft: #a0a6af;
  --line: #343840; --real: #55647a; --synthetic: #f08a4b; --more: #78aaf0; --less: #f0857b;
  --good: #5cc98c; --fair: #e0b04a; --poor: #f58a82; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 38px 0 4px; }
h3 { font-size: 14px; margin: 0 0 6px; overflow-wrap: anywhere; }
p { margin: 4px 0 12px; max-width: 80ch; } .soft { color: var(--soft); }
.cards, .grid { display: grid; gap: 14px; } .cards { grid-template-columns: repeat(auto-fill, minmax(290px, 1fr)); }
.grid { grid-template-columns: repeat(auto-fill, minmax(292px, 1fr)); align-items: start; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.card.good, .card.fair, .card.poor { border-top: 4px solid var(--tone); }
.good { --tone: var(--good); } .fair { --tone: var(--fair); } .poor { --tone: var(--poor); }
.verdict { float: right; color: var(--tone, var(--soft)); font-weight: 600; font-size: 13px; }
.value { font-size: 24px; font-weight: 650; line-height: 1.25; } .value small { font-size: 13px; font-weight: 400; }
.card p { margin: 4px 0 0; font-size: 13.5px; }
.row { display: flex; flex-wrap: wrap; gap: 22px; align-items: flex-start; }
.scroll { overflow-x: auto; } figure { margin: 0; }
figcaption { font-size: 13px; font-weight: 600; margin-bottom: 4px; }
table { border-collapse: collapse; font-size: 13.5px; background: var(--card); }
th, td { padding: 5px 12px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere; max-width: 340px; }
th { font-weight: 600; color: var(--soft); } summary { cursor: pointer; color: var(--soft); margin: 12px 0; }
svg { max-width: 100%; height: auto; display: block; } svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
svg .right { text-anchor: end; } svg .middle { text-anchor: middle; } svg .hover { fill: transparent; }
svg .real { fill: var(--real); } svg .synthetic { fill: var(--synthetic); }
svg .more { fill: var(--more); } svg .less { fill: var(--less); } svg .axis { stroke: var(--line); }
svg .frame { fill: var(--card); stroke: var(--line); } svg .guess { stroke: var(--soft); stroke-dasharray: 4 4; }
.grid svg { width: 100%; }
svg .curve { fill: none; stroke: var(--synthetic); stroke-width: 2; }
.named { white-space: nowrap; }
.key { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin: 0 4px -1px 10px; }
"""


def as_page(report: Report, title: str) -> str:
    """The whole page as text; every name and value of the data is escaped."""
    body = [
        f"<h1>{escape(title)}</h1><p class='soft'>{_sizes(report)}</p>",
        f"<div class='cards'>{''.join(map(_card, headlines(report)))}</div>",
        _detection(report),
        _columns(report),
        _trends(report.trends, worst_pairs(report)) if report.trends else "",
        _classes(report),
        _privacy(report),
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _sizes(report: Report) -> str:
    sizes = report.sizes
    real = "no holdout" if sizes.holdout is None else f"{sizes.holdout:,} holdout rows"
    return (
        f"{sizes.synthetic:,} synthetic rows, {sizes.train:,} training rows, {real}, {sizes.columns} columns. "
        f"{sizes.compared_synthetic:,} synthetic rows were compared with {sizes.compared_reference:,} "
        f"{'holdout' if report.reference == 'holdout' else 'training'} rows."
    )


def _card(line: Headline) -> str:
    tone = line.verdict if line.verdict != "not judged" else ""
    fresh = f" <small class='soft'>real rows get {escape(line.fresh)}</small>" if line.fresh else ""
    value, _, interval = line.value.partition(" (")
    interval = f" <small class='soft'>({escape(interval)}</small>" if interval else ""
    return (
        f"<div class='card {tone}'><span class='verdict'>{_SIGNS[line.verdict]} {line.verdict}</span>"
        f"<h3>{escape(line.name)}</h3><div class='value'>{escape(value)}{interval}{fresh}</div>"
        f"<p>{escape(line.reading)}</p></div>"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of escaped cells."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _figure(caption: str, picture: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption><div class='scroll'>{picture}</div></figure>"


def _detection(report: Report) -> str:
    found = report.detection
    telling = [(name, lost) for name, lost in found.importance[:_MOST_BARS] if lost > TELLING]
    pictures = _figure("ROC curve of the detector", svg.curve(found.curve))
    if telling:
        pictures += _figure("Columns that give synthetic rows away (AUC lost without)", svg.ranked_bars(telling))
    return (
        "<h2>What gives synthetic rows away</h2>"
        f"<p class='soft'>Boosted trees learn to tell synthetic from real rows ({found.auc.rows:,} of each). "
        f"A curve on the diagonal is a perfect table.</p><div class='row'>{pictures}</div>"
    )


def _columns(report: Report) -> str:
    ordered = worst_columns(report)
    shown = ordered[:_MOST_PICTURES]
    mean, baseline = report.shapes.mean, report.shapes.baseline
    baseline = "" if baseline is None else f" (real rows get {number(baseline)})"
    some = f" The {len(shown)} worst of {len(ordered)} are shown." if len(shown) < len(ordered) else ""
    keys = _keys("real", "synthetic")
    rows = [(c.name, c.kind, number(c.score), number(c.baseline), percent(c.missing_real), percent(c.missing_synthetic))
            for c in ordered]  # fmt: skip
    header = ("column", "kind", "score", "real rows get", "missing, real", "missing, synthetic")
    return (
        f"<h2>Columns, worst first</h2><p class='soft'>Each column on its own: mean score {number(mean)}{baseline}. "
        f"Says nothing about dependence.{some}{keys}</p>"
        f"<div class='grid'>{''.join(map(_column, shown))}</div>"
        f"<details><summary>All columns as a table</summary>{table(header, rows)}</details>"
    )


def _keys(real: str, synthetic: str) -> str:
    """What the two colours stand for."""
    named = (("real", real), ("synthetic", synthetic))
    return "".join(
        f" <span class='named'><span class='key' style='background:var(--{tone})'></span>{name}</span>"
        for tone, name in named
    )


def _column(column: ColumnShape) -> str:
    has_levels = column.kind in ("boolean", "category", "empty")
    picture = svg.level_bars(column.bars) if has_levels else svg.upright_bars(column.bars)
    missing = ""
    if column.missing_real or column.missing_synthetic:
        missing = f"; missing {percent(column.missing_real)} real, {percent(column.missing_synthetic)} synthetic"
    baseline = "" if column.baseline is None else f" (real rows get {number(column.baseline)})"
    return (
        f"<div class='card'><h3>{escape(column.name)}</h3>{picture}"
        f"<p class='soft'>{number(column.score)}{baseline}{missing}</p></div>"
    )


def _trends(found: Trends, pairs: list[PairTrend]) -> str:
    names = _telling_names(found, pairs)
    places = [found.columns.index(name) for name in names]
    matrices = [
        [[matrix[i][j] for j in places] for i in places]
        for matrix in (found.association_real, found.association_synthetic)
    ]
    difference = [[b - a for a, b in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]
    maps = [svg.heat_map(names, values) for values in (*matrices, difference)]
    captions = ("Real", "Synthetic", "Synthetic minus real (red: too weak)")
    figures = "".join(map(_figure, captions, maps))
    rows = [(f"{p.first} / {p.second}", number(p.score), number(p.baseline)) for p in pairs[:_MOST_PAIRS]]
    baseline = "" if found.baseline is None else f"; real rows get {number(found.baseline)}"
    return (
        "<h2>Pairs of columns</h2>"
        "<p class='soft'>How strongly the columns of the worst pairs depend on each other (Cramér's V on shared bins, "
        f"0 to 1). Mean agreement of the joint distributions of all pairs: {number(found.mean)}{baseline}.</p>"
        f"<div class='row'>{figures}</div>"
        f"<h2>Worst pairs</h2>{table(('pair', 'trend', 'real rows get'), rows)}"
    )


def _telling_names(found: Trends, pairs: list[PairTrend]) -> list[str]:
    """The columns of the worst pairs, in the order of the table."""
    names: dict[str, None] = {}
    for pair in pairs:
        if len(names) >= _MOST_CELLS:
            break
        names |= {pair.first: None, pair.second: None}
    return [name for name in dict.fromkeys(found.columns) if name in names]


def _classes(report: Report) -> str:
    found = report.utility
    if found is None or not found.classes:
        return ""
    header = ("class", "share, real", "share, synthetic", "recall, trained on real", "on synthetic")
    header += ("precision, trained on real", "on synthetic", "detection")
    note = (
        "Recall and precision on real holdout rows; detection tells synthetic from real rows of the class (best: 0.5)."
    )
    rows = [class_cells(score) for score in found.classes]
    return f"<h2>Classes of {escape(found.label)}</h2><p class='soft'>{note}</p>{table(header, rows)}"


def _privacy(report: Report) -> str:
    found = report.privacy
    if found is None:
        text = "Not measured: it needs real rows that the generator never saw (a holdout)."
        return f"<h2>Privacy</h2><p class='soft'>{text}</p>"
    rows = [
        ("median distance to the closest training row", number(found.distance), number(found.distance_expected)),
        ("median ratio of closest to second closest", number(found.ratio), number(found.ratio_expected)),
        ("exact copies of training rows", percent(found.copies_share), percent(found.copies_expected)),
    ]
    keys = _keys("holdout rows", "synthetic rows")
    return (
        "<h2>Privacy</h2>"
        f"<p class='soft'>Distances to {found.rows:,} training rows. Synthetic rows should lie no closer "
        f"than unseen real rows do.{keys}</p><div class='row'>"
        f"{_figure('Distance to the closest training row', svg.upright_bars(found.histogram, 460, 170))}"
        f"{table(('', 'synthetic', 'unseen real'), rows)}</div>"
    )
