"""Files appear under their name when they are complete, or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def complete(path: Path) -> Iterator[Path]:
    """Give the name of an empty file in the same folder, which becomes ``path`` unless something is raised.

    The permissions are those of the file that is replaced, or those that ``open`` gives to a new one.

    Raises:
        OSError: if the folder cannot be written to.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.unlink(missing_ok=True)  # of a killed process with the same number
        partial.touch(exist_ok=False)
        permissions = _permissions(path if path.exists() else partial)
        _permit(partial, permissions | stat.S_IRUSR | stat.S_IWUSR)
        yield partial
        _permit(partial, permissions)  # safetensors makes its files private
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _permit(path: Path, permissions: int) -> None:
    """Change permissions if need be: file systems without them refuse every change."""
    if _permissions(path) != permissions:
        path.chmod(permissions)
