"""Scratch folders of units, which are removed at the end, and those that killed processes of this machine have left."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cfdg_rl.files import HOST, is_running

_NAME = re.compile(r"cfdg-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-")


@contextmanager
def scratch_folder(base: Path | None) -> Iterator[Path]:
    """Make a folder whose name tells the machine and the process that own it.

    Args:
        base: where; None is the system's folder for temporary files.
    """
    remove_scratch(base)
    with tempfile.TemporaryDirectory(prefix=f"cfdg-{HOST}-{os.getpid()}-", dir=base) as folder:
        yield Path(folder)


def remove_scratch(base: Path | None) -> None:
    """Remove the scratch folders in ``base`` whose process on this machine has ended."""
    place = Path(tempfile.gettempdir()) if base is None else base
    for path in place.glob("cfdg-*"):
        found = _NAME.match(path.name)
        if found and found["host"] == HOST and not is_running(int(found["pid"])):
            shutil.rmtree(path, ignore_errors=True)  # another start may be removing it as well
