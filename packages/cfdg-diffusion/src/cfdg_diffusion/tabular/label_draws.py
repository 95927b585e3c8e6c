"""Labels for rows of which some cells are given: p(label | cells), read from the model's own rows.

The network knows p(cells | label) only. Rows generated with the labels' frequencies in training carry the joint
distribution, so the labels of those that are nearest to the given cells are draws from p(label | cells), up to the
width of the neighbourhood.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from cfdg_diffusion.tabular.request import label_groups
from cfdg_diffusion.tabular.schema import TableSchema

_POOL, _LEAST_POOL = 20_000, 2_000
"""Generated rows, in all and for each set of labels to choose from; a label of fewer than one row in a thousand has few
among them."""
_NEAR = 10
_AT_ONCE = 512
"""Given rows compared with all of the pool at a time, which takes 40 MB."""
_JITTER = 1e-3
"""Standard deviations; breaks the ties of categories at random."""


@dataclass(frozen=True)
class OpenRows:
    """Rows that choose among the same labels by the same columns.

    Attributes:
        places: ``(n,)`` of them.
        allowed: the labels.
        features: the columns whose cells are given.
    """

    places: np.ndarray
    allowed: np.ndarray
    features: Sequence[Hashable]


def kept_rows(schema: TableSchema, cells: pd.DataFrame) -> list[OpenRows]:
    """Rows of which whole columns are kept, label columns among them or not; a missing cell is kept too."""
    features = [name for name in cells if name in schema.features]
    groups = label_groups(schema.labels, cells.drop(columns=features))
    return [OpenRows(places, allowed, features) for places, allowed in groups]


def blank_rows(schema: TableSchema, table: pd.DataFrame) -> list[OpenRows]:
    """Rows that miss some label columns, and perhaps other cells, each in its own pattern."""
    labels, features = schema.labels, schema.features
    names = [*features, *(name for name in labels.columns if name not in features)]
    there = table[names].notna().to_numpy() | np.array([name in labels.may_miss for name in names])
    patterns, which = np.unique(there, axis=0, return_inverse=True)
    found = []
    for number, pattern in enumerate(patterns):
        given = [name for name, is_there in zip(names, pattern, strict=True) if is_there]
        mine = np.flatnonzero(which.reshape(-1) == number)
        told = table.iloc[mine][[name for name in labels.columns if name in given]]
        own = [name for name in features if name in given]
        found += [OpenRows(mine[places], allowed, own) for places, allowed in label_groups(labels, told)]
    return found


Pool = Callable[[np.ndarray, int], tuple[np.ndarray, pd.DataFrame]]
"""Labels to draw from and a number of rows -> the labels and the cells of so many generated rows."""
Encode = Callable[[pd.DataFrame], np.ndarray | None]
"""Some columns of a table -> rows ``(M, D)``, NaN where a dimension is of another column; None if all are constant."""


def guess(
    known: np.ndarray, groups: Sequence[OpenRows], pool: Pool, encode: Encode, rng: np.random.Generator
) -> np.ndarray:
    """Labels ``(n,)`` that go with what is known of the rows ``known (n, D)``; 0 for those in no group.

    Each set of labels to choose from has one pool, whatever columns are given.
    """
    found = np.zeros(len(known), dtype=np.int64)
    several = [group for group in groups if len(group.allowed) > 1 and len(group.places)]
    choices = {group.allowed.tobytes(): group.allowed for group in several}
    rows_each = max(_POOL // max(len(choices), 1), _LEAST_POOL)
    pools = {name: pool(allowed, rows_each) for name, allowed in choices.items()}
    for group in groups:
        found[group.places] = group.allowed[0]
    for group in several:
        labels, made = pools[group.allowed.tobytes()]
        rows = encode(made[list(group.features)])  # what the network gives is not quite a code
        mine = known[group.places]
        found[group.places] = rng.choice(labels, len(mine)) if rows is None else nearest_labels(mine, rows, labels, rng)
    return found


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
