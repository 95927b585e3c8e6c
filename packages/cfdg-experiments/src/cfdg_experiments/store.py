"""Address of MLflow's store, and a check within seconds that it can be used, without importing MLflow."""

from __future__ import annotations

import base64
import os
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

DATABASE = "mlflow.db"
ANSWER_SECONDS = 4.0  # a tracking server that is silent for longer counts as absent
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds; MLflow's 120 with 7 retries would hold a training run for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # ten processes and a minute, for nothing that is used here
}


class TrackingError(ValueError):
    """The MLflow store cannot be used, in one sentence."""


def tracking_uri(folder: Path, uri: str | None = None) -> str:
    """Return ``uri``, else MLFLOW_TRACKING_URI of the environment, else an SQLite file in ``folder``, absolute."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder.resolve() / DATABASE).as_posix()}"


def check_tracking(folder: Path, uri: str | None = None) -> None:
    """Refuse an unusable store within seconds, before work is done, and without importing MLflow.

    Raises:
        TrackingError: if no server answers, the database cannot be written or is none, or the address is of no use.
    """
    address = tracking_uri(folder, uri)
    if address.startswith("sqlite:///"):
        _check_database(database_path(address))
    elif address.startswith(("http://", "https://")):
        _check_server(address)
    elif "://" not in address or address.startswith("file:"):
        raise TrackingError(
            f"MLflow address {public(address)!r} is a folder, expected sqlite:///FILE.db or http://HOST:PORT"
        )


def public(address: str) -> str:
    """Return an address without its user name and password, for messages and logs."""
    scheme, mark, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}***@{host.rpartition('@')[2]}{slash}{path}" if "@" in host else address


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


def _check_server(address: str) -> None:
    """Accept any HTTP answer: proxies and hosted servers have no ``/health``."""
    try:
        with urllib.request.urlopen(_request(address), timeout=ANSWER_SECONDS):
            return
    except urllib.error.HTTPError as answer:
        answer.close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise TrackingError(
            f"no MLflow server answers at {public(address)} ({reason}); start it, "
            "or unset MLFLOW_TRACKING_URI to log to a file"
        ) from error


def _request(address: str) -> urllib.request.Request:
    """Ask for ``/health``; user name and password go into a header, for urllib would take them for the host's."""
    parts = urllib.parse.urlsplit(address)
    request = urllib.request.Request(f"{public(address).replace('***@', '').rstrip('/')}/health")
    if parts.username is not None:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    return request
