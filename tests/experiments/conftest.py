"""Made-up cells for the tests of tables, figures and tracking."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from cfdg_experiments.cells.results import CellResult
from cfdg_experiments.reports.header import ReportHeader

HOPPER = "recorded:hopper-medium"
CHEETAH = "recorded:halfcheetah-medium"


def _cell(dataset=HOPPER, arm="base", algorithm="iql", seeds=(0, 1, 2), steps=(0, 100, 200), shift=0.0):
    generator = np.random.default_rng(sum(map(ord, dataset + arm + algorithm)))
    scores = 40 + shift + generator.normal(size=(len(seeds), len(steps)))
    return CellResult(
        dataset,
        algorithm,
        arm,
        seeds,
        steps=np.array(steps),
        scores=scores,
        behaviour_score=38.5,
        seconds=12.5,
        metrics={"train/episode_return": scores * 30, "refresh/seconds": np.linspace(1, 2, len(steps))},
    )


def _header(datasets=(HOPPER, CHEETAH), algorithms=("iql",), **changes):
    values = {
        "profile": "quick",
        "offline_steps": dict.fromkeys(algorithms, 3000),
        "seeds": (0, 1, 2),
        "machine": "2 cores",
    }
    online = dict.fromkeys(algorithms, 200)
    return ReportHeader(datasets=datasets, algorithms=algorithms, online_steps=online, **(values | changes))


def _all_cells(header):
    return [_cell(d, arm, algorithm, shift=5.0 * (arm == "cfdg")) for d, algorithm, arm in header.cells()]


@pytest.fixture(scope="session")
def made_up():
    """``cell(...)``, ``header(...)`` and ``all_cells(header)``."""
    return SimpleNamespace(cell=_cell, header=_header, all_cells=_all_cells, cheetah=CHEETAH)
