"""Runs of one MLflow experiment, always named by their id.

The only place that imports MLflow, where it is first needed: the import takes seconds. MLflow's notion of an active
run, which is global, is not used.
"""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfdg_experiments.tracking.address import (
    QUIET,
    TrackingError,
    absolute_uri,
    database_path,
    is_own_store,
    public,
    without_password,
)
from cfdg_rl.files import draft_name, remove_drafts

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

BATCH = 1000  # metrics per call, MLflow's limit
PARAMETERS = 100  # parameters per call, MLflow's limit
OWNER_TAG = "cfdg.owner"  # id of the folder whose table made a run, in a store that several folders share
PARENT_TAG = "mlflow.parentRunId"


def connect(uri: str) -> MlflowClient:
    """Make a quiet client without telemetry; a missing SQLite database is made first.

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
    except Exception as error:  # of SQLAlchemy, requests or MLflow
        raise TrackingError(f"MLflow store {public(uri)} cannot be used: {first_line(error, uri)}") from error
    return client


def open_experiment(client: MlflowClient, name: str, location: str | None) -> str:
    """Return the id of an experiment, made or taken out of the bin where necessary.

    Args:
        client: from :func:`connect`.
        name: of the experiment.
        location: URI of a new experiment's artifacts; None leaves it to the server.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=location)
        except Exception:  # of MLflow: another command may have made it in between
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


class Runs:
    """The runs of one experiment: finding, making, filling and ending them.

    Args:
        client: from :func:`connect`.
        experiment: id of the experiment.
        tags: of every run that is made.
        owner: of the runs, in a store that several folders share: those of another owner are never found; "" for a
            store of one folder.
    """

    def __init__(self, client: MlflowClient, experiment: str, tags: Mapping[str, str], owner: str = "") -> None:
        self.client = client
        self.experiment = experiment
        self.owner = owner
        self.tags = {"mlflow.source.name": "cfdg", **tags} | ({OWNER_TAG: owner} if owner else {})
        self._logged: set[tuple[str, str, int]] = set()  # run, metric, step

    def find(self, tag: str, value: str) -> list[Run]:
        """List the owner's runs with a tag of this value."""
        wanted = _clause(tag, value) + (f" and {_clause(OWNER_TAG, self.owner)}" if self.owner else "")
        found = self.client.search_runs([self.experiment], wanted, max_results=1000)
        return [run for run in found if run.data.tags.get(tag) == value]

    def create(self, name: str, tags: Mapping[str, str], parent: str | None = None) -> str:
        """Begin a run, below another one if ``parent`` is its id; returns its id."""
        above = {} if parent is None else {PARENT_TAG: parent}
        tags = {**self.tags, **above, **tags}
        return self.client.create_run(self.experiment, tags=tags, run_name=name).info.run_id

    def move(self, run: str, parent: str) -> None:
        """Put a run below another one."""
        self.client.set_tag(run, PARENT_TAG, parent)

    def discard(self, run: Run) -> None:
        """Mark an earlier, unfinished attempt and the runs below it as killed, and put them in MLflow's bin."""
        for child in [*self.find(PARENT_TAG, run.info.run_id), run]:
            if child.info.status == "RUNNING":
                self.client.set_terminated(child.info.run_id, "KILLED")
            self.client.delete_run(child.info.run_id)

    def parameters(self, run: str, values: Mapping[str, Any]) -> None:
        """Log parameters as text; empty ones are left out."""
        from mlflow.entities import Param

        parameters = [Param(key, str(value)) for key, value in values.items() if str(value)]
        for start in range(0, len(parameters), PARAMETERS):
            self.client.log_batch(run, params=parameters[start : start + PARAMETERS])

    def tags_of(self, run: str, values: Mapping[str, str]) -> None:
        """Set tags, which unlike parameters may change."""
        for key, value in values.items():
            self.client.set_tag(run, key, value)

    def points(self, run: str, curves: Mapping[str, np.ndarray], steps: np.ndarray) -> None:
        """Log the points ``(K,)`` of curves at ``steps`` ``(K,)`` that are finite and were not logged before."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        new: list[Metric] = [
            Metric(name, float(value), now, int(step))
            for name, curve in curves.items()
            for step, value in zip(steps, curve, strict=True)
            if math.isfinite(value) and (run, name, int(step)) not in self._logged
        ]
        for start in range(0, len(new), BATCH):
            batch = new[start : start + BATCH]
            self.client.log_batch(run, metrics=batch)
            self._logged |= {(run, metric.key, metric.step) for metric in batch}

    def attach(self, run: str, path: Path, folder: str | None = None) -> None:
        """Copy a file to a run's artifacts, into a folder of them.

        Raises:
            OSError: if it cannot be copied, say to a full disk; the message names it.
        """
        try:
            self.client.log_artifact(run, str(path), folder)
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise OSError(f"{path.name} cannot be copied to the artifacts: {reason}") from error

    def end(self, run: str, status: str) -> None:
        """End a run as FINISHED, FAILED or KILLED."""
        self.client.set_terminated(run, status)


def _clause(tag: str, value: str) -> str:
    """Write a filter that runs with a tag of this value pass, and few others.

    MLflow's filters cannot escape a quote, so that any character may stand in the place of one.
    """
    pattern = re.sub(r"['\"\\]", "_", value)
    return f"tags.`{tag}` {'=' if pattern == value else 'LIKE'} '{pattern}'"


def first_line(error: BaseException, uri: str = "") -> str:
    """Return the first line of an error's message without the address's password, or its type if it has none."""
    return without_password((str(error).strip() or type(error).__name__).splitlines()[0], uri)


def look_at(uri: str, folder: Path, page: str) -> str:
    """Say how to open a page of a store, in any shell.

    Args:
        uri: of the store.
        folder: of the table.
        page: the part of the address behind the host.
    """
    if uri.startswith("sqlite:"):
        elsewhere = "" if is_own_store(uri, folder) else f"MLFLOW_TRACKING_URI={absolute_uri(uri)} "
        return f"Compare the runs: {elsewhere}cfdg ui --out {folder}, then http://127.0.0.1:5000/{page}"
    if uri.startswith(("http://", "https://")):
        return f"Compare the runs: {public(uri).rstrip('/')}/{page}"
    return f"Compare the runs in MLflow's store {public(uri)}"


def _create_database(path: Path, client: type[MlflowClient]) -> None:
    """Make the tables under a temporary name: they take 10 s, and a kill or a second command in between spoils them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_drafts(path.parent, path.stem)
    temporary = path.with_name(draft_name(path.stem) + path.suffix)
    try:
        client(tracking_uri=f"sqlite:///{temporary.absolute().as_posix()}").search_experiments(max_results=1)
        _keep_first(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _keep_first(temporary: Path, path: Path) -> None:
    """Rename the file unless another command was faster and uses its own already."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        os.replace(temporary, path)
