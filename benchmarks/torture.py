"""Kills at random moments, after which the same command has to continue to the same bytes.

    python benchmarks/torture.py --kills 100 --seed 0
    python benchmarks/torture.py --kills 100 --seed 0 --warm

A command is run once undisturbed. Then it is started in another folder again and again and killed (SIGKILL) at a
random moment of its duration: the command itself, one of its processes, or all of them. After each kill its processes
have to end within seconds. When it has finished, its results have to be the undisturbed ones to the byte, no file may
be left over, and MLflow's store has to hold every run once, finished. Then it begins anew, until the kills are used up.

The commands are a small table of all three algorithms (recording, pre-training, fine-tuning, refreshes, MLflow and
report are all in it), the same in a store (``store``, by a driver with local processes), ``cfdg cell`` alone,
``cfdg-diffusion fit --checkpoint``, ``cfdg-diffusion sample`` and ``cfdg-datasets record``. A table of the kills by
phase is printed at the end, and written to ``--summary``. With ``--warm`` commands are forked from a process that has
imported everything, so that kills hit the work and not the seconds of imports before it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warm_start import WarmProcess, WarmServer

SETTINGS = [
    "data.rows=3000", "iql.hidden=[16,16]", "pretrain.steps=60", "finetune.steps=80", "finetune.warm_up=10",
    "finetune.refresh_every=30", "finetune.synthetic_rows=64", "diffusion.width=16", "diffusion.blocks=1",
    "diffusion.sampling_steps=4", "refresh.first_steps=20", "refresh.steps=20", "evaluation.every=40",
    "evaluation.episodes=1", "apl.td3_bc.hidden=[16]", "apl.pretrain.steps=60", "apl.finetune.steps=80",
    "apl.finetune.round_steps=20", "apl.finetune.updates_per_round=20", "apl.finetune.refresh_every=40",
    "apl.finetune.synthetic_rows=64", "apl.refresh.first_steps=20", "apl.refresh.steps=20",
    "apl.replay.online_rows=25", "apl.replay.gate=15",
]  # fmt: skip
END_SECONDS = 20.0  # within which the processes of a killed command have to end, on a busy machine
MARK = "CFDG_TORTURE"
VICTIMS = ("the command", "one of its processes", "all processes")
LEFT_OVER = (
    "partial",
    ".lock",
    ".tmp",
    "unfinished/",
    "/ckpt/",
    "/rings/",
)  # parts of names that no finished folder has


@dataclass(frozen=True)
class Command:
    """A command of which the results are compared.

    Attributes:
        name: of the command.
        entry: MODULE:FUNCTION of the command line.
        words: after it, in a folder that is its own; RUN_ID stands for the first cell of the folder's stored plan.
        results: patterns of files whose bytes are compared.
        phases: each a name with a pattern and how many of its files are there once the phase has begun.
        survives: whether it goes on when one of its processes is killed.
        check: looks at a finished folder.
        prepare: makes what the command reads.
        modules: what it imports on its way, for a warm start.
    """

    name: str
    entry: str
    words: list[str]
    results: list[str]
    phases: Sequence[tuple[str, str, int]]
    survives: bool = False
    check: Callable[[Path], None] = lambda folder: None
    prepare: Callable[[Path], None] = lambda folder: None
    modules: Sequence[str] = ()


@dataclass
class Tally:
    """Counts of kills, by the phase that they hit and what was killed."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    finished: int = 0
    span: float = 0.0

    @property
    def total(self) -> int:
        """Kills so far."""
        return sum(self.kills.values())


@dataclass(frozen=True)
class Running:
    """A started command: its process, and the mark that all of its processes inherit."""

    process: subprocess.Popen[bytes] | WarmProcess
    mark: str

    def members(self) -> list[int]:
        """List the living processes of the command (Linux), also those in sessions of their own."""
        wanted = f"{MARK}={self.mark}".encode()
        found = [] if self.process.returncode is not None or self.ends_within(0.0) else [self.process.pid]
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if wanted in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
            except OSError:  # it ended in between, or is another user's
                continue
        return sorted(set(found))

    def ends_within(self, seconds: float) -> bool:
        """Wait for the end of the command; false if it still runs after so many seconds."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


def main() -> int:
    """Kill every command so many times; returns 0 if all promises were kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", choices=[command.name for command in COMMANDS], default=None)
    parser.add_argument("--hours", type=float, default=12.0, help="after which no further kill is begun")
    parser.add_argument("--warm", action="store_true", help="fork commands from a process with all imports")
    parser.add_argument("--summary", type=Path, help="a Markdown file for the numbers")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    end = time.monotonic() + 3600 * arguments.hours
    lines = [f"seed {arguments.seed}, commit {commit()}, {time.strftime('%Y-%m-%d')}"]
    for command in COMMANDS:
        if arguments.commands is None or command.name in arguments.commands:
            with tempfile.TemporaryDirectory(prefix="torture-") as folder:
                bench = Bench(command, Path(folder), arguments.warm)
                tally = torture(bench, arguments.kills, rng, end)
                bench.close()
            lines += describe(command, tally)
            if arguments.summary:
                arguments.summary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


def commit() -> str:
    """Return the commit that is tried, "unknown" outside a repository."""
    words = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip() or "unknown"


def describe(command: Command, tally: Tally) -> list[str]:
    """Write the counts of one command as a table of Markdown."""
    title = (
        f"{command.name}: {tally.total} kills, finished {tally.finished} times with the bytes of the undisturbed run"
    )
    lines = [
        "",
        f"{title}, which took {tally.span:.0f} s",
        "",
        f"| phase | {' | '.join(VICTIMS)} |",
        "| -- | -- | -- | -- |",
    ]
    for phase, _, _ in command.phases:
        counts = [tally.kills[phase, victim] for victim in VICTIMS]
        lines.append(f"| {phase} | {' | '.join(map(str, counts))} |")
    return lines


class Bench:
    """A command and the folder that it is tried in.

    Args:
        command: the command.
        folder: of everything.
        warm: whether it is forked from a process with all imports.
    """

    def __init__(self, command: Command, folder: Path, warm: bool) -> None:
        self.command = command
        self.folder = folder
        environment = {**os.environ, "CFDG_CHECKPOINT_SECONDS": "0.2"}
        module = command.entry.partition(":")[0]
        self.server = WarmServer([module, *command.modules], environment) if warm else None

    def fresh(self, name: str) -> Path:
        """Make a folder with what the command reads."""
        place = self.folder / name
        (place / "tmp").mkdir(parents=True)
        prepared = self.folder / "prepared"
        if not prepared.exists():
            prepared.mkdir()
            self.command.prepare(prepared)
        shutil.copytree(prepared, place, dirs_exist_ok=True)
        return place

    def start(self, place: Path) -> Running:
        """Start the command with a mark in its environment, by which its processes can be listed."""
        mark = uuid.uuid4().hex
        own = {"CFDG_CACHE": str(place / "cache"), "TMPDIR": str(place / "tmp"), MARK: mark}
        words = [first_cell(place) if word == "RUN_ID" else word for word in self.command.words]
        if self.server is not None:
            return Running(self.server.start(self.command.entry, words, place, own), mark)
        environment = {**os.environ, "CFDG_CHECKPOINT_SECONDS": "0.2", **own}
        with (place / "errors.txt").open("wb") as errors:
            process = subprocess.Popen(
                [*cold(self.command.entry), *words],
                cwd=place,
                env=environment,
                start_new_session=True,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        return Running(process, mark)

    def close(self) -> None:
        """End the process that forks."""
        if self.server is not None:
            self.server.close()


def cold(entry: str) -> list[str]:
    """Return the words that start MODULE:FUNCTION in a new interpreter."""
    module, _, function = entry.partition(":")
    return [sys.executable, "-c", f"import sys; from {module} import {function}; sys.exit({function}())"]


def first_cell(folder: Path) -> str:
    """Return the run id of the first cell of a stored plan."""
    units = json.loads((folder / "store" / "plan.json").read_text(encoding="utf-8"))["units"]
    return next(unit["run_id"] for unit in units if unit["stage"])


def torture(bench: Bench, kills: int, rng: random.Random, end: float) -> Tally:
    """Kill one command until the kills are used up, and compare each time that it finishes."""
    command = bench.command
    whole = bench.fresh("whole")
    bench.start(whole).process.wait()  # fills the caches of the system
    shutil.rmtree(whole)
    whole = bench.fresh("whole")
    began = time.monotonic()
    finish(bench, whole)
    tally = Tally(span=time.monotonic() - began)
    expected = digests(command, whole)
    print(f"{command.name}: undisturbed in {tally.span:.0f} s", flush=True)
    while tally.total < kills and time.monotonic() < end:
        place = bench.fresh("killed")
        while tally.total < kills and time.monotonic() < end and kill_once(bench, place, rng, tally):
            pass
        finish(bench, place)
        found = digests(command, place)
        require(found == expected, f"{command.name}: other bytes after kills: {found} instead of {expected}")
        tally.finished += 1
        print(f"{command.name}: finished as undisturbed, {tally.finished} times", flush=True)
        shutil.rmtree(place)
    return tally


def finish(bench: Bench, folder: Path) -> None:
    """Run the command to its end, and check what it leaves."""
    command = bench.command
    running = bench.start(folder)
    running.process.wait()
    check_end(command, folder, running)
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()]
    left = [name for name in names if name.startswith("tmp/") or any(part in name for part in LEFT_OVER)]
    require(not left, f"{command.name} left {left}")
    command.check(folder)


def check_end(command: Command, folder: Path, running: Running) -> None:
    """Require status 0 of a command that ended by itself."""
    status = running.process.returncode
    require(status == 0, f"{command.name} ended with status {status}: {errors_of(folder)[-2000:]}")
    wait_for_end(command, running)


def errors_of(folder: Path) -> str:
    """Read what the command said of its errors."""
    return (folder / "errors.txt").read_text(encoding="utf-8", errors="replace")


def kill_once(bench: Bench, folder: Path, rng: random.Random, tally: Tally) -> bool:
    """Start the command and kill it at a random moment; returns whether it was still running then.

    One that survives the loss of a process is killed further, until it is lost itself or ends.
    """
    command = bench.command
    running = bench.start(folder)
    while not running.ends_within(rng.uniform(0.0, 1.1 * tally.span)):
        lost = kill(command, folder, running, rng, tally)
        if not (command.survives and lost):
            break
    else:
        check_end(command, folder, running)
        return False
    if lost and not running.ends_within(END_SECONDS):  # it needed that process no more
        running.process.kill()
    running.process.wait()
    wait_for_end(command, running)
    require("Traceback" not in errors_of(folder), f"{command.name} printed a traceback: {errors_of(folder)[-3000:]}")
    return True


def kill(command: Command, folder: Path, running: Running, rng: random.Random, tally: Tally) -> bool:
    """Kill the command, one of its processes or all; returns whether it lost a process and was not killed itself."""
    victim = rng.choice(VICTIMS)
    members = running.members()
    targets = {VICTIMS[0]: [running.process.pid], VICTIMS[2]: members}.get(victim, [])
    phase = phase_of(command, folder)
    for target in targets or [rng.choice(members or [running.process.pid])]:
        targets = targets or [target]
        try:
            os.kill(target, signal.SIGKILL)
        except ProcessLookupError:
            continue
    tally.kills[phase, victim] += 1
    print(f"{command.name}: kill {tally.total}, {victim}, {phase}", flush=True)
    return running.process.pid not in targets


def phase_of(command: Command, folder: Path) -> str:
    """Tell how far the command has come, by its files."""
    begun = [name for name, pattern, count in command.phases if not pattern or len(list(folder.glob(pattern))) >= count]
    return begun[-1]


def wait_for_end(command: Command, running: Running) -> None:
    """Refuse processes that outlive the command they belong to."""
    end = time.monotonic() + END_SECONDS
    while members := running.members():
        require(time.monotonic() < end, f"{command.name} left processes {members}")
        time.sleep(0.1)


def digests(command: Command, folder: Path) -> dict[str, str]:
    """Hash the results, by their paths."""
    paths = sorted(path for pattern in command.results for path in folder.glob(pattern))
    require(bool(paths), f"{command.name} made none of {command.results}")
    return {str(path.relative_to(folder)): hashlib.sha256(content(path)).hexdigest()[:12] for path in paths}


def content(path: Path) -> bytes:
    """Read a file; of models and curves all but what measures time, and the checksum that it is in."""
    found = path.read_bytes()
    if path.suffix == ".csv":
        lines = list(csv.DictReader(found.decode().splitlines()))
        return json.dumps([untimed(line) for line in lines]).encode() if lines and "seconds" in lines[0] else found
    if path.suffix == ".json":
        return json.dumps(untimed(json.loads(found)), sort_keys=True).encode()
    if path.suffix != ".safetensors":
        return found
    length = 8 + int.from_bytes(found[:8], "little")
    header = json.loads(found[8:length])
    tree = json.loads(header["__metadata__"].pop("tree", "{}"))
    return json.dumps([untimed(header), untimed(tree)], sort_keys=True).encode() + found[length:]


def untimed(tree: Any) -> Any:
    """Leave what measures time, and checksums over it, out of JSON."""
    if isinstance(tree, dict):
        return {name: untimed(value) for name, value in tree.items() if name != "sha256" and "second" not in name}
    return tree


def require(holds: bool, message: str) -> None:
    """End with a message unless a promise was kept."""
    if not holds:
        raise SystemExit(f"torture: {message}")


def check_tracking(folder: Path) -> None:
    """Require every run once and finished in MLflow's store: a table, three cells, and two seeds below each."""
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    experiments = [item.experiment_id for item in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=1000)
    levels = Counter(run.data.tags.get("level", "?") for run in runs)
    states = Counter(run.info.status for run in runs)
    require(sorted(levels.values()) == [1, 3, 6], f"MLflow has runs {dict(levels)}")
    require(states == {"FINISHED": 10}, f"MLflow has runs {dict(states)}")


def write_table(folder: Path) -> None:
    """Write a small table of three columns."""
    rng = random.Random(0)
    lines = [f"{rng.gauss(0, 1):.4f},{rng.choice('abc')},{rng.randrange(9)}" for _ in range(400)]
    (folder / "t.csv").write_text("\n".join(["x,kind,n", *lines]) + "\n", encoding="utf-8")


def write_model(folder: Path) -> None:
    """Fit the model that is sampled from."""
    write_table(folder)
    do(folder, FIT, "fit", "t.csv", "-o", "model", "--steps", "50")


def write_store(folder: Path) -> None:
    """Write a plan, and run the pre-training of its first cell."""
    do(folder, CFDG, *TABLE, "--store", "store", "--engine", "none", "--set", *SETTINGS)
    units = json.loads((folder / "store" / "plan.json").read_text(encoding="utf-8"))["units"]
    do(folder, CFDG, "cell", next(unit["needs"] for unit in units if unit["stage"]), "--store", "store")


def do(folder: Path, entry: str, *words: str) -> None:
    """Run a command that nobody kills."""
    environment = {**os.environ, "CFDG_CACHE": str(folder / "cache")}
    subprocess.run([*cold(entry), *words], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


CFDG = "cfdg_experiments.cli:main"
FIT = "cfdg_diffusion.cli:main"
RECORD = "cfdg_rl.datasets.cli:main"
TABLE = ["table1", "--only", "hopper-medium", "--seeds", "0", "1", "--arms", "cfdg", "--device", "cpu"]
REPORTS = (
    "cfdg_experiments.studies.run",
    "cfdg_experiments.cluster.commands",
    "cfdg_experiments.reports.plots",
    "mlflow",
)
TABULAR = ("cfdg_diffusion.tabular.model", "cfdg_diffusion.cli.fit", "cfdg_diffusion.cli.sample")
COMMANDS = (
    Command(
        "record",
        RECORD,
        shlex.split("record hopper-medium --rows 8000 --jobs 2"),
        ["cache/**/*.hdf5"],
        [("recording", "", 0), ("done", "cache/**/*.hdf5", 1)],
        modules=("cfdg_rl.datasets.load",),
    ),
    Command(
        "fit",
        FIT,
        shlex.split("fit t.csv -o model --steps 120 --checkpoint half --checkpoint-every 0.2 --force"),
        ["model/*"],
        [("start", "", 0), ("with a checkpoint", "half", 1), ("end", "model/*", 1)],
        prepare=write_table,
        modules=TABULAR,
    ),
    Command(
        "sample",
        FIT,
        shlex.split("sample model -n 4000 --seed 1 -o s.csv --force"),
        ["s.csv"],
        [("before or after writing", "", 0), ("writing", ".s.csv*", 1)],  # a table of an earlier try may be there
        prepare=write_model,
        modules=TABULAR,
    ),
    Command(
        "table1",
        CFDG,
        [*TABLE, "--jobs", "2", "--set", *SETTINGS],
        ["runs/table1-quick/scores.csv", "runs/table1-quick/table.csv"],
        [
            ("recording", "", 0),
            ("pre-training", "cache/datasets/*.hdf5", 1),
            ("fine-tuning and refreshes", "runs/pretrained/*.safetensors", 2),
            ("MLflow and report", "runs/cells/*.json", 3),
        ],
        check=check_tracking,
        modules=REPORTS,
    ),
    Command(
        "store",
        CFDG,
        [*TABLE, "--store", "store", "--engine", "local", "--jobs", "2", "--set", *SETTINGS],
        ["runs/table1-quick/scores.csv", "runs/table1-quick/table.csv", "store/*/*/**/*.safetensors"],
        [
            ("plan and recording", "", 0),
            ("pre-training", "store/pretrain/*/attempt-*", 1),
            ("fine-tuning and refreshes", "store/pretrain/*/result.json", 2),
            ("MLflow and report", "store/cells/*/result.json", 3),
        ],
        survives=True,
        check=check_tracking,
        modules=REPORTS,
    ),
    Command(
        "cell",
        CFDG,
        shlex.split("cell RUN_ID --store store"),
        ["store/cells/*/cell.json", "store/cells/*/**/*.safetensors"],
        [
            ("start", "", 0),
            ("with a checkpoint", "store/cells/*/ckpt/*/MANIFEST.json", 1),
            ("end", "store/cells/*/result.json", 1),
        ],
        prepare=write_store,
        modules=("cfdg_experiments.cluster.unit",),
    ),
)

if __name__ == "__main__":
    sys.exit(main())
