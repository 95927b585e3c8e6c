"""Scores of a table as lines: wide for up to three arms, else a line per arm; the paper's columns stand last."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from cfdg_experiments.cells.results import CellKey
from cfdg_experiments.reports.header import ReportHeader, arm_title, short_name
from cfdg_experiments.reports.published import PAPER_ARMS, paper_label
from cfdg_experiments.reports.statistics import Estimate
from cfdg_experiments.reports.summary import PENDING, Row
from cfdg_experiments.reports.text_table import markdown_table, rich_table

WIDE = 100  # columns of a terminal that leave room between the columns of the table
MOST_ARMS = 3  # side by side in one line


def number_text(estimate: Estimate, sign: str = "") -> str:
    """Write ``52.3±4.1``; without ± where the seeds are too few."""
    spread = "" if math.isnan(estimate.half_width) else f"±{estimate.half_width:.1f}"
    return f"{estimate.mean:{sign}.1f}{spread}"


def _arm_text(row: Row, arm: str, running: Mapping[CellKey, str]) -> str:
    if arm in row.arms:
        return f"{row.arms[arm].offline.mean:.1f} → {number_text(row.arms[arm].final)}"
    return "" if row.is_mean else running.get(CellKey(row.dataset, row.algorithm, arm), PENDING)


def _paper_text(row: Row, arm: str) -> str:
    score = row.paper.get(arm)
    if score is None:
        return "–"
    return f"{score.mean:.1f}" if math.isnan(score.std) else f"{score.mean:.0f}±{score.std:.0f}"


def is_long(header: ReportHeader) -> bool:
    """Tell if every arm has a line of its own: there are many, or their names hold settings."""
    return len(header.arms) > MOST_ARMS or any("=" in arm for arm in header.arms)


def column_titles(algorithm: str, header: ReportHeader) -> list[str]:
    """List the titles of an algorithm's table."""
    if is_long(header):
        return ["dataset", "arm", "data", algorithm.upper(), "difference", "paper"]
    name = algorithm.upper()
    reference, *others = header.arms
    titles = ["dataset", "data", f"{name} {reference}"]
    references = dict(header.pairs())
    for arm in others:
        gap = f"{arm_title(arm)} − {references.get(arm, reference)}"
        titles += [f"{name} + {arm_title(arm)}", "difference" if len(others) == 1 else gap]
    return [*titles, "paper base", "paper CFDG"]


def row_lines(row: Row, header: ReportHeader, running: Mapping[CellKey, str]) -> list[list[str]]:
    """List the printed cells of one row, in the order of :func:`column_titles`."""
    known = row.behaviour is not None and not math.isnan(row.behaviour)
    name = row.dataset if row.is_mean else short_name(row.dataset, header)
    data = f"{row.behaviour:.1f}" if known else "–"
    if is_long(header):
        return [
            ["" if index else name, arm, "" if index else data, *_scores(row, arm, running), _paper_text(row, arm)]
            for index, arm in enumerate(header.arms)
        ]
    texts = [name, data, _arm_text(row, header.arms[0], running)]
    for arm in header.arms[1:]:
        texts += _scores(row, arm, running)
    return [texts + [_paper_text(row, arm) for arm in PAPER_ARMS]]


def _scores(row: Row, arm: str, running: Mapping[CellKey, str]) -> list[str]:
    difference = row.differences.get(arm)
    return [_arm_text(row, arm, running), number_text(difference, "+") if difference else ""]


@dataclass(frozen=True)
class ScoreTable:
    """The scores of one algorithm, tighter where the terminal is narrow: no number is ever cut."""

    algorithm: str
    rows: Sequence[Row]
    header: ReportHeader
    running: Mapping[CellKey, str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self._empty(gap=1 if options.max_width >= WIDE else 0)
        for row in (row for row in self.rows if row.algorithm == self.algorithm):
            if row.is_mean:
                table.add_section()
            for line in row_lines(row, self.header, self.running):
                table.add_row(*line, style="bold" if row.is_mean else None)
        yield table

    def markdown(self) -> str:
        """Write the table as GitHub Markdown."""
        titles = column_titles(self.algorithm, self.header)
        names = ("",) if is_long(self.header) else ("base ", "CFDG ")
        paper = [f"{name}({paper_label(self.algorithm)})" for name in names]
        own = [row for row in self.rows if row.algorithm == self.algorithm]
        lines = [line for row in own for line in row_lines(row, self.header, {})]
        return markdown_table([*titles[: -len(paper)], *paper], lines)

    def _empty(self, gap: int) -> Table:
        """Make the table without its lines; the paper's columns are dim."""
        title = f"{self.algorithm.upper()}, normalised score" if len(self.header.algorithms) > 1 else "Normalised score"
        last = "last column" if is_long(self.header) else "last two columns"
        foot = f"{last}: {paper_label(self.algorithm)}, ± standard deviation"
        names = column_titles(self.algorithm, self.header)
        paper = [name.startswith("paper") for name in names]
        titles = [name.replace(" ", "\n", 1) if own else name for name, own in zip(names, paper, strict=True)]
        table = rich_table(titles, title=title, foot=foot, gap=gap, words=2 if is_long(self.header) else 1)
        for column, own in zip(table.columns, paper, strict=True):
            column.style = "dim" if own else ""
        return table


def overview(rows: Sequence[Row], header: ReportHeader) -> tuple[list[str], list[list[str]]]:
    """Return titles and lines in the layout of the paper's Table 1: final scores, a column per algorithm and arm."""
    columns = [(algorithm, arm) for algorithm in header.algorithms for arm in header.arms]
    names = [f"{algorithm.upper()}" + ("" if arm == "base" else f" + {arm_title(arm)}") for algorithm, arm in columns]
    known = {(row.dataset, row.algorithm): row for row in rows if not row.is_mean}
    lines = []
    for dataset in header.datasets:
        found = [(known.get((dataset, algorithm)), arm) for algorithm, arm in columns]
        cells = ["–" if row is None else _final_text(row, arm) for row, arm in found]
        lines.append([short_name(dataset, header), *cells])
    return ["dataset, final score", *names], lines


def _final_text(row: Row, arm: str) -> str:
    return number_text(row.arms[arm].final) if arm in row.arms else PENDING
