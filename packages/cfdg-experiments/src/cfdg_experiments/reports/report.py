"""Report of an experiment: its scores beside the paper's numbers, the evidence, and what the refreshes made.

The paper's columns are labelled with its protocol and never enter a mean, difference or interval of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cfdg_experiments.cells.results import FORMAT, CellKey, CellResult, plain, write_json, write_text
from cfdg_experiments.reports.evidence import comparisons_csv
from cfdg_experiments.reports.evidence_text import Evidence, TextTable
from cfdg_experiments.reports.header import ReportHeader, caption, deviations, warning
from cfdg_experiments.reports.records import scores_csv, to_csv
from cfdg_experiments.reports.refreshes import READING, has_refreshes, refresh_tables, refreshes_csv
from cfdg_experiments.reports.score_table import ScoreTable, is_long, overview
from cfdg_experiments.reports.summary import Row, summarise
from cfdg_experiments.reports.text_table import markdown_table, rich_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORE_CAPTION = (
    "Normalised score: 0 a random policy, 100 the expert. data: mean score of the dataset's own episodes. "
    "Scores: before online training → after it, mean ± half of the 95 % Student t interval over seeds; differences are "
    "paired by seed. Of data without reference returns, scores are raw returns. The paper's ± is a standard deviation "
    "over seeds."
)
Picture = Callable[[Sequence[CellResult], ReportHeader], "Figure"]


def notes(results: Sequence[CellResult], header: ReportHeader, evidence: Evidence | None = None) -> list[str]:
    """List the paragraphs that stand below the table."""
    evidence = evidence or Evidence.of(results, header)
    done = sum(key in {result.key for result in results} for key in header.cells())
    state = [f"{done} of {len(header.cells())} cells finished."] if done < len(header.cells()) else []
    software = ", ".join(f"{name} {version}" for name, version in header.software.items())
    made_on = ". ".join(part for part in (header.machine, software) if part)
    paragraphs = [caption(header), warning(header), *state, SCORE_CAPTION, *evidence.readings()]
    return [text for text in [*paragraphs, *evidence.claims(header), made_on] if text]


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
        full: print the evidence and all notes; a live display wants only the caption and the warning.
    """
    rows = summarise(results, header)
    tables: list[RenderableType] = [ScoreTable(name, rows, header, running or {}) for name in header.algorithms]
    lines = [line for line in (caption(header), warning(header)) if line]
    if full:
        evidence = Evidence.of(results, header)
        tables += [_overview_table(rows, header)] if _has_overview(header) else []
        tables += [_in_terminal(table) for table in evidence.tables(header)]
        lines = notes(results, header, evidence)
    return Group(*tables, *[Text(line, style="dim") for line in lines])


def _has_overview(header: ReportHeader) -> bool:
    return len(header.algorithms) > 1 and not is_long(header)


def _overview_table(rows: Sequence[Row], header: ReportHeader) -> Table:
    titles, lines = overview(rows, header)
    broken = [[cell.replace("±", "\n±") for cell in line] for line in lines]  # six columns fit 80 characters
    return rich_table(titles, broken, title="All algorithms: final scores")


def _in_terminal(table: TextTable) -> Table:
    broken = [[cell.replace(" [", "\n[") for cell in line] for line in table.lines]
    titles = [name.replace(" ", "\n", 1) for name in table.columns]
    return rich_table(titles, broken, title=table.title, words=2 if table.columns[1] == "outcome" else 1)


def to_markdown(results: Sequence[CellResult], header: ReportHeader, sections: Sequence[str] = ()) -> str:
    """Write tables and notes as GitHub Markdown.

    Args:
        results: the finished cells.
        header: what the table is to hold.
        sections: further Markdown, between the tables and the notes.
    """
    rows = summarise(results, header)
    evidence = Evidence.of(results, header)
    name = header.paper.name if header.paper else "Ablation"
    blocks = [f"# {name}, profile {header.profile}: normalised score, before → after online training", caption(header)]
    if _has_overview(header):
        blocks.append(markdown_table(*overview(rows, header)))
    blocks += [ScoreTable(algorithm, rows, header, {}).markdown() for algorithm in header.algorithms]
    refreshes = refresh_tables(results, header)
    for table in [*evidence.tables(header), *refreshes]:
        blocks += [f"## {table.title}", markdown_table(table.columns, table.lines)]
    blocks += [READING] * bool(refreshes)
    return "\n\n".join([*blocks, *sections, *notes(results, header, evidence)[1:]]) + "\n"


def to_json(results: Sequence[CellResult], header: ReportHeader) -> dict[str, object]:
    """Return header, rows, evidence and notes as plain values for :func:`json.dumps`."""
    evidence = Evidence.of(results, header)
    return plain(
        {
            "format": FORMAT,
            "header": asdict(header),
            "deviations_from_the_paper": deviations(header),
            "rows": [asdict(row) for row in summarise(results, header)],
            "comparisons": [asdict(one) | {"verdict": one.comparison.verdict} for one in evidence.contrasts],
            "over_datasets": [asdict(one) for one in evidence.suites],
            "notes": notes(results, header, evidence),
        }
    )


def write_report(
    results: Sequence[CellResult],
    header: ReportHeader,
    folder: Path,
    refresh_steps: Mapping[str, Sequence[int]] | None = None,
    *,
    pictures: Mapping[str, Picture] | None = None,
    sections: Sequence[str] = (),
) -> list[Path]:
    """Write table.md, results.json, the CSV files and, once a cell is finished, the pictures.

    Args:
        results: the finished cells.
        header: what the table is to hold.
        folder: where the files go.
        refresh_steps: by algorithm, the environment steps at which the generator was refitted.
        pictures: by file name, pictures besides curves.png, differences.png and, for two datasets or more,
            performance.png.
        sections: further Markdown.

    Returns:
        The files written, each by renaming a temporary one.
    """
    texts = {
        "table.md": to_markdown(results, header, sections),
        "table.csv": to_csv(results, header),
        "scores.csv": scores_csv(results),
        "comparisons.csv": comparisons_csv(Evidence.of(results, header).contrasts),
    }
    if has_refreshes(results):
        texts["refreshes.csv"] = refreshes_csv(results)
    for name, text in texts.items():
        write_text(folder / name, text)
    write_json(folder / "results.json", to_json(results, header))
    written = [*texts, "results.json"]
    if results:
        written += _pictures(results, header, folder, refresh_steps, pictures or {})
    return [folder / name for name in written]


def _pictures(
    results: Sequence[CellResult],
    header: ReportHeader,
    folder: Path,
    refresh_steps: Mapping[str, Sequence[int]] | None,
    pictures: Mapping[str, Picture],
) -> list[str]:
    """Draw and write; returns the names of the files."""
    from cfdg_experiments.reports.plots import (  # matplotlib takes a second
        final_scores,
        learning_curves,
        performance_profiles,
        save_figure,
    )

    drawn = {
        "curves.png": learning_curves(results, header, refresh_steps),
        "differences.png": final_scores(results, header),
        "performance.png": performance_profiles(results, header),
    }
    drawn |= {name: draw(results, header) for name, draw in pictures.items()}
    found = {name: figure for name, figure in drawn.items() if figure is not None}
    for name, figure in found.items():
        save_figure(figure, folder / name)
    return list(found)
