"""Evidence as tables and sentences of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cfdg_experiments.cells.results import CellResult
from cfdg_experiments.reports.evidence import FINAL, Contrast, SuiteSummary, contrasts, suite_summaries
from cfdg_experiments.reports.header import ReportHeader
from cfdg_experiments.reports.statistics import Estimate

READING = (
    "Comparisons: differences of paired seeds in normalised score, averaged over datasets, with their 95 % t interval, "
    "and p after Holm's correction over the arms of an algorithm. A verdict other than unresolved needs an interval "
    "without 0 and a corrected p below 0.05; differences that are all equal have no interval and the p of their signs, "
    "which is below 0.05 from six on. The final score is the primary outcome; the area is the mean height of the "
    "learning curve. P(better): share of paired seeds, ties half."
)
SUITE_READING = (
    "Over datasets: interquartile mean and optimality gap (what final scores lack of 100) of the runs of all datasets; "
    "brackets are 95 % bootstrap intervals stratified over datasets, which are narrow for few seeds."
)


@dataclass(frozen=True)
class TextTable:
    """A table of words: its title, the titles of its columns, and its lines."""

    title: str
    columns: tuple[str, ...]
    lines: list[list[str]]


@dataclass(frozen=True)
class Evidence:
    """Contrasts and suite summaries of a report, computed once.

    Attributes:
        contrasts: arms against their references, and the paper's claims.
        suites: arms over datasets.
    """

    contrasts: list[Contrast]
    suites: list[SuiteSummary]

    @classmethod
    def of(cls, results: Sequence[CellResult], header: ReportHeader) -> Evidence:
        """Compute both."""
        return cls(contrasts(results, header), suite_summaries(results, header))

    def tables(self, header: ReportHeader) -> list[TextTable]:
        """Return the tables that have lines."""
        found = []
        for algorithm in header.algorithms:
            found += [self._comparisons(algorithm), self._suite(algorithm)]
        return [table for table in found if table.lines]

    def readings(self) -> list[str]:
        """Explain the tables that are there."""
        return [READING] * bool(self.contrasts) + [SUITE_READING] * bool(self.suites)

    def claims(self, header: ReportHeader) -> list[str]:
        """Print the paper's caption and reading, then what our own runs say about the same arms."""
        if header.paper is None:
            return []
        item = header.paper
        lines = [f"The paper's {item.name}: “{item.caption}” Its reading: “{item.reading}”"]
        ours = [one for one in self.contrasts if one.family == "claims" and one.outcome == FINAL.name]
        said = "; ".join(_claim_text(one, len(header.algorithms) > 1) for one in ours)
        return [*lines, *([f"Our runs on the same arms, final score: {said}."] if said else [])]

    def _comparisons(self, algorithm: str) -> TextTable:
        own = [one for one in self.contrasts if one.algorithm == algorithm and one.family == "arms"]
        most = max((one.datasets for one in own), default=0)
        over = f" over {'up to ' * (len({one.datasets for one in own}) > 1)}{most} dataset{'s' * (most > 1)}"
        columns = ("arm − reference", "outcome", "difference", "Holm p", "verdict", "P(better)")
        return TextTable(f"{algorithm.upper()}: comparisons{over}", columns, [_contrast_line(one) for one in own])

    def _suite(self, algorithm: str) -> TextTable:
        columns = ("arm", "datasets", "interquartile mean", "optimality gap", "P(better)", "seconds a cell")
        lines = [_suite_line(one) for one in self.suites if one.algorithm == algorithm]
        return TextTable(f"{algorithm.upper()}: over datasets", columns, lines)


def _suite_line(one: SuiteSummary) -> list[str]:
    better = "–" if one.improvement is None else interval_text(one.improvement, digits=2)
    return [one.arm, str(one.datasets), interval_text(one.iqm), interval_text(one.gap), better, f"{one.seconds:.0f}"]


def _contrast_line(contrast: Contrast) -> list[str]:
    one = contrast.comparison
    name = f"{one.arm} − {contrast.reference}"
    estimate = [interval_text(one.difference, "+"), p_text(one.holm), one.verdict, f"{one.probability:.2f}"]
    return [name, contrast.outcome, *estimate]


def _claim_text(contrast: Contrast, named: bool) -> str:
    one = contrast.comparison
    name = f"{contrast.algorithm.upper()}, " if named else ""
    difference = interval_text(one.difference, "+")
    return f"{name}{one.arm} − {contrast.reference} {difference}, Holm p {p_text(one.holm)}, {one.verdict}"


def interval_text(estimate: Estimate, sign: str = "", digits: int = 1) -> str:
    """Write ``+3.1 [-1.0, 7.2]``, without brackets where there is no interval."""
    mean = f"{estimate.mean:{sign}.{digits}f}"
    if math.isnan(estimate.low):
        return mean
    return f"{mean} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def p_text(p: float) -> str:
    """Write a p-value with two significant digits, a dash where there is none."""
    return "–" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.2g}"
