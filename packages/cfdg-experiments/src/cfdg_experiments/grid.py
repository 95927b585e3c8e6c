"""A whole table: which jobs it needs, and running them side by side until every cell is a file."""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

import torch

from cfdg_experiments.arms import ARMS
from cfdg_experiments.profile import Profile, applies
from cfdg_experiments.results import CellResult
from cfdg_experiments.run import Cell, Event, Workspace, pretrain_cell, run_cell

Finished = Callable[[Cell, CellResult], None]


def cells_of(profile: Profile) -> list[Cell]:
    """Every cell, in the order of the table."""
    pairs = [(d, a) for a in profile.algorithms for d in profile.data.datasets if applies(a, d)]
    return [Cell(*pair, arm) for pair in pairs for arm in profile.arms]


def finished_cells(profile: Profile, space: Workspace) -> dict[Cell, CellResult]:
    """The cells whose results are on disk already."""
    paths = {cell: space.result(profile, cell) for cell in cells_of(profile)}
    return {cell: CellResult.from_json(path) for cell, path in paths.items() if path.exists()}


def run_grid(profile: Profile, space: Workspace, jobs: int, speak: Callable[[Event], None], finished: Finished) -> None:
    """Run every unfinished cell in ``jobs`` worker processes; IQL, PEX and all arms share pre-trainings.

    Raises:
        RuntimeError: if a worker process died, with what to do about it.
    """
    waiting = [cell for cell in cells_of(profile) if not space.result(profile, cell).exists()]
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    manager = SyncManager(ctx=context)
    manager.start(_follow, (os.getpid(),))
    with manager, ProcessPoolExecutor(jobs, context, _start_worker, (threads, os.getpid())) as pool:
        events = manager.Queue()
        try:
            job = _Job(profile, space, events)
            _drive(pool, job, waiting, lambda wait: _drain(events, speak, wait), finished)
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker process died (out of memory?); run the same command again to continue"
            ) from error
        except BaseException:
            _stop(pool)
            raise


@dataclass(frozen=True)
class _Job:
    """What a worker process needs; travels to it, and runs one pre-training or one cell there."""

    profile: Profile
    space: Workspace
    events: queue.Queue[Event]  # a proxy of the manager's

    def pretrain(self, cell: Cell) -> None:
        """Make the offline checkpoint."""
        pretrain_cell(self.profile, cell, self.space, self.events.put)

    def run(self, cell: Cell) -> CellResult:
        """Fine-tune and return the curves."""
        return run_cell(self.profile, cell, self.space, self.events.put)


def _drive(
    pool: ProcessPoolExecutor, job: _Job, waiting: list[Cell], drain: Callable[[float], None], finished: Finished
) -> None:
    """Submit pre-trainings, then each one's arms as soon as it is done, and hand out results as they come."""
    sharing: dict[Path, list[Cell]] = {}
    for cell in sorted(waiting, key=lambda cell: (cell.algorithm != "apl", not ARMS[cell.arm].augments)):  # long first
        sharing.setdefault(job.space.pretrained(job.profile, cell), []).append(cell)
    running: dict[Future[Any], list[Cell]] = {pool.submit(job.pretrain, cells[0]): cells for cells in sharing.values()}
    while running:
        drain(0.2)
        for future in [future for future in running if future.done()]:
            cells, result = running.pop(future), future.result()
            if result is None:
                running |= {pool.submit(job.run, cell): [cell] for cell in cells}
            else:
                drain(0.0)
                finished(cells[0], result)
    drain(0.0)


def _drain(events: queue.Queue[Event], speak: Callable[[Event], None], wait: float) -> None:
    """Hand on what the workers said, waiting at most ``wait`` seconds for the first word."""
    try:
        while True:
            speak(events.get(timeout=wait) if wait else events.get_nowait())
            wait = 0.0
    except queue.Empty:
        return


def _start_worker(threads: int, parent: int) -> None:
    """Prepare a worker process: its threads, and its end when the parent is killed."""
    torch.set_num_threads(threads)
    _follow(parent)


def _follow(parent: int) -> None:
    """End this process soon after its parent is gone, so that no orphan writes beside a second command."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the workers at once; their last checkpoints stay."""
    pool.shutdown(wait=False, cancel_futures=True)
    for process in list((pool._processes or {}).values()):
        process.terminate()
