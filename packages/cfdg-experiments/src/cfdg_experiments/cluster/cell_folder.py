"""Folder of one cell in a store: its attempts, its last two checkpoints, its metrics, and its result when it is done.

A checkpoint counts once its manifest is there, which is written last and lists every file with size and SHA-256. An
attempt that is not the highest any more writes nothing: the number is looked at before each manifest and the result.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cfdg_experiments.storage.object_store import TEMPORARY, Store
from cfdg_rl.files import is_running

MANIFEST = "MANIFEST.json"
RESULT = "result.json"
RINGS = "rings"
KEPT = 2  # checkpoints
SILENT_SECONDS = 120.0  # without a heartbeat after which an attempt counts as dead
BEAT_SECONDS = 30.0


class FencedError(RuntimeError):
    """A later attempt has taken the cell over."""

    status = TEMPORARY


class RunningError(RuntimeError):
    """Another attempt at the cell is alive."""

    status = TEMPORARY


@dataclass(frozen=True)
class Attempt:
    """One try to run a cell.

    Attributes:
        number: from 1; the highest may write.
        host: name of the machine.
        pid: its process.
        started: seconds since 1970.
        heartbeat: the last sign of life, seconds since 1970.
        state: "running", "done", "stopped" or "failed".
        error: why it failed, one sentence.
        step: of the last checkpoint.
    """

    number: int
    host: str
    pid: int
    started: float
    heartbeat: float
    state: str = "running"
    error: str = ""
    step: int = 0

    @property
    def is_alive(self) -> bool:
        """Tell if it may still be at work: on this machine by its process, elsewhere by its heartbeat."""
        if self.state != "running":
            return False
        if self.host == socket.gethostname():
            return is_running(self.pid)
        return time.time() - self.heartbeat < SILENT_SECONDS


class CellFolder:
    """The files of one cell or pre-training in a store.

    Args:
        store: the store.
        name: of the folder, such as ``cells/0123456789ab``.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.name = name
        self._known: dict[str, dict[str, Any]] = {}  # facts of files that are in the store

    def at(self, name: str) -> str:
        """Return the name of a file in the store."""
        return f"{self.name}/{name}"

    def result(self) -> dict[str, Any] | None:
        """Return the result's list of files, None before the cell is done."""
        return self.store.read(self.at(RESULT))

    def latest(self) -> Attempt | None:
        """Return the highest attempt."""
        number = self._highest()
        values = self.store.read(self.at(_attempt(number))) if number else None
        try:
            return None if values is None else Attempt(**values)
        except TypeError as error:
            raise ValueError(f"{self.store.uri}/{self.at(_attempt(number))} is no attempt: {error}") from error

    def begin(self) -> Attempt:
        """Begin the next attempt.

        Raises:
            RunningError: if the highest one is alive.
        """
        while True:
            last = self.latest()
            if last is not None and last.is_alive:
                owner = f"process {last.pid} on {last.host}"
                raise RunningError(f"{self.name} is being run by {owner}, attempt {last.number}; wait for its end")
            now = time.time()
            number = 1 if last is None else last.number + 1
            attempt = Attempt(number, socket.gethostname(), os.getpid(), now, now)
            if self.store.create(self.at(_attempt(number)), asdict(attempt)):
                return attempt

    def note(self, attempt: Attempt, **changes: Any) -> Attempt:  # noqa: ANN401 - fields of an attempt
        """Write a sign of life of an attempt, and changes of its fields."""
        attempt = replace(attempt, heartbeat=time.time(), **changes)
        self.store.write(self.at(_attempt(attempt.number)), asdict(attempt))
        return attempt

    def check(self, attempt: Attempt) -> None:
        """Refuse to write for an attempt that was overtaken.

        Raises:
            FencedError: with the later one.
        """
        if (highest := self._highest()) != attempt.number:
            raise FencedError(f"{self.name}: attempt {attempt.number} was overtaken by attempt {highest}")

    def save(self, attempt: Attempt, step: int, files: Sequence[Path], base: Path) -> None:
        """Upload a checkpoint: files that the store has not yet, then the manifest.

        Args:
            attempt: the writer.
            step: of the checkpoint; negative ones, which grow downwards, come before 0: their names sort so.
            files: of which those in folders named ``.rings`` or ``pretrained`` never change under their name, but for
                drafts.
            base: folder that their names are relative to.

        Raises:
            FencedError: if a later attempt has begun.
        """
        folder = f"ckpt/{step:09d}"
        listed = []
        for path in files:
            local = path.relative_to(base).as_posix()
            stays = path.parent.suffix == ".rings" or (path.parent.name == "pretrained" and path.suffix != ".partial")
            stored = f"{RINGS if stays else folder}/{path.name}"
            if not stays or stored not in self._known:
                self._known[stored] = self.store.put(path, self.at(stored))
            listed.append({"local": local, "stored": stored, **self._known[stored]})
        self.check(attempt)
        self.store.write(self.at(f"{folder}/{MANIFEST}"), {"step": step, "files": listed})
        self._prune()

    def restore(self, base: Path) -> int | None:
        """Download the latest checkpoint that is whole into ``base``; return its step, None if there is none."""
        for manifest in reversed(self.manifests()):
            try:
                for item in manifest["files"]:
                    self.store.get(self.at(item["stored"]), base / item["local"], item)
            except (ValueError, KeyError, RuntimeError):
                continue  # the one before it is whole
            self._known = {item["stored"]: {key: item[key] for key in ("size", "sha256")} for item in manifest["files"]}
            return int(manifest["step"])
        return None

    def manifests(self) -> list[dict[str, Any]]:
        """List the manifests of complete checkpoints, the oldest first."""
        found = [self.store.read(self.at(f"ckpt/{step}/{MANIFEST}")) for step in self.store.names(self.at("ckpt"))]
        return [manifest for manifest in found if manifest]

    def finish(self, attempt: Attempt, files: dict[str, Path]) -> None:
        """Upload the results and then their list, whose existence means that the cell is done; drop the checkpoints."""
        listed = {name: self.store.put(path, self.at(name)) for name, path in files.items()}
        self.check(attempt)
        self.store.write(self.at(RESULT), {"attempt": attempt.number, "files": listed})
        self.drop_checkpoints()

    def drop_checkpoints(self) -> None:
        """Remove the checkpoints of a cell that is done, which one that was killed at its very end has left."""
        for name in self.store.names(self.name):
            if name in ("ckpt", RINGS):
                self.store.remove(self.at(name))

    def fetch(self, name: str, path: Path) -> None:
        """Download one file of the result.

        Raises:
            ValueError: if the cell has no such file, or it is damaged.
        """
        result = self.result() or {"files": {}}
        if name not in result["files"]:
            raise ValueError(f"{self.store.uri}/{self.name} has no {name}, expected a finished one")
        self.store.get(self.at(name), path, result["files"][name])

    def _highest(self) -> int:
        numbers = [int(name[8:-5]) for name in self.store.names(self.name) if name.startswith("attempt-")]
        return max(numbers, default=0)

    def _prune(self) -> None:
        """Keep the last checkpoints, and the files that they list."""
        manifests = self.manifests()
        steps = [f"{manifest['step']:09d}" for manifest in manifests[-KEPT:]]
        for step in self.store.names(self.at("ckpt")):
            if step not in steps:
                self.store.remove(self.at(f"ckpt/{step}"))
        needed = {item["stored"] for manifest in manifests[-KEPT:] for item in manifest["files"]}
        for name in self.store.names(self.at(RINGS)):
            if f"{RINGS}/{name}" not in needed:
                self.store.remove(self.at(f"{RINGS}/{name}"))
                self._known.pop(f"{RINGS}/{name}", None)


def _attempt(number: int) -> str:
    return f"attempt-{number:04d}.json"
