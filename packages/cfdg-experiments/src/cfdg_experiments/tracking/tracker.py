"""Tracking of a table in MLflow: a run per table, below it one per cell, and of a small table one per seed.

A store that fails in the middle stops no training: unwritten points are kept and tried again, and the results are files
anyway, from which the same command logs the missing ones.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import yaml

from cfdg_experiments.cells.policy_store import files_of_cell
from cfdg_experiments.cells.results import CellKey, CellResult, Evaluation
from cfdg_experiments.reports.header import ReportHeader, caption
from cfdg_experiments.reports.records import scores_csv
from cfdg_experiments.tracking.address import (
    TrackingError,
    check_tracking,
    folder_id,
    is_own_store,
    public,
    tracking_uri,
)
from cfdg_experiments.tracking.logged import (
    CELL_TAG,
    COMPARISON,
    LEVEL_TAG,
    TABLE_TAG,
    cell_curves,
    flatten,
    machine_tags,
    point_of,
    run_name,
    seed_curves,
    totals,
)
from cfdg_experiments.tracking.mlflow_runs import Runs, connect, first_line, look_at, open_experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient

FLUSH_SECONDS = 5.0  # between writes of live curves; one small write costs SQLite some 25 ms, a point in a batch 0.6 ms
RETRY_SECONDS = 60.0  # after a failed write
MOST_SEED_RUNS = 200  # a larger table has runs of its cells alone, each with the seeds' scores as a file

logger = logging.getLogger(__name__)


@dataclass
class _CellRuns:
    """The MLflow run of a cell and its runs per seed."""

    run: str
    seeds: dict[int, str]
    finished: bool = False


class Tracker:
    """A table's runs in MLflow. Use it as a context manager: leaving it ends the runs as finished, failed or killed.

    Args:
        client: from :func:`~cfdg_experiments.tracking.mlflow_runs.connect`.
        experiment: id of the experiment.
        header: what the table is to hold.
        folder: where the store is, for :meth:`how_to_look`.
    """

    def __init__(self, client: MlflowClient, experiment: str, header: ReportHeader, folder: Path) -> None:
        self.client = client
        self.experiment = experiment
        self.header = header
        self.folder = folder
        self.uri = client.tracking_uri
        owner = "" if is_own_store(self.uri, folder) else folder_id(folder)
        self.runs = Runs(client, experiment, {"profile": header.profile}, owner)
        self.table = ""
        self.ids: dict[CellKey, str] = {}
        self.problem = ""
        self._cells: dict[CellKey, _CellRuns] = {}
        self._waiting: list[CellResult] = []  # evaluations as results of one step
        self._complete: list[CellResult] = []
        self._due = 0.0

    @classmethod
    def open(
        cls,
        folder: Path,
        experiment: str,
        header: ReportHeader,
        settings: str,
        *,
        cell_ids: Mapping[CellKey, str] | None = None,
    ) -> Tracker:
        """Open the store (see :func:`tracking_uri`) and the table's run, which a repeated command continues.

        Args:
            folder: where the SQLite file and the artifacts go unless MLFLOW_TRACKING_URI names another store.
            experiment: name of the experiment, such as ``table1-quick``.
            header: what the table is to hold.
            settings: the resolved settings as YAML; logged as parameters and as an artifact.
            cell_ids: tell a cell from the same cell with other settings; without them, a hash of ``settings`` does.

        Raises:
            TrackingError: if the store cannot be used.
        """
        check_tracking(folder)
        uri = tracking_uri(folder)
        client = connect(uri)
        digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
        location = (folder.resolve() / "artifacts" / experiment).as_uri() if uri.startswith("sqlite:") else None
        try:
            tracker = cls(client, open_experiment(client, experiment, location), header, folder)
            tracker._open_table(f"{experiment}:{digest}", settings)
        except Exception as error:
            raise TrackingError(f"MLflow store {public(uri)} cannot be used: {first_line(error, uri)}") from error
        tracker.ids = {key: f"{key.name}:{(cell_ids or {}).get(key, digest)}" for key in header.cells()}
        return tracker

    def __enter__(self) -> Tracker:
        """Return the tracker; the table's run is open already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the open runs, as KILLED after Ctrl-C, FAILED after an error."""
        status = "FINISHED" if kind is None else "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED"
        self.close(status)

    def evaluation(self, key: CellKey, evaluation: Evaluation) -> None:
        """Note one evaluation of a running cell, or of some of its seeds; written every few seconds."""
        self._waiting.append(point_of(key, evaluation.seeds or self.header.seeds, evaluation))
        if time.monotonic() >= self._due:
            self.flush()

    def finished(self, result: CellResult) -> None:
        """Log the missing part of a finished cell and end its runs; a cell that is there already stays as it is."""
        self._complete.append(result)
        if not self.problem or time.monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Write the noted points; on failure keep them for the next time and warn once."""
        self._guarded(self._write)

    def report(self, files: Sequence[Path]) -> None:
        """Attach the files of the report to the table's run."""

        def attach() -> None:
            for path in files:
                self.runs.attach(self.table, path)

        self._guarded(attach)

    def close(self, status: str = "FINISHED") -> None:
        """Write the rest, and end the table's run with ``status`` and unfinished cells as killed or failed."""
        self.flush()

        def end() -> None:
            for cell in self._cells.values():
                if not cell.finished:
                    self._end(cell, "FAILED" if status == "FAILED" else "KILLED")
            self.runs.end(self.table, status)

        self._guarded(end)

    def how_to_look(self) -> str:
        """Say how to open the web page with the table's runs, or what went wrong."""
        if self.problem:
            return f"MLflow has not everything ({self.problem}); run the same command again to log the rest."
        return look_at(self.uri, self.folder, f"#/experiments/{self.experiment}/runs?{COMPARISON}")

    def _guarded(self, write: Callable[[], None]) -> None:
        """Call ``write``; a store that fails must not end hours of training."""
        try:
            write()
        except Exception as error:
            if not self.problem:
                logger.warning("MLflow store %s: %s; the run goes on", public(self.uri), first_line(error, self.uri))
            self.problem = first_line(error, self.uri)
            self._due = time.monotonic() + RETRY_SECONDS
        else:
            self.problem = ""
            self._due = time.monotonic() + FLUSH_SECONDS

    def _write(self) -> None:
        while self._waiting:
            point = self._waiting[0]
            self._log_curves(self._cell(point.key), point)
            self._waiting.pop(0)
        while self._complete:
            self._finish(self._complete[0])
            self._complete.pop(0)

    def _open_table(self, identity: str, settings: str) -> None:
        """Continue the run of the same settings, or begin one."""
        found = self.runs.find(TABLE_TAG, identity)
        tags = {TABLE_TAG: identity, LEVEL_TAG: "table"}
        self.table = found[0].info.run_id if found else self.runs.create(f"{self.header.profile} table", tags)
        self.client.update_run(self.table, status="RUNNING")
        self.client.set_tag(self.table, "mlflow.note.content", caption(self.header))
        known = found[0].data.params if found else {}  # MLflow refuses another value of a parameter
        values = flatten(yaml.safe_load(settings) or {})
        self.runs.parameters(self.table, {key: value for key, value in values.items() if key not in known})
        self.runs.tags_of(self.table, machine_tags(self.header))
        self.client.log_text(self.table, settings, "settings.yaml")

    def _cell(self, key: CellKey) -> _CellRuns:
        if key not in self._cells:
            self._cells[key] = self._open_cell(key)
        return self._cells[key]

    def _open_cell(self, key: CellKey) -> _CellRuns:
        """Move the finished run of the same cell below this table, or replace unfinished ones by a new run."""
        found = self.runs.find(CELL_TAG, self.ids[key])
        done = next((run for run in found if run.info.status == "FINISHED"), None)
        for run in found:
            if run is not done:
                self.runs.discard(run)
        if done is not None:
            self.runs.move(done.info.run_id, self.table)
            return _CellRuns(done.info.run_id, {}, finished=True)
        tags = {CELL_TAG: self.ids[key], LEVEL_TAG: "cell", **key._asdict()}
        cell = self.runs.create(run_name(key), tags, self.table)
        self.runs.parameters(cell, {**key._asdict(), "seeds": list(self.header.seeds)})
        few = len(self.ids) * len(self.header.seeds) <= MOST_SEED_RUNS
        return _CellRuns(cell, {seed: self._open_seed(cell, key, seed) for seed in self.header.seeds if few})

    def _open_seed(self, cell: str, key: CellKey, seed: int) -> str:
        values = {**key._asdict(), "seed": str(seed)}
        run = self.runs.create(f"seed {seed} {run_name(key)}", {LEVEL_TAG: "seed", **values}, cell)
        self.runs.parameters(run, values)
        return run

    def _log_curves(self, cell: _CellRuns, result: CellResult) -> None:
        """Log the missing points: each seed's curves, and of all seeds together the mean score with its interval."""
        if cell.finished:
            return
        for seed, curves in seed_curves(result).items():
            if seed in cell.seeds:
                self.runs.points(cell.seeds[seed], curves, result.steps)
        # A point that is logged stays, and some of the seeds have another mean than all of them.
        if set(result.seeds) >= set(self.header.seeds):
            self.runs.points(cell.run, cell_curves(result), result.steps)

    def _finish(self, result: CellResult) -> None:
        cell = self._cell(result.key)
        if cell.finished:
            return
        self._log_curves(cell, result)
        self.runs.points(cell.run, totals(result), result.steps[-1:])
        self.client.log_text(cell.run, scores_csv([result]), "scores.csv")
        for path in files_of_cell(self.folder, self.ids[result.key].rpartition(":")[2]):
            self.runs.attach(cell.run, path, "policies")
        self._end(cell, "FINISHED")
        cell.finished = True

    def _end(self, cell: _CellRuns, status: str) -> None:
        """End the seeds first: a cell that is FINISHED is complete."""
        for run in [*cell.seeds.values(), cell.run]:
            self.runs.end(run, status)
