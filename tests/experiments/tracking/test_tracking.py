from __future__ import annotations

import datetime
import importlib
import os
import socket
import ssl
import stat
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlparse

import numpy as np
import pytest

from cfdg_experiments.cells.results import Evaluation
from cfdg_experiments.tracking import server
from cfdg_experiments.tracking import tracker as tracker_module
from cfdg_experiments.tracking.address import QUIET, TrackingError, check_tracking, public, tracking_uri
from cfdg_experiments.tracking.logged import flatten
from cfdg_experiments.tracking.mlflow_runs import connect, look_at, open_experiment
from cfdg_experiments.tracking.tracker import Tracker

pytestmark = [  # MLflow and what it imports use things that their dependencies have deprecated
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]

SETTINGS = "name: quick\nseeds: [0, 1, 2]\nfinetune:\n  steps: 200\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make one store for all tests, because its tables take ten seconds; a test has an experiment of its own."""
    path = tmp_path_factory.mktemp("runs")
    before = {key: os.environ.get(key) for key in (*QUIET, "MLFLOW_TRACKING_URI")}
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    connect(tracking_uri(path))
    yield path
    for key, value in before.items():
        os.environ.pop(key, None)
        os.environ.update({} if value is None else {key: value})


@pytest.fixture
def table(folder, request, made_up):
    """Open the table of a test, again and again."""
    header = made_up.header()

    def open_table(settings=SETTINGS, **options):
        return Tracker.open(folder, request.node.name, header, settings, **options)

    return open_table


def runs_of(tracker, filter_string=""):
    return list(tracker.client.search_runs([tracker.experiment], filter_string))


def children(tracker, run):
    return runs_of(tracker, f"tags.mlflow.parentRunId = '{run}'")


def curve(tracker, run, name):
    return [(point.step, point.value) for point in tracker.client.get_metric_history(run, name)]


def artifacts(tracker, run):
    uri = tracker.client.get_run(run).info.artifact_uri
    folder = Path(unquote(urlparse(uri).path))
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_table_cell_and_seed_are_nested_and_equal_what_was_logged(table, folder, tmp_path, made_up):
    cells = made_up.all_cells(made_up.header())
    (tmp_path / "table.md").write_text("| a |", encoding="utf-8")
    with table() as tracker:
        for cell in cells:
            tracker.finished(cell)
        tracker.report([tmp_path / "table.md"])
    parent = tracker.client.get_run(tracker.table)
    assert parent.info.status == "FINISHED"
    assert parent.data.params | {"finetune.steps": "200", "seeds": "0, 1, 2"} == parent.data.params
    assert artifacts(tracker, tracker.table) == {"settings.yaml": SETTINGS, "table.md": "| a |"}
    assert (folder / "artifacts") in Path(unquote(urlparse(parent.info.artifact_uri).path)).parents
    found = {(r.data.tags["dataset"], r.data.tags["arm"]): r for r in children(tracker, tracker.table)}
    assert len(found) == len(cells) == 4
    for cell in cells:
        run = found[cell.dataset, cell.arm]
        assert run.info.status == "FINISHED"
        assert curve(tracker, run.info.run_id, "score_mean") == list(zip(cell.steps, cell.scores.mean(0), strict=True))
        low, mean, high = (run.data.metrics[f"score_{name}"] for name in ("low", "mean", "high"))
        assert low < mean < high
        assert run.data.metrics["final_score"] == pytest.approx(cell.final.mean())
        assert run.data.metrics["throughput/replica_steps_per_second"] == pytest.approx(600 / 12.5)
        expected = list(zip(cell.steps, cell.metrics["refresh/seconds"], strict=True))
        assert curve(tracker, run.info.run_id, "refresh/seconds") == expected
        seeds = {run.data.tags["seed"]: run for run in children(tracker, run.info.run_id)}
        assert sorted(seeds) == ["0", "1", "2"]
        for index, seed in enumerate(cell.seeds):
            one = seeds[str(seed)].info
            assert one.status == "FINISHED"
            for name, curves in {"score": cell.scores, **cell.metrics}.items():
                if curves.ndim == 2:
                    assert curve(tracker, one.run_id, name) == list(zip(cell.steps, curves[index], strict=True))


def test_live_points_are_not_logged_twice(table, made_up):
    cell = made_up.cell()
    with table() as tracker:
        for index, step in enumerate(cell.steps[:2]):
            metrics = {"train/episode_return": cell.metrics["train/episode_return"][:, index]}
            tracker.evaluation(cell.key, Evaluation(int(step), cell.scores[:, index], metrics))
            tracker.flush()
        run = children(tracker, tracker.table)[0]
        assert run.info.status == "RUNNING"
        assert len(curve(tracker, run.info.run_id, "score_mean")) == 2
        tracker.finished(cell)
    seed = children(tracker, run.info.run_id)[0]
    assert [step for step, _ in curve(tracker, seed.info.run_id, "score")] == [0, 100, 200]
    assert [step for step, _ in curve(tracker, seed.info.run_id, "train/episode_return")] == [0, 100, 200]


def test_the_seeds_that_run_have_live_curves_and_the_mean_waits_for_all(table, made_up):
    cell = made_up.cell()
    with table() as tracker:
        some = Evaluation(0, cell.scores[1:, 0], {"train/episode_return": cell.scores[1:, 0]}, seeds=cell.seeds[1:])
        tracker.evaluation(cell.key, some)
        tracker.flush()
        assert tracker.problem == ""
        run = children(tracker, tracker.table)[0].info.run_id
        seeds = {int(child.data.params["seed"]): child.info.run_id for child in children(tracker, run)}
        live = {seed: curve(tracker, own, "score") for seed, own in seeds.items()}
        assert live == {0: [], 1: [(0, cell.scores[1, 0])], 2: [(0, cell.scores[2, 0])]}
        assert curve(tracker, run, "score_mean") == []
        tracker.finished(cell)
    assert [step for step, _ in curve(tracker, seeds[1], "score")] == [0, 100, 200]
    np.testing.assert_array_equal([value for _, value in curve(tracker, run, "score_mean")], cell.scores.mean(0))


def test_a_second_command_duplicates_nothing(table, made_up):
    cells = made_up.all_cells(made_up.header())
    for _ in range(2):
        with table() as tracker:
            for cell in cells:
                tracker.finished(cell)
    assert len(runs_of(tracker)) == 1 + 4 * (1 + 3)
    run = children(tracker, tracker.table)[0]
    assert len(curve(tracker, run.info.run_id, "score_mean")) == 3


def test_an_interrupted_cell_is_killed_and_replaced(table, made_up):
    cell = made_up.cell()

    def interrupted():
        with table() as tracker:
            tracker.evaluation(cell.key, Evaluation(0, cell.scores[:, 0], {}))
            tracker.flush()
            first = children(tracker, tracker.table)[0].info.run_id
            yield tracker, first
            raise KeyboardInterrupt

    steps = interrupted()
    tracker, first = next(steps)
    with pytest.raises(KeyboardInterrupt):
        next(steps)
    assert tracker.client.get_run(tracker.table).info.status == "KILLED"
    assert {run.info.status for run in children(tracker, first)} == {"KILLED"}
    with table() as again:
        again.finished(cell)
    assert again.table == tracker.table
    found = children(again, again.table)
    assert [run.info.status for run in found] == ["FINISHED"]
    assert found[0].info.run_id != first
    assert again.client.get_run(first).info.lifecycle_stage == "deleted"
    assert again.client.get_run(first).info.status == "KILLED"


def test_a_run_left_running_by_a_dead_process_is_killed(table, made_up):
    tracker = table()
    tracker.evaluation(made_up.cell().key, Evaluation(0, np.zeros(3), {}))
    left = children(tracker, tracker.table)[0].info.run_id
    with table() as again:
        again.finished(made_up.cell())
    assert again.client.get_run(left).info.status == "KILLED"
    assert len(children(again, again.table)) == 1


def test_an_error_marks_what_is_open_as_failed(table, made_up):
    tracker = table()
    tracker.evaluation(made_up.cell().key, Evaluation(0, np.zeros(3), {}))

    def fail():
        with tracker:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fail()
    assert tracker.client.get_run(tracker.table).info.status == "FAILED"
    assert children(tracker, tracker.table)[0].info.status == "FAILED"


def test_a_cell_of_other_settings_is_another_run_and_a_shared_one_moves(table, made_up):
    cell = made_up.cell()
    other = made_up.cell(arm="cfdg")
    with table(cell_ids={cell.key: "a", other.key: "b"}) as first:
        first.finished(cell)
        first.finished(other)
    with table(SETTINGS + "more: 1\n", cell_ids={cell.key: "a", other.key: "c"}) as second:
        second.finished(cell)
        second.finished(other)
    assert first.table != second.table
    assert len(children(second, second.table)) == 2
    assert [run.data.tags["cfdg.cell"].rpartition(":")[2] for run in children(first, first.table)] == ["b"]


def test_another_machine_and_other_versions_continue(folder, request, made_up):
    """Facts of the moment are tags; a parameter that an older version wrote stays as it was."""
    header = made_up.header(software={"torch": "2.12.0"})
    with Tracker.open(folder, request.node.name, header, SETTINGS) as first:
        first.runs.parameters(first.table, {"version/torch": "2.12.0", "machine": "2 cores"})  # as version 0.1 did
    other = replace(header, software={"torch": "2.13.0"}, machine="8 cores")
    with Tracker.open(folder, request.node.name, other, SETTINGS) as again:
        pass
    assert again.table == first.table
    tags = again.client.get_run(again.table).data.tags
    assert (tags["version/torch"], tags["machine"]) == ("2.13.0", "8 cores")
    assert again.client.get_run(again.table).data.params["version/torch"] == "2.12.0"


def test_two_folders_in_one_store_leave_each_others_runs_alone(folder, tmp_path, request, monkeypatch, made_up):
    """A live run is not killed, a finished one not taken away, and a folder that moves keeps its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    cell = made_up.cell()
    done = made_up.cell(arm="cfdg")

    def open_in(name):
        return Tracker.open(tmp_path / name, request.node.name, made_up.header(), SETTINGS)

    first = open_in("a")
    first.evaluation(cell.key, Evaluation(0, cell.scores[:, 0], {}))
    first.finished(done)
    first.flush()
    with open_in("b") as second:
        second.evaluation(cell.key, Evaluation(0, cell.scores[:, 0], {}))
        second.finished(done)
        second.flush()
        assert second.table != first.table
        mine = {run.data.tags["arm"]: run.info for run in children(first, first.table)}
        assert {arm: run.status for arm, run in mine.items()} == {"base": "RUNNING", "cfdg": "FINISHED"}
        assert len(children(second, second.table)) == 2
    first.close()
    (tmp_path / "a").rename(tmp_path / "c")
    with open_in("c") as moved:
        moved.finished(done)
    assert moved.table == first.table
    assert f"MLFLOW_TRACKING_URI=sqlite:///{folder}/mlflow.db cfdg ui" in moved.how_to_look()


@pytest.mark.parametrize("name", ["o'brien/mine", 'the "new"/mine', 'o\'brien "jr"/mine', "a\\'b", "a;b' and c%_"])
def test_a_cell_is_found_again_whatever_its_path(table, made_up, name):
    """MLflow's filters know no escapes, and the path of one cell may be a pattern that another one fits."""
    cell = made_up.cell(f"hdf5:/home/{name}.hdf5@Own-v0")
    other = made_up.cell(cell.dataset.translate(str.maketrans("'\"\\", "___")))
    for _ in range(2):
        with table(cell_ids={}) as tracker:
            tracker.ids |= {one.key: f"{one.key.name}:1" for one in (cell, other)}
            tracker.finished(cell)
            tracker.finished(other)
        assert tracker.problem == ""
    found = children(tracker, tracker.table)
    assert sorted(run.data.tags["dataset"] for run in found) == sorted([cell.dataset, other.dataset])


def test_the_goodbye_names_the_store_where_it_is_not_the_folders_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = "#/experiments/1"
    own = look_at(f"sqlite:///{tmp_path}/runs/mlflow.db", Path("runs"), page)
    assert own == f"Compare the runs: cfdg ui --out runs, then http://127.0.0.1:5000/{page}"
    elsewhere = look_at("sqlite:///other.db", Path("runs"), page)
    assert elsewhere.startswith(f"Compare the runs: MLFLOW_TRACKING_URI=sqlite:///{tmp_path}/other.db cfdg ui")
    assert look_at("http://user:secret@host:5/", Path("runs"), page) == f"Compare the runs: http://***@host:5/{page}"
    assert "databricks" in look_at("databricks", Path("runs"), page)


def test_one_seed_and_missing_values_are_left_out(folder, request, made_up):
    cell = made_up.cell(seeds=(0,))
    cell.metrics["train/episode_return"][0, 1] = np.nan
    header = made_up.header(seeds=(0,))
    with Tracker.open(folder, request.node.name, header, SETTINGS) as tracker:
        tracker.finished(cell)
    run = children(tracker, tracker.table)[0]
    assert "score_low" not in run.data.metrics
    seed = children(tracker, run.info.run_id)[0].info.run_id
    assert [step for step, _ in curve(tracker, seed, "train/episode_return")] == [0, 200]


def test_long_curves_go_in_batches(table, made_up):
    cell = made_up.cell(steps=range(0, 1200))
    with table() as tracker:
        tracker.finished(cell)
    run = children(tracker, tracker.table)[0].info.run_id
    np.testing.assert_array_equal([value for _, value in curve(tracker, run, "score_mean")], cell.scores.mean(0))


def test_a_store_that_fails_stops_nothing_and_gets_everything_later(table, made_up, monkeypatch, caplog):
    cell = made_up.cell()
    with table() as tracker:

        def refuse(*_, **__):
            raise OSError("database is locked")

        with monkeypatch.context() as patch:
            patch.setattr(tracker.client, "log_batch", refuse)
            tracker.evaluation(cell.key, Evaluation(0, cell.scores[:, 0], {}))
            tracker.finished(cell)
            assert "database is locked" in tracker.how_to_look()
        assert len(caplog.records) == 1
    assert f"/experiments/{tracker.experiment}/runs?searchFilter=tags.level" in tracker.how_to_look()
    found = children(tracker, tracker.table)
    assert [run.info.status for run in found] == ["FINISHED"]
    assert len(curve(tracker, found[0].info.run_id, "score_mean")) == 3


def test_a_full_disk_at_an_artifact_keeps_the_runs_results_and_names_the_file(
    table, made_up, tmp_path, small_files, monkeypatch, caplog
):
    cell = made_up.cell()
    policy = tmp_path / "seed0-best.safetensors"
    report = tmp_path / "table.md"
    monkeypatch.setattr(tracker_module, "files_of_cell", lambda *_: [policy])
    with table() as tracker:
        size = max(path.stat().st_size for path in tracker.folder.glob("mlflow.db*")) + (1 << 20)
        for path in (policy, report):
            path.write_bytes(bytes(2 * size))
        with small_files(size):
            tracker.finished(cell)
            assert policy.name in tracker.problem
            tracker.report([report])
        assert report.name in tracker.how_to_look()
        assert "run the same command again" in tracker.how_to_look()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "the run goes on" in told[0]
    assert policy.name in told[0]
    assert policy.stat().st_size == report.stat().st_size == 2 * size
    found = children(tracker, tracker.table)[0]
    assert found.info.status == "FINISHED", "what was missing is logged once there is room"
    uri = tracker.client.get_run(found.info.run_id).info.artifact_uri
    stored = Path(unquote(urlparse(uri).path))
    assert (stored / "policies" / policy.name).stat().st_size == 2 * size


def test_a_deleted_experiment_is_taken_out_of_the_bin(table, made_up):
    with table() as tracker:
        tracker.finished(made_up.cell())
    tracker.client.delete_experiment(tracker.experiment)
    with table() as again:
        pass
    assert again.experiment == tracker.experiment


def test_nothing_is_left_beside_the_database(folder):
    assert {path.name for path in folder.iterdir()} <= {"mlflow.db", "artifacts"}


def test_a_broken_database_is_one_sentence(folder, tmp_path, made_up):
    (tmp_path / "mlflow.db").write_bytes((folder / "mlflow.db").read_bytes()[:5000])
    with pytest.raises(TrackingError, match=r"MLflow store sqlite:.*cannot be used") as caught:
        Tracker.open(tmp_path, "x", made_up.header(), SETTINGS)
    assert "\n" not in str(caught.value)


def test_a_dead_server_is_one_sentence_within_seconds(tmp_path, monkeypatch, made_up):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    importlib.import_module("mlflow.store.tracking.rest_store")  # takes seconds, which are not what is timed
    start = time.monotonic()
    with pytest.raises(TrackingError, match="no MLflow server answers at http://127") as caught:
        Tracker.open(tmp_path, "x", made_up.header(), SETTINGS)
    assert time.monotonic() - start < 10  # MLflow's own retries take minutes
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


class MlflowServer(BaseHTTPRequestHandler):
    """The one answer that MLflow's client needs, without ``/health``; ``wants`` is the header of a password."""

    wants = None
    status = 200

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        right = self.wants in (None, self.headers.get("Authorization"))
        self.send_response(self.status if right else 401)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST

    def log_message(self, *_):
        pass


@contextmanager
def serving(handler, context=None):
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_server_is_what_mlflows_own_client_reaches(tmp_path):
    """Passwords in the address reach the server, and no message shows them."""
    with serving(MlflowServer) as port:
        check_tracking(tmp_path, f"http://127.0.0.1:{port}")
    secret = {"wants": "Basic dXNlcjpzZWNyZXQ="}
    with serving(type("Secret", (MlflowServer,), secret)) as port:
        for host in ("127.0.0.1", "localhost"):
            check_tracking(tmp_path, f"http://user:secret@{host}:{port}")
            with pytest.raises(TrackingError, match=r"no MLflow server answers at http://\*\*\*@") as error:
                check_tracking(tmp_path, f"http://user:wrong@{host}:{port}")
            assert "wrong" not in str(error.value)
    with (
        serving(type("Other", (MlflowServer,), {"status": 404})) as port,
        pytest.raises(TrackingError, match="answers"),
    ):
        check_tracking(tmp_path, f"http://127.0.0.1:{port}")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Make the files of a certificate that signs itself, and of its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = x509.CertificateBuilder(
        name, name, key.public_key(), 7, now - datetime.timedelta(1), now + datetime.timedelta(1)
    )
    signed = made.add_extension(names, critical=False).sign(key, hashes.SHA256())
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    words = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*words))
    return folder


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_mlflows_own_settings_of_certificates_hold(tmp_path, certificate, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with serving(MlflowServer, context) as port:
        address = f"https://localhost:{port}"
        with pytest.raises(TrackingError, match=r"answers at https://localhost.*certificate"):
            check_tracking(tmp_path, address)
        with monkeypatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
            check_tracking(tmp_path, address)
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate / "cert.pem"))
        check_tracking(tmp_path, address)


@pytest.mark.parametrize("address", ["databricks", "databricks://team", "postgresql://host/runs", "weird://x"])
def test_every_store_but_a_folder_is_mlflows_to_judge(address, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("cfdg_experiments.tracking.mlflow_runs.connect", asked.append)
    check_tracking(tmp_path, address)
    assert asked == [address]


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write anywhere")
def test_a_folder_without_permission_is_one_sentence(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(TrackingError, match="not a writable folder"):
        check_tracking(tmp_path)


def test_unusable_places_are_one_sentence(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(TrackingError, match=r"mlflow\.db cannot be written: .*file is not a writable folder"):
        check_tracking(tmp_path / "file" / "deep")
    (tmp_path / "mlflow.db").write_text("not a database", encoding="utf-8")
    with pytest.raises(TrackingError, match="is not an SQLite file"):
        check_tracking(tmp_path)
    with pytest.raises(TrackingError, match="is a folder, expected sqlite"):
        check_tracking(tmp_path, "./mlruns")


def test_the_environment_chooses_the_store(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(Path("runs")) == f"sqlite:///{tmp_path.resolve()}/runs/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert tracking_uri(Path("runs")) == "http://host:5000"
    assert tracking_uri(Path("runs"), "sqlite:////x.db") == "sqlite:////x.db"


def test_settings_are_flattened():
    tree = {"name": "quick", "iql": {"hidden": [64, 64], "expectile": 0.7}, "rows": None}
    assert flatten(tree) == {"name": "quick", "iql.hidden": "64, 64", "iql.expectile": "0.7", "rows": "None"}


def test_names_of_settings_are_names_that_mlflow_takes(table):
    own = [
        "hdf5:/home/o'brien/mine.hdf5@Own-v0",
        "hdf5:/home/o_brien/mine.hdf5@Own-v0",
        "hdf5:/a/../b.hdf5@E",
        "x" * 400,
    ]
    rows = "".join(f'    "{name}": {index}\n' for index, name in enumerate(own))
    settings = f"data:\n  rows:\n{rows}    recorded:hopper-medium: 7\n"
    for _ in range(2):
        with table(settings) as tracker:
            pass
    parameters = tracker.client.get_run(tracker.table).data.params
    assert parameters.pop("data.rows.recorded:hopper-medium") == "7"
    assert sorted(parameters.values()) == ["0", "1", "2", "3"]
    assert any(name.startswith("data.rows.hdf5:_home_o_brien_mine.hdf5_Own-v0") for name in parameters)


def test_the_web_page_stays_on_loopback(tmp_path):
    command = server.ui_command(tracking_uri(tmp_path), 5077)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "5077"


def test_the_web_page_needs_a_database_and_a_free_port(tmp_path, monkeypatch, folder):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingError, match="there is no MLflow database"):
        server.serve_ui(tmp_path, 5077)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(TrackingError, match="choose another with --port"):
            server.serve_ui(folder, taken.getsockname()[1])


def test_a_server_that_dies_is_reported(tmp_path, monkeypatch, folder):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(server, "ui_command", lambda *_: ["false"])
    said = []
    with pytest.raises(TrackingError, match="ended with status 1"):
        server.serve_ui(folder, _free_port(), say=said.append)
    assert said == ["Starting MLflow, which takes up to a minute ..."]


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_tracking_address_elsewhere_is_only_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    said = []
    assert server.serve_ui(tmp_path, say=said.append) == 0
    assert said == ["MLFLOW_TRACKING_URI is set: the runs are at http://host:5000"]


def test_header_of_the_run_says_what_made_it(table):
    tracker = table()
    tags = tracker.client.get_run(tracker.table).data.tags
    assert tags["mlflow.note.content"].startswith("Profile quick, recorded data")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:secret@host:5000/a@b", "http://***@host:5000/a@b"),
        ("https://host/x", "https://host/x"),
        ("sqlite:////a/b@c.db", "sqlite:////a/b@c.db"),
        ("postgresql://u:p@ss@host/db", "postgresql://***@host/db"),
    ],
)
def test_a_password_is_never_shown(address, shown):
    assert public(address) == shown


def test_a_password_is_neither_in_errors_nor_in_the_goodbye(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"no MLflow server answers at http://\*\*\*@127\.0\.0\.1:9") as caught:
        check_tracking(tmp_path)
    assert "secret" not in str(caught.value)
    said = []
    assert server.serve_ui(tmp_path, say=said.append) == 0
    assert "secret" not in said[0]


def test_the_web_page_ends_with_its_processes_when_it_is_terminated(tmp_path, monkeypatch, folder):
    """SIGTERM is what a service manager and a closed terminal send."""
    words = [sys.executable, "-c", "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(99)"]
    monkeypatch.setattr(server, "ui_command", lambda *_: words)
    began = []
    start = server.subprocess.Popen
    monkeypatch.setattr(server.subprocess, "Popen", lambda *a, **k: began.append(start(*a, **k)) or began[0])
    assert server.serve_ui(folder, _free_port()) == 0
    assert began[0].poll() is not None


def test_two_commands_that_make_the_same_experiment_share_it(folder):
    client = connect(tracking_uri(folder))
    made = open_experiment(client, "twice", None)

    class Late:
        """A client that does not see the experiment the first time."""

        def __init__(self):
            self.asked = 0

        def get_experiment_by_name(self, name):
            self.asked += 1
            return client.get_experiment_by_name(name) if self.asked > 1 else None

        def create_experiment(self, name, artifact_location):
            return client.create_experiment(name, artifact_location)

    assert open_experiment(Late(), "twice", None) == made


def test_a_large_table_has_its_seeds_in_a_file_of_each_cell(table, made_up, monkeypatch, tmp_path):
    monkeypatch.setattr(tracker_module, "MOST_SEED_RUNS", 5)
    with table() as tracker:
        tracker.finished(made_up.cell())
        runs = tracker.client.search_runs([tracker.experiment])
        cell = next(run for run in runs if run.data.tags["level"] == "cell")
        path = Path(tracker.client.download_artifacts(cell.info.run_id, "scores.csv", str(tmp_path)))
    assert sorted(run.data.tags["level"] for run in runs) == ["cell", "table"]
    assert len(path.read_text().splitlines()) == 1 + 3 * 3
    assert cell.data.metrics
