"""Summary of a table: rows, means and differences of its finished cells.

The paper's numbers stand in fields of their own and never enter a mean, difference or interval of ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cfdg_experiments.cells.results import CellResult
from cfdg_experiments.reports.header import ReportHeader
from cfdg_experiments.reports.published import PAPER_ARMS, published
from cfdg_experiments.reports.statistics import Estimate, mean_interval, mean_over_tasks, paired_scores

PENDING = "pending"  # the text of a cell that is not finished


@dataclass(frozen=True)
class ArmSummary:
    """One arm of one row: its score before online training, after it, and averaged over the last evaluations."""

    offline: Estimate
    final: Estimate
    late: Estimate


@dataclass(frozen=True)
class PaperScore:
    """The paper's number beside a row; ``std`` is NaN in a row of means."""

    mean: float
    std: float


@dataclass(frozen=True)
class Row:
    """One line of the table; what is missing from ``arms`` is pending.

    Attributes:
        algorithm: the group.
        dataset: with its source; in a row of means, how many datasets it covers.
        behaviour: mean normalised score of the dataset's own episodes, or None while no cell is finished.
        arms: summaries of the finished arms.
        differences: arm minus its reference in the final score, for arms finished like their reference.
        paper: the paper's numbers by arm, where it has them.
        is_mean: true of a mean over datasets.
    """

    algorithm: str
    dataset: str
    behaviour: float | None
    arms: Mapping[str, ArmSummary]
    differences: Mapping[str, Estimate]
    paper: Mapping[str, PaperScore]
    is_mean: bool = False


def summarise(results: Sequence[CellResult], header: ReportHeader) -> list[Row]:
    """Make one row per algorithm and dataset in the header's order, and a row of means after each algorithm."""
    cells: dict[tuple[str, str, str], CellResult] = {result.key: result for result in results}
    rows = []
    for algorithm in header.algorithms:
        datasets = header.datasets_of(algorithm)
        found = [
            {arm: cells[dataset, algorithm, arm] for arm in header.arms if (dataset, algorithm, arm) in cells}
            for dataset in datasets
        ]
        pairs = zip(datasets, found, strict=True)
        group = [_dataset_row(algorithm, dataset, arms, header) for dataset, arms in pairs]
        rows += group
        if len(datasets) > 1:
            complete = [index for index, arms in enumerate(found) if len(arms) == len(header.arms)]
            rows.append(_mean_row([group[i] for i in complete], [found[i] for i in complete], algorithm, header))
    return rows


def _dataset_row(algorithm: str, dataset: str, arms: Mapping[str, CellResult], header: ReportHeader) -> Row:
    summaries = {
        arm: ArmSummary(mean_interval(cell.offline), mean_interval(cell.final), mean_interval(cell.late))
        for arm, cell in arms.items()
    }
    pairs = [(arm, reference) for arm, reference in header.pairs() if arm in arms and reference in arms]
    differences = {arm: mean_interval(_gaps(arms, reference, arm)) for arm, reference in pairs}
    numbers = {arm: published(dataset, algorithm, arm) for arm in PAPER_ARMS}
    paper = {arm: PaperScore(score.mean, score.std) for arm, score in numbers.items() if score is not None}
    behaviour = next((cell.behaviour_score for cell in arms.values()), None)
    return Row(
        algorithm=algorithm,
        dataset=dataset,
        behaviour=behaviour,
        arms=summaries,
        differences=differences,
        paper=paper,
    )


def _mean_row(rows: Sequence[Row], found: Sequence[Mapping[str, CellResult]], name: str, header: ReportHeader) -> Row:
    """Average over the datasets that have every arm, so that all columns are of the same datasets."""
    title = f"mean of {len(rows)}/{len(header.datasets_of(name))}"
    if not rows:
        return Row(name, title, behaviour=None, arms={}, differences={}, paper={}, is_mean=True)
    arms = {
        arm: ArmSummary(
            mean_over_tasks([cells[arm].offline for cells in found]),
            mean_over_tasks([cells[arm].final for cells in found]),
            mean_over_tasks([cells[arm].late for cells in found]),
        )
        for arm in header.arms
    }
    differences = {
        arm: mean_over_tasks([_gaps(cells, reference, arm) for cells in found]) for arm, reference in header.pairs()
    }
    behaviour = float(np.mean([math.nan if row.behaviour is None else row.behaviour for row in rows]))
    return Row(
        algorithm=name,
        dataset=title,
        behaviour=behaviour,
        arms=arms,
        differences=differences,
        paper=_paper_means(rows),
        is_mean=True,
    )


def _gaps(cells: Mapping[str, CellResult], reference: str, arm: str) -> np.ndarray:
    """Return the final scores ``(n,)`` of the arm minus those of the reference."""
    base = cells[reference]
    other = cells[arm]
    return np.diff(paired_scores(base.final, base.seeds, other.final, other.seeds), axis=0)[0]


def _paper_means(rows: Sequence[Row]) -> dict[str, PaperScore]:
    """Average the paper's means over the same datasets, if it has all of them."""
    if not all(row.paper for row in rows):
        return {}
    return {arm: PaperScore(float(np.mean([row.paper[arm].mean for row in rows])), math.nan) for arm in rows[0].paper}
