"""The behaviour policies: forward pass of a SAC actor in NumPy, without the library that trained it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

LAYERS = ("hidden0", "hidden1", "mean", "log_std")
_LOG_STD_RANGE = (-20.0, 2.0)  # Stable-Baselines3 and sbx


@dataclass(frozen=True)
class Actor:
    """A squashed Gaussian policy with two hidden ReLU layers.

    Attributes:
        weights: float32 arrays ``LAYER/weight`` (in, out) and ``LAYER/bias`` (out,) for the four ``LAYERS``.
    """

    weights: Mapping[str, np.ndarray]

    def act(self, obs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Compute actions ``(E, A)`` in [-1, 1] at ``(E, S)``: tanh(mean + std noise), noise ``(E, A)``."""
        hidden = np.maximum(self._linear("hidden0", obs), 0.0)
        hidden = np.maximum(self._linear("hidden1", hidden), 0.0)
        std = np.exp(np.clip(self._linear("log_std", hidden), *_LOG_STD_RANGE))
        return np.tanh(self._linear("mean", hidden) + std * noise)

    def _linear(self, layer: str, inputs: np.ndarray) -> np.ndarray:
        return inputs @ self.weights[f"{layer}/weight"] + self.weights[f"{layer}/bias"]


def fresh_actor(obs_dim: int, action_dim: int, rng: np.random.Generator, width: int = 128) -> Actor:
    """Make an untrained actor, D4RL's random policy, with PyTorch's default: uniform(+-1/sqrt(fan in))."""
    shapes = zip(LAYERS, ((obs_dim, width), (width, width), (width, action_dim), (width, action_dim)), strict=True)
    weights = {}
    for layer, (fan_in, fan_out) in shapes:
        bound = fan_in**-0.5
        weights[f"{layer}/weight"] = rng.uniform(-bound, bound, (fan_in, fan_out)).astype(np.float32)
        weights[f"{layer}/bias"] = rng.uniform(-bound, bound, fan_out).astype(np.float32)
    return Actor(weights)


def select_actor(arrays: Mapping[str, np.ndarray], prefix: str) -> Actor:
    """Pick the actor whose arrays are named ``PREFIX/LAYER/weight`` and ``PREFIX/LAYER/bias``.

    Raises:
        ValueError: if one of them is missing.
    """
    names = [f"{layer}/{kind}" for layer in LAYERS for kind in ("weight", "bias")]
    missing = [f"{prefix}/{name}" for name in names if f"{prefix}/{name}" not in arrays]
    if missing:
        raise ValueError(f"the arrays are {', '.join(sorted(arrays)[:3])} ..., expected {missing[0]!r} among them")
    return Actor({name: np.asarray(arrays[f"{prefix}/{name}"], dtype=np.float32) for name in names})
