"""Locks of files: one process of a machine works on a file at a time, and the others are told which one."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock of a file, ``.NAME.lock`` beside it; the system frees it when its process ends in whatever way.

    Where no lock can be written, say on a full disk, there is none: the work is more important.

    Args:
        path: of the file, which need not be there.
        what: the work, for the message.

    Raises:
        RuntimeError: if another process has the lock; the message names it.
    """
    lock = path.with_name(f".{path.name}.lock")
    with contextlib.ExitStack() as held:
        while (file := _opened(lock)) is not None:
            held.enter_context(file)
            if not _lock(file):
                file.seek(0)
                owner = file.read().strip() or "another process"
                raise RuntimeError(f"{what} {path} is being run by {owner}; wait for it, or end it")
            if _is_at(file, lock):
                held.callback(lock.unlink, missing_ok=True)  # while it is held, so that nobody else's is removed
                break
        yield


def _opened(lock: Path) -> IO[str] | None:
    with contextlib.suppress(OSError):
        return lock.open("a+", encoding="utf-8")
    return None


def _lock(file: IO[str]) -> bool:
    """Lock an open file and write its owner; false if another process has it. Some systems have no such locks."""
    try:
        fcntl: Any = importlib.import_module("fcntl")
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    with contextlib.suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"process {os.getpid()}\n".encode())
    return True


def _is_at(file: IO[str], path: Path) -> bool:
    """Tell if the open file is still the one of this name, which its owner may have removed in between."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
