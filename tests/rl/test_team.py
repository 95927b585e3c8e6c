"""Teams of worker processes: results in full, errors of tasks, and processes that die."""

import os
import subprocess
import sys

import pytest

from cfdg_rl.team import Team

TASKS = """
import os, signal, time

def double(number, tell):
    tell(f"doubling {number}")
    return 2 * number

def halve(number):
    time.sleep(number / 100)
    return number // 2

def fail(words, tell):
    raise KeyError(words)

def die(signal_number, tell):
    os.kill(os.getpid(), signal_number)

def wait_for_ever(path, tell):
    tell(os.getpid())
    time.sleep(600)
"""
TRACKER_KILLED = """
import multiprocessing.resource_tracker as tracker, os, signal, tasks
from cfdg_rl.team import Team

if __name__ == "__main__":
    with Team(2, print) as team:
        team.submit("one", tasks.double, 1)
        for tag, value in team.results():
            os.kill(tracker._resource_tracker._pid, signal.SIGKILL)
            team.submit("two", tasks.double, 2) if tag == "one" else None
    print("ended")
"""


def results(team, *tasks):
    with team:
        for task in tasks:
            team.submit(*task)
        return dict(team.results())


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    (tmp_path / "tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(tmp_path)
    import tasks

    yield tasks
    del sys.modules["tasks"]


def test_every_task_has_its_result_and_what_it_told_in_order(tasks):
    told = []
    with Team(2, told.append) as team:
        for number in range(5):
            team.submit(number, tasks.double, number)
        found = {}
        for tag, value in team.results():
            found[tag] = value
            if tag == 4:
                team.submit(5, tasks.double, 5)  # a task that another one led to
    assert found == {number: 2 * number for number in range(6)}
    assert sorted(told) == [f"doubling {number}" for number in range(6)]


def test_an_error_is_raised_and_ends_the_other_workers_at_once(tasks):
    pids = []

    def notify(pid):
        pids.append(pid)
        team.submit("wrong", tasks.fail, "no such column")

    team = Team(2, notify)
    with pytest.raises(KeyError, match="no such column"):
        results(team, ("long", tasks.wait_for_ever, ""))
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_a_map_keeps_the_order_of_its_arguments(tasks):
    with Team(2) as team:
        assert list(team.map(tasks.halve, [8, 6, 4, 2])) == [4, 3, 2, 1]
        assert list(team.map(tasks.halve, [10])) == [5]


def test_a_worker_that_dies_is_one_sentence(tasks):
    with pytest.raises(RuntimeError, match="a worker process died"):
        results(Team(1), ("dead", tasks.die, 9))


@pytest.mark.skipif(sys.platform != "linux", reason="Python's own helper process is found by its private name")
def test_the_death_of_pythons_helper_process_costs_nothing(tasks, tmp_path):
    """It has nothing of ours to clear up."""
    (tmp_path / "whole.py").write_text(TRACKER_KILLED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    ran = subprocess.run([sys.executable, tmp_path / "whole.py"], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split("\n")[:3] == ["doubling 1", "doubling 2", "ended"]
    assert "Traceback" not in ran.stderr
