"""Locks of a folder, and what a start of a command removes."""

import subprocess
import sys
import textwrap

import pytest

from cfdg_experiments.cells.cell import Cell, Workspace
from cfdg_experiments.cli import main
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.profiles.profile import profile_for
from cfdg_rl.files import HOST
from cfdg_rl.locks import BusyError, locked, remove_free_locks

HOPPER = "recorded:hopper-medium"
HOLD = """
import sys
from pathlib import Path
from cfdg_rl.locks import locked
with locked(Path(sys.argv[1]), "x", wait=False):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def owner(tmp_path):
    """Another process that holds the lock ``x.lock`` until its input ends."""
    words = [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path / "x.lock")]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()
    process.stdin.close()


def test_the_second_owner_is_refused_by_name_and_a_killed_one_leaves_the_lock_free(tmp_path, owner):
    path = tmp_path / "x.lock"
    with (
        pytest.raises(BusyError, match=f"table1 is being run by process {owner.pid} on .* since"),
        locked(path, "table1", wait=False),
    ):
        pass
    remove_free_locks(tmp_path)
    assert path.exists(), "a lock that is held stays"
    owner.kill()
    owner.wait()
    with locked(path, "table1", wait=False):
        assert path.exists()
    assert not path.exists()


def test_one_who_waits_gets_the_lock_when_its_owner_ends(tmp_path, owner):
    words = [sys.executable, "-c", textwrap.dedent(HOLD.replace("False", "True")), str(tmp_path / "x.lock")]
    waiting = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    owner.stdin.close()
    assert waiting.communicate("")[0] == "held\n"
    assert not (tmp_path / "x.lock").exists()


def test_what_killed_processes_left_is_removed_and_an_unfinished_cell_stays(tmp_path, made_up):
    space = Workspace(tmp_path)
    cells = [Cell(HOPPER, "iql", arm, profile_for(load_profile("quick"), HOPPER, "iql")) for arm in ("base", "cfdg")]
    made_up.cell().to_json(space.result(cells[0]))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = [space.checkpoint(cells[0]), space.pretrained(cells[0]).with_suffix(".partial"), space.lock("x")]
    left += [
        tmp_path / folder / f".a.{HOST}-{ended.pid}.00112233.partial.json" for folder in ("cells", "policies/a", ".")
    ]
    for path in [*left, space.pretrained(cells[0]), space.checkpoint(cells[1])]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    space.sweep(cells)
    kept = [space.result(cells[0]), space.pretrained(cells[0]), space.checkpoint(cells[1])]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_a_second_command_on_one_folder_is_refused_before_its_data(tmp_path, capsys):
    with locked(Workspace(tmp_path).lock("table1-quick"), "", wait=False):
        words = [sys.executable, "-c", "import sys; from cfdg_experiments.cli import main; sys.exit(main())"]
        done = subprocess.run([*words, "table1", "--out", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"cfdg: error: table1-quick in {tmp_path} is being run by process ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "cuda:99"], "device is 'cuda:99', and PyTorch sees"),
        (["--device", "cpu", "--set", "capture=true"], "capture is true on a CPU, expected a CUDA device"),
        (["--out", "/proc/x"], "folder /proc/x cannot be written"),
    ],
)
def test_what_cannot_run_is_refused_before_the_data_are_read(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("cfdg_experiments.studies.run._prepare_data", lambda *_: pytest.fail("the data were read"))
    assert main(["table1", "--out", str(tmp_path / "runs"), *words]) == 2
    assert message in capsys.readouterr().err
