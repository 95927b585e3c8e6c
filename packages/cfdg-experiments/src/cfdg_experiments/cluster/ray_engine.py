"""Engine on a Ray cluster: Ray only decides where a unit's command runs, and gives it CPUs and a share of a GPU.

Ray's own retries are off, for the driver alone starts attempts. No data pass through Ray: all state is in the store.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cfdg_experiments.cluster.engines import END_WITH_STDIN, Ended, cell_command, cell_environment, last_line
from cfdg_experiments.storage.object_store import Store

OLDEST = (2, 52)  # the first with token authentication
LOOPBACK = ("auto", "local", "127.0.0.1", "localhost", "[::1]")
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
COMPARED = ("ray", "torch", "cfdg-experiments", "cfdg-rl", "cfdg-diffusion")
OBJECT_STORE = 100_000_000  # bytes; results are of a few words


class PreflightError(RuntimeError):
    """The cluster cannot run the plan, in one sentence."""


@dataclass(frozen=True)
class RaySettings:
    """Share of the cluster that a unit is given.

    Attributes:
        address: "local" starts a cluster in this process, "auto" finds the one of this machine, or HOST:PORT.
        cpus: of each unit.
        gpus: of each unit, also a fraction; the memory of a shared GPU is not divided by Ray.
        unauthenticated: whether an address beyond this machine may go without token authentication.
    """

    address: str = "auto"
    cpus: float = 1.0
    gpus: float = 0.0
    unauthenticated: bool = False


class RayEngine:
    """Tasks of a Ray cluster.

    Args:
        uri: of the store, which every node sees.
        settings: what a unit is given.
        words: makes the command of a unit; a node puts its own interpreter in the place of the first word.

    Raises:
        ImportError: if Ray is not installed.
        PreflightError: if the cluster cannot run the plan.
    """

    def __init__(
        self,
        uri: str,
        settings: RaySettings = RaySettings(),
        words: Callable[[str, str], list[str]] = cell_command,
    ) -> None:
        self.uri = uri
        self.words = words
        self.settings = settings
        check_address(settings, os.environ)
        self.ray = import_ray()
        self.environment = {**QUIET, **cell_environment(max(1, int(settings.cpus)))}
        _connect(self.ray, settings, self.environment)
        self.running: dict[Any, str] = {}
        try:
            preflight(self.ray, Store(uri), settings)
            self.task = self.ray.remote(max_calls=1, max_retries=0, retry_exceptions=False)(run_command)
        except BaseException:
            self.close()
            raise

    def free(self) -> int:
        """Count the units that may be started now: twice as many as can run, so that no node waits for the driver."""
        return 2 * max(1, capacity(self.ray.cluster_resources(), self.settings)) - len(self.running)

    def start(self, run_id: str) -> None:
        """Hand a unit to the cluster."""
        options = {"num_cpus": self.settings.cpus, "num_gpus": self.settings.gpus, "scheduling_strategy": "SPREAD"}
        task = self.task.options(**options).remote(self.words(run_id, self.uri), self.environment)
        self.running[task] = run_id

    def wait(self, seconds: float) -> list[Ended]:
        """Wait at most so long for an end, and return the ends."""
        if not self.running:
            return []
        ready, _ = self.ray.wait(list(self.running), num_returns=1, timeout=seconds)
        return [self._ended(task) for task in ready]

    def close(self) -> None:
        """Cancel what was started, and leave the cluster."""
        for task in self.running:
            self.ray.cancel(task, force=True)
        self.running.clear()
        self.ray.shutdown()

    def _ended(self, task: Any) -> Ended:  # noqa: ANN401 - a reference of Ray's
        run_id = self.running.pop(task)
        try:
            status, message = self.ray.get(task)
        except self.ray.exceptions.RayError as error:  # the node or the worker is gone
            return Ended(run_id, None, f"{type(error).__name__} of Ray")
        return Ended(run_id, status, message)


def run_command(words: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """Run the command of a unit on this node in a process of its own; returns status and last line of its errors."""
    done = subprocess.Popen(
        [sys.executable, *words[1:]],
        env={**os.environ, **environment, END_WITH_STDIN: "1"},
        stdin=subprocess.PIPE,  # which ends with this worker
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    errors = b"" if done.stderr is None else done.stderr.read()
    return done.wait(), last_line(errors.decode("utf-8", "replace"))


def import_ray() -> Any:  # noqa: ANN401 - an optional library
    """Import Ray without its usage statistics.

    Raises:
        ImportError: if it is not installed, or too old.
    """
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise ImportError("--engine ray needs Ray: pip install cfdg-experiments[ray]") from error
    if tuple(int(part) for part in ray.__version__.split(".")[:2]) < OLDEST:
        raise ImportError(f"Ray is {ray.__version__}, expected {OLDEST[0]}.{OLDEST[1]} or newer, which has tokens")
    return ray


def check_address(settings: RaySettings, environment: Mapping[str, str]) -> None:
    """Refuse a cluster beyond this machine without tokens: whoever reaches its port could run anything.

    Raises:
        PreflightError: with what to set.
    """
    told = "--address"
    address = settings.address
    if address == "auto" and environment.get("RAY_ADDRESS"):  # which Ray's "auto" takes first
        told = "RAY_ADDRESS"
        address = environment["RAY_ADDRESS"]
    if address.startswith("ray://"):
        raise PreflightError(f"{told} is of Ray's client, expected auto or HOST:PORT on a node of the cluster")
    host, _, port = address.rpartition(":")
    if (host if port.isdigit() else address) not in LOOPBACK:
        _need_token(f"{told} {address} is beyond this machine", settings, environment)


def check_hosts(addresses: Collection[str], settings: RaySettings, environment: Mapping[str, str]) -> None:
    """Refuse a cluster of several machines without tokens, also where this one belongs to it and "auto" finds it.

    Args:
        addresses: of the nodes.
        settings: of the run.
        environment: of this process.

    Raises:
        PreflightError: with what to set.
    """
    if len(set(addresses)) > 1:
        _need_token(f"the cluster has nodes at {len(set(addresses))} addresses", settings, environment)


def _need_token(found: str, settings: RaySettings, environment: Mapping[str, str]) -> None:
    if settings.unauthenticated or environment.get("RAY_AUTH_MODE") == "token":
        return
    raise PreflightError(
        f"{found} and RAY_AUTH_MODE is not token, "
        "expected token authentication, or --allow-unauthenticated in a network of your own"
    )


def capacity(resources: Mapping[str, float], settings: RaySettings) -> int:
    """Count the units that the cluster can run at once."""
    counts = [int(resources.get("CPU", 0.0) / settings.cpus)] if settings.cpus else []
    counts += [int(resources.get("GPU", 0.0) / settings.gpus)] if settings.gpus else []
    return min(counts, default=1)


def preflight(ray: Any, store: Store, settings: RaySettings) -> None:  # noqa: ANN401 - an optional library
    """Ask for tokens between machines, compare versions, let every node read and write the store, and count GPUs.

    Raises:
        PreflightError: in one sentence that names the node.
    """
    resources = ray.cluster_resources()
    check_hosts([node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]], settings, os.environ)
    if settings.gpus and not resources.get("GPU"):
        raise PreflightError(f"--cell-gpus is {settings.gpus} and the cluster has no GPU, expected 0")
    if capacity(resources, settings) < 1:
        raise PreflightError(f"the cluster has {resources.get('CPU', 0):g} CPUs, expected at least {settings.cpus:g}")
    token = uuid.uuid4().hex
    name = f"probe/{token}"
    store.write(f"{name}/driver.json", {"token": token})
    try:
        for node in ray.nodes():
            if node["Alive"] and node["Resources"].get("CPU"):
                _check_node(ray, node, store.uri, name)
    finally:
        store.remove("probe")


def _check_node(ray: Any, node: Mapping[str, Any], uri: str, name: str) -> None:  # noqa: ANN401
    where = node.get("NodeManagerHostname", node["NodeID"][:8])
    place = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    task = ray.remote(num_cpus=0, max_retries=0)(probe).options(scheduling_strategy=place)
    try:
        found = ray.get(task.remote(uri, name, node["NodeID"]), timeout=120)
    except ray.exceptions.RayError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PreflightError(f"node {where} does not run a probe ({reason}), expected an answer in 120 s") from error
    if found["store"] is not True:
        raise PreflightError(f"node {where} does not see the store {uri} ({found['store']}), expected a shared one")
    for what, mine in versions().items():
        if found["versions"].get(what) != mine:
            raise PreflightError(f"node {where} has {what} {found['versions'].get(what)}, expected {mine} as here")


def probe(uri: str, name: str, node: str) -> dict[str, Any]:
    """Tell the versions of this node, and whether it sees the driver's file in the store and can write beside it."""
    try:
        store = Store(uri)
        seen = store.read(f"{name}/driver.json") is not None
        store.write(f"{name}/{node}.json", {"node": node})
        return {"versions": versions(), "store": seen or "the driver's file is not there"}
    except Exception as error:
        return {"versions": versions(), "store": str(error)}


def versions() -> dict[str, str]:
    """Return the versions that have to be the same on all nodes."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, **{name: importlib.metadata.version(name) for name in COMPARED}}


def _connect(ray: Any, settings: RaySettings, environment: Mapping[str, str]) -> None:  # noqa: ANN401
    """Start or find the cluster: no dashboard, no logs of workers here, nothing beyond loopback when it is started."""
    common: dict[str, Any] = {"log_to_driver": False, "runtime_env": {"env_vars": dict(environment)}}
    if settings.address == "local":
        own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE, "_node_ip_address": "127.0.0.1"}
        ray.init(address="local", **common, **own)
        return
    try:
        ray.init(address=settings.address, **common)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:  # such as of a wrong token
        reason = str(error).strip().splitlines()[0]
        raise PreflightError(f"no Ray cluster at {settings.address} ({reason}); start one with ray start") from error
