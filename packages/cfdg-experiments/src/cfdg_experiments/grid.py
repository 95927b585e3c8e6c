"""Worker processes for the cells of a table, side by side until every cell is a file."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import threading
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

import torch

from cfdg_experiments.cells import Cell, Event, Listener, Workspace
from cfdg_experiments.results import CellResult
from cfdg_experiments.run import pretrain_cell, run_cell
from cfdg_rl.datasets.dataset import DataWarning
from cfdg_rl.envs.errors import ToldError
from cfdg_rl.locks import locked

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
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    lifeline, ours = context.Pipe(duplex=False)
    start = (_start_worker, (threads, lifeline))
    with lifeline, ours, _manager(context, lifeline) as manager, ProcessPoolExecutor(jobs, context, *start) as pool:
        events = manager.Queue()
        try:
            _drive(pool, _Job(space, events, task), cells, lambda wait: _forward(events, notify, wait), finished)
        except (BrokenProcessPool, EOFError, ConnectionError) as error:
            ours.close()
            raise RuntimeError(
                "a worker process died (out of memory?); run the same command again to continue"
            ) from error
        except BaseException:
            ours.close()  # ends the workers at once; their last checkpoints stay
            raise


def _manager(context: SpawnContext, lifeline: Connection) -> SyncManager:
    """Start the process that holds the queue of events; on Linux its socket has no file, which a kill would leave."""
    address = f"\0cfdg-{uuid.uuid4().hex}" if sys.platform == "linux" else None
    manager = SyncManager(address, ctx=context)
    manager.start(_start_manager, (lifeline,))
    return manager


@dataclass(frozen=True)
class _Job:
    """One pre-training or one cell as a task of a worker process, to which it travels."""

    space: Workspace
    events: queue.Queue[Event]  # a proxy of the manager's
    task: Task

    def pretrain(self, cell: Cell) -> None:
        """Make the offline checkpoint."""
        path = self.space.pretrained(cell)
        with _told(cell.pretraining), locked(self.space.lock(path.stem), cell.pretraining, wait=True):
            pretrain_cell(cell, self.space, self.events.put)

    def run(self, cell: Cell) -> CellResult:
        """Fine-tune and return the curves."""
        path = self.space.result(cell)
        with _told(cell.name), locked(self.space.lock(path.stem), cell.name, wait=True):
            result = self.task(cell, self.space, self.events.put)  # which another command may have finished meanwhile
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


def _drive(
    pool: ProcessPoolExecutor, job: _Job, waiting: Sequence[Cell], forward: Callable[[float], None], finished: Finished
) -> None:
    """Submit pre-trainings, then each one's arms as soon as it is done, and hand out results as they come."""
    sharing: dict[Path, list[Cell]] = {}
    long_first = sorted(waiting, key=lambda cell: (cell.algorithm != "apl", not cell.augmentation.augments))
    for cell in long_first:
        sharing.setdefault(job.space.pretrained(cell), []).append(cell)
    running: dict[Future[Any], list[Cell]] = {pool.submit(job.pretrain, cells[0]): cells for cells in sharing.values()}
    while running:
        forward(0.2)
        for future in [future for future in running if future.done()]:
            cells = running.pop(future)
            result = future.result()
            if result is None:
                running |= {pool.submit(job.run, cell): [cell] for cell in cells}
            else:
                forward(0.0)
                finished(cells[0], result)
    forward(0.0)


def _forward(events: queue.Queue[Event], notify: Listener, wait: float) -> None:
    """Forward queued worker events; wait at most ``wait`` seconds for the first."""
    try:
        while True:
            notify(events.get(timeout=wait) if wait else events.get_nowait())
            wait = 0.0
    except queue.Empty:
        return


def _start_worker(threads: int, lifeline: Connection) -> None:
    """Prepare a worker process: its threads, and its end together with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends them
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore", category=DataWarning)  # the parent process has said it
    _end_with(lifeline)


def _start_manager(lifeline: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with(lifeline)


def _end_with(lifeline: Connection) -> None:
    """End this process when the pipe's other end is closed, by its owner or by the owner's death.

    No orphan writes beside a second command, and a parent that fails ends its workers without waiting for them.
    """

    def watch() -> None:
        lifeline.poll(None)  # nothing is ever sent
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
