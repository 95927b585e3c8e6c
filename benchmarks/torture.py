"""Kills at random moments, after which the same command has to continue to the same bytes.

    python benchmarks/torture.py --kills 100 --seed 0

A command is run once undisturbed. Then it is started in another folder again and again and killed (SIGKILL) at a
random moment of its duration: the command itself, one of its processes, or all of them. After each kill its processes
have to end within seconds. When it has finished, its results have to be the undisturbed ones to the byte, no file may
be left over, and MLflow's store has to hold every run once, finished. Then it begins anew, until the kills are used up.

The commands are a small table of all three algorithms (recording, pre-training, fine-tuning, refreshes, MLflow and
report are all in it), ``cfdg-diffusion fit --checkpoint``, ``cfdg-diffusion sample`` and ``cfdg-datasets record``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SETTINGS = [
    "data.rows=10000", "iql.hidden=[16,16]", "pretrain.steps=200", "finetune.steps=300", "finetune.warm_up=10",
    "finetune.refresh_every=100", "finetune.synthetic_rows=64", "diffusion.width=16", "diffusion.blocks=1",
    "diffusion.sampling_steps=4", "refresh.first_steps=40", "refresh.steps=40", "evaluation.every=50",
    "evaluation.episodes=1", "apl.conservative.hidden=[16]", "apl.conservative.sampled_actions=2",
    "apl.pretrain.steps=60", "apl.finetune.steps=60", "apl.finetune.round_steps=10",
    "apl.finetune.updates_per_round=9", "apl.finetune.refresh_every=20", "apl.finetune.synthetic_rows=64",
    "apl.refresh.first_steps=8", "apl.refresh.steps=4", "apl.replay.online_rows=25", "apl.replay.gate=15",
]  # fmt: skip
END_SECONDS = 20.0  # within which the processes of a killed command have to end, on a busy machine
LEFT_OVER = ("partial", ".lock", ".tmp", "unfinished/")  # parts of names that no finished folder has


@dataclass(frozen=True)
class Command:
    """A command of which the results are compared.

    Attributes:
        name: of the command.
        words: of the command line, in a folder that is its own.
        results: patterns of files whose bytes are compared.
        check: looks at a finished folder.
        prepare: makes what the command reads.
    """

    name: str
    words: list[str]
    results: list[str]
    check: Callable[[Path], None] = lambda folder: None
    prepare: Callable[[Path], None] = lambda folder: None


@dataclass
class Tally:
    """Counts of kills, by what was killed."""

    kills: Counter[str] = field(default_factory=Counter)
    finished: int = 0

    @property
    def total(self) -> int:
        """Kills so far."""
        return sum(self.kills.values())


def main() -> int:
    """Kill every command so many times; returns 0 if all promises were kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", choices=[command.name for command in COMMANDS], default=None)
    parser.add_argument("--hours", type=float, default=12.0, help="after which no further kill is begun")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    end = time.monotonic() + 3600 * arguments.hours
    for command in COMMANDS:
        if arguments.commands is None or command.name in arguments.commands:
            with tempfile.TemporaryDirectory(prefix="torture-") as folder:
                tally = torture(command, Path(folder), arguments.kills, rng, end)
            counts = ", ".join(f"{count} of {victim}" for victim, count in sorted(tally.kills.items()))
            print(f"{command.name}: {tally.total} kills ({counts}), finished {tally.finished} times as undisturbed")
    return 0


def torture(command: Command, folder: Path, kills: int, rng: random.Random, end: float) -> Tally:
    """Kill one command until the kills are used up, and compare each time that it finishes."""
    whole = fresh(command, folder / "whole")
    began = time.monotonic()
    finish(command, whole)
    span = time.monotonic() - began
    expected = digests(command, whole)
    print(f"{command.name}: undisturbed in {span:.0f} s", flush=True)
    tally = Tally()
    while tally.total < kills and time.monotonic() < end:
        place = fresh(command, folder / "killed")
        while tally.total < kills and time.monotonic() < end and kill_once(command, place, span, rng, tally):
            pass
        finish(command, place)
        found = digests(command, place)
        require(found == expected, f"{command.name}: other bytes after kills: {found} instead of {expected}")
        tally.finished += 1
        shutil.rmtree(place)
    return tally


def fresh(command: Command, folder: Path) -> Path:
    """Make an empty folder with what the command reads."""
    folder.mkdir()
    command.prepare(folder)
    return folder


def start(command: Command, folder: Path) -> subprocess.Popen[bytes]:
    """Start the command in a session of its own, whose processes can be listed."""
    environment = {**os.environ, "CFDG_CACHE": str(folder / "cache"), "CFDG_CHECKPOINT_SECONDS": "0.2"}
    with (folder / "errors.txt").open("wb") as errors:
        return subprocess.Popen(
            command.words, cwd=folder, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=errors
        )


def finish(command: Command, folder: Path) -> None:
    """Run the command to its end, and check what it leaves."""
    process = start(command, folder)
    status = process.wait()
    errors = (folder / "errors.txt").read_text(encoding="utf-8", errors="replace")
    require(status == 0, f"{command.name} ended with status {status}: {errors[-2000:]}")
    wait_for_end(command, process.pid)
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    left = [name for name in names if any(part in name for part in LEFT_OVER)]
    require(not left, f"{command.name} left {left}")
    command.check(folder)


def kill_once(command: Command, folder: Path, span: float, rng: random.Random, tally: Tally) -> bool:
    """Start the command and kill it at a random moment; returns whether it was still running then."""
    process = start(command, folder)
    try:
        process.wait(rng.uniform(0.0, 1.1 * span))
    except subprocess.TimeoutExpired:
        pass
    else:
        return False
    victim = rng.choice(["the command", "one of its processes", "all processes"])
    members = session(process.pid)
    if victim == "all processes":
        targets = members
    else:
        targets = [process.pid] if victim == "the command" else [rng.choice(members or [process.pid])]
    for target in targets:
        try:
            os.kill(target, signal.SIGKILL)
        except ProcessLookupError:
            continue
    tally.kills[victim] += 1
    print(f"{command.name}: kill {tally.total}, {victim}", flush=True)
    if victim == "one of its processes" and targets != [process.pid]:
        end_or_stop(process)
    process.wait()
    wait_for_end(command, process.pid)
    errors = (folder / "errors.txt").read_text(encoding="utf-8", errors="replace")
    require("Traceback" not in errors, f"{command.name} printed a traceback: {errors[-3000:]}")
    return True


def end_or_stop(process: subprocess.Popen[bytes]) -> None:
    """Wait for a command that lost a process: it says so and ends, or it needed that process no more and goes on."""
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def wait_for_end(command: Command, leader: int) -> None:
    """Refuse processes that outlive the command they belong to."""
    end = time.monotonic() + END_SECONDS
    while members := session(leader):
        require(time.monotonic() < end, f"{command.name} left processes {members}")
        time.sleep(0.1)


def session(leader: int) -> list[int]:
    """List the living processes of a session (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except OSError:  # it ended in between
            continue
        if int(fields[3]) == leader and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found


def digests(command: Command, folder: Path) -> dict[str, str]:
    """Hash the results, by their paths."""
    paths = sorted(path for pattern in command.results for path in folder.glob(pattern))
    require(bool(paths), f"{command.name} made none of {command.results}")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in paths}


def require(holds: bool, message: str) -> None:
    """End with a message unless a promise was kept."""
    if not holds:
        raise SystemExit(f"torture: {message}")


def check_tracking(folder: Path) -> None:
    """Require every run once and finished in MLflow's store: a table, six cells, and two seeds below each."""
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    experiments = [item.experiment_id for item in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=1000)
    levels = Counter(run.data.tags.get("level", "?") for run in runs)
    states = Counter(run.info.status for run in runs)
    require(sorted(levels.values()) == [1, 6, 12], f"MLflow has runs {dict(levels)}")
    require(states == {"FINISHED": 19}, f"MLflow has runs {dict(states)}")


def write_table(folder: Path) -> None:
    """Write a small table of three columns."""
    rng = random.Random(0)
    lines = [f"{rng.gauss(0, 1):.4f},{rng.choice('abc')},{rng.randrange(9)}" for _ in range(400)]
    (folder / "t.csv").write_text("\n".join(["x,kind,n", *lines]) + "\n", encoding="utf-8")


def write_model(folder: Path) -> None:
    """Fit the model that is sampled from."""
    write_table(folder)
    subprocess.run([*FIT, "t.csv", "-o", "model", "--steps", "50"], cwd=folder, check=True, capture_output=True)


FIT = [sys.executable, "-m", "cfdg_diffusion.cli", "fit"]
TABLE = [sys.executable, "-c", "import sys; from cfdg_experiments.cli import main; sys.exit(main())", "table1"]
RECORD = [sys.executable, "-c", "import sys; from cfdg_rl.datasets.cli import main; sys.exit(main())", "record"]
COMMANDS = (
    Command(
        "table1",
        [*TABLE, "--only", "hopper-medium", "--seeds", "0", "1", "--jobs", "2", "--device", "cpu", "--set", *SETTINGS],
        ["runs/table1-quick/scores.csv"],
        check_tracking,
    ),
    Command("record", [*RECORD, "hopper-medium", "--rows", "60000", "--jobs", "2"], ["cache/**/*.hdf5"]),
    Command(
        "fit",
        [*FIT, "t.csv", "-o", "model", "--steps", "3000", "--checkpoint", "half", "--force"],
        ["model/*"],
        prepare=write_table,
    ),
    Command(
        "sample",
        [
            sys.executable,
            "-m",
            "cfdg_diffusion.cli",
            "sample",
            "model",
            "-n",
            "60000",
            "--seed",
            "1",
            "-o",
            "s.csv",
            "--force",
        ],
        ["s.csv"],
        prepare=write_model,
    ),
)

if __name__ == "__main__":
    sys.exit(main())
