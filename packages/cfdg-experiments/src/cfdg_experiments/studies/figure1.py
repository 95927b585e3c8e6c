"""Figure 1 as a product of cells: each keeps a plane and measures of the rows that its last refresh saw and made."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cfdg_experiments.cells.cell import Cell, Listener, Workspace
from cfdg_experiments.cells.results import CellKey, CellResult, write_json, write_text
from cfdg_experiments.cells.run import CellRun, pretrain_cell
from cfdg_experiments.reports.header import ReportHeader, caption, short_name, warning
from cfdg_experiments.reports.plots import save_figure
from cfdg_experiments.studies.embedding import (
    EmbeddingSettings,
    Likeness,
    Plane,
    as_markdown,
    average,
    draw,
    embed,
    measure,
    require_scikit_learn,
)
from cfdg_experiments.studies.product import Product, Written
from cfdg_rl.mixing import Pools

SETTINGS = EmbeddingSettings()
KEPT = 10_000  # rows of each set that are looked at
PLANE_SECONDS = 14.0  # on one core; HalfCheetah's columns
MEASURE_SECONDS = 7.0  # of both labels of a seed
READING = (
    "t-SNE of the first seed's rows, a plane for each arm: distances and densities in it say little. SWD: sliced "
    "Wasserstein distance to real rows of the label, beside that of two draws of real rows. AUC: how well boosted "
    "trees tell generated from real rows, 0.5 not at all. Novelty: distance to the nearest real row, 1 for a fresh "
    "draw, 0 for copies. Copies: share of rows nearer to a real one than 95 % of real rows are, 5 % for a fresh draw. "
    "Numbers are means over seeds."
)


@dataclass(frozen=True)
class Look:
    """The generated rows of a cell beside the real ones.

    Attributes:
        plane: points of the first seed.
        measures: by seed.
    """

    plane: Plane
    measures: dict[int, list[Likeness]]

    def to_json(self, path: Path) -> None:
        """Write the look."""
        points = [[*key, np.round(values.astype(float), 3)] for key, values in self.plane.items()]
        measures = {seed: [asdict(one) for one in found] for seed, found in self.measures.items()}
        write_json(path, {"plane": points, "measures": measures})

    @classmethod
    def from_json(cls, path: Path) -> Look:
        """Read what :meth:`to_json` wrote."""
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        plane = {(kind, label): np.array(points).reshape(-1, 2) for kind, label, points in values["plane"]}
        found = {int(seed): [Likeness(**one) for one in ones] for seed, ones in values["measures"].items()}
        return cls(plane, found)


def look_path(cell: Cell, space: Workspace) -> Path:
    """Return the file of a cell's look."""
    return space.folder / "looks" / space.result(cell).name


def look_at(cell: Cell, pools: Pools, last: int, settings: EmbeddingSettings) -> Look:
    """Compare the generated rows of a cell with the real ones.

    Args:
        cell: names the arm, the seeds and the number of online rows.
        pools: the buffers at the end of the run.
        last: environment steps at the last refresh; online rows of later steps are left out.
        settings: how many rows are shown and measured.
    """
    plane: Plane = {}
    measures = {}
    for index, seed in enumerate(cell.profile.seeds):
        rng = np.random.default_rng(seed)
        online = pools.online.view()[index]
        seen = online[:last] if len(online) == cell.profile.finetune.steps else online  # a small ring drops the oldest
        real = {"offline": _some(pools.offline.view(), rng), "online": _some(seen, rng)}
        rings = {"offline": pools.offline_synthetic, "online": pools.online_synthetic}
        made = {label: _some(ring.view()[index], rng) for label, ring in rings.items() if len(ring)}
        if not made:
            return Look({}, {})
        measures[seed] = measure(real, {cell.arm: made}, seed, settings)
        if not index:
            plane = embed(real, {cell.arm: made}, seed, settings)
    return Look(plane, measures)


def _some(rows: Tensor, rng: np.random.Generator) -> np.ndarray:
    """Draw up to KEPT different rows of ``(N, D)``."""
    chosen = rng.permutation(len(rows))[:KEPT]
    return rows.detach().cpu().numpy()[chosen]


def last_refresh(cell: Cell) -> int:
    """Return the environment step of the last refresh, 0 where there is none."""
    plan = cell.profile.finetune
    return (plan.steps - 1) // plan.refresh_every * plan.refresh_every


def run_and_look(cell: Cell, space: Workspace, notify: Listener) -> CellResult:
    """Fine-tune a cell, and leave behind the look at its rows and, unless there is one, its result."""
    pretrain_cell(cell, space, notify)
    run = CellRun(cell, space, notify)
    try:
        for event in run.run():
            notify(event)
    finally:
        run.close()
    look_at(cell, run.pools, last_refresh(cell), SETTINGS).to_json(look_path(cell, space))
    path = space.result(cell)
    if not path.exists():
        run.result().to_json(path)
    space.discard(cell)
    return CellResult.from_json(path)


def check(cells: Sequence[Cell]) -> None:
    """Refuse cells without generated rows, and a missing library.

    Raises:
        ImportError: if scikit-learn is not installed.
        ValueError: if no arm generates rows, or a cell has no refresh.
    """
    require_scikit_learn()
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    if not any(cell.augmentation.augments for cell in cells):
        raise ValueError(f"arms is {', '.join(arms)}, expected one that generates rows, such as cfdg")
    for cell in cells:
        if not last_refresh(cell):
            every = cell.profile.finetune.refresh_every
            raise ValueError(
                f"refresh_every is {every}, expected less than the steps of the run, so that rows are made"
            )


def write(places: Mapping[CellKey, Cell], header: ReportHeader, space: Workspace, folder: Path) -> Written:
    """Draw a picture per algorithm and dataset, and write the measures as CSV and Markdown."""
    looks = {key: Look.from_json(path) for key, cell in places.items() if (path := look_path(cell, space)).exists()}
    write_text(folder / "likeness.csv", to_csv(looks))
    files = [folder / "likeness.csv"]
    sections = []
    for algorithm in header.algorithms:
        for dataset in header.datasets_of(algorithm):
            own = {key.arm: look for key, look in looks.items() if key[:2] == (dataset, algorithm) and look.measures}
            if own:
                path, section = _panel(own, f"{algorithm.upper()}, {short_name(dataset, header)}", header, folder)
                files.append(path)
                sections.append(section)
    return Written(files, [*sections, *([READING] if sections else [])])


def _panel(looks: Mapping[str, Look], title: str, header: ReportHeader, folder: Path) -> tuple[Path, str]:
    """Draw the arms of an algorithm on a dataset; returns the file and its section of the report."""
    found = [one for arm, look in looks.items() for one in _named(arm, look)]
    planes = {arm: _renamed(arm, look.plane) for arm, look in looks.items()}
    path = folder / f"embedding-{re.sub('[^a-z0-9.]+', '-', title.lower())}.png"
    save_figure(draw(planes, found, f"{title}. {warning(header)} {caption(header)}"), path)
    heading = f"## {title}: generated beside real rows"
    return path, "\n\n".join([heading, f"![t-SNE]({path.name})", as_markdown(found).rstrip()])


def _named(arm: str, look: Look) -> list[Likeness]:
    """Average over seeds, under the name of the table's column."""
    means = average([one for found in look.measures.values() for one in found])
    return [Likeness(arm, *astuple(one)[1:]) for one in means]


def _renamed(arm: str, plane: Plane) -> Plane:
    return {("real" if kind == "real" else arm, label): points for (kind, label), points in plane.items()}


def to_csv(looks: Mapping[CellKey, Look]) -> str:
    """Write the measures of every seed in CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    measures = [item.name for item in fields(Likeness)][1:]
    writer.writerow(["dataset", "algorithm", "arm", "seed", *measures])
    for key, look in looks.items():
        for seed, found in look.measures.items():
            writer.writerows([*key, seed, *astuple(one)[1:]] for one in found)
    return text.getvalue()


def is_done(cell: Cell, space: Workspace) -> bool:
    """Tell if a cell's look is a file."""
    return look_path(cell, space).exists()


def seconds(cells: Sequence[Cell]) -> float:
    """Estimate what planes and measures of the cells take on one core."""
    return sum(
        PLANE_SECONDS + len(cell.profile.seeds) * MEASURE_SECONDS for cell in cells if cell.augmentation.augments
    )


EMBEDDING = Product(check, is_done, run_and_look, write, seconds)
