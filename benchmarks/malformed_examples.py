"""Small whole files of every kind, which the cases of malformed.py damage."""

from __future__ import annotations

import io
import os
import random
import shutil
from collections.abc import Mapping
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

import cfdg_diffusion.cli
import cfdg_experiments.cli
import cfdg_rl.datasets.cli
from cfdg_diffusion.tabular.early_stopping import Checkpoint
from cfdg_experiments.cells.cell import Cell, Workspace
from cfdg_experiments.cells.run import CellRun, run_cell
from cfdg_experiments.cluster.stored_plan import load_plan, units_of
from cfdg_experiments.storage.named_checkpoints import save_named
from cfdg_experiments.storage.object_store import Store
from cfdg_experiments.storage.ring_files import RingFiles

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
ENTRY = {"cfdg": cfdg_experiments.cli, "cfdg-datasets": cfdg_rl.datasets.cli, "cfdg-diffusion": cfdg_diffusion.cli}


def finish(program: str, *words: str) -> None:
    """Run a console script in this process to its end, in the present folder."""
    with redirect_stdout(io.StringIO()):
        status = ENTRY[program].main(list(words))
    if status:
        raise SystemExit(f"malformed: {program} {' '.join(words)} failed while the examples were made")


def make_examples(folder: Path) -> Path:
    """Make every example; returns the folder."""
    folder.mkdir()
    before = Path.cwd()
    os.environ["CFDG_CACHE"] = "cache"
    os.chdir(folder)
    try:
        make_all(folder)
    finally:
        os.chdir(before)
    return folder


def make_all(folder: Path) -> None:
    """Make every example in the present folder."""
    make_tables(folder)
    finish("cfdg-datasets", "record", "hopper-medium", "--rows", "2000", "--jobs", "1")
    finish("cfdg-datasets", "record", "hopper-medium", "--rows", "2000", "--seed", "1", "--jobs", "1")
    make_own(folder)
    fit = ["fit", "t.csv", "--label", "kind", "--seed", "1", "--steps", "30", "-o", "model", "--quiet"]
    finish("cfdg-diffusion", *fit)
    finish("cfdg-diffusion", "fit", "u.csv", "--steps", "30", "-o", "other", "--quiet")
    finish("cfdg-diffusion", "sample", "model", "-n", "200", "-o", "sampled.parquet", "--quiet")
    interrupt_fit()
    finish("cfdg", "table1", "--engine", "none", "--store", "store", *TABLE[1:])
    units = units_of(load_plan(Store("store")))
    for unit in units:
        finish("cfdg", "cell", unit.run_id, "--store", "store")
    for unit in units[1:]:
        run_cell(unit.cell, Workspace(folder / "runs"), lambda event: None)
    interrupt_cell(units[-1].cell, folder)


def make_tables(folder: Path) -> None:
    """Write two tables as CSV and one as Parquet: numbers, gaps, categories and dates."""
    rng = random.Random(0)
    days = pd.date_range("2024-01-01", periods=300)
    lines = [f"{rng.gauss(0, 1):.3f},{rng.choice('abc')},{rng.randrange(9)},{day:%Y-%m-%d}" for day in days]
    (folder / "t.csv").write_text("\n".join(["x,kind,n,day", *lines]) + "\n", encoding="utf-8")
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


class Interrupted(BaseException):
    """End of a work in its middle."""


def interrupt_fit() -> None:
    """Leave the checkpoint of a fit that ended in its middle."""
    due, write = Checkpoint.is_due, Checkpoint.write

    def last(self: Checkpoint, state: Mapping[str, Any]) -> None:
        write(self, state)
        raise Interrupted

    Checkpoint.is_due = lambda self: True
    Checkpoint.write = last
    try:
        main = ["fit", "t.csv", "--steps", "300", "-o", "half-model", "--checkpoint", "half.ckpt", "--quiet"]
        finish("cfdg-diffusion", *main)
    except Interrupted:
        return
    finally:
        Checkpoint.is_due, Checkpoint.write = due, write


def interrupt_cell(cell: Cell, folder: Path) -> None:
    """Leave a table whose second cell is unfinished, in ``half``."""
    shutil.copytree(folder / "cache", folder / "half/cache")
    shutil.copytree(folder / "runs/pretrained", folder / "half/runs/pretrained")
    run = CellRun(cell, Workspace(folder / "half/runs"))
    files = RingFiles(run.path.with_suffix(".rings"))
    for _ in islice(run.run(), 2):  # the evaluations before the first step and in the middle
        save_named(run.path, run.state(files))
    run.close()
