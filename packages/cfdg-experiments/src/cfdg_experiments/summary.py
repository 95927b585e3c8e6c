"""Summary of a table: rows, means and differences of its finished cells, and deviations from the paper's protocol.

The paper's numbers stand in fields of their own and never enter a mean, difference or interval of ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cfdg_experiments.profile import has_cell
from cfdg_experiments.published import PAPER_ARMS, PAPER_OFFLINE_STEPS, PAPER_ONLINE_STEPS, PAPER_SEEDS, published
from cfdg_experiments.results import CellKey, CellResult
from cfdg_experiments.statistics import (
    Estimate,
    bootstrap,
    interquartile_mean,
    mean_interval,
    mean_over_tasks,
    paired_scores,
    probability_of_improvement,
)

PENDING = "pending"  # the text of a cell that is not finished


@dataclass(frozen=True)
class ReportHeader:
    """Description of a table: everything but its results.

    Attributes:
        profile: name of the profile, such as ``quick``.
        datasets: the rows, in order, with their sources.
        algorithms: the groups, in order.
        offline_steps: pre-training updates, by algorithm.
        online_steps: environment steps of fine-tuning, by algorithm.
        seeds: the seeds that every cell is to have.
        arms: the reference arm first.
        machine: one line about the hardware.
        software: version by package.
        bootstrap_seed: seed of the resampling in the summary lines; the same results give the same file.
    """

    profile: str
    datasets: tuple[str, ...]
    algorithms: tuple[str, ...]
    offline_steps: Mapping[str, int]
    online_steps: Mapping[str, int]
    seeds: tuple[int, ...]
    arms: tuple[str, ...] = ("base", "cfdg")
    machine: str = ""
    software: Mapping[str, str] = field(default_factory=dict)
    bootstrap_seed: int = 0

    @property
    def sources(self) -> str:
        """Sources of the data, such as ``recorded``."""
        return ", ".join(dict.fromkeys(name.partition(":")[0] for name in self.datasets))

    def cells(self) -> list[CellKey]:
        """List every cell of the full table."""
        pairs = [(dataset, name) for name in self.algorithms for dataset in self.datasets_of(name)]
        return [CellKey(*pair, arm) for pair in pairs for arm in self.arms]

    def datasets_of(self, algorithm: str) -> list[str]:
        """List the rows of an algorithm: the paper has no APL on mazes."""
        return [dataset for dataset in self.datasets if has_cell(algorithm, dataset)]


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
        differences: arm minus the reference arm in the final score, for arms finished like the reference.
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
        group = [_dataset_row(algorithm, dataset, arms, header.arms[0]) for dataset, arms in pairs]
        rows += group
        if len(datasets) > 1:
            complete = [index for index, arms in enumerate(found) if len(arms) == len(header.arms)]
            rows.append(_mean_row([group[i] for i in complete], [found[i] for i in complete], algorithm, header))
    return rows


def _dataset_row(algorithm: str, dataset: str, arms: Mapping[str, CellResult], reference: str) -> Row:
    summaries = {
        arm: ArmSummary(mean_interval(cell.offline), mean_interval(cell.final), mean_interval(cell.late))
        for arm, cell in arms.items()
    }
    others = [arm for arm in arms if reference in arms and arm != reference]
    differences = {arm: mean_interval(_gaps(arms, reference, arm)) for arm in others}
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
        arm: mean_over_tasks([_gaps(cells, header.arms[0], arm) for cells in found]) for arm in header.arms[1:]
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


def _paired(cells: Mapping[str, CellResult], reference: str, arm: str) -> np.ndarray:
    """Return the final scores ``(2, n)`` of the reference and the arm."""
    base = cells[reference]
    other = cells[arm]
    return paired_scores(base.final, base.seeds, other.final, other.seeds)


def _gaps(cells: Mapping[str, CellResult], reference: str, arm: str) -> np.ndarray:
    """Return the final scores ``(n,)`` of the arm minus those of the reference."""
    return np.diff(_paired(cells, reference, arm), axis=0)[0]


def _paper_means(rows: Sequence[Row]) -> dict[str, PaperScore]:
    """Average the paper's means over the same datasets, if it has all of them."""
    if not all(row.paper for row in rows):
        return {}
    return {arm: PaperScore(float(np.mean([row.paper[arm].mean for row in rows])), math.nan) for arm in rows[0].paper}


def summary_lines(results: Sequence[CellResult], header: ReportHeader) -> list[str]:
    """Say interquartile mean and probability of improvement per algorithm, over the datasets that have both arms."""
    cells: dict[tuple[str, str, str], CellResult] = {result.key: result for result in results}
    generator = np.random.default_rng(header.bootstrap_seed)
    reference, *others = header.arms
    lines = []
    for algorithm in header.algorithms:
        for arm in others:
            arms = [
                {a: cells.get((dataset, algorithm, a)) for a in (reference, arm)}
                for dataset in header.datasets_of(algorithm)
            ]
            pairs = [_paired(found, reference, arm) for found in map(_complete, arms) if found is not None]
            if len(pairs) > 1 and min(pair.shape[1] for pair in pairs) > 1:
                lines.append(_summary_line(f"{algorithm.upper()}, {reference} against {arm}", pairs, generator))
    return lines


def _complete(cells: Mapping[str, CellResult | None]) -> dict[str, CellResult] | None:
    """Return the cells if none is missing."""
    found = {arm: cell for arm, cell in cells.items() if cell is not None}
    return found if len(found) == len(cells) else None


def _summary_line(title: str, pairs: Sequence[np.ndarray], generator: np.random.Generator) -> str:
    base, other = (bootstrap(interquartile_mean, [pair[i] for pair in pairs], generator) for i in (0, 1))
    chance = bootstrap(probability_of_improvement, pairs, generator)
    return (
        f"{title} ({len(pairs)} datasets): interquartile mean {base.mean:.1f} [{base.low:.1f}, {base.high:.1f}] and "
        f"{other.mean:.1f} [{other.low:.1f}, {other.high:.1f}], probability of improvement {chance.mean:.2f} "
        f"[{chance.low:.2f}, {chance.high:.2f}]; brackets: 95 % bootstrap stratified over datasets, narrow for few "
        "seeds."
    )


def deviations(header: ReportHeader) -> list[str]:
    """List the points in which a run differs from the paper's protocol; empty only for the paper's own."""
    found = [] if header.profile == "paper" else [f"profile {header.profile}"]
    if header.sources != "d4rl" or not all(name.endswith("-v2") for name in header.datasets):
        found.append(f"{header.sources} data (paper: D4RL v2)")
    for steps in dict.fromkeys(header.offline_steps[algorithm] for algorithm in header.algorithms):
        if steps != PAPER_OFFLINE_STEPS:
            found.append(f"{count(steps)} offline updates (paper: {count(PAPER_OFFLINE_STEPS)})")
    for algorithm in header.algorithms:
        ours = header.online_steps[algorithm]
        theirs = PAPER_ONLINE_STEPS.get(algorithm)
        if ours != theirs:
            paper = "none" if theirs is None else count(theirs)
            found.append(f"{count(ours)} environment steps for {algorithm.upper()} (paper: {paper})")
    if len(header.seeds) != PAPER_SEEDS:
        found.append(f"{len(header.seeds)} seeds (paper: {PAPER_SEEDS})")
    return found


def caption(header: ReportHeader) -> str:
    """Say profile, data, steps and seeds in one line, short enough for the foot of a figure."""
    offline, online = (
        " / ".join(dict.fromkeys(count(steps[algorithm]) for algorithm in header.algorithms))
        for steps in (header.offline_steps, header.online_steps)
    )
    seeds = ", ".join(str(seed) for seed in header.seeds)
    return (
        f"Profile {header.profile}, {header.sources} data, {offline} offline updates "
        f"+ {online} environment steps, {len(header.seeds)} seed{'s'[: len(header.seeds) > 1]} ({seeds})."
    )


def short_name(dataset: str, header: ReportHeader) -> str:
    """Leave out the dataset's source where all rows have the same one (the caption names it)."""
    return dataset.partition(":")[2] if "," not in header.sources and ":" in dataset else dataset


def count(number: int) -> str:
    """Write 1000000 as 1M, 20000 as 20k, 1500 as 1.5k."""
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if number >= unit:
            return f"{number / unit:.6g}{name}"
    return str(number)
