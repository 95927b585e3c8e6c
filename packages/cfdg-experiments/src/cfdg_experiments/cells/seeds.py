"""Seeds that are finished already, alone or beside others: a cell of more seeds trains only those that are missing.

Replicas do not depend on each other, so that a seed's curve is the same run whichever seeds are trained beside it, up
to the rounding of batched products.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cfdg_experiments.cells.cell import Cell, Event, Listener, Workspace
from cfdg_experiments.cells.policy_store import FOLDER
from cfdg_experiments.cells.results import CellResult

Group = tuple[int, ...]


def finished_results(cells: Iterable[Cell], space: Workspace) -> dict[Cell, CellResult]:
    """Read the results on disk, those of a cell whose seeds were finished in other groups joined; writes nothing."""
    found: dict[Cell, CellResult] = {}
    for cell in cells:
        parts = _finished_parts(cell, space)
        if sum(len(part.seeds) for part in parts) == len(cell.profile.seeds):
            found[cell] = join_seeds(parts, cell.profile.seeds)
    return found


def parts_to_run(cell: Cell, space: Workspace) -> list[Cell]:
    """Split an unfinished cell: its missing seeds, in groups that have an offline checkpoint, and the rest in one."""
    done = {seed for part in _finished_parts(cell, space) for seed in part.seeds}
    if space.checkpoint(cell).exists() or (not done and space.pretrained(cell).exists()):
        return [cell]
    missing = [seed for seed in cell.profile.seeds if seed not in done]
    groups = _pretrained_groups(cell, missing, space)
    grouped = {seed for group in groups for seed in group}
    rest = tuple(seed for seed in missing if seed not in grouped)
    return [_with_seeds(cell, group) for group in (*groups, rest) if group]


def join_seeds(parts: Sequence[CellResult], seeds: Group) -> CellResult:
    """Make one result ``(R, K)`` of parts of the same cell, in the order of ``seeds``; their seconds add up."""
    if len(parts) == 1 and parts[0].seeds == seeds:
        return parts[0]
    rows = {seed: (part, index) for part in parts for index, seed in enumerate(part.seeds)}
    chosen = [rows[seed] for seed in seeds]
    names = dict.fromkeys(name for part in parts for name in part.metrics)
    return replace(
        parts[0],
        seeds=seeds,
        scores=np.stack([part.scores[index] for part, index in chosen]),
        seconds=sum(part.seconds for part in parts),
        metrics={name: np.stack([_row(part, name, index) for part, index in chosen]) for name in names},
    )


@dataclass(frozen=True)
class SeedParts:
    """The parts of unfinished cells, and listeners that tell of the whole cells.

    Attributes:
        wholes: the cell of each part that is to be run; a cell without parts is its own.
        space: the folder of the files.
        notify: told of progress, of whole cells.
        finished: told of the results of whole cells.
    """

    wholes: Mapping[Cell, Cell]
    space: Workspace
    notify: Listener
    finished: Callable[[Cell, CellResult], None]

    def event(self, event: Event) -> None:
        """Tell of progress, with the seeds of an evaluation where they are some of the cell's alone."""
        whole = self.wholes[event.cell]
        evaluation = event.evaluation
        if whole != event.cell and evaluation is not None:
            evaluation = replace(evaluation, seeds=event.cell.profile.seeds)
        self.notify(replace(event, cell=whole, evaluation=evaluation))

    def result(self, part: Cell, result: CellResult) -> None:
        """Tell of a result, as soon as it is that of a whole cell."""
        whole = self.wholes[part]
        if whole == part:
            self.finished(part, result)
        elif joined := finished_results([whole], self.space).get(whole):
            adopt(whole, joined, self.space)
            self.finished(whole, joined)


def adopt(cell: Cell, joined: CellResult, space: Workspace) -> None:
    """Give a cell its own result file and policies, those of its seeds' groups."""
    if space.result(cell).exists():
        return
    for part in _groups_of(cell, space):
        for path in (space.folder / FOLDER / space.result(part).stem).glob("*.safetensors"):
            target = space.folder / FOLDER / space.result(cell).stem / path.name
            if any(path.name.startswith(f"seed{seed}-") for seed in cell.profile.seeds) and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
    joined.to_json(space.result(cell))


def _row(part: CellResult, name: str, replica: int) -> np.ndarray:
    """Return a metric ``(K,)`` of one replica; a metric that all replicas share is each one's."""
    curve = part.metrics.get(name)
    if curve is None:
        return np.full(len(part.steps), np.nan)
    return curve if curve.ndim == 1 else curve[replica]


def _finished_parts(cell: Cell, space: Workspace) -> list[CellResult]:
    """Read results of disjoint seeds of the cell, its own alone or the largest ones first."""
    own = space.result(cell)
    if own.exists():
        return [CellResult.from_json(own, cell.key)]
    found: list[CellResult] = []
    missing = set(cell.profile.seeds)
    for part in sorted(_groups_of(cell, space), key=lambda part: -len(missing & set(part.profile.seeds))):
        result = CellResult.from_json(space.result(part), cell.key)
        if kept := [index for index, seed in enumerate(result.seeds) if seed in missing]:
            found.append(_only(result, kept))
            missing -= set(result.seeds)
    return found


def _only(result: CellResult, kept: Sequence[int]) -> CellResult:
    """Keep some replicas of a result, and their share of its seconds."""
    share = len(kept) / len(result.seeds)
    metrics = {name: curve if curve.ndim == 1 else curve[kept] for name, curve in result.metrics.items()}
    seeds = tuple(result.seeds[index] for index in kept)
    return replace(result, seeds=seeds, scores=result.scores[kept], seconds=share * result.seconds, metrics=metrics)


def _groups_of(cell: Cell, space: Workspace) -> list[Cell]:
    """List the finished cells that differ from this one in their seeds alone; their keys tell."""
    return [part for group in _known_groups(space) if space.result(part := _with_seeds(cell, group)).exists()]


def _known_groups(space: Workspace) -> list[Group]:
    """List the seeds of the results on disk, each group once."""
    paths = sorted((space.folder / "cells").glob("*.json"))
    return list(dict.fromkeys(seeds for path in paths if (seeds := _seeds_in(path, path.stat().st_mtime_ns))))


@functools.lru_cache(maxsize=4096)
def _seeds_in(path: Path, changed: int) -> Group:
    """Read the seeds of a result file, once while it has not ``changed``; none of a damaged one."""
    try:
        return CellResult.from_json(path).seeds
    except ValueError:
        return ()


def _pretrained_groups(cell: Cell, seeds: Sequence[int], space: Workspace) -> list[Group]:
    """List disjoint groups of ``seeds`` that have an offline checkpoint, the largest first."""
    left = set(seeds)
    found: list[Group] = []
    for group in sorted(_known_groups(space), key=len, reverse=True):
        if left.issuperset(group) and space.pretrained(_with_seeds(cell, group)).exists():
            found.append(group)
            left -= set(group)
    return found


def _with_seeds(cell: Cell, seeds: Group) -> Cell:
    return replace(cell, profile=replace(cell.profile, seeds=seeds))
