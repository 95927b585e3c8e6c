"""Locks between processes of one machine, and what a command removes of those that nobody holds."""

from __future__ import annotations

import contextlib
from pathlib import Path

from cfdg_rl.locks import BusyError as BusyError
from cfdg_rl.locks import locked as locked


def remove_free_locks(folder: Path) -> None:
    """Remove the lock files of a folder that no process holds any more."""
    for path in folder.glob("*.lock"):
        with contextlib.suppress(BusyError), locked(path, "", wait=False):
            pass
