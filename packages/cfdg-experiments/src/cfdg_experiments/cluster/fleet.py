"""Driver of a stored plan: it alone starts attempts, and tells failures that pass from those that come again.

All state is in the store. A driver that was killed is replaced by typing its command again.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from cfdg_experiments.cluster.cell_folder import BEAT_SECONDS, SILENT_SECONDS, CellFolder
from cfdg_experiments.cluster.engines import Ended, Engine
from cfdg_experiments.cluster.stored_plan import Unit
from cfdg_experiments.storage.object_store import TEMPORARY, Store
from cfdg_rl.files import is_running
from cfdg_rl.locks import BusyError, locked

DRIVER = "driver.json"
LOSSES = 20  # of machines or processes, per unit, after which something else is wrong
LOST = (-9, -15, 128 + 9, 128 + 15)  # statuses of a process that the system ended
WAIT_SECONDS = 10.0  # before the first repetition of a passing failure; it doubles each time

Failure = Literal["infrastructure", "transient", "deterministic"]


@dataclass(frozen=True)
class Patience:
    """Limits on how often a unit is started again.

    Attributes:
        retries: passing failures, such as of the store.
        losses: ends by a signal, or with the machine.
        seconds: before the first repetition of a passing failure.
    """

    retries: int = 3
    losses: int = LOSSES
    seconds: float = WAIT_SECONDS


@dataclass
class _Book:
    """Knowledge of the driver about the units."""

    waiting: list[Unit]
    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    running: dict[str, Unit] = field(default_factory=dict)
    counts: Counter[tuple[str, Failure]] = field(default_factory=Counter)
    not_before: dict[str, float] = field(default_factory=dict)

    def ready(self) -> list[Unit]:
        """List the units that may start now: their pre-training is done, and they need not wait."""
        now = time.monotonic()
        free = [unit for unit in self.waiting if not unit.needs or unit.needs in self.done]
        return [unit for unit in free if self.not_before.get(unit.run_id, now) <= now]

    def give_up(self) -> None:
        """Fail the cells whose pre-training has failed."""
        for unit in [unit for unit in self.waiting if unit.needs in self.failed]:
            self.waiting.remove(unit)
            self.failed[unit.run_id] = f"its pre-training {unit.needs} failed"


def drive(
    units: Sequence[Unit],
    store: Store,
    engine: Engine,
    patience: Patience = Patience(),
    say: Callable[[str], None] = lambda text: None,
    watch: Callable[[Collection[Unit]], None] = lambda running: None,
) -> dict[str, str]:
    """Run units until each is done or has failed for good; returns the failures by run id.

    Args:
        units: pre-trainings and cells.
        store: where they are.
        engine: runs them.
        patience: how often they are tried again.
        say: told what happens, in lines.
        watch: told about once a second which units are running.
    """
    book = _Book(list(units))
    try:
        _skip_done(book, store)
        while book.waiting or book.running:
            book.give_up()
            for unit in book.ready()[: max(0, engine.free())]:
                book.waiting.remove(unit)
                book.running[unit.run_id] = unit
                engine.start(unit.run_id)
            watch(book.running.values())
            for ended in engine.wait(1.0):
                _judge(ended, book, patience, say)
    finally:
        engine.close()
    return book.failed


def _skip_done(book: _Book, store: Store) -> None:
    for unit in list(book.waiting):
        folder = CellFolder(store, unit.folder)
        if folder.result() is not None:
            folder.drop_checkpoints()
            book.waiting.remove(unit)
            book.done.add(unit.run_id)


def _judge(ended: Ended, book: _Book, patience: Patience, say: Callable[[str], None]) -> None:
    """Note a unit as done or failed, or let it wait for another attempt."""
    unit = book.running.pop(ended.run_id)
    if ended.status == 0:
        book.done.add(unit.run_id)
        say(f"done {unit.name}")
        return
    kind = classify(ended)
    book.counts[unit.run_id, kind] += 1
    count = book.counts[unit.run_id, kind]
    allowed = {"infrastructure": patience.losses, "transient": patience.retries, "deterministic": 0}[kind]
    if count > allowed:
        book.failed[unit.run_id] = ended.message or f"ended with status {ended.status}"
        say(f"failed {unit.name}: {book.failed[unit.run_id]}")
        return
    delay = patience.seconds * 2 ** (count - 1) if kind == "transient" else 0.0
    book.not_before[unit.run_id] = time.monotonic() + delay
    book.waiting.append(unit)
    say(f"again {unit.name}, {kind} failure {count}: {ended.message or f'status {ended.status}'}")


def classify(ended: Ended) -> Failure:
    """Tell a lost process or machine from a failure that may pass and from one that will come again.

    A signal that no system sends to a process that is in its way, such as of an abort, may be the unit's own fault.
    """
    if ended.status is None or ended.status in LOST:
        return "infrastructure"
    passing = ended.status < 0 or ended.status == TEMPORARY or "CUDA error" in ended.message
    return "transient" if passing else "deterministic"


@contextmanager
def only_driver(store: Store) -> Iterator[None]:
    """Be the one driver of a store.

    Raises:
        BusyError: if another one is alive.
    """
    if store.local is not None:
        with locked(store.local / "driver.lock", f"store {store.uri}", wait=False):
            yield
        return
    _refuse_second(store)
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(store, ended), daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()
        store.remove(DRIVER)


def _refuse_second(store: Store) -> None:
    mine = _sign()
    while not store.create(DRIVER, mine):
        found = store.read(DRIVER) or {}
        here = found.get("host") == socket.gethostname()
        alive = (
            is_running(int(found.get("pid", 0))) if here else time.time() - found.get("heartbeat", 0) < SILENT_SECONDS
        )
        if alive:
            raise BusyError(f"store {store.uri} is being run by process {found.get('pid')} on {found.get('host')}")
        store.remove(DRIVER)


def _sign() -> dict[str, object]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "heartbeat": time.time()}


def _beat(store: Store, ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        try:
            store.write(DRIVER, _sign())
        except RuntimeError:
            continue
