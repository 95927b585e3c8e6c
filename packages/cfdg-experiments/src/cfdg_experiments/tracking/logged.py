"""Names and values that a table logs: tags and parameters of its runs, curves and totals of its cells."""

from __future__ import annotations

import hashlib
import math
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cfdg_experiments.cells.results import CellKey, CellResult, Evaluation
from cfdg_experiments.reports.header import ReportHeader
from cfdg_experiments.reports.statistics import mean_band

CELL_TAG = "cfdg.cell"
TABLE_TAG = "cfdg.table"
LEVEL_TAG = "level"  # table, cell or seed: short, because people type it into the page's search field
LONGEST_NAME = 250  # of a parameter, MLflow's limit
COMPARISON = (  # the page's curves of all cells; without an order by a metric it shows tables, folded, and no curves
    f"searchFilter=tags.{LEVEL_TAG}%3D%27cell%27&orderByKey=metrics.%60final_score%60&orderByAsc=false&compareRunsMode=CHART"
)


def run_name(key: CellKey) -> str:
    """Name the run of a cell, arm and algorithm first: the page cuts long names."""
    return f"{key.arm} {key.algorithm} {key.dataset.partition(':')[2] or key.dataset}"


def point_of(key: CellKey, seeds: tuple[int, ...], evaluation: Evaluation) -> CellResult:
    """Turn one evaluation of a running cell into a result of one step."""
    return CellResult(
        *key,
        seeds=seeds,
        steps=np.array([evaluation.step]),
        scores=np.asarray(evaluation.scores)[:, None],
        behaviour_score=math.nan,
        seconds=math.nan,
        metrics={name: np.asarray(values)[:, None] for name, values in evaluation.metrics.items()},
    )


def cell_curves(result: CellResult) -> dict[str, np.ndarray]:
    """Return the curves ``(K,)`` of a cell: the mean score with its interval, and metrics that seeds share."""
    mean, low, high = mean_band(result.scores)
    shared = {name: curve for name, curve in result.metrics.items() if curve.ndim == 1}
    return {"score_mean": mean, "score_low": low, "score_high": high, **shared}


def seed_curves(result: CellResult) -> dict[int, dict[str, np.ndarray]]:
    """Return the curves ``(K,)`` of every seed."""
    curves = {"score": result.scores} | {name: curve for name, curve in result.metrics.items() if curve.ndim == 2}
    return {seed: {name: curve[index] for name, curve in curves.items()} for index, seed in enumerate(result.seeds)}


def totals(result: CellResult) -> dict[str, np.ndarray]:
    """Return what is known at the end of a cell, as curves ``(1,)`` at its last step."""
    replica_steps = int(result.steps[-1]) * len(result.seeds)
    values = {
        "seconds": result.seconds,
        "behaviour_score": result.behaviour_score,
        "final_score": float(result.final.mean()),
        "offline_score": float(result.offline.mean()),
        "late_score": float(result.late.mean()),
        "throughput/replica_steps_per_second": replica_steps / result.seconds if result.seconds else math.nan,
    }
    return {name: np.array([value]) for name, value in values.items()}


def machine_tags(header: ReportHeader) -> dict[str, str]:
    """Return the hardware and the versions of the software: tags, because a table may continue on others."""
    return {"machine": header.machine} | {f"version/{name}": number for name, number in header.software.items()}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Turn nested settings into dotted names that MLflow takes, lists joined by commas."""
    return {parameter_name(name): value for name, value in _leaves(tree, prefix)}


def parameter_name(name: str) -> str:
    """Return a name as it is if MLflow takes it, else with _ for what it refuses, and a hash that tells it apart.

    MLflow refuses most punctuation, paths that are written in a longer way than needed, and more than 250 characters.
    """
    if re.fullmatch(r"[\w.\- :/]+", name) and posixpath.normpath(name) == name and len(name) <= LONGEST_NAME:
        return name
    taken = re.sub(r"[^\w.\- :]", "_", name)[: LONGEST_NAME - 9]
    return f"{taken}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            yield f"{prefix}{key}", ", ".join(str(item) for item in value)
        else:
            yield f"{prefix}{key}", str(value)
