"""Command line from words to exit status, and a small table from end to end."""

import csv
import itertools
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from cfdg_experiments.cli import main
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.profiles.selection import choose_datasets
from cfdg_experiments.studies.plan import refresh_steps
from cfdg_experiments.studies.run import describe_data, duration
from cfdg_rl.datasets.load import load_dataset

TINY = [
    "data.rows=10000", "iql.hidden=[16,16]", "pretrain.steps=20", "finetune.steps=60", "finetune.warm_up=10",
    "finetune.refresh_every=20", "finetune.synthetic_rows=64", "diffusion.width=16", "diffusion.blocks=1",
    "diffusion.sampling_steps=4", "refresh.first_steps=8", "refresh.steps=4", "evaluation.every=30",
    "evaluation.episodes=1", "maze.iql.hidden=[16,16]", "maze.evaluation.every=30", "maze.evaluation.episodes=1",
    "apl.td3_bc.hidden=[16]", "apl.pretrain.steps=20", "apl.finetune.steps=60", "apl.finetune.round_steps=10",
    "apl.finetune.updates_per_round=5", "apl.finetune.refresh_every=20", "apl.finetune.synthetic_rows=64",
    "apl.refresh.first_steps=8", "apl.refresh.steps=4", "apl.replay.gate=15",
]  # fmt: skip
RUN = [
    "table1",
    "--arms",
    "base",
    "cfdg",
    "--only",
    "hopper-medium",
    "--algorithms",
    "iql",
    "--seeds",
    "0",
    "1",
    "--jobs",
    "2",
    "--set",
    *TINY,
]
ALL = [
    "table1",
    "--arms",
    "base",
    "cfdg",
    "--datasets",
    "hopper-medium",
    "pointmaze-umaze",
    "--seeds",
    "0",
    "1",
    "--jobs",
    "2",
    "--set",
    *TINY,
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def cfdg(arguments, cache, **environment):
    """Run the command in a process of its own, as a user starts it."""
    return subprocess.run(
        [sys.executable, "-c", "import sys; from cfdg_experiments.cli import main; sys.exit(main())", *arguments],
        env={**os.environ, "CFDG_CACHE": str(cache), **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache):
    out = tmp_path_factory.mktemp("table") / "runs"
    done = cfdg([*ALL, "--out", str(out)], cache)
    assert done.returncode == 0, done.stderr
    return out, done


def test_a_table_from_end_to_end(finished):
    out, done = finished
    assert "hopper-medium" in done.stdout
    assert "Compare the runs" in done.stdout
    assert "apl is left out on recorded:pointmaze-umaze: it cannot learn from a sparse reward" in done.stdout
    folder = out / "table1-quick"
    names = {path.name for path in folder.iterdir()}
    assert {"settings.yaml", "table.md", "table.csv", "scores.csv", "results.json", "curves.png"} <= names
    with (folder / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    pairs = [(dataset, name) for dataset in ("hopper-medium", "pointmaze-umaze") for name in ("iql", "pex", "apl")]
    pairs.remove(("pointmaze-umaze", "apl"))
    keys = ("dataset", "algorithm", "arm", "seed", "step")
    found = {tuple(row[key].removeprefix("recorded:") for key in keys) for row in rows}
    runs = itertools.product(pairs, ("base", "cfdg"), "01", ("0", "30", "60"))
    assert found == {(*pair, arm, seed, step) for pair, arm, seed, step in runs}
    assert len(list((out / "pretrained").iterdir())) == 3, "IQL and PEX share theirs"
    assert load_profile(str(folder / "settings.yaml")).finetune.steps == 60
    assert (out / "mlflow.db").exists()


def test_the_second_time_nothing_is_run_and_the_table_is_the_same(finished, cache):
    out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    tables = {name: (out / "table1-quick" / name).read_text() for name in ("table.csv", "scores.csv", "results.json")}
    again = cfdg([*ALL, "--out", str(out)], cache)
    assert again.returncode == 0, again.stderr
    assert "10 of 10 cells are finished already" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()} == before
    assert {name: (out / "table1-quick" / name).read_text() for name in tables} == tables


def test_a_dry_run_lists_and_estimates_and_writes_nothing(tmp_path, cache):
    done = cfdg([*RUN, "--out", str(tmp_path / "runs"), "--dry-run"], cache)
    assert done.returncode == 0, done.stderr
    assert "4 seed runs in 2 groups" in done.stdout
    assert "min with 2 jobs" in " ".join(done.stdout.split())
    assert not (tmp_path / "runs").exists()


def test_the_plan_of_the_quick_table_fits_eighty_columns(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("cfdg_experiments.studies.estimate.estimate_seconds", lambda *_: 60.0)
    assert main(["table1", "--out", str(tmp_path), "--dry-run"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "recorded:" in line]
    assert {line[2] for line in lines} == {"base", "repeat", "cfdg-split"}
    assert {(len(line), *line[-2:]) for line in lines} == {(7, "to", "run")}


def test_a_killed_command_continues_and_leaves_no_orphans(tmp_path, cache):
    out = tmp_path / "runs"
    words = [*RUN, "finetune.steps=3000", "finetune.refresh_every=1000", "evaluation.every=100", "--out", str(out)]
    code = "import sys; from cfdg_experiments.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "CFDG_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    end = time.monotonic() + 120
    while not (out / "pretrained").exists() or not list((out / "pretrained").glob("*.safetensors")):
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 30
    while _members(process.pid):
        assert time.monotonic() < end, "workers outlive a killed parent"
        time.sleep(0.2)
    stamp = next((out / "pretrained").iterdir()).stat().st_mtime_ns
    short = [*RUN, "--out", str(out)]
    done = cfdg(short, cache)
    assert done.returncode == 0, done.stderr
    assert next((out / "pretrained").iterdir()).stat().st_mtime_ns == stamp, "the pre-training was used again"


def _members(group: int) -> list[int]:
    """List the living processes of a session."""
    found = subprocess.run(["ps", "-o", "pid=,stat=", "-s", str(group)], capture_output=True, text=True, check=False)
    return [int(line.split()[0]) for line in found.stdout.splitlines() if "Z" not in line.split()[1]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "hoper-medium"], "unknown dataset 'recorded:hoper-medium' (did you mean recorded:hopper-medium"),
        (["--only", "d4rl:hopper-medium"], "hopper_medium-v2.hdf5"),
        (["--set", "finetune.step=1"], "unknown key finetune.step (did you mean steps or round_steps?)"),
        (["--set", "finetune.steps=x"], "finetune.steps is 'x', expected a valid integer"),
        (["--set", "finetune.refresh_every=9000"], "T_diff"),
        (["--seeds"], "seeds is empty, expected at least one seed"),
        (["--profile", "slow"], "profile is 'slow', expected quick, reduced, paper or a .yaml file"),
        (["--jobs", "0"], "--jobs is 0, expected at least 1"),
        (["--set", "capture=1"], "capture is 1, expected a valid boolean"),
        (["--algorithms", "sac"], "algorithms is 'sac', expected some of iql, pex, apl"),
        (["--file", "x.hdf5"], "--env is missing beside --file"),
        (["--env", "Hopper-v5"], "--file is missing beside --env"),
        (["--file", "x.hdf5", "--env", "Hopper-v5"], "x.hdf5 does not exist"),
        (
            ["--file", "x.hdf5", "--env", "Hopper-v5", "--data", "d4rl"],
            "--datasets or --data is given, expected neither beside --file",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "nothing"))
    monkeypatch.setenv("CFDG_CACHE", str(tmp_path / "cache"))
    assert main(["table1", "--out", str(tmp_path / "runs"), *words]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.count("\n") == 0
    assert "Traceback" not in error
    assert not (tmp_path / "runs").exists(), "nothing half-written"


def hopper_file(folder, **changed):
    """Write a file with the name and layout of D4RL's hopper-medium-v2, some columns changed."""
    rng = np.random.default_rng(0)
    columns = {
        "observations": rng.normal(size=(3000, 11)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(3000, 3)).astype(np.float32),
        "rewards": np.ones(3000, np.float32),
        "terminals": np.zeros(3000, bool),
        "timeouts": np.arange(3000) % 1000 == 999,
    } | changed
    path = folder / "hopper_medium-v2.hdf5"
    with h5py.File(path, "w") as file:
        for name, column in columns.items():
            file.create_dataset(name, data=column, compression="gzip")
    return path


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("truncated", "is not a complete HDF5 file"),
        ("damaged", "hopper_medium-v2.hdf5"),
        ("width", "observations has shape (3000, 9), expected"),
        ("nan", "rewards is not finite at row 17"),
        ("key", "expected 'actions' among them"),
    ],
)
def test_a_bad_dataset_file_is_one_sentence_and_status_2(fault, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    rewards = np.ones(3000, np.float32)
    rewards[17] = np.nan
    changed = {"width": {"observations": np.zeros((3000, 9), np.float32)}, "nan": {"rewards": rewards}}
    path = hopper_file(tmp_path, **changed.get(fault, {}))
    if fault == "key":
        with h5py.File(path, "a") as file:
            del file["actions"]
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    if fault == "damaged":  # whole, but with a compressed block overwritten
        content = bytearray(path.read_bytes())
        content[len(content) // 2 : len(content) // 2 + 2000] = bytes(2000)
        path.write_bytes(content)
    assert (
        main(["table1", "--out", str(tmp_path / "runs"), "--only", "d4rl:hopper-medium", "--set", "data.rows=null"])
        == 2
    )
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert not (tmp_path / "runs").exists()


def test_an_unwritable_folder_and_a_dead_server_are_known_at_once(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    assert main(["table1", "--out", str(tmp_path / "file" / "runs")]) == 2
    assert "not a writable folder" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(["table1", "--out", str(tmp_path / "runs")]) == 2
    assert "http://127.0.0.1:9" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_datasets_are_chosen_by_name_pattern_and_source():
    quick = ["recorded:hopper-medium"]
    assert choose_datasets(quick, None, None) == quick
    assert choose_datasets(quick, ["walker2d-random"], None) == ["recorded:walker2d-random"]
    assert len(choose_datasets(quick, ["hopper-*"], None)) == 4
    assert choose_datasets(quick, None, "d4rl") == ["d4rl:hopper-medium-v2"]
    assert choose_datasets(["d4rl:hopper-medium-v2"], None, "recorded") == quick
    assert choose_datasets(quick, ["d4rl:hopper-medium-v2"], None) == ["d4rl:hopper-medium-v2"]


def test_refreshes_are_marked_where_they_happen():
    profile = load_profile("quick", {"finetune.steps": 5000, "finetune.refresh_every": 2000, "algorithms": ["iql"]})
    assert {name: list(steps) for name, steps in refresh_steps(profile).items()} == {"iql": [2000, 4000]}


def test_durations_read_well():
    assert [duration(s) for s in (5, 600, 36_000, 864_000)] == ["1 min", "10 min", "10.0 h", "10.0 days"]


def pendulum_file(folder, **changed):
    rng = np.random.default_rng(0)
    columns = {
        "observations": rng.normal(size=(400, 3)).astype(np.float32),
        "actions": rng.uniform(-2, 2, (400, 1)),
        "rewards": -rng.uniform(size=400),
        "terminals": np.zeros(400, bool),
        "timeouts": np.arange(400) % 200 == 199,
    } | changed
    with h5py.File(folder / "mine.hdf5", "w") as file:
        for name, column in columns.items():
            file[name] = column
    return folder / "mine.hdf5"


@pytest.mark.parametrize(
    ("changed", "found"),
    [({"timeouts": np.zeros(400, bool)}, "0 complete episodes"), ({"rewards": -np.ones(400)}, "2 complete episodes")],
)
def test_returns_without_a_range_are_refused_before_the_work(changed, found, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("cfdg_experiments.studies.run.Tracker.open", lambda *_, **__: pytest.fail("the store was made"))
    path = pendulum_file(tmp_path, **changed)
    words = ["table1", "--file", str(path), "--env", "Pendulum-v1", "--algorithms", "iql", "--arms", "base"]
    assert main([*words, "--out", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err.strip()
    assert f"mine.hdf5@Pendulum-v1: the return range of {found} is 0" in error
    assert "--set iql.reward=raw" in error


def test_data_without_complete_episodes_are_described_without_a_number(tmp_path):
    data = load_dataset(f"hdf5:{pendulum_file(tmp_path, timeouts=np.zeros(400, bool))}@Pendulum-v1")
    assert describe_data(data).endswith("399 transitions, 0 complete episodes, no return is known")


def test_a_file_and_an_environment_of_ones_own(tmp_path, cache):
    """Pendulum: no MuJoCo, actions in [-2, 2], no reference returns, so that scores are raw returns."""
    rng = np.random.default_rng(0)
    rows = 1000
    angle = rng.uniform(-np.pi, np.pi, rows)
    speed = rng.uniform(-8, 8, rows)
    with h5py.File(tmp_path / "mine.hdf5", "w") as file:
        file["observations"] = np.stack([np.cos(angle), np.sin(angle), speed], 1).astype(np.float32)
        file["actions"] = rng.uniform(-2, 2, (rows, 1)).astype(np.float32)
        file["rewards"] = -(angle**2) - 0.1 * speed**2
        file["terminals"] = np.zeros(rows, bool)
        file["timeouts"] = np.arange(rows) % 200 == 199
    words = ["table1", "--file", str(tmp_path / "mine.hdf5"), "--env", "Pendulum-v1", "--algorithms", "iql", "--arms"]
    run = [*words, "base", "--out", str(tmp_path / "runs"), "--set", *TINY, "--seeds", "0"]
    first = pendulum_scores(cfdg(run, cache), tmp_path)
    assert {step for _, step in first} == {"0", "30", "60"}
    assert all(-2000 < score < 0 for score in first.values())
    again = pendulum_scores(cfdg([*run, "1"], cache), tmp_path)
    assert {seed for seed, _ in again} == {"0", "1"}
    assert first.items() <= again.items(), "a seed more trains one seed more"
    assert len(list((tmp_path / "runs" / "pretrained").iterdir())) == 2


def pendulum_scores(done, folder):
    assert done.returncode == 0, done.stderr
    with (folder / "runs" / "table1-quick" / "scores.csv").open() as file:
        return {(row["seed"], row["step"]): float(row["score"]) for row in csv.DictReader(file)}
