"""Evidence for the arms of a table: paired differences corrected for their number, and summaries over its datasets.

Seeds are paired, for both arms of a seed share the offline checkpoint and the evaluation seeds. Holm's correction is
over the arms of one algorithm, for each outcome by itself; the paper's claims are a family of their own. Columns of a
grid that hold the same runs are one arm there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cfdg_experiments.cells.results import CellResult
from cfdg_experiments.reports.comparisons import (
    Comparison,
    area_under_curve,
    bootstrap_over_tasks,
    compare,
    interquartile_mean,
    optimality_gap,
    probability_of_improvement,
)
from cfdg_experiments.reports.header import ReportHeader
from cfdg_experiments.reports.published import Claim
from cfdg_experiments.reports.statistics import Estimate, Strata, paired_scores
from cfdg_experiments.reports.text_table import csv_table

RESAMPLES = 5_000

_COLUMNS = ["algorithm", "family", "outcome", "arm", "reference", "datasets", "mean", "low", "high", "p", "holm"]
_COLUMNS += ["verdict", "probability"]


@dataclass(frozen=True)
class Outcome:
    """A number that each seed of a cell ends with.

    Attributes:
        name: for titles.
        of: maps a cell to ``(R,)`` values, one per seed.
    """

    name: str
    of: Callable[[CellResult], np.ndarray]


def mean_height(cell: CellResult) -> np.ndarray:
    """Return the mean height ``(R,)`` of a cell's curves, which are the scores themselves after a single evaluation."""
    return area_under_curve(cell.steps, cell.scores) if len(cell.steps) > 1 else cell.final


FINAL = Outcome("final score", lambda cell: cell.final)
AREA = Outcome("area", mean_height)
OUTCOMES = (FINAL, AREA)  # the first is the primary one


@dataclass(frozen=True)
class Contrast:
    """An arm against a reference in one outcome, over the datasets that have both.

    Attributes:
        algorithm: the group.
        family: "arms" or "claims": the differences that are corrected together.
        outcome: name of the outcome.
        reference: name of the other arm.
        datasets: how many have both.
        comparison: mean difference, p-values and verdict.
    """

    algorithm: str
    family: str
    outcome: str
    reference: str
    datasets: int
    comparison: Comparison


@dataclass(frozen=True)
class SuiteSummary:
    """Summary of an arm over all datasets on which every arm is finished.

    Attributes:
        algorithm: the group.
        arm: name of the arm.
        datasets: how many there are.
        iqm: interquartile mean of the final scores, with its bootstrap interval.
        gap: optimality gap, the mean of what final scores lack of 100.
        improvement: probability that a seed improves on its reference; None for an arm without one.
        seconds: mean wall time of a cell, all seeds side by side.
    """

    algorithm: str
    arm: str
    datasets: int
    iqm: Estimate
    gap: Estimate
    improvement: Estimate | None
    seconds: float


def contrasts(results: Sequence[CellResult], header: ReportHeader) -> list[Contrast]:
    """Compare every arm with its reference, and the pairs that the paper makes claims about."""
    cells = by_algorithm(results)
    claims = [(claim.arm, claim.than) for claim in claims_of(header)]
    families = {"arms": header.pairs(), "claims": claims}
    tests = [
        ((algorithm, family), header.distinct(algorithm, pairs))
        for algorithm in header.algorithms
        for family, pairs in families.items()
    ]
    return [
        contrast
        for place, pairs in tests
        for outcome in OUTCOMES
        for contrast in _family(cells.get(place[0], {}), pairs, outcome, place)
    ]


def claims_of(header: ReportHeader) -> list[Claim]:
    """List the paper's claims about arms that this table has."""
    claims = header.paper.claims if header.paper else ()
    return [claim for claim in claims if claim.arm in header.arms and claim.than in header.arms]


def by_algorithm(results: Sequence[CellResult]) -> dict[str, dict[str, dict[str, CellResult]]]:
    """Sort cells by algorithm, arm and dataset."""
    found: dict[str, dict[str, dict[str, CellResult]]] = {}
    for cell in results:
        found.setdefault(cell.algorithm, {}).setdefault(cell.arm, {})[cell.dataset] = cell
    return found


def _family(
    arms: Mapping[str, Mapping[str, CellResult]],
    pairs: Sequence[tuple[str, str]],
    outcome: Outcome,
    place: tuple[str, str],
) -> Iterator[Contrast]:
    """Compare the pairs whose arms have a dataset in common, corrected together."""
    known = {pair: strata for pair in pairs if (strata := _strata(arms, *pair, outcome))}
    found = compare({f"{arm} - {reference}": strata for (arm, reference), strata in known.items()})
    for ((arm, reference), strata), one in zip(known.items(), found, strict=True):
        comparison = Comparison(arm, one.difference, one.p, one.holm, one.probability)
        yield Contrast(*place, outcome.name, reference, len(strata), comparison)


def _strata(arms: Mapping[str, Mapping[str, CellResult]], arm: str, reference: str, outcome: Outcome) -> Strata:
    """Return outcomes ``(2, n)`` of reference and arm for each dataset that has both."""
    mine = arms.get(arm, {})
    theirs = arms.get(reference, {})
    both = [(theirs[name], mine[name]) for name in mine if name in theirs]
    return [paired_scores(outcome.of(base), base.seeds, outcome.of(other), other.seeds) for base, other in both]


def suite_summaries(results: Sequence[CellResult], header: ReportHeader) -> list[SuiteSummary]:
    """Summarise the arms over datasets: two at least on which all arms are finished, with two seeds or more."""
    rng = np.random.default_rng(header.bootstrap_seed)
    references = dict(header.pairs())
    found = []
    for algorithm, arms in complete_suites(results, header).items():
        for arm, cells in arms.items():
            finals = [cell.final for cell in cells]
            iqm = bootstrap_over_tasks(interquartile_mean, finals, rng, resamples=RESAMPLES)
            gap = bootstrap_over_tasks(optimality_gap, finals, rng, resamples=RESAMPLES)
            base = arms.get(references.get(arm, ""))
            better = None if base is None else _improvement(base, cells, rng)
            seconds = float(np.mean([cell.seconds for cell in cells]))
            summary = SuiteSummary(algorithm, arm, len(cells), iqm, gap, improvement=better, seconds=seconds)
            found.append(summary)
    return found


def _improvement(base: Sequence[CellResult], cells: Sequence[CellResult], rng: np.random.Generator) -> Estimate:
    pairs = [paired_scores(b.final, b.seeds, c.final, c.seeds) for b, c in zip(base, cells, strict=True)]
    gaps = [other - reference for reference, other in pairs]
    return bootstrap_over_tasks(probability_of_improvement, gaps, rng, resamples=RESAMPLES)


def complete_suites(results: Sequence[CellResult], header: ReportHeader) -> dict[str, dict[str, list[CellResult]]]:
    """List the cells by algorithm and arm, of the datasets on which all arms are finished, if there are two or more."""
    if len(header.seeds) < 2:
        return {}
    cells = by_algorithm(results)
    suites = {}
    for algorithm in header.algorithms:
        arms = cells.get(algorithm, {})
        own = [arms.get(arm, {}) for arm in header.arms]
        names = [name for name in header.datasets_of(algorithm) if all(name in cells_of_arm for cells_of_arm in own)]
        if len(names) > 1:
            suites[algorithm] = {arm: [arms[arm][name] for name in names] for arm in header.arms}
    return suites


def comparisons_csv(found: Sequence[Contrast]) -> str:
    """Write one line per contrast."""
    return csv_table(_COLUMNS, [_record(contrast) for contrast in found])


def _record(contrast: Contrast) -> dict[str, object]:
    one = contrast.comparison
    return {
        "algorithm": contrast.algorithm,
        "family": contrast.family,
        "outcome": contrast.outcome,
        "arm": one.arm,
        "reference": contrast.reference,
        "datasets": contrast.datasets,
        "mean": one.difference.mean,
        "low": one.difference.low,
        "high": one.difference.high,
        "p": one.p,
        "holm": one.holm,
        "verdict": one.verdict,
        "probability": one.probability,
    }
