"""One file per model: tensors in safetensors, everything else as JSON in its header. Nothing is ever unpickled."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_FORMAT = "cfdg-diffusion"
_VERSION = 1


def save(path: Path, arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Write a file, complete or not at all; folders that are not there are made."""
    header = {"format": _FORMAT, "version": str(_VERSION), "arguments": json.dumps(arguments)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with complete(path) as partial:
        save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, partial, metadata=header)


def load(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Arguments and state as :func:`save` was given them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is truncated, foreign, or written by a newer version.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file, expected a saved model")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            arguments = _arguments(path, header)
            return arguments, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file or is cut short: {error}") from error


def read_header(path: Path) -> dict[str, str]:
    """Read the header of a file of :func:`save` without its tensors: ``format``, ``version``, JSON of ``arguments``."""
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def _arguments(path: Path, header: Mapping[str, str]) -> dict[str, Any]:
    if header.get("format") != _FORMAT:
        raise ValueError(f"{path} has format {header.get('format')!r}, expected {_FORMAT!r}")
    version = header.get("version", "")
    if version != str(_VERSION):
        raise ValueError(
            f"{path} has version {version!r}, this package reads version {_VERSION}: update cfdg-diffusion"
        )
    try:
        return dict(json.loads(header["arguments"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has a header that cannot be read: {error}") from error


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
