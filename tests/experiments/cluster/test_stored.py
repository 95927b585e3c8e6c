"""Stores, attempts and checkpoints of cells, a unit that is killed and goes on elsewhere, and how a driver judges."""

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cfdg_experiments.cells import offline_fit
from cfdg_experiments.cells.cell import Workspace
from cfdg_experiments.cells.results import CellResult
from cfdg_experiments.cells.run import CellRun, run_cell
from cfdg_experiments.cli import main
from cfdg_experiments.cluster import cell_folder, commands, engines, live_curves
from cfdg_experiments.cluster.cell_folder import CellFolder, FencedError, RunningError
from cfdg_experiments.cluster.commands import print_status
from cfdg_experiments.cluster.engines import Ended, LocalEngine
from cfdg_experiments.cluster.fleet import DRIVER, Patience, classify, drive, only_driver
from cfdg_experiments.cluster.live_curves import LiveCurves
from cfdg_experiments.cluster.scratch import scratch_folder
from cfdg_experiments.cluster.stored_plan import Unit, load_plan, save_plan, units_of
from cfdg_experiments.cluster.unit import UnitRun, WaitingError, run_unit
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.storage import saver
from cfdg_experiments.storage.object_store import Store, StoreError
from cfdg_experiments.storage.saver import StoppedError
from cfdg_experiments.studies.plan import make_plan
from cfdg_experiments.studies.study import STUDIES, TABLE_1
from cfdg_experiments.tracking.tracker import Tracker
from cfdg_rl.files import HOST
from cfdg_rl.locks import BusyError

HOPPER = "recorded:hopper-medium"
TINY = {
    "seeds": [0, 1], "data.rows": 3000, "data.datasets": [HOPPER], "iql.hidden": [8], "pretrain.steps": 6,
    "finetune.steps": 40, "finetune.warm_up": 5, "finetune.refresh_every": 15, "finetune.synthetic_rows": 32,
    "diffusion.width": 8, "diffusion.blocks": 1, "diffusion.sampling_steps": 3, "refresh.first_steps": 4,
    "refresh.steps": 2, "inspection.enabled": False, "evaluation.every": 20, "evaluation.episodes": 1,
    "algorithms": ["iql"], "arms": ["cfdg"],
}  # fmt: skip


@pytest.fixture(params=["folder", "memory", "s3"])
def uri(request, tmp_path):
    """Return the address of an empty store; S3 is a server on this machine, where its libraries are installed."""
    if request.param == "folder":
        return str(tmp_path / "store")
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    return request.getfixturevalue("bucket") + f"/{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def bucket():
    server = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    with pytest.MonkeyPatch.context() as patch:
        running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        running.start()
        host, port = running.get_host_and_port()
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(key, "test")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem().mkdir("bucket")
        yield "s3://bucket"
        running.stop()


def test_texts_and_files_come_back_and_what_is_there_is_not_created_again(uri, tmp_path):
    store = Store(uri)
    assert store.read("a/b.json") is None
    assert store.names("a") == []
    assert store.create("a/b.json", {"x": 1})
    assert not store.create("a/b.json", {"x": 2})
    assert store.read("a/b.json") == {"x": 1}
    store.write("a/b.json", {"x": 3})
    assert store.read("a/b.json") == {"x": 3}
    (tmp_path / "file").write_bytes(b"content")
    facts = store.put(tmp_path / "file", "a/c/file")
    assert facts["size"] == 7
    assert store.names("a") == ["b.json", "c"]
    store.get("a/c/file", tmp_path / "copy", facts)
    assert (tmp_path / "copy").read_bytes() == b"content"
    with pytest.raises(ValueError, match="a/c/file is damaged"):
        store.get("a/c/file", tmp_path / "copy", facts | {"sha256": "0"})
    with pytest.raises(StoreError, match="failed at a/none"):
        store.get("a/none", tmp_path / "copy", facts)
    store.remove("a")
    store.remove("a")
    assert not store.exists("a/b.json")


def test_only_the_highest_attempt_writes_and_a_living_one_is_not_overtaken(uri, tmp_path, monkeypatch):
    folder = CellFolder(Store(uri), "cells/x")
    (tmp_path / "state").write_text("1")
    first = folder.begin()
    with pytest.raises(RunningError, match=f"run by process {os.getpid()} on .*, attempt 1; wait for its end"):
        folder.begin()
    folder.save(first, 10, [tmp_path / "state"], tmp_path)
    folder.note(first, state="failed", error="x")
    second = CellFolder(Store(uri), "cells/x").begin()
    assert second.number == 2
    with pytest.raises(FencedError, match="attempt 1 was overtaken by attempt 2"):
        folder.save(first, 20, [tmp_path / "state"], tmp_path)
    assert [manifest["step"] for manifest in folder.manifests()] == [10], "without a manifest it does not count"
    with pytest.raises(FencedError, match="overtaken"):
        folder.finish(first, {"state": tmp_path / "state"})
    monkeypatch.setattr(cell_folder.socket, "gethostname", lambda: "elsewhere")
    assert folder.latest().is_alive, "its heartbeat is fresh"
    monkeypatch.setattr(cell_folder, "SILENT_SECONDS", 0.0)
    assert not folder.latest().is_alive


def test_the_last_two_checkpoints_stay_and_a_damaged_one_is_passed_over(uri, tmp_path):
    store = Store(uri)
    folder = CellFolder(store, "cells/x")
    attempt = folder.begin()
    place = tmp_path / "work"
    (place / "a.rings").mkdir(parents=True)
    for step in (1, 2, 3):
        (place / "a").write_text(f"state {step}")
        (place / "a.rings" / f"piece{step}").write_text(f"rows {step}")
        pieces = [place / "a.rings" / f"piece{n}" for n in (step - 1, step) if n]
        folder.save(attempt, step, [place / "a", *pieces], place)
    assert store.names("cells/x/ckpt") == ["000000002", "000000003"]
    assert store.names("cells/x/rings") == ["piece1", "piece2", "piece3"]
    assert CellFolder(store, "cells/x").restore(tmp_path / "copy") == 3
    assert (tmp_path / "copy" / "a.rings" / "piece2").read_text() == "rows 2"
    store.write_text("cells/x/ckpt/000000003/a", "state 4")
    assert CellFolder(store, "cells/x").restore(tmp_path / "copy") == 2
    assert (tmp_path / "copy" / "a").read_text() == "state 2"
    folder.finish(attempt, {"cell.json": place / "a"})
    assert store.names("cells/x") == ["attempt-0001.json", "cell.json", "result.json"]
    assert CellFolder(store, "cells/y").restore(tmp_path / "copy") is None


@pytest.fixture
def planned(uri):
    plan = make_plan(TABLE_1, load_profile("quick", TINY))
    save_plan(plan, [], Store(uri))
    return plan


def test_a_plan_comes_back_and_a_store_has_one_for_good(planned, uri):
    assert load_plan(Store(uri)).cells() == planned.cells()
    save_plan(planned, [], Store(uri))
    other = make_plan(TABLE_1, load_profile("quick", {**TINY, "seeds": [3]}))
    with pytest.raises(ValueError, match="holds another plan"):
        save_plan(other, [], Store(uri))
    with pytest.raises(ValueError, match="run id is 'x', expected one of the plan's 2, such as"):
        run_unit("x", uri)
    with pytest.raises(ValueError, match=r"has no plan\.json"):
        run_unit("x", "memory://none")


class Killed(BaseException):
    pass


def test_a_unit_that_is_killed_goes_on_elsewhere_to_the_same_result(planned, uri, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CFDG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("cfdg_experiments.cells.run.SAVE_SECONDS", 0.0)
    monkeypatch.setattr(saver, "SHARE", 0)
    whole = run_cell(planned.cells()[0], Workspace(tmp_path / "whole"), lambda event: None)
    offline, cell = units_of(planned)
    with pytest.raises(WaitingError, match=r"its pre-training .* is not done"):
        run_unit(cell.run_id, uri)
    assert "is done, attempt 1" in run_unit(offline.run_id, uri)
    assert "is done already" in run_unit(offline.run_id, uri)
    save = UnitRun.save

    def dying(self, step, files):
        if step == 27:
            raise Killed
        save(self, step, files)

    monkeypatch.setattr(UnitRun, "save", dying)
    with pytest.raises(Killed):
        run_unit(cell.run_id, uri)
    monkeypatch.setattr(UnitRun, "save", save)
    folder = CellFolder(Store(uri), cell.folder)
    assert (folder.latest().state, folder.latest().step, folder.manifests()[-1]["step"]) == ("stopped", 26, 26)
    begun = []
    restore = CellRun.restore
    monkeypatch.setattr(CellRun, "restore", lambda self, *state: restore(self, *state) or begun.append(self.done))
    assert "is done, attempt 2" in run_unit(cell.run_id, uri)
    assert begun == [26]
    folder.fetch("cell.json", tmp_path / "cell.json")
    assert np.array_equal(CellResult.from_json(tmp_path / "cell.json").scores, whole.scores)
    lines = Store(uri).read_text(folder.at("metrics.jsonl")).splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 20, 40]
    policies = {name for name in folder.result()["files"] if name.startswith("policies/")}
    assert policies == {f"policies/seed{seed}-{kind}.safetensors" for seed in (0, 1) for kind in ("best", "final")}
    print_status(uri)
    assert "2 done" in capsys.readouterr().out
    for stage in ("pretrain", "cells"):
        assert main(["status", "--store", uri, "--todo", stage]) == 0
    assert capsys.readouterr().out == ""
    assert main(["report", "--store", uri, "--out", str(tmp_path / "runs")]) == 0
    assert (tmp_path / "runs" / "table1-quick" / "scores.csv").exists()


def test_what_is_to_do_is_listed_for_a_scheduler_one_run_id_a_line(planned, uri, capsys):
    for stage, own in (("pretrain", 0), ("cells", 1)):
        assert main(["status", "--store", uri, "--todo", stage]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines == [unit.run_id for unit in units_of(planned) if unit.stage == own]
        assert lines


def test_a_unit_that_is_asked_to_end_writes_a_checkpoint_first(planned, uri, tmp_path, monkeypatch):
    monkeypatch.setenv("CFDG_CACHE", str(tmp_path / "cache"))
    unit = units_of(planned)[0]
    with pytest.raises(StoppedError, match="goes on from the last checkpoint") as stopped:
        run_unit(unit.run_id, uri, stops=lambda: True)
    assert stopped.value.status == 143
    folder = CellFolder(Store(uri), unit.folder)
    assert (folder.latest().state, folder.manifests()[-1]["step"]) == ("stopped", 1)
    assert "is done, attempt 2" in run_unit(unit.run_id, uri)


@pytest.mark.parametrize("uri", ["folder"], indirect=True)
def test_an_offline_fit_that_is_asked_to_end_goes_on_and_is_not_done_twice(uri, tmp_path, monkeypatch):
    monkeypatch.setenv("CFDG_CACHE", str(tmp_path / "cache"))
    plan = make_plan(TABLE_1, load_profile("quick", {**TINY, "refresh.offline_steps": 6}))
    save_plan(plan, [], Store(uri))
    whole = run_cell(plan.cells()[0], Workspace(tmp_path / "whole"), lambda event: None)
    offline, unit = units_of(plan)
    run_unit(offline.run_id, uri)
    folder = CellFolder(Store(uri), unit.folder)
    begun = []
    resume = offline_fit._resume
    monkeypatch.setattr(offline_fit, "_resume", lambda *args: begun.append(resume(*args)) or begun[-1])
    for false, steps in ((2, [-3]), (8, [-3, 6])):  # the second attempt is asked after five steps of fine-tuning
        answers = itertools.chain([False] * false, itertools.repeat(True))
        with pytest.raises(StoppedError):
            run_unit(unit.run_id, uri, stops=lambda answers=answers: next(answers))
        assert [manifest["step"] for manifest in folder.manifests()] == steps
    assert "is done, attempt 3" in run_unit(unit.run_id, uri)
    assert begun == [0, 3], "the finished fit came with the checkpoint"
    folder.fetch("cell.json", tmp_path / "cell.json")
    assert np.array_equal(CellResult.from_json(tmp_path / "cell.json").scores, whole.scores)


def test_the_command_of_a_unit_hears_sigterm_from_its_start_on(monkeypatch, capsys):
    def run(run_id, store, scratch, stops):
        os.kill(os.getpid(), signal.SIGTERM)
        return f"asked to end: {stops()}"

    monkeypatch.setattr("cfdg_experiments.cluster.unit.run_unit", run)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["cell", "x", "--store", "y"]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().out == "asked to end: True\n"


def test_the_second_driver_is_refused(uri):
    store = Store(uri)
    with (
        only_driver(store),
        pytest.raises(BusyError, match=f"is being run by process {os.getpid()} on"),
        only_driver(store),
    ):
        pass
    if store.local is None:
        store.write(DRIVER, {"host": "elsewhere", "pid": 1, "heartbeat": time.time() - 1e4})
    with only_driver(store):
        pass
    assert store.names("") == []


def units(*pairs):
    return [
        Unit(run_id, SimpleNamespace(name=run_id, pretraining=run_id), int(bool(needs)), needs)
        for run_id, needs in pairs
    ]


class Scripted:
    """An engine that ends each unit as a script says, one after the other."""

    def __init__(self, **script):
        self.script = {run_id: list(ends) for run_id, ends in script.items()}
        self.started = []
        self.running = []

    def free(self):
        return 2 - len(self.running)

    def start(self, run_id):
        self.started.append(run_id)
        self.running.append(run_id)

    def wait(self, seconds):
        if not self.running:
            time.sleep(0.01)
            return []
        run_id = self.running.pop(0)
        return [Ended(run_id, self.script[run_id].pop(0), f"why {run_id}")]

    def close(self):
        self.running.clear()


QUICK = Patience(retries=2, losses=3, seconds=0.01)


def test_arms_wait_for_their_pre_training_and_passing_failures_are_tried_again(tmp_path):
    engine = Scripted(p=[-9, 0], q=[0], a=[75, None, 0], b=[0])
    failed = drive(units(("p", ""), ("q", ""), ("a", "p"), ("b", "q")), Store(str(tmp_path)), engine, QUICK)
    assert failed == {}
    assert engine.started.index("a") > engine.started.index("p", engine.started.index("p") + 1)
    assert sorted(engine.started) == ["a", "a", "a", "b", "p", "p", "q"]


def test_lasting_failures_are_marked_and_the_others_go_on(tmp_path):
    engine = Scripted(p=[2], q=[0], b=[75, 75, 75], c=[0])
    failed = drive(units(("p", ""), ("q", ""), ("a", "p"), ("b", "q"), ("c", "q")), Store(str(tmp_path)), engine, QUICK)
    assert failed == {"p": "why p", "a": "its pre-training p failed", "b": "why b"}
    assert engine.started.count("b") == 3


def test_a_unit_that_is_lost_again_and_again_is_given_up(tmp_path):
    engine = Scripted(p=[-9] * 9)
    assert drive(units(("p", "")), Store(str(tmp_path)), engine, QUICK) == {"p": "why p"}
    assert engine.started == ["p"] * 4


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (None, "", "infrastructure"), (-9, "", "infrastructure"), (137, "", "infrastructure"),
        (143, "", "infrastructure"), (-6, "Fatal Python error", "transient"), (-11, "", "transient"),
        (75, "store failed", "transient"), (2, "CUDA error: x", "transient"), (2, "rows is 0", "deterministic"),
        (1, "", "deterministic"),
    ],
)  # fmt: skip
def test_failures_are_told_apart(status, message, kind):
    assert classify(Ended("x", status, message)) == kind


TOY = """
import pathlib, sys, time
from cfdg_experiments.cluster.engines import end_with_stdin
end_with_stdin()
place = pathlib.Path(sys.argv[2]) / sys.argv[1]
place.mkdir(exist_ok=True)
log = place / "log"
if sys.argv[1] == "bad":
    sys.exit("cfdg: error: bad is bad")
for step in range(len(log.read_text()) if log.exists() else 0, 30):
    with log.open("a") as file:
        file.write("x")
    time.sleep(0.01)
"""


def test_killed_processes_of_the_local_engine_go_on_and_no_process_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(
        engines, "cell_command", lambda run_id, uri: [sys.executable, "-c", textwrap.dedent(TOY), run_id, uri]
    )
    engine = LocalEngine(str(tmp_path), 2)
    wait = engine.wait
    kills = []

    def killing(seconds):
        if engine.running and len(kills) < 8:
            process = next(iter(engine.running.values()))[0]
            time.sleep(0.05)
            os.kill(process.pid, signal.SIGKILL)
            kills.append(process.pid)
        return wait(seconds)

    monkeypatch.setattr(engine, "wait", killing)
    said = []
    names = [("a", ""), ("bad", ""), ("b", ""), ("c", "a"), ("d", "bad")]
    failed = drive(units(*names), Store(str(tmp_path)), engine, Patience(seconds=0.01), say=said.append)
    assert failed["d"] == "its pre-training bad failed"
    assert set(failed) <= {"bad", "d"}
    assert all((tmp_path / name / "log").read_text() == "x" * 30 for name in "abc")
    assert not engine.running
    assert any(line.startswith("again") for line in said)


def test_what_a_process_leaves_that_was_killed_at_its_very_end_goes_with_the_next_command(planned, uri, tmp_path):
    store = Store(uri)
    first, second = units_of(planned)
    for unit in (first, second):
        store.write(f"{unit.folder}/result.json", {"attempt": 1, "files": {}})
        store.write(f"{unit.folder}/ckpt/000000003/MANIFEST.json", {"step": 3, "files": []})
        store.write(f"{unit.folder}/rings/piece", {})
    assert "is done already" in run_unit(first.run_id, uri)
    assert store.names(first.folder) == ["result.json"]
    assert drive([second], store, Scripted(), QUICK) == {}
    assert store.names(second.folder) == ["result.json"]


def test_a_draft_of_a_killed_process_goes_when_the_file_is_made(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    (tmp_path / f".plan.{HOST}-{ended.pid}.01234567.partial").touch()
    assert Store(str(tmp_path)).create("plan.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_scratch_folders_of_killed_processes_are_removed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    names = [f"cfdg-{HOST}-{ended.pid}-x", f"cfdg-{HOST}-{os.getpid()}-x", f"cfdg-00000000-{ended.pid}-x", "cfdg-mine"]
    for name in names:
        (tmp_path / name / "cells").mkdir(parents=True)
    with scratch_folder(tmp_path) as place:
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names[1:], place.name])
    assert not place.exists()


@pytest.mark.parametrize(("closes", "status"), [(False, 0), (True, 1)])
def test_a_unit_ends_by_itself_or_with_the_input_that_its_driver_holds(closes, status):
    words = "import time; from cfdg_experiments.cluster.engines import end_with_stdin; end_with_stdin(); time.sleep(%s)"
    command = [sys.executable, "-c", words % (60 if closes else 0.2)]
    environment = {**os.environ, engines.END_WITH_STDIN: "1"}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        if closes:
            process.stdin.close()
        assert process.wait(60) == status
        assert process.stderr.read() == b""


class Told:
    """A tracker that notes what it is told."""

    def __init__(self):
        self.evaluations = []
        self.results = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def evaluation(self, key, evaluation):
        self.evaluations.append((key.arm, evaluation.step, evaluation.scores.tolist()))

    def finished(self, result):
        self.results.append(result)

    def report(self, files):
        self.files = files


def test_evaluations_of_running_cells_are_told_once_for_each_column(planned, uri, monkeypatch):
    monkeypatch.setattr(live_curves, "LOOK_SECONDS", 0.0)
    store = Store(uri)
    cell = units_of(planned)[1]
    told = Told()
    keys = {cell.cell: [cell.cell.key, cell.cell.key._replace(arm="other")]}
    curves = LiveCurves(store, keys, told)
    curves.look(units_of(planned))
    assert told.evaluations == []
    first = '{"step": 0, "scores": [1.0, 2.0], "loss": [null, 0.5]}\n'
    store.write_text(f"{cell.folder}/metrics.jsonl", first)
    curves.look([cell])
    store.write_text(f"{cell.folder}/metrics.jsonl", first + '{"step": 20, "scores": [3.0, 4.0]}\n')
    curves.look([cell])
    curves.look([cell])
    expected = [("cfdg", 0, [1.0, 2.0]), ("other", 0, [1.0, 2.0]), ("cfdg", 20, [3.0, 4.0]), ("other", 20, [3.0, 4.0])]
    assert told.evaluations == expected


def test_a_study_in_a_store_ends_with_its_report_although_a_process_was_killed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CFDG_CACHE", str(tmp_path / "cache"))
    told = Told()
    monkeypatch.setattr(Tracker, "open", lambda *_, **__: told)
    monkeypatch.setattr(
        commands, "write_product_report", lambda plan, results, *_: [Path(result.name) for result in results]
    )
    wait = LocalEngine.wait
    killed = []

    def killing(self, seconds):
        if not killed:
            killed.extend(process.pid for process, _ in self.running.values())
            os.kill(killed[0], signal.SIGKILL)
        return wait(self, seconds)

    monkeypatch.setattr(LocalEngine, "wait", killing)
    store = str(tmp_path / "store")
    sets = [
        f"{name}={json.dumps(value)}" for name, value in TINY.items() if name not in ("seeds", "algorithms", "arms")
    ]
    words = ["table1", "--seeds", "0", "--algorithms", "iql", "--arms", "cfdg", "--out", str(tmp_path / "runs")]
    assert main([*words, "--store", store, "--set", *sets]) == 0
    said = capsys.readouterr().out
    assert "pre-training, infrastructure failure 1: status -9" in said
    assert len(killed) == 1
    assert [result.arm for result in told.results] == ["cfdg"]
    assert told.files == [Path("recorded:hopper-medium/iql/cfdg")]


def test_all_studies_can_be_stored():
    assert len({study.name for study in STUDIES}) == len(STUDIES)
    assert Path(engines.cell_command("x", "y")[0]) == Path(sys.executable)
