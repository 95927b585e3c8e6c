"""Draws of missing labels from p(label | known cells), estimated with the nearest generated rows.

The network models p(cells | label) only. Rows generated with the label frequencies of training follow the joint
distribution, so the labels of the rows nearest to the known cells are draws from p(label | cells), up to the width of
that neighbourhood.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from cfdg_diffusion.tabular.request import label_groups
from cfdg_diffusion.tabular.schema import TableSchema

_POOL = 20_000
"""Generated rows in all pools together."""
_LEAST_POOL = 2_000
"""Generated rows per pool; a label with fewer than one row in a thousand has few of them."""
_NEAR = 10
"""Neighbours, of which one gives its label."""
_AT_ONCE = 512
"""Rows compared with the whole pool at a time, which takes 40 MB."""
_JITTER = 1e-3
"""Standard deviations of noise, which breaks the ties of categories at random."""


@dataclass(frozen=True)
class UnlabelledRows:
    """Rows whose labels are drawn from the same set of labels, given the same columns.

    Attributes:
        places: ``(n,)`` positions of the rows.
        allowed: labels to choose from.
        features: names of the known columns.
    """

    places: np.ndarray
    allowed: np.ndarray
    features: Sequence[Hashable]


def rows_with_kept_columns(schema: TableSchema, cells: pd.DataFrame) -> list[UnlabelledRows]:
    """Group rows of which whole columns are kept, perhaps label columns too; a missing cell counts as known."""
    features = [name for name in cells if name in schema.features]
    groups = label_groups(schema.labels, cells.drop(columns=features))
    return [UnlabelledRows(places, allowed, features) for places, allowed in groups]


def rows_with_missing_labels(schema: TableSchema, table: pd.DataFrame) -> list[UnlabelledRows]:
    """Group rows that miss label columns, and perhaps other cells, by the pattern of what is missing."""
    labels = schema.labels
    features = schema.features
    names = [*features, *(name for name in labels.columns if name not in features)]
    there = table[names].notna().to_numpy() | np.array([name in labels.may_miss for name in names])
    patterns, pattern_of = np.unique(there, axis=0, return_inverse=True)
    found = []
    for number, pattern in enumerate(patterns):
        given = [name for name, is_there in zip(names, pattern, strict=True) if is_there]
        mine = np.flatnonzero(pattern_of.reshape(-1) == number)
        given_labels = table.iloc[mine][[name for name in labels.columns if name in given]]
        own = [name for name in features if name in given]
        groups = label_groups(labels, given_labels)
        found += [UnlabelledRows(mine[places], allowed, own) for places, allowed in groups]
    return found


Pool = Callable[[np.ndarray, int], tuple[np.ndarray, pd.DataFrame]]
"""Labels to choose from and M -> the labels ``(M,)`` and the cells of M generated rows."""
Encode = Callable[[pd.DataFrame], np.ndarray | None]
"""Some columns of a table -> rows ``(M, D)``, NaN in the dimensions of other columns; None if all are constant."""


def draw_labels(
    known: np.ndarray, groups: Sequence[UnlabelledRows], pool: Pool, encode: Encode, rng: np.random.Generator
) -> np.ndarray:
    """Draw a label for each row from p(label | known dimensions).

    Args:
        known: ``(n, D)`` with NaN in unknown dimensions.
        groups: the rows, by the labels to choose from and the known columns. Groups that choose from the same labels
            share one pool.
        pool: generates labelled rows.
        encode: turns their cells into dimensions.
        rng: chooses among neighbours.

    Returns:
        Labels ``(n,)``; 0 for rows of no group.
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
        rows = encode(made[list(group.features)])  # encoded anew: the network's own rows are not exact codes
        mine = known[group.places]
        found[group.places] = rng.choice(labels, len(mine)) if rows is None else nearest_labels(mine, rows, labels, rng)
    return found


def nearest_labels(given: np.ndarray, pool: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw for each given row the label of one of the ten nearest rows of a pool.

    Args:
        given: ``(n, D)`` with NaN in unknown dimensions.
        pool: ``(M, D)`` with NaN in the same dimensions.
        labels: ``(M,)`` of the pool.
        rng: chooses among neighbours.

    Returns:
        Labels ``(n,)``.
    """
    finite = np.isfinite(pool).all(axis=0)
    scale = np.maximum(pool[:, finite].std(axis=0), 1e-6)
    rows, asked = (_jittered(part[:, finite] / scale, rng) for part in (pool, given))
    near = min(_NEAR, len(pool))
    found = [_distances(part, rows).topk(near, largest=False).indices for part in asked.split(_AT_ONCE)]
    close = torch.cat(found).numpy()
    return labels[close[np.arange(len(close)), rng.integers(0, near, len(close))]]


def _distances(asked: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Compute ``(n, M)`` by differences; the faster matrix product rounds the jitter away."""
    return torch.cdist(asked, rows, compute_mode="donot_use_mm_for_euclid_dist")


def _jittered(rows: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy((rows + _JITTER * rng.standard_normal(rows.shape)).astype(np.float32))
