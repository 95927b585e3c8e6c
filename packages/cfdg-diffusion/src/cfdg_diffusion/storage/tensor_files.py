"""Tensor files: safetensors with a SHA-256 of their content, written as a stream without a copy in memory.

The format is public: eight bytes with the length of a JSON header, the header, and the tensors one after the other.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cfdg_diffusion.storage.files import atomic_write

CHECKSUM = "sha256"
_CHUNK = 1 << 22  # bytes that are hashed or written at once
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Write tensors and text to one file, complete or not at all; return the SHA-256 of both.

    Raises:
        ValueError: if a tensor's type is none of safetensors'.
        OSError: if the file cannot be written.
    """
    held = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    digest = content_digest(held, metadata)
    header = _header(held, {**metadata, CHECKSUM: digest})
    with atomic_write(path) as draft, draft.open("wb") as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for tensor in held.values():
            for part in _bytes(tensor):
                file.write(part)
    return digest


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors, on the CPU, and text of a safetensors file, and compare its checksum if it has one.

    Raises:
        ValueError: if it is truncated, foreign, or its content is not what was written.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file or is cut short: {error}") from error
    expected = metadata.pop(CHECKSUM, None)
    if expected is not None and expected != content_digest(tensors, metadata):
        raise ValueError(f"{path} is damaged: its content does not have the SHA-256 that is written in it")
    return tensors, metadata


def content_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Hash names, types, shapes and numbers of tensors, and text: 64 hexadecimal digits of SHA-256."""
    found = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        for part in _bytes(tensor):
            found.update(part)
    return found.hexdigest()


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Write the JSON header, padded to eight bytes so that the tensors are aligned."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES:
            raise ValueError(f"tensor {name!r} has type {tensor.dtype}, expected one that safetensors has")
        start = end
        end += tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def _bytes(tensor: Tensor) -> Iterator[memoryview]:
    """Yield the bytes of a contiguous tensor on the CPU in chunks, without a copy."""
    if sys.byteorder != "little":
        raise RuntimeError("this machine is big-endian, expected a little-endian one: so are the files")
    row = tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset())  # one number may have a stride of 0
    flat = row.view(torch.uint8).numpy().data
    for start in range(0, len(flat), _CHUNK):
        yield flat[start : start + _CHUNK]
