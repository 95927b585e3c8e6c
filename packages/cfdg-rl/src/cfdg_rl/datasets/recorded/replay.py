"""Replay rows in the compact form of the shipped files.

Observations, actions and rewards are stored as 16-bit integers between each column's minimum and maximum, so the error
is at most half a step, (maximum - minimum) / 131,070. Columns rather than rows lie together, and low and high bytes
apart, because the slowly changing high bytes of a column compress well and the low ones not at all.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_FIXED_POINT = ("obs", "action", "reward")
_UNCHANGED = ("terminal", "timeout", "end_row", "end_next_obs")
_LARGEST = 2**16 - 1


def encode(values: np.ndarray) -> dict[str, np.ndarray]:
    """Encode finite ``(N, C)`` as low and high ``(C, N)`` bytes and float32 minimum and maximum ``(C,)``."""
    minimum = values.min(axis=0).astype(np.float64)
    maximum = values.max(axis=0).astype(np.float64)
    scale = np.where(maximum > minimum, maximum - minimum, 1.0) / _LARGEST
    codes = np.rint((values.T - minimum[:, None]) / scale[:, None]).astype(np.uint16)
    low = (codes & 255).astype(np.uint8)
    high = (codes >> 8).astype(np.uint8)
    return {"low": low, "high": high, "minimum": minimum.astype(np.float32), "maximum": maximum.astype(np.float32)}


def decode(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Decode what :func:`encode` made into float32 ``(N, C)``; never outside a column's minimum and maximum."""
    codes = (arrays["high"].astype(np.uint16) << 8) | arrays["low"]
    minimum, maximum = (arrays[key].astype(np.float64)[:, None] for key in ("minimum", "maximum"))
    values = minimum + codes * (maximum - minimum) / _LARGEST
    return np.ascontiguousarray(np.clip(values, minimum, maximum).T, dtype=np.float32)


def pack_replay(replay: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Encode observations, actions and rewards of raw replay arrays in fixed point."""
    columns = {key: replay[key].reshape(len(replay[key]), -1) for key in _FIXED_POINT}
    packed = {f"{key}/{name}": array for key in columns for name, array in encode(columns[key]).items()}
    return packed | {key: replay[key] for key in _UNCHANGED}


def unpack_replay(packed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Decode what :func:`pack_replay` made, up to half a step of each column."""
    replay = {key: np.asarray(packed[key]) for key in _UNCHANGED}
    for key in _FIXED_POINT:
        replay[key] = decode({name: packed[f"{key}/{name}"] for name in ("low", "high", "minimum", "maximum")})
    return replay | {"reward": replay["reward"][:, 0]}
