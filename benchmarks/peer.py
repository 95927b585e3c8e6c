"""One table generator on one table: fit, draw, measure. Runs in the environment that the generator is installed in.

Reads ``train.csv`` and ``train.json`` beside it (kind of every column), writes synthetic rows to ``out.csv``, rows of
one label to ``out.label.csv``, and seconds, memory and what was chosen to ``out.json``, which comes last.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tabular_methods import METHODS, Fitted, Job

SPEED_ROWS = 20_000
_DTYPES = {"boolean": "bool", "integer": "int64", "number": "float64", "category": "str"}


def main() -> None:
    arguments = parse()
    one_core(arguments.seed)
    kinds = json.loads(arguments.train.with_suffix(".json").read_text(encoding="utf-8"))
    combinations = tuple(tuple(names.split(",")) for names in arguments.combination)
    job = Job(kinds, arguments.label, arguments.task, arguments.seed, arguments.budget, combinations)
    train, method = read_table(arguments.train, kinds), METHODS[arguments.method]
    found: dict[str, Any] = {"import_seconds": import_seconds(method.module)}
    found["plan"], found["plan_cpu_seconds"], _ = timed(lambda: method.plan(job, train))
    fitted, found["fit_cpu_seconds"], found["fit_seconds"] = timed(lambda: method.fit(job, train, found["plan"]))
    found |= draw(fitted, job, arguments)
    found["peak_mib"] = peak_mib()
    found["notes"] = fitted.notes
    write_whole(arguments.out.with_suffix(".json"), json.dumps(found, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("train", type=Path, help="CSV file")
    parser.add_argument("out", type=Path, help="CSV file")
    parser.add_argument("--label", required=True, help="column to predict")
    parser.add_argument("--task", required=True, choices=["classification", "regression"])
    parser.add_argument("--rows", type=int, required=True, help="rows of a draw")
    parser.add_argument("--draws", type=int, default=1, help="draws, one behind the other")
    parser.add_argument("--label-value", help="also draw rows of this label")
    parser.add_argument("--combination", action="append", default=[], help="a,b: keep combinations of these columns")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=300.0, help="seconds that a fit should take at most")
    return parser.parse_args()


def one_core(seed: int) -> None:
    """One thread on one core, and the seeds of libraries that have no other."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    try:
        import torch
    except ModuleNotFoundError:
        return
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the copulas and the forests draw from it


def kinds_of(table: pd.DataFrame) -> dict[str, str]:
    """Kind of every column, what a table in a CSV file loses."""
    kinds = {"b": "boolean", "i": "integer", "f": "number"}
    return {str(name): kinds.get(table[name].dtype.kind, "category") for name in table}


def read_table(path: Path, kinds: dict[str, str]) -> pd.DataFrame:
    """A table of given kinds; empty cells are missing numbers."""
    table = pd.read_csv(path, dtype={name: _DTYPES[kind] for name, kind in kinds.items()})
    return table[list(kinds)]


def restored(table: pd.DataFrame, kinds: dict[str, str]) -> pd.DataFrame:
    """Generated rows with the columns and kinds of training, whatever a library made of them."""
    columns = {}
    for name, kind in kinds.items():
        column = table[name]
        if kind == "boolean":
            columns[name] = column.astype(str).str.lower().isin(["true", "1", "1.0"])
        elif kind == "category":
            columns[name] = column.astype(str)
        else:
            numbers = pd.to_numeric(column).astype("float64")
            columns[name] = numbers.round().astype("int64") if kind == "integer" else numbers
    return pd.DataFrame(columns).reset_index(drop=True)


def write_table(table: pd.DataFrame, path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    table.to_csv(partial, index=False)
    os.replace(partial, path)


def write_whole(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def timed(action: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, CPU seconds of this process and of those it started, and wall seconds."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    result = action()
    return result, cpu_seconds() - cpu, time.perf_counter() - wall


def cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak_mib() -> float:
    """Largest resident memory of this process or of one that it started (Linux counts it in KiB)."""
    usages = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return max(usages) / 1024


def import_seconds(module: str) -> float:
    """CPU seconds that a fresh interpreter needs for the import; the better of two, the first may compile."""
    code = f"import time; begin = time.process_time(); import {module}; print(time.process_time() - begin)"
    texts = [subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(2)]
    return min(float(text.split()[-1]) for text in texts)


def draw(fitted: Fitted, job: Job, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write all the rows that are asked for; seconds and speed."""
    kinds, out = dict(job.kinds), arguments.out
    _, cpu, wall = timed(lambda: fitted.sample(SPEED_ROWS))
    parts = [restored(fitted.sample(arguments.rows), kinds) for _ in range(arguments.draws)]
    write_table(pd.concat(parts, ignore_index=True), out)
    if arguments.label_value:
        write_table(restored(fitted.of_label(arguments.label_value, SPEED_ROWS), kinds), out.with_suffix(".label.csv"))
    if job.combinations and fitted.combined:
        write_table(restored(fitted.combined(arguments.rows), kinds), out.with_suffix(".combined.csv"))
    return {"sample_cpu_seconds": cpu, "sample_seconds": wall, "rows_per_second": SPEED_ROWS / cpu}


if __name__ == "__main__":
    main()
