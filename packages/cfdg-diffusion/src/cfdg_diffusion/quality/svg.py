"""Inline SVG pictures of the report. Every text of the data is escaped; the colours come from ``report.css``."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from cfdg_diffusion.quality.shapes import Bars
from cfdg_diffusion.quality.tables import MISSING

_TALLEST = 3
"""A bar more than this many times as tall as the second tallest is cut off."""
_SIDE = 120
"""Left of this many pixels the share of a cut bar is written on its right, else on its left."""
_WIDEST = 40.0
"""Widest bar in pixels, for a column of few values."""
_CHARACTER = 6.2
"""Pixels of a letter at the pictures' 11 px, for cutting labels."""


def cut(text: str, width: float) -> str:
    """Shorten a text to ``width`` pixels and escape it."""
    most = max(int(width / _CHARACTER), 2)
    return escape(text if len(text) <= most else text[: most - 1] + "…")


def upright_bars(bars: Bars, width: int = 260, height: int = 96) -> str:
    """Draw bins from left to right: real as wide bars, synthetic as thin ones inside; the missing bin is left out.

    A spike far above all other bins is cut off and its share written beside it, so that the others can be seen.
    """
    shown = [index for index, label in enumerate(bars.labels) if label != MISSING]
    heights = sorted(max(bars.real[index], bars.synthetic[index]) for index in shown)
    second = [_TALLEST * height for height in heights[-2:-1] if height > 0]
    top = min([*heights[-1:], *second], default=0) or 1
    step = min(width / max(len(shown), 1), _WIDEST)
    parts = [_upright(bars, index, (place * step, step, height, top)) for place, index in enumerate(shown)]
    return _picture(
        width, height + 16, "".join(parts) + _ends([bars.labels[index] for index in shown], step * len(shown), height)
    )


def _upright(bars: Bars, index: int, box: tuple[float, float, float, float]) -> str:
    """Draw one bin; the box is its left edge, its width, the height of the picture and the share at its top."""
    left, step, height, top = box
    real, synthetic = (min(share / top, 1) * height for share in (bars.real[index], bars.synthetic[index]))
    cut_off = ""
    if max(bars.real[index], bars.synthetic[index]) > top:
        side = f'x="{left - 4:.1f}" class="right"' if left > _SIDE else f'x="{left + step + 4:.1f}"'
        cut_off = f'<text {side} y="11">↑ {100 * bars.real[index]:.0f} %, {100 * bars.synthetic[index]:.0f} %</text>'
    return (
        f"<g>{_tip(bars, index)}"
        f'<rect x="{left:.1f}" y="0" width="{step:.1f}" height="{height}" class="hover"/>'
        f'<rect x="{left + 0.06 * step:.1f}" y="{height - real:.1f}" width="{0.88 * step:.1f}" '
        f'height="{real:.1f}" class="real"/>'
        f'<rect x="{left + 0.32 * step:.1f}" y="{height - synthetic:.1f}" width="{0.36 * step:.1f}" '
        f'height="{synthetic:.1f}" class="synthetic"/>{cut_off}</g>'
    )


def _ends(labels: Sequence[str], width: float, height: int) -> str:
    """Draw the axis: a line, its first and its last value."""
    line = f'<line x1="0" y1="{height}" x2="{width}" y2="{height}" class="axis"/>'
    if not labels:
        return line
    first = labels[0].split(" to ")[0]
    last = labels[-1].split(" to ")[-1]
    if first == last:
        return f'{line}<text x="0" y="{height + 13}">{cut(first, 3 * _SIDE)}</text>'
    return (
        f'{line}<text x="0" y="{height + 13}">{cut(first, width / 2)}</text>'
        f'<text x="{width}" y="{height + 13}" class="right">{cut(last, width / 2)}</text>'
    )


def level_bars(bars: Bars, width: int = 260) -> str:
    """Draw a row per level: its name, real as a wide bar, synthetic as a thin one inside."""
    top = max((*bars.real, *bars.synthetic, 0)) or 1
    row = 17
    left = 96
    parts = []
    for index, label in enumerate(bars.labels):
        y = index * row
        real, synthetic = (share / top * (width - left) for share in (bars.real[index], bars.synthetic[index]))
        parts.append(
            f'<g>{_tip(bars, index)}<rect x="0" y="{y}" width="{width}" height="{row}" class="hover"/>'
            f'<text x="{left - 6}" y="{y + 12}" class="right">{cut(label, left - 8)}</text>'
            f'<rect x="{left}" y="{y + 2}" width="{real:.1f}" height="13" class="real"/>'
            f'<rect x="{left}" y="{y + 6}" width="{synthetic:.1f}" height="5" class="synthetic"/></g>'
        )
    return _picture(width, max(row * len(bars.labels), row), "".join(parts))


def _tip(bars: Bars, index: int) -> str:
    shares = f"real {100 * bars.real[index]:.2f} %, synthetic {100 * bars.synthetic[index]:.2f} %"
    return f"<title>{escape(bars.labels[index])}: {shares}</title>"


def ranked_bars(rows: Sequence[tuple[str, float]], width: int = 420) -> str:
    """Draw a row per name with one bar; negative values have a bar of length 0."""
    top = max([value for _, value in rows], default=0) or 1
    row = 20
    left = 150
    parts = []
    for place, (name, value) in enumerate(rows):
        y = place * row
        length = max(value, 0) / top * (width - left - 50)
        parts.append(
            f'<text x="{left - 8}" y="{y + 14}" class="right">{cut(name, left - 10)}</text>'
            f'<rect x="{left}" y="{y + 3}" width="{length:.1f}" height="14" class="synthetic">'
            f"<title>{escape(name)}: {value:.4f}</title></rect>"
            f'<text x="{left + length + 5:.1f}" y="{y + 14}">{value:.3f}</text>'
        )
    return _picture(width, max(row * len(rows), row), "".join(parts))


def heat_map(names: Sequence[str], values: Sequence[Sequence[float]]) -> str:
    """Draw a square of cells, values ``(D, D)`` in [-1, 1]: the strength is the opacity, the sign the colour."""
    margin = 92
    cell = min(24.0, max(11.5, 250 / max(len(names), 1)))
    side = margin + cell * len(names)
    parts = []
    for i, name in enumerate(names):
        middle = margin + (i + 0.5) * cell
        parts.append(f'<text x="{margin - 5}" y="{middle + 4:.1f}" class="right">{cut(name, margin - 8)}</text>')
        parts.append(
            f'<text transform="translate({middle + 4:.1f} {margin - 5}) rotate(-90)">{cut(name, margin - 8)}</text>'
        )
        parts += [_cell(margin + j * cell, margin + i * cell, cell, value, (name, names[j]))
                  for j, value in enumerate(values[i]) if j != i]  # fmt: skip
    return _picture(side, side, "".join(parts))


def _cell(x: float, y: float, size: float, value: float, names: tuple[str, str]) -> str:
    kind = "more" if value >= 0 else "less"
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{size - 1:.1f}" height="{size - 1:.1f}" class="{kind}" '
        f'fill-opacity="{0.04 + 0.96 * min(abs(value), 1):.2f}">'
        f"<title>{escape(names[0])} and {escape(names[1])}: {value:.3f}</title></rect>"
    )


def curve(points: Sequence[tuple[float, float]], size: int = 240) -> str:
    """Draw a ROC curve, points in the unit square, with the line of guessing."""
    margin = 18
    path = " ".join(f"{margin + x * size:.1f},{size - y * size + 4:.1f}" for x, y in points)
    return _picture(
        size + margin + 4,
        size + 24,
        f'<rect x="{margin}" y="4" width="{size}" height="{size}" class="frame"/>'
        f'<line x1="{margin}" y1="{size + 4}" x2="{margin + size}" y2="4" class="guess"/>'
        f'<polyline points="{path}" class="curve"/>'
        f'<text x="{margin + size / 2}" y="{size + 19}" class="middle">real rows called synthetic</text>'
        f'<text transform="translate(12 {size / 2 + 4}) rotate(-90)" class="middle">synthetic rows found</text>',
    )


def _picture(width: float, height: float, content: str) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg {size} role="img">{content}</svg>'
