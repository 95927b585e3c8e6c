"""The table of an experiment: what is finished so far, the paper's numbers beside it, in five formats.

The paper's columns are labelled with its protocol and never enter a mean, difference or interval of ours.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from cfdg_experiments.published import PAPER_ARMS, PAPER_LABEL, PAPER_LABELS
from cfdg_experiments.results import FORMAT, CellResult, plain, write_json, write_text
from cfdg_experiments.statistics import Estimate
from cfdg_experiments.summary import (
    CellKey,
    ReportHeader,
    Row,
    caption,
    deviations,
    short_name,
    summarise,
    summary_lines,
)

PENDING = "pending"
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
    """Everything that stands below the table, one paragraph each."""
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


def paper_label(algorithm: str) -> str:
    """What a column with the paper's numbers is called."""
    return PAPER_LABELS.get(algorithm, PAPER_LABEL)


def _number(estimate: Estimate, sign: str = "") -> str:
    """``52.3±4.1``; without ± where the seeds are too few."""
    spread = "" if math.isnan(estimate.half_width) else f"±{estimate.half_width:.1f}"
    return f"{estimate.mean:{sign}.1f}{spread}"


def _arm_text(row: Row, arm: str, running: Mapping[CellKey, str]) -> str:
    if arm in row.arms:
        return f"{row.arms[arm].offline.mean:.1f} → {_number(row.arms[arm].final)}"
    return "" if row.is_mean else running.get((row.dataset, row.algorithm, arm), PENDING)


def _paper_text(row: Row, arm: str) -> str:
    score = row.paper.get(arm)
    if score is None:
        return "–"
    return f"{score.mean:.1f}" if math.isnan(score.std) else f"{score.mean:.0f}±{score.std:.0f}"


def _cells(row: Row, header: ReportHeader, running: Mapping[CellKey, str]) -> list[str]:
    """The printed cells of one row, in the order of :func:`_columns`."""
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
    """The table for a terminal, one block per algorithm; fits 80 columns, better at 100 and more.

    Args:
        results: the finished cells.
        header: what the table is to hold.
        running: text to show in place of "pending", such as "41.2 at 4k".
        full: whether to print all notes; a live display wants only the caption and the warning.
    """
    rows = summarise(results, header)
    tables: list[RenderableType] = [_Block(algorithm, rows, header, running or {}) for algorithm in header.algorithms]
    if full and len(header.algorithms) > 1:
        tables.append(_overview_table(rows, header))
    lines = notes(results, header) if full else [caption(header), *_warning(header)]
    return Group(*tables, *[Text(line, style="dim") for line in lines])


def _overview_table(rows: Sequence[Row], header: ReportHeader) -> Table:
    titles, *lines = _overview(rows, header)
    table = Table(title="All algorithms: final scores", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, name in enumerate(titles):
        table.add_column(name, justify="right" if index else "left", no_wrap=not index, overflow="fold")
    for line in lines:
        table.add_row(*[cell.replace("±", "\n±") for cell in line])  # six columns fit 80 characters
    return table


@dataclass(frozen=True)
class _Block:
    """The table of one algorithm, tighter where the terminal is narrow: no number is ever cut."""

    algorithm: str
    rows: Sequence[Row]
    header: ReportHeader
    running: Mapping[CellKey, str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        title = f"{self.algorithm.upper()}, normalised score" if len(self.header.algorithms) > 1 else "Normalised score"
        foot = f"last two columns: {paper_label(self.algorithm)}, ± standard deviation"
        gap = 1 if options.max_width >= WIDE else 0
        table = Table(title=title, box=box.SIMPLE_HEAD, caption=foot, pad_edge=False, padding=(0, gap, 0, 0))
        for name in _columns(self.algorithm, self.header):
            first, paper = name == "dataset", name.startswith("paper ")
            lines = name.replace(" ", "\n", 1) if paper else name
            align, style = "left" if first else "right", "dim" if paper else None
            table.add_column(lines, justify=align, style=style, no_wrap=first, overflow="fold")
        for row in (row for row in self.rows if row.algorithm == self.algorithm):
            if row.is_mean:
                table.add_section()
            table.add_row(*_cells(row, self.header, self.running), style="bold" if row.is_mean else None)
        yield table


def to_markdown(results: Sequence[CellResult], header: ReportHeader) -> str:
    """The same as GitHub Markdown, one table per algorithm."""
    rows = summarise(results, header)
    blocks = [f"# {header.profile}: normalised score, before → after online training", caption(header)]
    for algorithm in header.algorithms:
        columns = _columns(algorithm, header)
        titles = [*columns[:-2], *[f"{arm} ({paper_label(algorithm)})" for arm in ("base", "CFDG")]]
        lines = [titles, ["---", *["---:"] * (len(titles) - 1)]]
        lines += [_cells(row, header, {}) for row in rows if row.algorithm == algorithm]
        blocks.append(_markdown(lines))
    if len(header.algorithms) > 1:
        titles, *lines = _overview(rows, header)
        blocks.insert(2, _markdown([titles, ["---", *["---:"] * (len(titles) - 1)], *lines]))
    return "\n\n".join([*blocks, *notes(results, header)[1:]]) + "\n"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _overview(rows: Sequence[Row], header: ReportHeader) -> list[list[str]]:
    """Titles and lines in the layout of the paper's Table 1: a column of final scores for each algorithm and arm."""
    columns = [(algorithm, arm) for algorithm in header.algorithms for arm in header.arms]
    names = [f"{algorithm.upper()}" + ("" if arm == "base" else f" + {arm.upper()}") for algorithm, arm in columns]
    known = {(row.dataset, row.algorithm): row for row in rows if not row.is_mean}
    lines = [["dataset, final score", *names]]
    for dataset in header.datasets:
        found = [(known.get((dataset, algorithm)), arm) for algorithm, arm in columns]
        cells = ["–" if row is None else _final_text(row, arm) for row, arm in found]
        lines.append([short_name(dataset, header), *cells])
    return lines


def _final_text(row: Row, arm: str) -> str:
    return _number(row.arms[arm].final) if arm in row.arms else PENDING


def to_csv(results: Sequence[CellResult], header: ReportHeader) -> str:
    """One line per finished cell: seeds, offline, final and late score with intervals, and the paper's number."""
    return _csv_text(list(_cell_records(results, header)), _CELL_COLUMNS)


_STATISTICS = ("mean", "low", "high", "std")
_CELL_COLUMNS = (
    ["profile", "dataset", "algorithm", "arm", "status", "seeds", "offline_updates", "environment_steps"]
    + ["seconds", "behaviour_score"]
    + [f"{score}_{name}" for score in ("offline", "final", "late", "difference") for name in _STATISTICS]
    + ["paper_mean", "paper_std", "paper_protocol"]
)


def _cell_records(results: Sequence[CellResult], header: ReportHeader) -> Iterator[dict[str, object]]:
    cells = {result.key: result for result in results}
    rows = {(row.dataset, row.algorithm): row for row in summarise(results, header) if not row.is_mean}
    for dataset, algorithm, arm in header.cells():
        row, cell = rows[dataset, algorithm], cells.get((dataset, algorithm, arm))
        record: dict[str, object] = {
            "profile": header.profile, "dataset": dataset, "algorithm": algorithm, "arm": arm,
            "status": PENDING if cell is None else "finished",
        }  # fmt: skip
        if cell is not None:
            record |= _measured(cell, row, header)
        if arm in row.paper:
            score = row.paper[arm]
            record |= {"paper_mean": score.mean, "paper_std": score.std, "paper_protocol": paper_label(algorithm)}
        yield record


def _measured(cell: CellResult, row: Row, header: ReportHeader) -> dict[str, object]:
    estimates = asdict(row.arms[cell.arm]) | (
        {"difference": asdict(row.differences[cell.arm])} if cell.arm in row.differences else {}
    )
    return {
        "seeds": len(cell.seeds),
        "offline_updates": header.offline_steps[cell.algorithm],
        "environment_steps": int(cell.steps[-1]),
        "seconds": cell.seconds,
        "behaviour_score": cell.behaviour_score,
    } | {f"{score}_{name}": values[name] for score, values in estimates.items() for name in _STATISTICS}


def scores_csv(results: Sequence[CellResult]) -> str:
    """Every evaluation in long format: dataset, algorithm, arm, seed, step, score."""
    columns = ("dataset", "algorithm", "arm", "seed", "step", "score")
    records = [
        dict(zip(columns, (*result.key, seed, int(step), float(score)), strict=True))
        for result in results
        for seed, curve in zip(result.seeds, result.scores, strict=True)
        for step, score in zip(result.steps, curve, strict=True)
    ]
    return _csv_text(records, columns)


def _csv_text(records: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    """CSV with full float precision; NaN and absent values are empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({key: "" if plain(value) is None else value for key, value in record.items()})
    return buffer.getvalue()


def to_json(results: Sequence[CellResult], header: ReportHeader) -> dict[str, object]:
    """Header, rows and notes as plain values for :func:`json.dumps`."""
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
