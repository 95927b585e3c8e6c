"""Address of MLflow's store: whose it is, how it is shown, and a check within seconds that it can be used."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DATABASE = "mlflow.db"
ID_FILE = "folder-id"
HOSTED = ("databricks", "databricks-uc")  # addresses without a scheme that are no folders
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds; MLflow's 120 with 7 retries would hold a training run for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # ten processes and a minute, for nothing that is used here
}
IMPATIENT = {  # of the check before the work: a server that is silent for longer counts as absent
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}


class TrackingError(ValueError):
    """The MLflow store cannot be used, in one sentence."""


def tracking_uri(folder: Path, uri: str | None = None) -> str:
    """Return ``uri``, else MLFLOW_TRACKING_URI of the environment, else an SQLite file in ``folder``, absolute."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder.resolve() / DATABASE).as_posix()}"


def check_tracking(folder: Path, uri: str | None = None) -> None:
    """Refuse an unusable store within seconds, before work is done; a database's file without importing MLflow.

    Raises:
        TrackingError: if no server answers, the database cannot be written or is none, or the address is of no use.
    """
    address = tracking_uri(folder, uri)
    if address.startswith("sqlite:///"):
        _check_database(database_path(address))
    elif _is_folder(address):
        raise TrackingError(
            f"MLflow address {public(address)!r} is a folder, expected sqlite:///FILE.db or http://HOST:PORT"
        )
    else:
        _check_client(address)


def public(address: str) -> str:
    """Return an address without its user name and password, for messages and logs."""
    scheme, mark, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}***@{host.rpartition('@')[2]}{slash}{path}" if "@" in host else address


def _is_folder(address: str) -> bool:
    scheme, colon, _ = address.partition(":")
    return scheme == "file" or not (colon or scheme in HOSTED)


def is_own_store(uri: str, folder: Path) -> bool:
    """Tell if a store is the table's own: the database in its folder, which no other folder logs to."""
    return uri.startswith("sqlite:///") and database_path(uri).absolute() == folder.resolve() / DATABASE


def folder_id(folder: Path) -> str:
    """Return the id of a folder, made on first use and kept in it, so that it stays when the folder is moved."""
    path = folder / ID_FILE
    folder.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
        file.write(uuid.uuid4().hex)
    return path.read_text(encoding="utf-8").strip()


def absolute_uri(uri: str) -> str:
    """Write the path of an SQLite address in full, for another working folder."""
    return f"sqlite:///{database_path(uri).absolute().as_posix()}" if uri.startswith("sqlite:///") else uri


def without_password(text: str, uri: str) -> str:
    """Leave user name and password of ``uri`` out of a text."""
    return text.replace(uri.rstrip("/"), public(uri).rstrip("/"))


def database_path(uri: str) -> Path:
    """Return the file of an ``sqlite:///`` address."""
    return Path(uri.removeprefix("sqlite:///"))


def _check_database(path: Path) -> None:
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise TrackingError(f"MLflow database {path} cannot be written: {parent} is not a writable folder")
    if not path.exists():
        return
    if not path.is_file() or not os.access(path, os.R_OK | os.W_OK):
        raise TrackingError(f"MLflow database {path} is not readable and writable, expected a file that is")
    with path.open("rb") as file:
        start = file.read(16)
    if start != b"SQLite format 3\0":
        raise TrackingError(f"MLflow database {path} is not an SQLite file; move it away or choose another folder")


def _check_client(address: str) -> None:
    """Let MLflow's own client try: it knows certificates, passwords, proxies and hosted servers."""
    from cfdg_experiments.tracking.mlflow_runs import connect

    with _impatience():
        try:
            connect(address)
        except TrackingError as error:
            reason = str(error).rpartition("Caused by ")[2].rpartition("cannot be used: ")[2].rstrip(")\"'")
            raise TrackingError(
                f"no MLflow server answers at {public(address)} ({reason}); start it, or unset MLFLOW_TRACKING_URI "
                "to log to a file"
            ) from error


@contextmanager
def _impatience() -> Iterator[None]:
    """Let MLflow's client give up soon, unless the user's environment says how long it waits."""
    ours = {key: value for key, value in IMPATIENT.items() if key not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for key in ours:
            os.environ.pop(key, None)
