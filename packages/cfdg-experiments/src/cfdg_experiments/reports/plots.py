"""Pictures of a table: learning curves, final scores with the paired differences, and performance profiles.

Drawn with the object interface and the Agg canvas: no display, no pyplot, no global state. Colours are those of Okabe
and Ito ("Color Universal Design", 2008), which people with any colour vision tell apart.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cfdg_experiments.cells.results import CellResult, replace_file
from cfdg_experiments.reports.comparisons import performance_profile, profile_band
from cfdg_experiments.reports.evidence import complete_suites
from cfdg_experiments.reports.header import ReportHeader, caption, count, deviations, short_name
from cfdg_experiments.reports.statistics import Estimate, mean_band
from cfdg_experiments.reports.summary import Row, summarise

ARM_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")  # Okabe and Ito
GREY = "#666666"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PANEL = (3.4, 2.5)  # inches
FOOT = 0.42  # inches
COLUMNS = 4  # panels in a row at most
BAND_SEEDS = 5  # a band of fewer seeds would be wider than the panel
DOTS_PER_INCH = 150


@dataclass(frozen=True)
class Abscissa:
    """The horizontal axis of learning curves.

    Attributes:
        label: its title.
        of: places ``(K,)`` of a cell's evaluations; NaN where they are not known.
    """

    label: str
    of: Callable[[CellResult], np.ndarray]


def elapsed(cell: CellResult) -> np.ndarray:
    """Return the wall seconds ``(K,)`` after which a cell was evaluated, from its logged throughput; NaN without it."""
    rate = cell.metrics.get("throughput/env_steps_per_second", np.full(len(cell.steps), math.nan))
    seconds = cell.steps / np.atleast_2d(rate)[0]  # all seeds of a cell run side by side
    return np.where(cell.steps == 0, 0.0, seconds)


STEPS = Abscissa("environment steps", lambda cell: cell.steps)
SECONDS = Abscissa("seconds, all seeds side by side", elapsed)


def learning_curves(
    results: Sequence[CellResult],
    header: ReportHeader,
    refresh_steps: Mapping[str, Sequence[int]] | None = None,
    over: Abscissa = STEPS,
) -> Figure:
    """Draw mean scores with the 95 % t interval over seeds, of few seeds each one, a panel per dataset.

    Args:
        results: the finished cells; panels of unfinished datasets say so.
        header: what the table holds; each algorithm begins a new line of panels.
        refresh_steps: by algorithm, the environment steps at which the generator was refitted, drawn as ticks at the
            foot of each panel.
        over: the horizontal axis.
    """
    cells: dict[tuple[str, str, str], CellResult] = {result.key: result for result in results}
    figure, panels = _panel_grid(header)
    for (algorithm, dataset), axes in panels.items():
        arms = {arm: cells[dataset, algorithm, arm] for arm in header.arms if (dataset, algorithm, arm) in cells}
        _curve_panel(axes, arms, header, over)
        if arms:
            _refresh_ticks(axes, (refresh_steps or {}).get(algorithm, ()))
        axes.set_title(_panel_title(algorithm, dataset, header), fontsize=10)
    _finish(figure, panels, header, over.label)
    return figure


def final_scores(results: Sequence[CellResult], header: ReportHeader) -> Figure:
    """Draw the final score of each arm, and its paired difference from the reference: two panels per algorithm."""
    rows = [row for row in summarise(results, header) if row.arms]
    groups = {algorithm: [row for row in rows if row.algorithm == algorithm] for algorithm in header.algorithms}
    groups = {algorithm: group for algorithm, group in groups.items() if group}
    row = max(0.34, 0.11 * len(header.arms))  # inches
    heights = [1.2 + row * len(group) for group in groups.values()]
    figure = _figure(9.0, sum(heights) + 1.1)
    axes = figure.subplots(len(groups), 2, squeeze=False, sharey="row", height_ratios=heights)
    for (left, right), (algorithm, group) in zip(axes, groups.items(), strict=True):
        _point_panels(left, right, group, header)
        left.set_title(f"{algorithm.upper()}: final score", fontsize=10)
        reference = "the reference" if header.references else header.arms[0]
        right.set_title(f"{algorithm.upper()}: difference from {reference}, paired seeds", fontsize=10)
    _captions(figure, axes[0][0], header, "points: mean, bars: 95 % t interval over seeds")
    return figure


def performance_profiles(results: Sequence[CellResult], header: ReportHeader) -> Figure | None:
    """Draw the share of runs whose final score is above each threshold, a panel per algorithm.

    Runs are of the datasets on which all arms are finished; with fewer than two of those there is no picture.
    """
    suites = complete_suites(results, header)
    if not suites:
        return None
    figure = _figure(max(len(suites) * PANEL[0], 6.0), PANEL[1] + 1.3)
    panels = figure.subplots(1, len(suites), squeeze=False, sharey=True)[0]
    rng = np.random.default_rng(header.bootstrap_seed)
    for axes, (algorithm, arms) in zip(panels, suites.items(), strict=True):
        _profile_panel(axes, arms, rng)
        axes.set_title(f"{algorithm.upper()}: {len(next(iter(arms.values())))} datasets", fontsize=10)
        axes.set_xlabel("normalised score τ", fontsize=9)
    panels[0].set_ylabel("share of runs above τ", fontsize=9)
    _captions(figure, panels[0], header, "band: 95 % bootstrap, stratified over datasets")
    return figure


def _profile_panel(axes: Axes, arms: Mapping[str, Sequence[CellResult]], rng: np.random.Generator) -> None:
    finals = {arm: [cell.final for cell in cells] for arm, cells in arms.items()}
    pooled = np.concatenate([score for scores in finals.values() for score in scores])
    thresholds = np.linspace(pooled.min() - 1, pooled.max() + 1, 201)
    for index, (arm, scores) in enumerate(finals.items()):
        style = _line_style(index)
        axes.plot(thresholds, performance_profile(scores, thresholds), label=arm, linewidth=1.6, **style)
        low, high = profile_band(scores, thresholds, rng)
        axes.fill_between(thresholds, low, high, color=style["color"], alpha=0.12, linewidth=0)
    axes.margins(x=0.02)
    _tidy(axes)


def _line_style(index: int) -> dict[str, Any]:
    """Choose colour and dashes of an arm: the reference is solid, and a colour's second use is dotted."""
    dashes = "-" if index == 0 else (0, (6, 1)) if index < len(ARM_COLOURS) else (0, (1, 1))
    return {"color": ARM_COLOURS[index % len(ARM_COLOURS)], "linestyle": dashes}


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG under a temporary name and rename it."""
    replace_file(path, lambda temporary: figure.savefig(temporary, dpi=DOTS_PER_INCH, metadata={"Software": "cfdg"}))


def _figure(width: float, height: float) -> Figure:
    foot = FOOT / height  # the caption stands below the layout
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(rect=(0, foot, 1, 1 - foot)))
    FigureCanvasAgg(figure)
    return figure


def _places(header: ReportHeader) -> dict[tuple[str, str], tuple[int, int]]:
    """Place the panels by (algorithm, dataset) in lines of at most four, each algorithm in lines of its own.

    Algorithms with a single dataset each share a line.
    """
    datasets = {algorithm: header.datasets_of(algorithm) for algorithm in header.algorithms}
    most = max(map(len, datasets.values()))
    if most == 1 and len(datasets) <= COLUMNS:
        keys = [(algorithm, own[0]) for algorithm, own in datasets.items() if own]
        return {key: (0, column) for column, key in enumerate(keys)}
    lines = math.ceil(most / COLUMNS)
    return {
        (algorithm, dataset): (block * lines + place // COLUMNS, place % COLUMNS)
        for block, (algorithm, own) in enumerate(datasets.items())
        for place, dataset in enumerate(own)
    }


def _panel_grid(header: ReportHeader) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """Make the axes by (algorithm, dataset); unused places stay empty."""
    places = _places(header)
    lines, columns = (1 + max(numbers) for numbers in zip(*places.values(), strict=True))
    figure = _figure(max(columns * PANEL[0], 6.0), lines * PANEL[1] + 1.1)
    grid = figure.subplots(lines, columns, squeeze=False)
    used = set(places.values())
    for place in np.ndindex(grid.shape):
        if place not in used:
            grid[place].remove()
    return figure, {key: grid[place] for key, place in places.items()}


def _curve_panel(axes: Axes, arms: dict[str, CellResult], header: ReportHeader, over: Abscissa) -> None:
    for arm, cell in arms.items():
        mean, low, high = mean_band(cell.scores)
        style = _line_style(header.arms.index(arm))
        places = over.of(cell)
        axes.plot(places, mean, label=arm, linewidth=1.6, **style)
        if len(cell.seeds) >= BAND_SEEDS:
            axes.fill_between(places, low, high, color=style["color"], alpha=0.15, linewidth=0)
        thin = np.stack([low, high]) if len(cell.seeds) >= BAND_SEEDS else cell.scores
        if len(cell.seeds) > 1:
            axes.plot(places, thin.T, color=style["color"], alpha=0.45, linewidth=0.6)
    if not arms:
        axes.text(0.5, 0.5, "pending", transform=axes.transAxes, ha="center", va="center", color=GREY)
        axes.set(xticks=[], yticks=[])
        return
    behaviour = next(iter(arms.values())).behaviour_score
    if math.isfinite(behaviour):
        axes.axhline(behaviour, color=GREY, linestyle="--", linewidth=1.0, label="dataset's own episodes")
    _limit_to_scores(axes, list(arms.values()), behaviour)


def _limit_to_scores(axes: Axes, cells: Sequence[CellResult], behaviour: float) -> None:
    """Show every seed's score; a band that is wider than the panel is cut there."""
    values = np.concatenate([*[cell.scores.ravel() for cell in cells], [behaviour] if math.isfinite(behaviour) else []])
    margin = 0.12 * max(float(np.ptp(values)), 1.0)
    axes.set_ylim(float(values.min()) - margin, float(values.max()) + margin)
    axes.margins(x=0.02)


def _refresh_ticks(axes: Axes, steps: Sequence[int]) -> None:
    if len(steps):
        label = "generator refreshed"
        axes.vlines(steps, 0.0, 0.05, transform=axes.get_xaxis_transform(), color=GREY, linewidth=0.8, label=label)


def _panel_title(algorithm: str, dataset: str, header: ReportHeader) -> str:
    name = short_name(dataset, header)
    return f"{algorithm.upper()}, {name}" if len(header.algorithms) > 1 else name


def _finish(figure: Figure, panels: dict[tuple[str, str], Axes], header: ReportHeader, label: str) -> None:
    for axes in panels.values():
        if not axes.lines:
            continue
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(round(value))))
        _tidy(axes)
    places = _places(header)
    lowest = {column: line for line, column in sorted(places.values())}
    for key, axes in panels.items():
        line, column = places[key]
        if line == lowest[column]:
            axes.set_xlabel(label, fontsize=9)
        if column == 0:
            axes.set_ylabel("normalised score", fontsize=9)
    fullest = max(panels.values(), key=lambda axes: len(axes.get_legend_handles_labels()[1]))
    band = "band: 95 % t interval over seeds, cut at the panel"
    _captions(figure, fullest, header, band if len(header.seeds) >= BAND_SEEDS else "thin lines: seeds")


def _tidy(axes: Axes) -> None:
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _captions(figure: Figure, source: Axes, header: ReportHeader, reading: str) -> None:
    """Write the legend above; below, the run, how to read it, and a warning where it is not the paper's protocol."""
    handles, labels = source.get_legend_handles_labels()
    if handles:
        sizes = [len(label) + 7 for label in labels]  # with the line before it
        room = int(figure.get_figwidth() * 13)  # characters in a line
        ncols = len(labels) if sum(sizes) <= room else max(1, room // max(sizes))
        figure.legend(handles, labels, loc="outside upper center", ncols=ncols, frameon=False, fontsize=9)
    warning = "Not a reproduction of the paper. " if deviations(header) else ""
    text = f"{warning}{caption(header)} {reading[0].upper()}{reading[1:]}."
    width = int(figure.get_figwidth() * 16)  # characters of 8 points to a line
    figure.text(0.01, 0.01, textwrap.fill(text, width), fontsize=8, color=GREY, va="bottom", ha="left")


def _point_panels(left: Axes, right: Axes, rows: Sequence[Row], header: ReportHeader) -> None:
    """Draw final scores left and differences right, first dataset on top; arms of a row stand slightly apart."""
    heights = np.arange(len(rows), dtype=float)[::-1]
    for index, arm in enumerate(header.arms):
        offset = min(0.12, 0.8 / len(header.arms)) * ((len(header.arms) - 1) / 2 - index)
        _points(left, heights + offset, [row.arms[arm].final if arm in row.arms else None for row in rows], index, arm)
        if index:
            _points(right, heights + offset, [row.differences.get(arm) for row in rows], index, arm)
    right.axvline(0.0, color=GREY, linewidth=1.0)
    left.set_yticks(heights, [row.dataset if row.is_mean else short_name(row.dataset, header) for row in rows])
    left.set_ylim(-0.6, len(rows) - 0.4)
    left.set_xlabel("normalised score", fontsize=9)
    right.set_xlabel("difference in normalised score", fontsize=9)
    for axes in (left, right):
        _tidy(axes)


def _points(axes: Axes, heights: np.ndarray, estimates: Sequence[Estimate | None], index: int, label: str) -> None:
    known = [(height, found) for height, found in zip(heights, estimates, strict=True) if found is not None]
    if known:
        spread = np.nan_to_num([found.half_width for _, found in known])
        axes.errorbar(
            [found.mean for _, found in known], [height for height, _ in known], xerr=spread, label=label,
            fmt=MARKERS[index % len(MARKERS)], color=ARM_COLOURS[index % len(ARM_COLOURS)], markersize=5, capsize=2.5,
        )  # fmt: skip
