"""MLflow: one experiment per table and profile, a run per table, below it one per cell, below that one per seed.

The only place that knows MLflow, which is imported where it is first needed: the import takes seconds. Runs are always
named by their id; MLflow's notion of an active run, which is global, is not used.

A store that fails in the middle stops no training: what could not be written is kept and tried again, and the results
are files anyway, from which the same command logs what is missing.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from cfdg_experiments.results import CellResult
from cfdg_experiments.server import serve_ui as serve_ui
from cfdg_experiments.statistics import mean_band
from cfdg_experiments.store import QUIET, TrackingError, check_tracking, database_path, tracking_uri
from cfdg_experiments.summary import CellKey, ReportHeader, caption

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

FLUSH_SECONDS = 5.0  # between writes of live curves; one small write costs SQLite some 25 ms, a point in a batch 0.6 ms
RETRY_SECONDS = 60.0  # after a failed write
BATCH = 1000  # metrics per call, MLflow's limit
PARAMETERS = 100  # parameters per call, MLflow's limit
CELL_TAG = "cfdg.cell"
TABLE_TAG = "cfdg.table"
LEVEL_TAG = "level"  # table, cell or seed: short, because people type it into the page's search field
PARENT_TAG = "mlflow.parentRunId"
COMPARISON = (  # the page's curves of all cells; without an order by a metric it shows tables, folded, and no curves
    f"searchFilter=tags.{LEVEL_TAG}%3D%27cell%27&orderByKey=metrics.%60final_score%60&orderByAsc=false&compareRunsMode=CHART"
)

logger = logging.getLogger(__name__)


def connect(uri: str) -> MlflowClient:
    """A quiet client without telemetry; a missing SQLite database is made first.

    Raises:
        TrackingError: if the store refuses.
    """
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)  # MLflow reads these only from the environment
    try:
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        if uri.startswith("sqlite:///") and not (path := database_path(uri)).exists():
            _create_database(path, MlflowClient)
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except Exception as error:  # whatever lies below: SQLAlchemy, requests, MLflow
        raise TrackingError(f"MLflow store {uri} cannot be used: {_first_line(error)}") from error
    return client


def _create_database(path: Path, client: type[MlflowClient]) -> None:
    """Make the tables under a temporary name: they take 10 s, and a kill or a second command in between spoils them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        client(tracking_uri=f"sqlite:///{temporary.absolute().as_posix()}").search_experiments(max_results=1)
        _keep_first(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _keep_first(temporary: Path, path: Path) -> None:
    """Give the file its name unless another command was faster and uses its own already."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        os.replace(temporary, path)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@dataclass
class _CellRun:
    """An MLflow run of a cell, its runs per seed, and which points they have."""

    run: str
    seeds: dict[int, str]
    logged: set[tuple[str, str, int]] = field(default_factory=set)  # run, metric, step
    finished: bool = False


class Tracker:
    """A table's runs in MLflow. Use it as a context manager: leaving it ends the runs as finished, failed or killed.

    Args:
        client: from :func:`connect`.
        experiment: id of the experiment.
        header: what the table is to hold.
        folder: where the store is, for :meth:`how_to_look`.
    """

    def __init__(self, client: MlflowClient, experiment: str, header: ReportHeader, folder: Path) -> None:
        self.client, self.experiment, self.header, self.folder = client, experiment, header, folder
        self.uri = client.tracking_uri
        self.table = ""
        self.ids: dict[CellKey, str] = {}
        self.problem = ""
        self._cells: dict[CellKey, _CellRun] = {}
        self._waiting: list[tuple[CellKey, CellResult]] = []  # evaluations as results of one step
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
            cell_ids: what tells a cell from the same cell with other settings; without it, a hash of ``settings``.

        Raises:
            TrackingError: if the store cannot be used.
        """
        check_tracking(folder)
        uri = tracking_uri(folder)
        client = connect(uri)
        digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
        location = (folder.resolve() / "artifacts" / experiment).as_uri() if uri.startswith("sqlite:") else None
        try:
            tracker = cls(client, _experiment(client, experiment, location), header, folder)
            tracker._open_table(f"{experiment}:{digest}", settings)
        except Exception as error:
            raise TrackingError(f"MLflow store {uri} cannot be used: {_first_line(error)}") from error
        tracker.ids = {key: f"{'/'.join(key)}:{(cell_ids or {}).get(key, digest)}" for key in header.cells()}
        return tracker

    def __enter__(self) -> Tracker:
        """The table's run is open already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what is still open, as KILLED after Ctrl-C, FAILED after an error."""
        status = "FINISHED" if kind is None else "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED"
        self.close(status)

    def evaluation(self, key: CellKey, step: int, scores: np.ndarray, metrics: Mapping[str, np.ndarray]) -> None:
        """Note one evaluation of a running cell; written every few seconds.

        Args:
            key: dataset, algorithm, arm.
            step: environment steps so far.
            scores: ``(R,)`` normalised score per seed.
            metrics: other values at this step, each ``(R,)``.
        """
        curves = {name: np.asarray(values)[:, None] for name, values in metrics.items()}
        seeds, steps = self.header.seeds, np.array([step])
        point = CellResult(*key, seeds, steps, np.asarray(scores)[:, None], math.nan, math.nan, curves)
        self._waiting.append((key, point))
        if time.monotonic() >= self._due:
            self.flush()

    def finished(self, result: CellResult) -> None:
        """Log what is missing of a finished cell and end its runs; a cell that is there already stays as it is."""
        self._complete.append(result)
        if not self.problem or time.monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Write what has been noted; on failure keep it for the next time and say so once."""
        self._guarded(self._write)

    def report(self, files: Sequence[Path]) -> None:
        """Attach the files of the report to the table's run."""

        def attach() -> None:
            for path in files:
                self.client.log_artifact(self.table, str(path))

        self._guarded(attach)

    def close(self, status: str = "FINISHED") -> None:
        """Write the rest, and end the table's run with ``status`` and unfinished cells as killed or failed."""
        self.flush()

        def end() -> None:
            for cell in self._cells.values():
                if not cell.finished:
                    self._end(cell, "FAILED" if status == "FAILED" else "KILLED")
            self.client.set_terminated(self.table, status)

        self._guarded(end)

    def how_to_look(self) -> str:
        """How to open the web page with the table's runs, or what went wrong."""
        if self.problem:
            return f"MLflow has not everything ({self.problem}); run the same command again to log the rest."
        page = f"#/experiments/{self.experiment}/runs?{COMPARISON}"
        if self.uri.startswith("sqlite:"):
            return f"Compare the runs: cfdg ui --out {self.folder}, then http://127.0.0.1:5000/{page}"
        return f"Compare the runs: {self.uri.rstrip('/')}/{page}"

    def _guarded(self, write: Callable[[], None]) -> None:
        """Call ``write``; a store that fails must not end hours of training."""
        try:
            write()
            self.problem, self._due = "", time.monotonic() + FLUSH_SECONDS
        except Exception as error:
            if not self.problem:
                logger.warning("MLflow store %s: %s; the run goes on", self.uri, _first_line(error))
            self.problem, self._due = _first_line(error), time.monotonic() + RETRY_SECONDS

    def _write(self) -> None:
        while self._waiting:
            key, point = self._waiting[0]
            self._log_curves(self._cell(key), point)
            self._waiting.pop(0)
        while self._complete:
            self._finish(self._complete[0])
            self._complete.pop(0)

    def _open_table(self, identity: str, settings: str) -> None:
        """Continue the run of the same settings, or begin one."""
        found = self._find(TABLE_TAG, identity)
        self.table = (
            found[0].info.run_id
            if found
            else self._create(f"{self.header.profile} table", {TABLE_TAG: identity, LEVEL_TAG: "table"})
        )
        self.client.update_run(self.table, status="RUNNING")
        self.client.set_tag(self.table, "mlflow.note.content", caption(self.header))
        self._parameters(self.table, flatten(yaml.safe_load(settings) or {}))
        self._parameters(self.table, {"machine": self.header.machine, **_versions(self.header)})
        self.client.log_text(self.table, settings, "settings.yaml")

    def _cell(self, key: CellKey) -> _CellRun:
        if key not in self._cells:
            self._cells[key] = self._open_cell(key)
        return self._cells[key]

    def _open_cell(self, key: CellKey) -> _CellRun:
        """The finished run of the same cell, moved below this table; or a new one, in place of unfinished ones."""
        runs = self._find(CELL_TAG, self.ids[key])
        done = next((run for run in runs if run.info.status == "FINISHED"), None)
        for run in runs:
            if run is not done:
                self._discard(run)
        if done is not None:
            self.client.set_tag(done.info.run_id, PARENT_TAG, self.table)
            return _CellRun(done.info.run_id, {}, finished=True)
        dataset, algorithm, arm = key
        tags = {
            PARENT_TAG: self.table,
            CELL_TAG: self.ids[key],
            LEVEL_TAG: "cell",
            "dataset": dataset,
            "algorithm": algorithm,
            "arm": arm,
        }
        run = self._create(_run_name(key), tags)
        self._parameters(
            run, {"dataset": dataset, "algorithm": algorithm, "arm": arm, "seeds": list(self.header.seeds)}
        )
        return _CellRun(run, {seed: self._open_seed(run, key, seed) for seed in self.header.seeds})

    def _open_seed(self, cell: str, key: CellKey, seed: int) -> str:
        dataset, algorithm, arm = key
        tags = {
            PARENT_TAG: cell,
            LEVEL_TAG: "seed",
            "dataset": dataset,
            "algorithm": algorithm,
            "arm": arm,
            "seed": str(seed),
        }
        run = self._create(f"seed {seed} {_run_name(key)}", tags)
        self._parameters(run, {"dataset": dataset, "algorithm": algorithm, "arm": arm, "seed": seed})
        return run

    def _discard(self, run: Run) -> None:
        """Mark an earlier, unfinished attempt and its seeds as killed, and put them in MLflow's bin."""
        for child in [*self._find(PARENT_TAG, run.info.run_id), run]:
            if child.info.status == "RUNNING":
                self.client.set_terminated(child.info.run_id, "KILLED")
            self.client.delete_run(child.info.run_id)

    def _log_curves(self, cell: _CellRun, result: CellResult) -> None:
        """Log the points that MLflow has not got yet: each seed's curves, and the mean score with its interval."""
        if cell.finished:
            return
        for index, seed in enumerate(result.seeds):
            curves = {name: curve[index] for name, curve in result.metrics.items() if curve.ndim == 2}
            self._points(cell, cell.seeds[seed], {"score": result.scores[index], **curves}, result.steps)
        mean, low, high = mean_band(result.scores)
        shared = {name: curve for name, curve in result.metrics.items() if curve.ndim == 1}
        curves = {"score_mean": mean, "score_low": low, "score_high": high, **shared}
        self._points(cell, cell.run, curves, result.steps)

    def _points(self, cell: _CellRun, run: str, curves: Mapping[str, np.ndarray], steps: np.ndarray) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        new: list[Metric] = [
            Metric(name, float(value), now, int(step))
            for name, curve in curves.items()
            for step, value in zip(steps, curve, strict=True)
            if math.isfinite(value) and (run, name, int(step)) not in cell.logged
        ]
        for start in range(0, len(new), BATCH):
            batch = new[start : start + BATCH]
            self.client.log_batch(run, metrics=batch)
            cell.logged |= {(run, metric.key, metric.step) for metric in batch}

    def _finish(self, result: CellResult) -> None:
        cell = self._cell(result.key)
        if cell.finished:
            return
        self._log_curves(cell, result)
        steps = int(result.steps[-1])
        totals = {
            "seconds": result.seconds,
            "behaviour_score": result.behaviour_score,
            "final_score": float(result.final.mean()),
            "offline_score": float(result.offline.mean()),
            "late_score": float(result.late.mean()),
            "throughput/replica_steps_per_second": steps * len(result.seeds) / result.seconds
            if result.seconds
            else math.nan,
        }
        self._points(cell, cell.run, {name: np.array([value]) for name, value in totals.items()}, np.array([steps]))
        self._end(cell, "FINISHED")
        cell.finished = True

    def _end(self, cell: _CellRun, status: str) -> None:
        """End the seeds first: a cell that is FINISHED is complete."""
        for run in [*cell.seeds.values(), cell.run]:
            self.client.set_terminated(run, status)

    def _find(self, tag: str, value: str) -> list[Run]:
        return list(self.client.search_runs([self.experiment], f"tags.`{tag}` = '{value}'", max_results=1000))

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        tags = {"mlflow.source.name": "cfdg", "profile": self.header.profile, **tags}
        return self.client.create_run(self.experiment, tags=dict(tags), run_name=name).info.run_id

    def _parameters(self, run: str, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        parameters = [Param(key, str(value)) for key, value in values.items() if str(value)]
        for start in range(0, len(parameters), PARAMETERS):
            self.client.log_batch(run, params=parameters[start : start + PARAMETERS])


def _experiment(client: MlflowClient, name: str, location: str | None) -> str:
    """The id of the experiment, made or taken out of the bin where necessary."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return client.create_experiment(name, artifact_location=location)
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def _run_name(key: CellKey) -> str:
    """Arm and algorithm first: the page cuts long names."""
    dataset, algorithm, arm = key
    return f"{arm} {algorithm} {dataset.partition(':')[2] or dataset}"


def _versions(header: ReportHeader) -> dict[str, str]:
    return {f"version/{name}": number for name, number in header.software.items()}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names, lists joined by commas."""
    return dict(_leaves(tree, prefix))


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            yield f"{prefix}{key}", ", ".join(str(item) for item in value)
        else:
            yield f"{prefix}{key}", str(value)
