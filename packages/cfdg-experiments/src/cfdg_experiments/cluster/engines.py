"""Engines: where the units of a stored plan run. Each starts the same command, ``cfdg cell RUN_ID --store URI``."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import IO, Protocol

from cfdg_experiments.cluster.scratch import remove_scratch

END_WITH_STDIN = "CFDG_END_WITH_STDIN"  # set by a driver whose end is to be the unit's
STOP_SECONDS = 30.0  # from SIGTERM to SIGKILL, as clusters have it
COMMAND = "import sys; from cfdg_experiments.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Ended:
    """A command that has ended.

    Attributes:
        run_id: its unit.
        status: exit status, negative for a signal, or None where its machine was lost.
        message: the last line of its errors.
    """

    run_id: str
    status: int | None
    message: str


class Engine(Protocol):
    """A place that runs units."""

    def free(self) -> int:
        """Count the units that may be started now."""
        ...

    def start(self, run_id: str) -> None:
        """Start the command of a unit."""
        ...

    def wait(self, seconds: float) -> list[Ended]:
        """Wait at most so long for an end, and return the ends."""
        ...

    def close(self) -> None:
        """End everything that was started."""
        ...


def cell_command(run_id: str, uri: str) -> list[str]:
    """Return the command of a unit, which can be typed by hand as well."""
    return [sys.executable, "-c", COMMAND, "cell", run_id, "--store", uri]


def cell_environment(threads: int) -> dict[str, str]:
    """Return what a unit's process needs besides its environment: its threads."""
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


class LocalEngine:
    """Processes of this machine, which end with the driver.

    Args:
        uri: of the store.
        jobs: processes at once.
    """

    def __init__(self, uri: str, jobs: int) -> None:
        self.uri = uri
        self.jobs = jobs
        self.threads = max(1, (os.cpu_count() or 1) // jobs)
        self.running: dict[str, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}

    def free(self) -> int:
        """Count the units that may be started now."""
        return self.jobs - len(self.running)

    def start(self, run_id: str) -> None:
        """Start the command of a unit in a process group of its own."""
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process; a pipe could fill
        process = subprocess.Popen(
            cell_command(run_id, self.uri),
            env={**os.environ, **cell_environment(self.threads), END_WITH_STDIN: "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        self.running[run_id] = (process, errors)

    def wait(self, seconds: float) -> list[Ended]:
        """Wait at most so long for an end, and return the ends."""
        end = time.monotonic() + seconds
        while not any(process.poll() is not None for process, _ in self.running.values()):
            if time.monotonic() >= end:
                return []
            time.sleep(0.1)
        ended = [run_id for run_id, (process, _) in self.running.items() if process.poll() is not None]
        return [self._ended(run_id) for run_id in ended]

    def close(self) -> None:
        """End everything that was started, with a checkpoint if that takes no longer than half a minute."""
        for process, _ in self.running.values():
            process.terminate()
        end = time.monotonic() + STOP_SECONDS
        for process, _ in self.running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
            process.kill()
        for run_id in list(self.running):
            self._ended(run_id)
        remove_scratch(None)

    def _ended(self, run_id: str) -> Ended:
        process, errors = self.running.pop(run_id)
        status = process.wait()
        if process.stdin is not None:
            process.stdin.close()
        with errors:
            errors.seek(0)
            text = errors.read().decode("utf-8", "replace")
        return Ended(run_id, status, last_line(text))


def last_line(text: str) -> str:
    """Return the last line of what a command wrote to its errors."""
    lines = text.strip().splitlines()
    return lines[-1].removeprefix("cfdg: error: ") if lines else ""


def end_with_stdin() -> None:
    """End this process when its input ends, where a driver asks for it: no unit outlives a driver that was killed."""
    if os.environ.get(END_WITH_STDIN) == "1":
        threading.Thread(target=_watch_stdin, daemon=True).start()


def _watch_stdin() -> None:
    """Wait for the end of the input; ``sys.stdin`` would be locked meanwhile, and Python aborts at its end on that."""
    while os.read(0, 1 << 16):
        pass
    os._exit(1)
