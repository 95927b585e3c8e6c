"""Raw scores of the study as CSV beside its page: one line per cell, arm and seed; written, and read again."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cfdg_experiments.cells.cell import Workspace
from cfdg_experiments.cells.results import CellResult
from cfdg_experiments.reports.evidence import mean_height
from cfdg_experiments.reports.text_table import csv_table

if TYPE_CHECKING:
    from evidence import Place

Results = Mapping["Place", Mapping[str, CellResult]]
Told = Mapping[str, Mapping[str, CellResult]]  # by the name of a cell and by arm

LABELS = ["cell", "arm", "seed", "area"]


def raw_scores(results: Results) -> str:
    """Write one line per cell, arm and seed: area, and the score of each evaluation, from which it is computed."""
    records: list[dict[str, object]] = []
    steps: dict[int, None] = {}
    for place, cells in results.items():
        for arm, cell in cells.items():
            written = replace(cell, scores=cell.scores.round(3))
            for seed, area, scores in zip(cell.seeds, mean_height(written), written.scores, strict=True):
                curve = dict(zip(cell.steps.tolist(), scores.tolist(), strict=True))
                steps |= dict.fromkeys(curve)
                own = {"cell": place.name, "arm": arm, "seed": seed, "area": round(float(area), 3)}
                records.append(own | {str(step): score for step, score in curve.items()})
    columns = [*LABELS, *(str(step) for step in sorted(steps))]
    return csv_table(columns, [{name: record.get(name, "") for name in columns} for record in records])


def read_scores(path: Path, names: Collection[str], arms: Collection[str]) -> dict[str, dict[str, CellResult]]:
    """Read what :func:`raw_scores` wrote; nothing if there is no such file.

    Args:
        path: of the CSV.
        names: of the cells that the study has.
        arms: that it has.

    Raises:
        ValueError: if a line is of another cell or arm, which would be lost, or a curve has a gap.
    """
    found: dict[str, dict[str, CellResult]] = {}
    if not path.exists():
        return found
    for (name, arm), own in pd.read_csv(path).groupby(["cell", "arm"], sort=False):
        if name not in names or arm not in arms:
            raise ValueError(f"{path} has scores of {arm!r} in {name!r}, expected a cell and an arm of the study")
        curves = own.drop(columns=LABELS).dropna(axis="columns", how="all")
        algorithm, dataset = str(name).split()[:2]
        cell = CellResult(
            f"recorded:{dataset}",
            algorithm,
            str(arm),
            tuple(own["seed"]),
            steps=curves.columns.to_numpy(dtype=int),
            scores=curves.to_numpy(),
            behaviour_score=math.nan,
            seconds=math.nan,
        )
        found.setdefault(str(name), {})[str(arm)] = cell
    return found


def finished(
    places: Sequence[Place], arms: Sequence[str], space: Workspace, told: Told
) -> dict[Place, dict[str, CellResult]]:
    """Collect the finished cells by place and arm: from the workspace, else as they were told before."""
    found: dict[Place, dict[str, CellResult]] = {}
    for place in places:
        own = dict(told.get(place.name, {}))
        paths = {arm: space.result(place.cell(arm)) for arm in arms}
        own |= {arm: CellResult.from_json(path) for arm, path in paths.items() if path.exists()}
        if own:
            found[place] = {arm: own[arm] for arm in arms if arm in own}
    return found
