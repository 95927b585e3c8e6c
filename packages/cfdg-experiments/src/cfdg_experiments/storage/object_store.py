"""Store of small texts and large files under names: a folder, or whatever fsspec reads, such as ``s3://bucket/runs``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cfdg_experiments.storage.json_digest import json_digest
from cfdg_rl.files import atomic_write, draft_name, remove_drafts
from cfdg_rl.tensor_files import CHECKSUM

TEMPORARY = 75  # exit status of what may succeed later (EX_TEMPFAIL)


class StoreError(RuntimeError):
    """The store cannot be reached or used, in one sentence; another try may succeed."""

    status = TEMPORARY


class Store:
    """Files of a store by their names, which use ``/``.

    Args:
        uri: a folder, or an address with a protocol that fsspec has.

    Raises:
        ValueError: if there is no such protocol, or its library is not installed.
    """

    def __init__(self, uri: str) -> None:
        import fsspec

        if not uri:
            raise ValueError("store is '', expected a folder or an address such as s3://bucket/runs")
        self.uri = uri.rstrip("/")
        self.local = None if "://" in uri else Path(uri).resolve()
        address = uri if self.local is None else self.local.as_posix()
        try:
            self._files, self._root = fsspec.core.url_to_fs(address, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise ValueError(f"store {uri} cannot be used: {error}") from error

    def read_text(self, name: str) -> str:
        """Read a text; "" if there is no such file."""
        with self._told(name):
            try:
                return bytes(self._files.cat_file(self._at(name))).decode("utf-8", "replace")
            except FileNotFoundError:
                return ""

    def read(self, name: str) -> dict[str, Any] | None:
        """Read a JSON object; None if there is no such file.

        Raises:
            StoreError: if it cannot be read.
            ValueError: if it is no JSON object, or damaged; one of before has no checksum.
        """
        text = self.read_text(name)
        if not text:
            return None
        try:
            value = dict(json.loads(text))
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{self.uri}/{name} is not a JSON object: {error}") from error
        if value.pop(CHECKSUM, None) not in (None, json_digest(value)):
            raise ValueError(f"{self.uri}/{name} is damaged: its content has not the SHA-256 that is in it")
        return value

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Write a JSON object with its checksum, complete or not at all."""
        self.write_text(name, _sealed(value))

    def write_text(self, name: str, text: str) -> None:
        """Write a text, complete or not at all."""
        with self._told(name):
            if self.local is None:
                self._files.pipe_file(self._at(name), text.encode())
                return
            with atomic_write(self.local / name) as draft:
                draft.write_text(text, encoding="utf-8", newline="\n")

    def create(self, name: str, value: dict[str, Any]) -> bool:
        """Write a JSON object unless there is one; tell if it was written."""
        text = _sealed(value)
        with self._told(name):
            if self.local is None:
                return self._create_object(name, text.encode())
            path = self.local / name
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_drafts(path.parent, path.stem)
            draft = path.with_name(draft_name(path.stem))
            try:
                draft.write_text(text, encoding="utf-8")
                return _link(draft, path)
            finally:
                draft.unlink(missing_ok=True)

    def put(self, path: Path, name: str) -> dict[str, Any]:
        """Copy a file into the store; return its size and SHA-256."""
        with self._told(name):
            if self.local is None:
                self._files.put_file(str(path), self._at(name))
            else:
                with atomic_write(self.local / name) as draft:
                    shutil.copyfile(path, draft)
        return facts_of(path)

    def get(self, name: str, path: Path, facts: dict[str, Any]) -> None:
        """Copy a file out of the store.

        Raises:
            ValueError: if it has not the size and the SHA-256 of ``facts``.
        """
        with self._told(name), atomic_write(path) as draft:
            self._files.get_file(self._at(name), str(draft))  # a file that is not there is an error of the store
            found = facts_of(draft)
            if any(found[key] != facts[key] for key in found):
                raise ValueError(f"{self.uri}/{name} is damaged: its size or SHA-256 is not the one that was written")

    def exists(self, name: str) -> bool:
        """Tell if there is a file."""
        with self._told(name):
            return bool(self._files.exists(self._at(name)))

    def names(self, folder: str) -> list[str]:
        """List the names of files and folders in a folder, sorted; none where there is no folder."""
        with self._told(folder):
            self._files.invalidate_cache()
            try:
                found = self._files.ls(self._at(folder), detail=False)
            except FileNotFoundError:
                return []
        names = {str(path).rstrip("/").rpartition("/")[2] for path in found}
        return sorted(name for name in names if not name.startswith("."))

    def remove(self, name: str) -> None:
        """Remove a file or a folder, if it is there."""
        with self._told(name), contextlib.suppress(FileNotFoundError):
            self._files.rm(self._at(name), recursive=True)

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _create_object(self, name: str, text: bytes) -> bool:
        """Write an object that is not there; a protocol without exclusive writing is asked first."""
        try:
            self._files.pipe_file(self._at(name), text, mode="create")
        except FileExistsError:
            return False
        except (TypeError, NotImplementedError):
            if self._files.exists(self._at(name)):
                return False
            self._files.pipe_file(self._at(name), text)
        return True

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Turn errors of the system and of clients of object stores into one sentence with the name."""
        try:
            yield
        except (StoreError, ValueError):
            raise
        except (NotADirectoryError, IsADirectoryError) as error:  # no other try helps
            raise ValueError(f"store {self.uri} cannot have {name}: {error}") from error
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise StoreError(f"store {self.uri} failed at {name}: {reason[0]}") from error


def _sealed(value: Mapping[str, Any]) -> str:
    """Write JSON with a SHA-256 of its content."""
    return json.dumps({**value, CHECKSUM: json_digest(value)}, indent=1) + "\n"


def facts_of(path: Path) -> dict[str, Any]:
    """Return size in bytes and SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 22):
            digest.update(part)
    return {"size": path.stat().st_size, "sha256": digest.hexdigest()}


def _link(draft: Path, path: Path) -> bool:
    """Give a complete file another name unless that is taken."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        if path.exists():
            return False
        shutil.copyfile(draft, path)
    return True
