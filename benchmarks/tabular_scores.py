"""Scores of one generator on one table: the package's own report, and what the tables with a known truth tell."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

import tables
from cfdg_diffusion.quality import Report, report
from peer import kinds_of, read_table
from tables import Split

RARE = "rare"
COMBINATIONS = (("city", "region"), ("city", "product"))
"""Categories of ``mixed`` that depend on each other."""
_TRUTH_ROWS = 100_000
_STABLE_ROWS, _MOST_DRAWS = 2000, 5


def draws(split: Split) -> int:
    """Synthetic tables, each as long as the holdout, that the scores of a small table are the mean of."""
    return min(max(_STABLE_ROWS // len(split.holdout), 1), _MOST_DRAWS)


def score(name: str, split: Split, rows_file: Path, seed: int) -> dict[str, Any]:
    """All scores of the rows in a file, and of real rows beside them."""
    kinds = kinds_of(split.train)
    rows = read_table(rows_file, kinds)
    size = len(split.holdout)
    slices = [rows.iloc[start : start + size].reset_index(drop=True) for start in range(0, len(rows), size)]
    found = mean_scores(split, slices, seed)
    if name == "mixed":
        combined = rows_file.with_suffix(".combined.csv")
        found |= dependencies(rows, split.train, read_table(combined, kinds) if combined.exists() else None)
    if name == "mixture":
        found |= density(read_table(rows_file.with_suffix(".label.csv"), kinds), split.train)
    return found


def mean_scores(split: Split, parts: list[pd.DataFrame], seed: int) -> dict[str, Any]:
    """Mean scores of synthetic tables against the holdout."""
    reports = [report(split.train, part, split.holdout, label=split.label, seed=seed) for part in parts]
    return means([summary(each) for each in reports])


def summary(judged: Report) -> dict[str, Any]:
    """The numbers that are compared; ``real_*`` are what training rows get."""
    utility, privacy, trends, floor = judged.utility, judged.privacy, judged.trends, judged.detection.floor
    assert utility is not None, "there is a label"
    assert privacy is not None, "there is a holdout"
    assert trends is not None, "there are two columns"
    assert floor is not None, "there is a holdout"
    return {
        "detection": judged.detection.auc.value,
        "real_detection": floor.value,
        "trends": trends.mean,
        "real_trends": trends.baseline,
        "shapes": judged.shapes.mean,
        "real_shapes": judged.shapes.baseline,
        "utility": utility.synthetic,
        "real_utility": utility.real,
        "closest_to_train": privacy.closest_to_train.value,
        "membership": privacy.membership.value,
        "copies": privacy.copies_share,
        "real_copies": privacy.copies_expected,
        "copies_noise": privacy.copies_noise,
    }


def means(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean of every number over the parts that have it; None where none has."""
    found = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        values = [part[name] for part in parts if isinstance(part.get(name), (int, float))]
        found[name] = fmean(values) if values else None
    return found


def dependencies(rows: pd.DataFrame, train: pd.DataFrame, combined: pd.DataFrame | None) -> dict[str, Any]:
    """Shares of rows of ``mixed`` with categories that never go together, without and with constraints."""
    found = {f"broken_{name}": share for name, share in tables.dependencies_broken(rows, train).items()}
    if combined is not None:
        found["broken_constrained"] = max(tables.dependencies_broken(combined, train).values())
    return found


def density(rows: pd.DataFrame, train: pd.DataFrame) -> dict[str, Any]:
    """How the rare class of ``mixture`` fits its true density; None without rows of it."""
    rng = np.random.default_rng(0)
    truth = tables.draw(RARE, _TRUTH_ROWS, rng)
    seen = train.loc[train["class"] == RARE, ["x", "y"]].to_numpy()
    points = rows[["x", "y"]].to_numpy()
    return {
        "rare_rows": len(points),
        "outside": tables.outside(RARE, points) if len(points) else None,
        "real_outside": tables.outside(RARE, seen),
        "wasserstein": tables.sliced_wasserstein(points, truth, np.random.default_rng(1)) if len(points) else None,
        "real_wasserstein": tables.sliced_wasserstein(seen, truth, np.random.default_rng(1)),
    }
