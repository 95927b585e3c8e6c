"""Cells of a table, side by side in worker processes until every cell is a file."""

from __future__ import annotations

import functools
import os
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from cfdg_experiments.cells.cell import Cell, Listener, Workspace
from cfdg_experiments.cells.results import CellResult
from cfdg_experiments.cells.run import pretrain_cell, run_cell
from cfdg_rl.datasets.dataset import DataWarning
from cfdg_rl.envs.errors import ToldError
from cfdg_rl.locks import locked
from cfdg_rl.team import Team

Finished = Callable[[Cell, CellResult], None]
Task = Callable[[Cell, Workspace, Listener], CellResult]  # a function of a module, to which it travels by name


def run_grid(
    cells: Sequence[Cell],
    space: Workspace,
    jobs: int,
    notify: Listener,
    finished: Finished,
    task: Task = run_cell,
) -> None:
    """Run cells in ``jobs`` worker processes; cells that can share a pre-training wait for one.

    Args:
        cells: the unfinished cells of a table.
        space: the folder of their files.
        jobs: number of worker processes.
        notify: told of progress, in this process.
        finished: told of each new result, in this process.
        task: runs a cell in a worker process.

    Raises:
        RuntimeError: if a worker process died, with what to do about it.
    """
    job = _Job(space, task)
    prepare = functools.partial(_prepare, max(1, (os.cpu_count() or 1) // jobs))
    with Team[list[Cell]](jobs, notify, prepare) as team:
        for sharing in _by_pretraining(cells, space):
            team.submit(sharing, job.pretrain, sharing[0])
        for own, result in team.results():
            if result is None:
                for cell in own:
                    team.submit([cell], job.run, cell)
            else:
                finished(own[0], result)


def _prepare(threads: int) -> None:
    """Share the processor with the other workers, and leave warnings of data to the parent, which has said them."""
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore", category=DataWarning)


def _by_pretraining(cells: Sequence[Cell], space: Workspace) -> Iterable[list[Cell]]:
    """Group cells that can share a pre-training, the long ones first."""
    sharing: dict[Path, list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: (cell.algorithm != "apl", not cell.augmentation.augments)):
        sharing.setdefault(space.pretrained(cell), []).append(cell)
    return sharing.values()


@dataclass(frozen=True)
class _Job:
    """One pre-training or one cell as a task of a worker process, to which it travels."""

    space: Workspace
    task: Task

    def pretrain(self, cell: Cell, tell: Listener) -> None:
        """Make the offline checkpoint."""
        path = self.space.pretrained(cell)
        with _told(cell.pretraining), locked(self.space.lock(path.stem), cell.pretraining, wait=True):
            pretrain_cell(cell, self.space, tell)

    def run(self, cell: Cell, tell: Listener) -> CellResult:
        """Fine-tune and return the curves."""
        path = self.space.result(cell)
        with _told(cell.name), locked(self.space.lock(path.stem), cell.name, wait=True):
            result = self.task(cell, self.space, tell)  # which another command may have finished meanwhile
            self.space.discard(cell)
        return result


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn an error that may not survive the way to the parent process into one of text."""
    try:
        yield
    except Exception as error:
        if type(error).__module__ in ("builtins", ToldError.__module__):
            raise
        raise ToldError(f"{name}: {type(error).__name__}: {error}", traceback.format_exc()) from None
