"""MLflow's web page for the runs of a folder, on the loopback interface."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from cfdg_experiments.tracking.address import QUIET, TrackingError, check_tracking, database_path, public, tracking_uri

START_SECONDS = 180.0  # a busy machine was seen to need 70
GRACE_SECONDS = 10.0  # for the server to end by itself


def ui_command(uri: str, port: int = 5000, host: str = "127.0.0.1") -> list[str]:
    """Return the command that serves the runs of a database."""
    server = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    return [*server, "--backend-store-uri", uri]


def serve_ui(folder: Path, port: int = 5000, host: str = "127.0.0.1", say: Callable[[str], None] = print) -> int:
    """Serve the runs of ``folder`` until Ctrl-C; returns the exit status.

    Raises:
        TrackingError: if there is no database, the port is taken or the server ends by itself before it answers.
    """
    if not 0 < port < 1 << 16:
        raise TrackingError(f"port is {port}, expected 1 to 65535; choose another with --port")
    uri = tracking_uri(folder)
    if uri.startswith(("http://", "https://")):
        say(f"MLFLOW_TRACKING_URI is set: the runs are at {public(uri)}")
        return 0
    check_tracking(folder)
    if uri.startswith("sqlite:///") and not (path := database_path(uri)).exists():
        raise TrackingError(f"there is no MLflow database {path}; `cfdg table1` makes it")
    _check_port(host, port)
    say("Starting MLflow, which takes up to a minute ...")
    before = signal.signal(signal.SIGTERM, _interrupt)  # a closed terminal or a service manager ends the server too
    server = subprocess.Popen(
        ui_command(uri, port, host), env={**os.environ, **QUIET}, start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        _wait_until_ready(server, f"http://{host}:{port}")
        say(f"MLflow is at http://{host}:{port} (Ctrl-C ends it)")
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(server)
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise TrackingError(
                f"port {port} of {host} cannot be used ({error}); choose another with --port"
            ) from error


def _wait_until_ready(server: subprocess.Popen[bytes], address: str) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if server.poll() is not None:
            raise TrackingError(f"the MLflow server ended with status {server.returncode} before it answered")
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2.0):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise TrackingError(f"the MLflow server did not answer at {address} within {START_SECONDS:.0f} s")


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server with the processes it started; they are a session of their own."""
    for force in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, force)
            server.wait(GRACE_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
