"""Curves of units at work on any machine, read from the store and told to the one process that writes to MLflow."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from cfdg_experiments.cells.cell import Cell
from cfdg_experiments.cells.results import CellKey, Evaluation
from cfdg_experiments.cluster.stored_plan import Unit
from cfdg_experiments.cluster.unit import METRICS
from cfdg_experiments.storage.object_store import Store, StoreError
from cfdg_experiments.tracking.tracker import Tracker

LOOK_SECONDS = 30.0  # between two looks at the store


class LiveCurves:
    """Evaluations of running cells, each told once for every column that the cell has in the table.

    Args:
        store: where the cells write them.
        keys: columns of each cell.
        tracker: is told.
    """

    def __init__(self, store: Store, keys: Mapping[Cell, Sequence[CellKey]], tracker: Tracker) -> None:
        self.store = store
        self.keys = keys
        self.tracker = tracker
        self._told: set[tuple[str, int]] = set()  # run id and step
        self._due = 0.0

    def look(self, running: Collection[Unit]) -> None:
        """Tell what is new, if the last look is long enough ago; a store that does not answer is asked next time."""
        if time.monotonic() < self._due:
            return
        for unit in running:
            if unit.stage:
                for evaluation in self._new(unit):
                    for key in self.keys[unit.cell]:
                        self.tracker.evaluation(key, evaluation)
        self._due = time.monotonic() + LOOK_SECONDS

    def _new(self, unit: Unit) -> list[Evaluation]:
        try:
            lines = self.store.read_text(f"{unit.folder}/{METRICS}").splitlines()
        except StoreError:
            return []
        found = [_evaluation(line) for line in lines]
        new = [evaluation for evaluation in found if (unit.run_id, evaluation.step) not in self._told]
        self._told |= {(unit.run_id, evaluation.step) for evaluation in new}
        return new


def _evaluation(line: str) -> Evaluation:
    """Read an evaluation from a line of JSON, in which null is NaN."""
    values = {name: np.asarray(value, dtype=float) for name, value in json.loads(line).items()}
    return Evaluation(int(values.pop("step")), values.pop("scores"), values)
