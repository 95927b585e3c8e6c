"""Small whole files of every kind, which the cases of malformed.py damage."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

TINY = [
    "data.rows=2000", "iql.hidden=[16,16]", "pretrain.steps=20", "finetune.steps=60", "finetune.warm_up=10",
    "finetune.refresh_every=20", "finetune.synthetic_rows=64", "diffusion.width=16", "diffusion.blocks=1",
    "diffusion.sampling_steps=4", "refresh.first_steps=8", "refresh.steps=4", "evaluation.every=30",
    "evaluation.episodes=1", "inspection.rows=32", "inspection.neighbours=200", "inspection.queries=32",
]  # fmt: skip
TABLE = [
    "table1", "--only", "hopper-medium", "--algorithms", "iql", "--arms", "base", "cfdg", "--seeds", "0", "1",
    "--device", "cpu", "--jobs", "1", "--set", *TINY,
]  # fmt: skip
STORE = ["--store", "store", *TABLE[1:]]
ENTRY = {
    "cfdg": "cfdg_experiments.cli",
    "cfdg-datasets": "cfdg_rl.datasets.cli",
    "cfdg-diffusion": "cfdg_diffusion.cli",
}


def command(folder: Path, program: str, *words: str) -> subprocess.Popen[bytes]:
    """Start a console script in a folder."""
    code = f"import sys; from {ENTRY[program]} import main; sys.exit(main())"
    environment = {**os.environ, "CFDG_CACHE": "cache", "CFDG_CHECKPOINT_SECONDS": "0", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )


def finish(folder: Path, program: str, *words: str) -> None:
    """Run a console script in a folder to its end."""
    if command(folder, program, *words).wait():
        raise SystemExit(f"malformed: {program} {' '.join(words)} failed while the examples were made")


def make_examples(folder: Path) -> Path:
    """Make every example; returns the folder."""
    folder.mkdir()
    make_tables(folder)
    finish(folder, "cfdg-datasets", "record", "hopper-medium", "--rows", "2000", "--jobs", "1")
    finish(folder, "cfdg-datasets", "record", "hopper-medium", "--rows", "2000", "--seed", "1", "--jobs", "1")
    make_own(folder)
    fit = ["fit", "t.csv", "--label", "kind", "--seed", "1"]
    finish(folder, "cfdg-diffusion", *fit, "--steps", "30", "-o", "model", "--quiet")
    finish(folder, "cfdg-diffusion", "fit", "u.csv", "--steps", "30", "-o", "other", "--quiet")
    finish(folder, "cfdg-diffusion", "sample", "model", "-n", "200", "-o", "sampled.parquet", "--quiet")
    interrupt_fit(folder)
    finish(folder, "cfdg", *TABLE)
    interrupt_table(folder)
    finish(folder, "cfdg", "table1", "--engine", "none", *STORE)
    for unit in json.loads((folder / "store/plan.json").read_text(encoding="utf-8"))["units"]:
        finish(folder, "cfdg", "cell", unit["run_id"], "--store", "store")
    return folder


def make_tables(folder: Path) -> None:
    """Write two tables as CSV and one as Parquet: numbers, gaps, categories and dates."""
    rng = random.Random(0)
    days = pd.date_range("2024-01-01", periods=300)
    lines = [f"{rng.gauss(0, 1):.3f},{rng.choice('abc')},{rng.randrange(9)},{day:%Y-%m-%d}" for day in days]
    (folder / "t.csv").write_text("\n".join(["x,kind,n,day", *lines]) + "\n", encoding="utf-8")
    (folder / "u.csv").write_text("p;q\n" + "".join(f"{i},5;{i % 3}\n" for i in range(100)), encoding="utf-8")
    (folder / "u.csv").write_text("p,q\n" + "".join(f"{i}.5,{i % 3}\n" for i in range(100)), encoding="utf-8")
    pd.read_csv(folder / "t.csv", parse_dates=["day"]).to_parquet(folder / "t.parquet")


def make_own(folder: Path) -> None:
    """Write a user's file in D4RL's layout, without infos."""
    with h5py.File(recording(folder)) as source, h5py.File(folder / "own.hdf5", "w") as file:
        for key in ("observations", "actions", "rewards", "terminals", "timeouts"):
            file.create_dataset(key, data=np.asarray(source[key])[:1000], compression="gzip")


def recording(folder: Path, seed: int = 0) -> Path:
    """Return the path of a recording of 2,000 rows."""
    return next((folder / "cache").rglob(f"hopper-medium-rows2000-seed{seed}-*.hdf5"))


def interrupt_fit(folder: Path) -> None:
    """Leave the checkpoint of a fit that ended in its middle."""
    code = (
        "import os, sys\nfrom cfdg_diffusion.cli import main\nfrom cfdg_diffusion.tabular import early_stopping\n"
        "write = early_stopping.Checkpoint.write\nearly_stopping.Checkpoint.is_due = lambda self: True\n"
        "early_stopping.Checkpoint.write = lambda self, state: (write(self, state), os._exit(0))\nmain(sys.argv[1:])"
    )
    words = ["fit", "t.csv", "--steps", "300", "-o", "half-model", "--checkpoint", "half.ckpt", "--quiet"]
    subprocess.run([sys.executable, "-c", code, *words], cwd=folder, check=True)


def interrupt_table(folder: Path) -> None:
    """Leave a table whose second cell is unfinished, in ``half``."""
    place = folder / "half"
    place.mkdir()
    shutil.copytree(folder / "cache", place / "cache")
    words = [*TABLE, "finetune.steps=3000", "finetune.refresh_every=1000"]
    process = command(place, "cfdg", *words)
    while not list(place.glob("runs/unfinished/*.rings/*.safetensors")):
        if process.poll() is not None:
            raise SystemExit("malformed: the table that was to be interrupted has ended")
        time.sleep(0.05)
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
