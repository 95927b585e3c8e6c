"""Engine on Ray: refusals everywhere, and with CFDG_RAY=1 a cluster of two nodes, of which one is lost."""

import os
import sys
import textwrap
from types import SimpleNamespace

import pytest

from cfdg_experiments import ray_engine
from cfdg_experiments.fleet import Patience, drive
from cfdg_experiments.object_store import Store
from cfdg_experiments.ray_engine import PreflightError, RayEngine, RaySettings, capacity, check_address, preflight
from cfdg_experiments.stored_plan import Unit

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
        (RaySettings("127.0.0.1:6379"), {}, ""),
    ],
)
def test_a_cluster_elsewhere_needs_tokens(settings, environment, message):
    if not message:
        check_address(settings, environment)
        return
    with pytest.raises(PreflightError, match=message):
        check_address(settings, environment)


def test_capacity_is_what_fits_of_both():
    assert capacity({"CPU": 8.0, "GPU": 1.0}, RaySettings(cpus=1, gpus=0.25)) == 4
    assert capacity({"CPU": 2.0, "GPU": 1.0}, RaySettings(cpus=1, gpus=0.25)) == 2
    assert capacity({"CPU": 2.0}, RaySettings(cpus=3)) == 0


OLD = {"versions": {"Python": "3.99"}, "store": True}


def fake(resources, **nodes):
    """A cluster whose probes answer as they are told."""

    def remote(*_, **__):
        return lambda probe: SimpleNamespace(options=lambda **__: SimpleNamespace(remote=lambda uri, name, node: node))

    listed = [{"Alive": True, "Resources": {"CPU": 1}, "NodeID": name, "NodeManagerHostname": name} for name in nodes]
    place = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node)
    return SimpleNamespace(
        cluster_resources=lambda: resources,
        nodes=lambda: listed,
        remote=remote,
        get=lambda node, timeout: nodes[node],
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
    ],
)
def test_a_cluster_that_cannot_run_the_plan_is_refused(ray, settings, message, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "versions", lambda: {"Python": "3.11"})
    store = Store(str(tmp_path))
    with pytest.raises(PreflightError, match=message):
        preflight(ray, store, settings)
    assert store.names("") == [], "the probe is removed"


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


@needs_ray
@pytest.mark.filterwarnings("ignore")
def test_units_of_a_lost_node_go_on_elsewhere_and_a_new_node_is_used(tmp_path):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1, env_vars={"CFDG_NODE": name}) for name in ("a", "b")]
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
