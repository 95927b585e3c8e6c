"""Engine on Ray: refusals everywhere, and with CFDG_RAY=1 a cluster of two nodes, of which one is lost.

CFDG_RAY_UNITS=N makes plans of N units; with ``pytest -s`` the test of real units prints what happened.
"""

import json
import os
import sys
import textwrap
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest

from cfdg_experiments.cluster import ray_engine
from cfdg_experiments.cluster.cell_folder import CellFolder
from cfdg_experiments.cluster.commands import report_stored
from cfdg_experiments.cluster.engines import COMMAND, LocalEngine
from cfdg_experiments.cluster.fleet import Patience, drive
from cfdg_experiments.cluster.ray_engine import (
    PreflightError,
    RayEngine,
    RaySettings,
    capacity,
    check_address,
    check_hosts,
    preflight,
)
from cfdg_experiments.cluster.stored_plan import Unit, load_plan, save_plan, units_of
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.profiles.grid import parse_grid
from cfdg_experiments.storage.object_store import Store
from cfdg_experiments.studies.plan import make_plan
from cfdg_experiments.studies.study import ABLATION

UNITS = int(os.environ.get("CFDG_RAY_UNITS", "8"))
needs_ray = pytest.mark.skipif(os.environ.get("CFDG_RAY") != "1", reason="CFDG_RAY=1 starts a cluster")


@pytest.mark.parametrize(
    ("settings", "environment", "message"),
    [
        (RaySettings("10.0.0.1:6379"), {}, "RAY_AUTH_MODE is not token"),
        (RaySettings("ray://10.0.0.1:10001", unauthenticated=True), {}, "is of Ray's client"),
        (RaySettings("10.0.0.1:6379"), {"RAY_AUTH_MODE": "token"}, ""),
        (RaySettings("10.0.0.1:6379", unauthenticated=True), {}, ""),
        (RaySettings("auto"), {}, ""),
        (RaySettings("auto"), {"RAY_ADDRESS": "10.0.0.1:6379"}, "RAY_ADDRESS 10.0.0.1:6379 is beyond this machine"),
        (RaySettings("auto"), {"RAY_ADDRESS": "10.0.0.1:6379", "RAY_AUTH_MODE": "token"}, ""),
        (RaySettings("127.0.0.1:6379"), {"RAY_ADDRESS": "10.0.0.1:6379"}, ""),
        (RaySettings("127.0.0.1:6379"), {}, ""),
        (RaySettings("[::1]:6379"), {}, ""),
        (RaySettings("localhost.example.org:6379"), {}, "RAY_AUTH_MODE is not token"),
    ],
)
def test_a_cluster_elsewhere_needs_tokens(settings, environment, message):
    if not message:
        check_address(settings, environment)
        return
    with pytest.raises(PreflightError, match=message):
        check_address(settings, environment)


def test_a_cluster_of_several_machines_needs_tokens_however_it_is_found():
    check_hosts(["10.0.0.1", "10.0.0.1"], RaySettings(), {})
    check_hosts(["10.0.0.1", "10.0.0.2"], RaySettings(), {"RAY_AUTH_MODE": "token"})
    check_hosts(["10.0.0.1", "10.0.0.2"], RaySettings(unauthenticated=True), {})
    with pytest.raises(PreflightError, match="has nodes at 2 addresses and RAY_AUTH_MODE is not token"):
        check_hosts(["10.0.0.1", "10.0.0.2"], RaySettings(), {})


def test_capacity_is_what_fits_of_both():
    assert capacity({"CPU": 8.0, "GPU": 1.0}, RaySettings(cpus=1, gpus=0.25)) == 4
    assert capacity({"CPU": 2.0, "GPU": 1.0}, RaySettings(cpus=1, gpus=0.25)) == 2
    assert capacity({"CPU": 2.0}, RaySettings(cpus=3)) == 0


OLD = {"versions": {"Python": "3.99"}, "store": True}


class RayError(Exception):
    """The base of Ray's own errors, which is no RuntimeError."""


def fake(resources, **nodes):
    """A cluster whose probes answer as they are told."""

    def get(node, timeout):
        if nodes[node] is None:
            raise RayError("the worker died\nand so on")
        return nodes[node]

    def remote(*_, **__):
        return lambda probe: SimpleNamespace(options=lambda **__: SimpleNamespace(remote=lambda uri, name, node: node))

    common = {"Alive": True, "Resources": {"CPU": 1}, "NodeManagerAddress": "127.0.0.1"}
    listed = [{**common, "NodeID": name, "NodeManagerHostname": name} for name in nodes]
    place = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node)
    return SimpleNamespace(
        cluster_resources=lambda: resources,
        nodes=lambda: listed,
        remote=remote,
        get=get,
        exceptions=SimpleNamespace(RayError=RayError),
        util=SimpleNamespace(scheduling_strategies=place),
    )


@pytest.mark.parametrize(
    ("ray", "settings", "message"),
    [
        (fake({"CPU": 2.0}), RaySettings(gpus=0.5), "--cell-gpus is 0.5 and the cluster has no GPU, expected 0"),
        (fake({"CPU": 2.0}), RaySettings(cpus=4), "the cluster has 2 CPUs, expected at least 4"),
        (
            fake({"CPU": 2.0}, b={"versions": {"Python": "3.99"}, "store": True}),
            RaySettings(),
            "node b has Python 3.99",
        ),
        (
            fake({"CPU": 2.0}, c={"versions": {}, "store": "x"}),
            RaySettings(),
            "node c does not see the store .* \\(x\\)",
        ),
        (fake({"CPU": 2.0}, d=None), RaySettings(), r"node d does not run a probe \(the worker died\), expected"),
    ],
)
def test_a_cluster_that_cannot_run_the_plan_is_refused(ray, settings, message, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "versions", lambda: {"Python": "3.11"})
    store = Store(str(tmp_path))
    with pytest.raises(PreflightError, match=message):
        preflight(ray, store, settings)
    assert store.names("") == [], "the probe is removed"


@pytest.mark.parametrize("error", [RayError, ConnectionError, ValueError])
def test_a_cluster_that_refuses_is_one_sentence(error, monkeypatch):
    def init(**_):
        raise error("Authentication failed: the token is wrong\nand so on")

    ray = SimpleNamespace(init=init, exceptions=SimpleNamespace(RayError=RayError), shutdown=lambda: None)
    monkeypatch.setattr(ray_engine, "import_ray", lambda: ray)
    message = r"^no Ray cluster at auto \(Authentication failed: the token is wrong\); start one with ray start$"
    with pytest.raises(PreflightError, match=message):
        RayEngine("x", RaySettings())


def test_ray_that_is_not_installed_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"--engine ray needs Ray: pip install cfdg-experiments\[ray\]"):
        RayEngine("x", RaySettings())


TOY = """
import os, pathlib, sys, time
place = pathlib.Path(sys.argv[2]) / sys.argv[1]
place.mkdir(exist_ok=True)
log = place / "log"
done = len(log.read_text()) if log.exists() else 0
(place / f"began-{time.time_ns()}").write_text(f"{done} {os.environ['CFDG_NODE']}")
for step in range(done, 30):
    with log.open("a") as file:
        file.write("x")
    time.sleep(0.1)
"""


def toys(count):
    cells = [SimpleNamespace(name=f"toy{k}", pretraining=f"toy{k}") for k in range(count)]
    return [Unit(cell.name, cell, 0) for cell in cells]


def patiently(start):
    """Start a part of the cluster, which gives up after 30 s on a busy machine, up to five times."""
    for _ in range(4):
        with suppress(Exception):
            return start()
    return start()


@needs_ray
@pytest.mark.filterwarnings("ignore")
def test_units_of_a_lost_node_go_on_elsewhere_and_a_new_node_is_used(tmp_path):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
    nodes = [patiently(lambda name=name: cluster.add_node(num_cpus=1, env_vars={"CFDG_NODE": name})) for name in "ab"]
    cluster.wait_for_nodes()
    words = lambda run_id, uri: ["python", "-c", textwrap.dedent(TOY), run_id, uri]  # noqa: E731
    engine = RayEngine(str(tmp_path), RaySettings(cluster.address, unauthenticated=True), words)
    wait = engine.wait
    lost = []

    def losing(seconds):
        if not lost:
            on_b = [path.parent for path in tmp_path.glob("toy*/began-*") if path.read_text().endswith(" b")]
            if any(len((place / "log").read_text()) >= 5 for place in on_b if (place / "log").exists()):
                lost.extend(place.name for place in on_b)
                cluster.remove_node(nodes[1], allow_graceful=False)
                cluster.add_node(num_cpus=1, env_vars={"CFDG_NODE": "c"})
        return wait(seconds)

    engine.wait = losing
    try:
        assert drive(toys(UNITS), Store(str(tmp_path)), engine, Patience(seconds=0.1)) == {}
    finally:
        cluster.shutdown()
    places = [tmp_path / f"toy{k}" for k in range(UNITS)]
    starts = {place.name: [path.read_text() for path in sorted(place.glob("began-*"))] for place in places}
    assert lost, "a node was lost while it worked"
    assert all(len(starts[name]) >= 2 and int(starts[name][-1].split()[0]) >= 5 for name in lost[:1])
    assert all((place / "log").read_text() == "x" * 30 for place in places)
    assert any(start.endswith(" c") for found in starts.values() for start in found), "the new node is used"


SMALL = {
    "seeds": [0], "data.rows": 1000, "data.datasets": ["recorded:hopper-medium"], "iql.hidden": [8],
    "pretrain.steps": 6, "finetune.steps": 60, "finetune.warm_up": 5, "finetune.refresh_every": 20,
    "finetune.synthetic_rows": 32, "diffusion.width": 8, "diffusion.blocks": 1, "diffusion.sampling_steps": 3,
    "refresh.first_steps": 4, "refresh.steps": 2, "inspection.enabled": False, "evaluation.every": 20,
    "evaluation.episodes": 1, "algorithms": ["iql"], "arms": ["cfdg"],
}  # fmt: skip
MARKED = f"""
import os, pathlib, sys, time
from importlib import import_module
found = list(pathlib.Path(sys.argv[4]).glob("*/" + sys.argv[2] + "/ckpt/*/MANIFEST.json"))
step = max((int(path.parent.name) for path in found), default=0)
begun = pathlib.Path(sys.argv[4] + "-begun") / f"{{time.time_ns()}}"
begun.write_text(f"{{sys.argv[2]}} {{os.environ['CFDG_NODE']}} {{step}}")
{COMMAND}
"""


def small_plan(count):
    """A grid of one pre-training and ``count - 1`` cells."""
    over = ["guidance_weight=" + ",".join(str(k / 100) for k in range(1, count))]
    profile = load_profile("quick", SMALL)
    return make_plan(ABLATION, profile, parse_grid(over, profile)), over


def contents(uri):
    """Everything that units of a store made, by unit and file; of curves all but the seconds that they took."""
    store = Store(uri)
    found = {}
    for unit in units_of(load_plan(store)):
        folder = CellFolder(store, unit.folder)
        files = {name: facts["sha256"] for name, facts in folder.result()["files"].items()}
        if "cell.json" in files:
            files["cell.json"] = untimed(json.loads(store.read_text(folder.at("cell.json"))))
        found[unit.run_id] = files
    return found


def untimed(curves):
    """Leave out what measures time, and the checksum over it."""
    if isinstance(curves, dict):
        return {name: untimed(value) for name, value in curves.items() if name != "sha256" and "second" not in name}
    return curves


class Cluster:
    """Nodes a and b of one CPU each; b is taken away while it is at work on a cell with a checkpoint, and c is added.

    Every start of a unit leaves a file that says the unit, the node and the step of the last checkpoint.
    """

    def __init__(self, store, log):
        from ray.cluster_utils import Cluster as Nodes

        self.store = Store(store)
        self.log = log
        self.begun = self.store.local.with_name(self.store.local.name + "-begun")
        self.begun.mkdir()
        head = {"num_cpus": 0, "include_dashboard": False}
        self.nodes = patiently(lambda: Nodes(initialize_head=True, head_node_args=head))
        self.add("a")
        self.second = self.add("b")
        self.nodes.wait_for_nodes()
        self.lost = []

    def add(self, name):
        return patiently(lambda: self.nodes.add_node(num_cpus=1, env_vars={"CFDG_NODE": name}))

    def starts(self):
        found = [path.read_text().split() for path in sorted(self.begun.iterdir())]
        return [start for start in found if len(start) == 3]  # a file may be read before its words are in it

    def drive(self, units):
        words = lambda run_id, uri: ["python", "-c", MARKED, "cell", run_id, "--store", uri]  # noqa: E731
        try:
            engine = RayEngine(self.store.uri, RaySettings(self.nodes.address, unauthenticated=True), words)
            wait = engine.wait
            engine.wait = lambda seconds: self.lose(len(units) // 4) or wait(seconds if self.lost else 0.05)
            return drive(units, self.store, engine, Patience(seconds=1.0), say=self.log)
        finally:
            self.nodes.shutdown()

    def lose(self, after):
        done = len(list(self.store.local.glob("*/*/result.json")))
        on_second = [run_id for run_id, node, _ in self.starts() if node == "b"][-1:]
        if self.lost or done < after or not any(self.store.names(f"cells/{run_id}/ckpt") for run_id in on_second):
            return
        self.nodes.remove_node(self.second, allow_graceful=False)
        self.lost = on_second
        self.log(f"node b removed after {done} units, while {on_second[0]} was at work there")
        self.add("c")
        self.log("node c added")


@needs_ray
@pytest.mark.filterwarnings("ignore")
def test_real_units_lose_a_node_and_have_the_bytes_of_the_local_engine(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("CFDG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CFDG_CHECKPOINT_SECONDS", "0.01")
    began = time.monotonic()
    log = lambda text: sys.stdout.write(f"{time.monotonic() - began:6.1f} s  {text}\n")  # noqa: E731
    plan, over = small_plan(UNITS)
    units = units_of(plan)
    local = str(tmp_path / "local")
    shared = str(tmp_path / "shared")
    for uri in (local, shared):
        save_plan(plan, over, Store(uri))
    cluster = Cluster(shared, log)
    log(f"{len(units)} units, nodes a and b")
    assert cluster.drive(units) == {}
    check_starts(cluster, units)
    assert drive(units, Store(local), LocalEngine(local, 2), Patience(seconds=1.0)) == {}
    made = contents(shared)
    for run_id, files in contents(local).items():
        assert made[run_id] == files
    scores = []
    for uri in (local, shared):
        report_stored(uri, tmp_path / f"{uri}-runs")
        scores.append(next((tmp_path / f"{uri}-runs").glob("*/scores.csv")).read_bytes())
    assert scores[0] == scores[1]
    log(f"all files of {len(units)} units, and scores.csv, equal those of the local engine")


def check_starts(cluster, units):
    """Only the lost unit was begun again, from its checkpoint, and the new node was used."""
    begun = cluster.starts()
    nodes = {name: sum(node == name for _, node, _ in begun) for name in "abc"}
    again = [start for start in begun if start[0] in cluster.lost]
    cluster.log(f"starts by node {nodes}; of the lost unit, with the step of its checkpoint: {again}")
    assert nodes["c"] > 0
    assert len(begun) == len(units) + 1
    assert len(again) == 2
    assert again[1][2] != "0"
    for unit in units:
        assert CellFolder(cluster.store, unit.folder).latest().number == 1 + (unit.run_id in cluster.lost)
