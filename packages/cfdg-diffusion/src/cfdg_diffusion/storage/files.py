"""Files that appear under their name only when they are complete, and what a killed process leaves of them."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"  # of this machine, in the names of partial files
_PARTIAL = re.compile(r"\.(?:(?P<host>[0-9a-f]{8})-)?(?P<pid>\d+)\.partial$")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield the name of an empty file in the same folder, which replaces ``path`` unless something is raised.

    The permissions are those of the file that is replaced, or those that ``open`` gives to a new one.

    Raises:
        OSError: if the folder cannot be written to.
    """
    partial = path.with_name(f".{path.name}.{_HOST}-{os.getpid()}.partial")
    try:
        _remove_partials(path)
        with _named(path, partial):
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


@contextmanager
def _named(path: Path, partial: Path) -> Iterator[None]:
    """Give an operating system's error the name of the file that was to be written, where it has none or the partial's.

    Raises:
        OSError: of the same number, about ``path``.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, partial, str(partial)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _remove_partials(path: Path) -> None:
    """Remove partial files of ``path`` that this process had, or a process of this machine that has ended."""
    quoted = re.sub(r"([*?[])", r"[\1]", path.name)
    for left in path.parent.glob(f".{quoted}.*partial"):
        found = _PARTIAL.fullmatch(left.name.removeprefix(f".{path.name}"))
        if found and found["host"] in (None, _HOST) and not _is_running(int(found["pid"])):
            with contextlib.suppress(OSError):  # another process may be removing it as well
                left.unlink()


def _is_running(pid: int) -> bool:
    """Tell if a process of this machine runs, other than this one."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
