"""CSV records of a table: one per cell, and one per evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from cfdg_experiments.cells.results import CellResult
from cfdg_experiments.reports.header import ReportHeader
from cfdg_experiments.reports.published import paper_label
from cfdg_experiments.reports.summary import PENDING, Row, summarise
from cfdg_experiments.reports.text_table import csv_table

_STATISTICS = ("mean", "low", "high", "std")
_CELL_COLUMNS = (
    ["profile", "dataset", "algorithm", "arm", "status", "seeds", "offline_updates", "environment_steps"]
    + ["seconds", "behaviour_score"]
    + [f"{score}_{name}" for score in ("offline", "final", "late", "difference") for name in _STATISTICS]
    + ["paper_mean", "paper_std", "paper_protocol"]
)
_SCORE_COLUMNS = ("dataset", "algorithm", "arm", "seed", "step", "score")


def to_csv(results: Sequence[CellResult], header: ReportHeader) -> str:
    """Write one line per cell: seeds, offline, final and late score with intervals, and the paper's number."""
    return csv_table(_CELL_COLUMNS, list(_cell_records(results, header)))


def scores_csv(results: Sequence[CellResult]) -> str:
    """Write every evaluation in long format: dataset, algorithm, arm, seed, step, score."""
    records = [
        dict(zip(_SCORE_COLUMNS, (*result.key, seed, int(step), float(score)), strict=True))
        for result in results
        for seed, curve in zip(result.seeds, result.scores, strict=True)
        for step, score in zip(result.steps, curve, strict=True)
    ]
    return csv_table(_SCORE_COLUMNS, records)


def _cell_records(results: Sequence[CellResult], header: ReportHeader) -> Iterator[dict[str, object]]:
    cells = {result.key: result for result in results}
    rows = {(row.dataset, row.algorithm): row for row in summarise(results, header) if not row.is_mean}
    for key in header.cells():
        row = rows[key.dataset, key.algorithm]
        cell = cells.get(key)
        status = PENDING if cell is None else "finished"
        record: dict[str, object] = {"profile": header.profile, **key._asdict(), "status": status}
        if cell is not None:
            record |= _measured(cell, row, header)
        yield record | _published(row, key.arm)


def _measured(cell: CellResult, row: Row, header: ReportHeader) -> dict[str, object]:
    estimates = asdict(row.arms[cell.arm])
    if cell.arm in row.differences:
        estimates["difference"] = asdict(row.differences[cell.arm])
    updates = {offline[cell.algorithm] for offline, _ in header.grid_steps} or {header.offline_steps[cell.algorithm]}
    return {
        "seeds": len(cell.seeds),
        "offline_updates": updates.pop() if len(updates) == 1 else None,  # a grid may vary them
        "environment_steps": int(cell.steps[-1]),
        "seconds": cell.seconds,
        "behaviour_score": cell.behaviour_score,
    } | {f"{score}_{name}": values[name] for score, values in estimates.items() for name in _STATISTICS}


def _published(row: Row, arm: str) -> dict[str, object]:
    """Return the paper's number of an arm, if it has one."""
    score = row.paper.get(arm)
    if score is None:
        return {}
    return {"paper_mean": score.mean, "paper_std": score.std, "paper_protocol": paper_label(row.algorithm)}
