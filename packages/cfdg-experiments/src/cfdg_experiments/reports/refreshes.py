"""Refreshes of the generators, as the cells logged them: means for a report, and every value as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cfdg_experiments.cells.results import CellResult
from cfdg_experiments.reports.evidence_text import TextTable
from cfdg_experiments.reports.header import ReportHeader, short_name
from cfdg_experiments.reports.text_table import csv_table

PREFIX = "refresh/"
READING = (
    "Refreshes: means over seeds and refreshes, of several between two evaluations the last one. swd: sliced "
    "Wasserstein distance to real rows of the label, beside swd_real, that of two draws of real rows; novelty: 1 for a "
    "fresh draw, 0 for copies; copies: .05 for a fresh draw; dynamics, reward, end and impossible: against the "
    "simulator, where the environment can be set to a state."
)
_COLUMNS = ("dataset", "algorithm", "arm", "seed", "step", "metric", "value")


def refresh_tables(results: Sequence[CellResult], header: ReportHeader) -> list[TextTable]:
    """Make a table of means per algorithm and dataset: a line per measure, a column per arm that has any."""
    found = []
    for algorithm in header.algorithms:
        for dataset in header.datasets_of(algorithm):
            cells = [cell for cell in results if (cell.algorithm, cell.dataset) == (algorithm, dataset)]
            means = {cell.arm: own for cell in cells if (own := refresh_means(cell))}
            names = list(dict.fromkeys(name for own in means.values() for name in own))
            lines = [[name, *(_number(own.get(name)) for own in means.values())] for name in names]
            title = f"{algorithm.upper()}, {short_name(dataset, header)}: what a refresh made"
            found.append(TextTable(title, ("measure", *means), lines))
    return [table for table in found if table.lines]


def refresh_means(cell: CellResult) -> dict[str, float]:
    """Average each measure of a cell's refreshes over seeds and refreshes, without the prefix of its name."""
    curves = {name.removeprefix(PREFIX): curve for name, curve in _curves(cell)}
    return {name: float(np.nanmean(curve)) for name, curve in curves.items()}


def refreshes_csv(results: Sequence[CellResult]) -> str:
    """Write every value in long format; the seed is empty for a measure that seeds share."""
    return csv_table(_COLUMNS, [record for cell in results for record in _records(cell)])


def has_refreshes(results: Sequence[CellResult]) -> bool:
    """Tell if any cell measured a refresh."""
    return any(True for cell in results for _ in _curves(cell))


def _curves(cell: CellResult) -> Iterator[tuple[str, np.ndarray]]:
    """List the measures that have a value at all."""
    for name, curve in cell.metrics.items():
        if name.startswith(PREFIX) and np.isfinite(curve).any():
            yield name, curve


def _records(cell: CellResult) -> Iterator[dict[str, object]]:
    for name, curve in _curves(cell):
        seeds: tuple[object, ...] = cell.seeds if curve.ndim == 2 else ("",)
        for seed, values in zip(seeds, np.atleast_2d(curve), strict=True):
            for step, value in zip(cell.steps, values, strict=True):
                if np.isfinite(value):
                    place = (*cell.key, seed, int(step), name.removeprefix(PREFIX), float(value))
                    yield dict(zip(_COLUMNS, place, strict=True))


def _number(value: float | None) -> str:
    """Write four significant digits; a dash where an arm lacks the measure."""
    return "–" if value is None else f"{value:.4g}"
