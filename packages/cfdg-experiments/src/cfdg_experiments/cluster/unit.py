"""One unit of a plan, run anywhere: what it needs comes from the store, and what it makes goes there.

The command can be given again and again: a unit that is done is left alone, and an unfinished one goes on from its
last checkpoint. Work is done in a scratch folder of the machine, so that a slow store stops no training.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from cfdg_experiments.cells.cell import Event, Workspace
from cfdg_experiments.cells.policy_store import FOLDER
from cfdg_experiments.cells.results import plain
from cfdg_experiments.cells.run import pretrain_cell, run_cell
from cfdg_experiments.cluster.cell_folder import BEAT_SECONDS, Attempt, CellFolder
from cfdg_experiments.cluster.engines import end_with_stdin
from cfdg_experiments.cluster.scratch import scratch_folder
from cfdg_experiments.cluster.stored_plan import Unit, find_unit, load_plan, units_of
from cfdg_experiments.storage.object_store import TEMPORARY, Store
from cfdg_experiments.storage.saver import StoppedError

MODEL = "model.safetensors"
CURVES = "cell.json"
METRICS = "metrics.jsonl"


class WaitingError(RuntimeError):
    """The pre-training of a cell is not done yet."""

    status = TEMPORARY


def run_unit(run_id: str, uri: str, scratch: Path | None = None, stops: Callable[[], bool] = bool) -> str:
    """Run one unit of the plan in a store to its end; returns what was done, in one sentence.

    Args:
        run_id: of the unit.
        uri: of the store.
        scratch: where work is done; None takes a temporary folder.
        stops: tells if the work is to end with a checkpoint.

    Raises:
        ValueError: if the store has no such unit.
        WaitingError: if its pre-training is not done.
        RunningError: if another process is running it.
        StoppedError: after the checkpoint that was asked for.
        StoreError: if the store fails.
    """
    end_with_stdin()
    store = Store(uri)
    unit = find_unit(units_of(load_plan(store)), run_id)
    folder = CellFolder(store, unit.folder)
    if folder.result() is not None:
        folder.drop_checkpoints()
        return f"{unit.name} is done already"
    offline = CellFolder(store, f"pretrain/{unit.needs}")
    if unit.needs and offline.result() is None:
        raise WaitingError(f"{unit.name}: its pre-training {unit.needs} is not done; run it first")
    with scratch_folder(scratch) as place:
        run = UnitRun(unit, folder, folder.begin(), place, stops)
        try:
            run.run(offline)
        except BaseException as error:
            failed = isinstance(error, Exception) and not isinstance(error, StoppedError)
            state = "failed" if failed else "stopped"
            words = f"{type(error).__name__}: {error}".splitlines()[0]
            folder.note(run.attempt, state=state, step=run.step, error=words)
            raise
    return f"{unit.name} is done, attempt {run.attempt.number}"


class UnitRun:
    """A running unit: its scratch folder, its heartbeat and what it uploads.

    Args:
        unit: the unit.
        folder: its files in the store.
        attempt: this attempt.
        place: the scratch folder.
        stops: tells if the work is to end with a checkpoint.
    """

    def __init__(
        self, unit: Unit, folder: CellFolder, attempt: Attempt, place: Path, stops: Callable[[], bool]
    ) -> None:
        self.unit = unit
        self.folder = folder
        self.attempt = attempt
        self.space = Workspace(place, on_saved=self.save, stops=stops)
        self.place = place
        self.lines: dict[int, str] = {}
        self.step = 0

    def run(self, offline: CellFolder) -> None:
        """Fetch, train, and upload the results."""
        cell = self.unit.cell
        ended = threading.Event()
        beat = threading.Thread(target=self._beat, args=(ended,), daemon=True)
        beat.start()
        try:
            self.step = max(self.folder.restore(self.place) or 0, 0)
            if self.unit.stage:
                offline.fetch(MODEL, self.space.pretrained(cell))
                run_cell(cell, self.space, self.notify)
            else:
                pretrain_cell(cell, self.space, self.notify)
        finally:
            ended.set()
            beat.join()
        self._finish()

    def notify(self, event: Event) -> None:
        """Note progress, and upload each evaluation."""
        self.step = event.step
        if event.evaluation:
            if not self.lines:
                self.lines = self._earlier(event.evaluation.step)
            found = {"step": event.evaluation.step, "scores": event.evaluation.scores, **event.evaluation.metrics}
            self.lines[event.evaluation.step] = json.dumps(plain(found))
            self.folder.store.write_text(self.folder.at(METRICS), "\n".join(self.lines.values()) + "\n")

    def save(self, step: int, files: Sequence[Path]) -> None:
        """Upload a checkpoint."""
        self.folder.save(self.attempt, step, [*files, *self._policies()], self.place)
        self.step = max(step, 0)

    def _policies(self) -> list[Path]:
        return sorted((self.place / FOLDER).glob("*/*.safetensors"))

    def _earlier(self, before: int) -> dict[int, str]:
        """Read the lines of evaluations that an earlier attempt has uploaded."""
        name = self.folder.at(METRICS)
        text = self.folder.store.read_text(name)
        lines = {int(json.loads(line)["step"]): line for line in text.splitlines()}
        return {step: line for step, line in lines.items() if step < before}

    def _beat(self, ended: threading.Event) -> None:
        """Give signs of life until the end; a store that fails now and then is tried again."""
        while not ended.wait(BEAT_SECONDS):
            try:
                self.folder.note(self.attempt, step=self.step)
            except RuntimeError:
                continue

    def _finish(self) -> None:
        cell = self.unit.cell
        files = {MODEL: self.space.pretrained(cell)}
        if self.unit.stage:
            policies = {f"{FOLDER}/{path.name}": path for path in self._policies()}
            files = {CURVES: self.space.result(cell), **policies}
        self.folder.finish(self.attempt, files)
        self.folder.note(self.attempt, state="done", step=self.step)


def set_threads() -> None:
    """Use as many threads as OMP_NUM_THREADS says."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
