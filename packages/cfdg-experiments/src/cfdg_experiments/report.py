"""Report of an experiment: the table of its finished cells beside the paper's numbers, in five formats.

The paper's columns are labelled with its protocol and never enter a mean, difference or interval of ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from cfdg_experiments.published import PAPER_ARMS, paper_label
from cfdg_experiments.records import scores_csv, to_csv
from cfdg_experiments.results import FORMAT, CellKey, CellResult, plain, write_json, write_text
from cfdg_experiments.statistics import Estimate
from cfdg_experiments.summary import (
    PENDING,
    ReportHeader,
    Row,
    caption,
    deviations,
    short_name,
    summarise,
    summary_lines,
)
from cfdg_experiments.text_table import markdown_table, rich_table

WIDE = 100  # columns of a terminal that leave room between the columns of the table
SCORE_CAPTION = (
    "Normalised score: 0 a random policy, 100 the expert. data: mean score of the dataset's own episodes. "
    "Scores: before online training → after it, mean ± half of the 95 % Student t interval over seeds; differences are "
    "paired by seed. Of data without reference returns, scores are raw returns. The paper's ± is a standard deviation "
    "over seeds."
)


def _warning(header: ReportHeader) -> list[str]:
    found = deviations(header)
    return [f"This is not a reproduction of the paper's Table 1: {'; '.join(found)}."] if found else []


def notes(results: Sequence[CellResult], header: ReportHeader) -> list[str]:
    """List the paragraphs that stand below the table."""
    done = sum(key in {result.key for result in results} for key in header.cells())
    state = [f"{done} of {len(header.cells())} cells finished."] if done < len(header.cells()) else []
    software = ", ".join(f"{name} {version}" for name, version in header.software.items())
    made_on = ". ".join(part for part in (header.machine, software) if part)
    return [
        caption(header),
        *_warning(header),
        *state,
        SCORE_CAPTION,
        *summary_lines(results, header),
        *([made_on] if made_on else []),
    ]


def _number(estimate: Estimate, sign: str = "") -> str:
    """Write ``52.3±4.1``; without ± where the seeds are too few."""
    spread = "" if math.isnan(estimate.half_width) else f"±{estimate.half_width:.1f}"
    return f"{estimate.mean:{sign}.1f}{spread}"


def _arm_text(row: Row, arm: str, running: Mapping[CellKey, str]) -> str:
    if arm in row.arms:
        return f"{row.arms[arm].offline.mean:.1f} → {_number(row.arms[arm].final)}"
    return "" if row.is_mean else running.get(CellKey(row.dataset, row.algorithm, arm), PENDING)


def _paper_text(row: Row, arm: str) -> str:
    score = row.paper.get(arm)
    if score is None:
        return "–"
    return f"{score.mean:.1f}" if math.isnan(score.std) else f"{score.mean:.0f}±{score.std:.0f}"


def _cells(row: Row, header: ReportHeader, running: Mapping[CellKey, str]) -> list[str]:
    """List the printed cells of one row, in the order of :func:`_columns`."""
    known = row.behaviour is not None and not math.isnan(row.behaviour)
    reference, *others = header.arms
    texts = [row.dataset if row.is_mean else short_name(row.dataset, header), f"{row.behaviour:.1f}" if known else "–"]
    texts.append(_arm_text(row, reference, running))
    for arm in others:
        difference = row.differences.get(arm)
        texts += [_arm_text(row, arm, running), _number(difference, "+") if difference else ""]
    return texts + [_paper_text(row, arm) for arm in PAPER_ARMS]


def _columns(algorithm: str, header: ReportHeader) -> list[str]:
    name = algorithm.upper()
    reference, *others = header.arms
    titles = ["dataset", "data", f"{name} {reference}"]
    for arm in others:
        titles += [f"{name} + {arm.upper()}", "difference" if len(others) == 1 else f"{arm.upper()} − {reference}"]
    return [*titles, "paper base", "paper CFDG"]


def to_rich(
    results: Sequence[CellResult],
    header: ReportHeader,
    running: Mapping[CellKey, str] | None = None,
    *,
    full: bool = True,
) -> Group:
    """Make the table for a terminal, one block per algorithm; it fits 80 columns, better 100 and more.

    Args:
        results: the finished cells.
        header: what the table is to hold.
        running: text to show in place of "pending", such as "41.2 at 4k".
        full: print all notes; a live display wants only the caption and the warning.
    """
    rows = summarise(results, header)
    tables: list[RenderableType] = [_Block(algorithm, rows, header, running or {}) for algorithm in header.algorithms]
    if full and len(header.algorithms) > 1:
        tables.append(_overview_table(rows, header))
    lines = notes(results, header) if full else [caption(header), *_warning(header)]
    return Group(*tables, *[Text(line, style="dim") for line in lines])


def _overview_table(rows: Sequence[Row], header: ReportHeader) -> Table:
    titles, lines = _overview(rows, header)
    broken = [[cell.replace("±", "\n±") for cell in line] for line in lines]  # six columns fit 80 characters
    return rich_table(titles, broken, title="All algorithms: final scores")


@dataclass(frozen=True)
class _Block:
    """The table of one algorithm, tighter where the terminal is narrow: no number is ever cut."""

    algorithm: str
    rows: Sequence[Row]
    header: ReportHeader
    running: Mapping[CellKey, str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self._empty(gap=1 if options.max_width >= WIDE else 0)
        for row in (row for row in self.rows if row.algorithm == self.algorithm):
            if row.is_mean:
                table.add_section()
            table.add_row(*_cells(row, self.header, self.running), style="bold" if row.is_mean else None)
        yield table

    def _empty(self, gap: int) -> Table:
        """Make the table without its lines; the paper's columns are dim."""
        title = f"{self.algorithm.upper()}, normalised score" if len(self.header.algorithms) > 1 else "Normalised score"
        foot = f"last two columns: {paper_label(self.algorithm)}, ± standard deviation"
        names = _columns(self.algorithm, self.header)
        paper = [name.startswith("paper ") for name in names]
        titles = [name.replace(" ", "\n", 1) if own else name for name, own in zip(names, paper, strict=True)]
        table = rich_table(titles, title=title, foot=foot, gap=gap)
        for column, own in zip(table.columns, paper, strict=True):
            column.style = "dim" if own else ""
        return table


def to_markdown(results: Sequence[CellResult], header: ReportHeader) -> str:
    """Write the table as GitHub Markdown, one block per algorithm."""
    rows = summarise(results, header)
    blocks = [f"# {header.profile}: normalised score, before → after online training", caption(header)]
    if len(header.algorithms) > 1:
        blocks.append(markdown_table(*_overview(rows, header)))
    for algorithm in header.algorithms:
        paper = [f"{arm} ({paper_label(algorithm)})" for arm in ("base", "CFDG")]
        lines = [_cells(row, header, {}) for row in rows if row.algorithm == algorithm]
        blocks.append(markdown_table([*_columns(algorithm, header)[:-2], *paper], lines))
    return "\n\n".join([*blocks, *notes(results, header)[1:]]) + "\n"


def _overview(rows: Sequence[Row], header: ReportHeader) -> tuple[list[str], list[list[str]]]:
    """Return titles and lines in the layout of the paper's Table 1: final scores, a column per algorithm and arm."""
    columns = [(algorithm, arm) for algorithm in header.algorithms for arm in header.arms]
    names = [f"{algorithm.upper()}" + ("" if arm == "base" else f" + {arm.upper()}") for algorithm, arm in columns]
    known = {(row.dataset, row.algorithm): row for row in rows if not row.is_mean}
    lines = []
    for dataset in header.datasets:
        found = [(known.get((dataset, algorithm)), arm) for algorithm, arm in columns]
        cells = ["–" if row is None else _final_text(row, arm) for row, arm in found]
        lines.append([short_name(dataset, header), *cells])
    return ["dataset, final score", *names], lines


def _final_text(row: Row, arm: str) -> str:
    return _number(row.arms[arm].final) if arm in row.arms else PENDING


def to_json(results: Sequence[CellResult], header: ReportHeader) -> dict[str, object]:
    """Return header, rows and notes as plain values for :func:`json.dumps`."""
    return plain(
        {
            "format": FORMAT,
            "header": asdict(header),
            "deviations_from_the_paper": deviations(header),
            "rows": [asdict(row) for row in summarise(results, header)],
            "notes": notes(results, header),
        }
    )


def write_report(
    results: Sequence[CellResult],
    header: ReportHeader,
    folder: Path,
    refresh_steps: Mapping[str, Sequence[int]] | None = None,
) -> list[Path]:
    """Write table.md, table.csv, scores.csv, results.json and, once a cell is finished, curves.png and differences.png.

    Args:
        results: the finished cells.
        header: what the table is to hold.
        folder: where the files go.
        refresh_steps: by algorithm, the environment steps at which the generator was refitted.

    Returns:
        The files written, each by renaming a temporary one.
    """
    from cfdg_experiments.plots import final_scores, learning_curves, save_figure  # matplotlib takes a second to import

    texts = {
        "table.md": to_markdown(results, header),
        "table.csv": to_csv(results, header),
        "scores.csv": scores_csv(results),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    write_json(folder / "results.json", to_json(results, header))
    written = [*texts, "results.json"]
    if results:
        save_figure(learning_curves(results, header, refresh_steps), folder / "curves.png")
        save_figure(final_scores(results, header), folder / "differences.png")
        written += ["curves.png", "differences.png"]
    return [folder / name for name in written]
