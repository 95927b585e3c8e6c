"""Replay rows in the compact form in which they are shipped.

Observations, actions and rewards are stored as 16-bit integers between each column's minimum and maximum, so the error
is at most half a step, (maximum - minimum) / 131,070. Columns rather than rows lie together, and low and high bytes
apart, because the slowly changing high bytes of a column compress well and the low ones not at all.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_FIXED_POINT = ("obs", "action", "reward")
_AS_THEY_ARE = ("terminal", "timeout", "end_row", "end_next_obs")
_LARGEST = 2**16 - 1


def encode(values: np.ndarray) -> dict[str, np.ndarray]:
    """Encode finite ``(N, C)`` as low and high ``(C, N)`` bytes and float32 minimum and maximum ``(C,)``."""
    minimum, maximum = values.min(axis=0).astype(np.float64), values.max(axis=0).astype(np.float64)
    scale = np.where(maximum > minimum, maximum - minimum, 1.0) / _LARGEST
    codes = np.rint((values.T - minimum[:, None]) / scale[:, None]).astype(np.uint16)
    low, high = (codes & 255).astype(np.uint8), (codes >> 8).astype(np.uint8)
    return {"low": low, "high": high, "minimum": minimum.astype(np.float32), "maximum": maximum.astype(np.float32)}


def decode(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Float32 values ``(N, C)`` of what :func:`encode` made; never outside a column's minimum and maximum."""
    codes = (arrays["high"].astype(np.uint16) << 8) | arrays["low"]
    minimum, maximum = (arrays[key].astype(np.float64)[:, None] for key in ("minimum", "maximum"))
    values = minimum + codes * (maximum - minimum) / _LARGEST
    return np.ascontiguousarray(np.clip(values, minimum, maximum).T, dtype=np.float32)


def pack_replay(replay: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Raw replay arrays with observations, actions and rewards in fixed point."""
    columns = {key: replay[key].reshape(len(replay[key]), -1) for key in _FIXED_POINT}
    packed = {f"{key}/{name}": array for key in columns for name, array in encode(columns[key]).items()}
    return packed | {key: replay[key] for key in _AS_THEY_ARE}


def unpack_replay(packed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of :func:`pack_replay` up to half a step of each column."""
    replay = {key: np.asarray(packed[key]) for key in _AS_THEY_ARE}
    for key in _FIXED_POINT:
        replay[key] = decode({name: packed[f"{key}/{name}"] for name in ("low", "high", "minimum", "maximum")})
    return replay | {"reward": replay["reward"][:, 0]}
