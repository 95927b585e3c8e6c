"""Fork server of torture.py: imports what a command needs once, and then starts it again and again within milliseconds.

Each line of the input is a request; the answers are the number of the new process and, later, its exit status. Without
it most kills would hit the imports of a command instead of its work.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class WarmServer:
    """A process that has imported modules, and forks.

    Args:
        modules: names of what is imported.
        environment: of the process.
    """

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, *modules],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.answers: queue.Queue[int] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def start(self, entry: str, words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> WarmProcess:
        """Start ``entry``, MODULE:FUNCTION, with words of a command line in a folder."""
        request = {"entry": entry, "words": list(words), "folder": str(folder), "environment": dict(environment)}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return WarmProcess(self.answers, self.answers.get())

    def close(self) -> None:
        """End the server."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.answers.put(int(line))


class WarmProcess:
    """A process that the server has forked; it is waited for as one of :class:`subprocess.Popen`."""

    def __init__(self, answers: queue.Queue[int], pid: int) -> None:
        self.answers = answers
        self.pid = pid
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; returns the status.

        Raises:
            subprocess.TimeoutExpired: if it still runs.
        """
        if self.returncode is None:
            try:
                self.returncode = self.answers.get(timeout=timeout)
            except queue.Empty:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0) from None
        return self.returncode

    def kill(self) -> None:
        """Kill the process."""
        os.kill(self.pid, signal.SIGKILL)


def serve(modules: Sequence[str]) -> None:
    """Import modules, and fork a process for each request; one is at work at a time."""
    for name in modules:
        importlib.import_module(name)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(json.loads(line))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(request: Mapping[str, Any]) -> None:
    """Become the requested command, in a session and with an environment of its own."""
    os.setsid()
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    for number, path, mode in (
        (0, os.devnull, os.O_RDONLY),
        (1, os.devnull, os.O_WRONLY),
        (2, "errors.txt", os.O_WRONLY),
    ):
        file = os.open(path, mode | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    module, _, function = request["entry"].partition(":")
    sys.argv = [module, *request["words"]]
    sys.exit(getattr(importlib.import_module(module), function)())


if __name__ == "__main__":
    serve(sys.argv[1:])
