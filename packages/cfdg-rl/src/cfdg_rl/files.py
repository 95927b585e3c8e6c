"""Files that appear under their name only when they are complete, and the drafts that a killed process leaves."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import socket
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"  # of this machine, in the names of drafts
_DRAFT = re.compile(r"\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)\.[0-9a-f]{8}\.partial")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path`` that takes its name on success and is removed on failure.

    Two processes that make the same file at once each write their own; the later one replaces the earlier. Its
    permissions are those that ``open`` gives to a new file. Drafts of the same file that no process owns are removed.

    Raises:
        OSError: if the file cannot be written; the error names ``path``.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "It is a folder, expected the name of a file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_drafts(path.parent, path.stem)
    draft = path.with_name(draft_name(path.stem) + path.suffix)
    try:
        with named(path, draft):
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # the umask has its say
            yield draft
            _flush(draft)
            os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def draft_name(stem: str) -> str:
    """Make the name of a draft, which tells the machine and the process that own it."""
    return f".{stem}.{HOST}-{os.getpid()}.{secrets.token_hex(4)}.partial"


def remove_drafts(folder: Path, stem: str = "") -> None:
    """Remove the drafts in a folder, of one file or of all, whose process on this machine has ended."""
    for path in folder.glob(f".{_literal(stem)}*.partial*"):
        found = _DRAFT.search(path.name)
        if found and found["host"] == HOST and not is_running(int(found["pid"])):
            with contextlib.suppress(OSError):  # another start may be removing it as well
                path.unlink()


def is_running(pid: int) -> bool:
    """Tell if a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


@contextmanager
def named(path: Path, draft: Path) -> Iterator[None]:
    """Give an operating system's error the name of the file that was to be written, where it has none or the draft's.

    Raises:
        OSError: of the same number, about ``path``.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, draft, str(draft)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an npz file.

    Raises:
        FileNotFoundError: if it does not exist.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an npz file atomically: complete or not at all."""
    with atomic_write(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, **arrays)  # pyrefly: ignore[bad-argument-type]


def _flush(path: Path) -> None:
    """Bring a file to the disk before it takes its name, so that a power cut cannot leave an empty one."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _literal(stem: str) -> str:
    """Quote what a glob pattern would read as a wildcard."""
    return re.sub(r"([*?[])", r"[\1]", stem)
