"""Labels for rows of which some cells are given: p(label | cells), read from the model's own rows.

The network knows p(cells | label) only. Rows generated with the labels' frequencies in training carry the joint
distribution, so the labels of those that are nearest to the given cells are draws from p(label | cells), up to the
width of the neighbourhood.
"""

from __future__ import annotations

import numpy as np
import torch

POOL, LEAST_POOL = 20_000, 2_000
"""Generated rows, in all and for each combination of given label columns; a label of fewer than one row in a thousand
has few among them."""
_NEAR = 10
_AT_ONCE = 512
"""Given rows compared with all of the pool at a time, which takes 40 MB."""
_JITTER = 1e-3
"""Standard deviations; breaks the ties of categories at random."""


def nearest_labels(given: np.ndarray, pool: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The label of one of the ten nearest rows of a pool, for each given row ``(n,)``.

    Args:
        given: ``(n, D)`` with NaN in dimensions that are not given.
        pool: ``(M, D)`` with NaN in the same dimensions.
        labels: ``(M,)`` of the pool.
        rng: chooses among neighbours.
    """
    told = np.isfinite(pool).all(axis=0)
    scale = np.maximum(pool[:, told].std(axis=0), 1e-6)
    rows, asked = (_jittered(part[:, told] / scale, rng) for part in (pool, given))
    near = min(_NEAR, len(pool))
    found = [_distances(part, rows).topk(near, largest=False).indices for part in asked.split(_AT_ONCE)]
    close = torch.cat(found).numpy()
    return labels[close[np.arange(len(close)), rng.integers(0, near, len(close))]]


def _distances(asked: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """``(n, M)``; by differences, as the faster product of matrices rounds the jitter away."""
    return torch.cdist(asked, rows, compute_mode="donot_use_mm_for_euclid_dist")


def _jittered(rows: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy((rows + _JITTER * rng.standard_normal(rows.shape)).astype(np.float32))
