"""Locks between processes of one machine: one owner at a time, named to the others, and free once it has ended."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cfdg_rl.files import named


class BusyError(RuntimeError):
    """Another process is doing the same work, in one sentence."""


@contextmanager
def locked(path: Path, what: str, *, wait: bool) -> Iterator[None]:
    """Hold a lock, whose file is removed at the end; the system frees it when its process ends in whatever way.

    Args:
        path: of the lock's file.
        what: the work, for the message.
        wait: for the owner's end; else its work is refused.

    Raises:
        BusyError: if another process has it and ``wait`` is false.
    """
    with _taken(path, what, wait=wait):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held, so that nobody else's is removed


def remove_free_locks(folder: Path) -> None:
    """Remove the lock files of a folder that no process holds any more."""
    for path in folder.glob("*.lock"):
        with contextlib.suppress(BusyError), locked(path, "", wait=False):
            pass


@contextmanager
def _taken(path: Path, what: str, *, wait: bool) -> Iterator[None]:
    """Open and lock the file, anew where its owner has removed it in between."""
    while True:
        with _opened(path) as file:
            if not _lock(file, wait=wait):
                file.seek(0)
                owner = file.read().strip() or "another process"
                raise BusyError(f"{what} is being run by {owner}; wait for it, or end it")
            if not _is_at(file, path):
                continue
            with named(path, path):
                file.truncate(0)
                since = time.strftime("%Y-%m-%d %H:%M:%S")
                file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
                file.flush()
            yield
            return


def _opened(path: Path) -> IO[str]:
    """Open the file in its folder, which another process may remove at this moment because it was empty."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return path.open("a+", encoding="utf-8")


def _lock(file: IO[str], *, wait: bool) -> bool:
    """Lock an open file; false if another process has it. A system without such locks has none."""
    try:
        fcntl: Any = importlib.import_module("fcntl")
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _is_at(file: IO[str], path: Path) -> bool:
    """Tell if the open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
