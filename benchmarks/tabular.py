"""Are the rows of TabularDiffusion better than those of its peers?

Every generator learns every table with one thread on one core and at most ``--budget`` seconds; a cell (table, seed,
generator) is a process of its own, in the peers' environment unless the generator is ours. What a cell made is kept
under ``--out`` and not made again, so the run may be killed and go on; ``--score-again`` judges kept rows anew. The
end is a comparison of all cells there are, and the bars that TabularDiffusion wants to clear.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import tables
import tabular_scores
from peer import kinds_of, write_table, write_whole
from tables import Split
from tabular_comparison import compare
from tabular_methods import METHODS

_UNSEEN = [13, 14, 15]
"""Splits and draws on which no default was chosen; keep it so: ``settings.py`` tries settings on seeds below 10."""
_PATIENCE = 12
"""A fit may overrun its budget this many times, drawing and planning included, before its process is ended."""


def main() -> None:
    arguments = parse()
    if not arguments.report_only:
        for name, seed in product(arguments.tables, arguments.seeds):
            split = tables.table(name, seed)
            for method in arguments.methods:
                run_cell(arguments, name, seed, method, split)
    text = compare(read_cells(arguments.out))
    print(text)
    write_whole(arguments.out / "comparison.md", text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", nargs="+", default=list(tables.TABLES), choices=tables.TABLES)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", type=int, nargs="+", default=_UNSEEN, help="defaults were chosen on 0 to 12")
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks/tabular"))
    parser.add_argument("--peers-python", type=Path, help="python of the environment with the peers; hatch.toml: peers")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds that a fit should take at most")
    parser.add_argument("--score-again", action="store_true", help="judge rows that were judged before")
    parser.add_argument("--retry", action="store_true", help="run cells again that failed")
    parser.add_argument("--report-only", action="store_true", help="only compare the cells that there are")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    return arguments


def run_cell(arguments: argparse.Namespace, name: str, seed: int, method: str, split: Split) -> None:
    """Make the rows of a cell if there are none, and judge them."""
    folder = arguments.out / name / str(seed)
    rows_file, scores_file = folder / f"{method}.csv", folder / f"{method}.scores.json"
    if not rows_file.with_suffix(".json").exists() and not made(arguments, name, seed, method, split):
        return
    if scores_file.exists() and not arguments.score_again:
        return
    scores = tabular_scores.score(name, split, rows_file, seed)
    write_whole(scores_file, json.dumps(scores, indent=2))
    told = {key: scores[key] for key in ("detection", "trends", "utility", "closest_to_train")}
    print(f"{name} {seed} {method}: " + ", ".join(f"{key} {value:.3f}" for key, value in told.items()), flush=True)


def made(arguments: argparse.Namespace, name: str, seed: int, method: str, split: Split) -> bool:
    """Fit and draw in a process of its own; a failure is noted in the folder."""
    folder = arguments.out / name / str(seed)
    failure, log = folder / f"{method}.failed", folder / f"{method}.log"
    python = sys.executable if method == "cfdg" else arguments.peers_python
    if python is None or (failure.exists() and not arguments.retry):
        print(f"{name} {seed} {method}: {'failed before' if python else 'needs --peers-python'}", flush=True)
        return False
    failure.unlink(missing_ok=True)
    train = write_train(folder, split)
    command = [str(python), "-W", "ignore", str(Path(__file__).with_name("peer.py")), method, str(train)]
    command += [str(folder / f"{method}.csv"), *options(name, seed, split, arguments.budget)]
    with log.open("w", encoding="utf-8") as file:
        try:
            limit = _PATIENCE * arguments.budget
            subprocess.run(command, check=True, stdout=file, stderr=subprocess.STDOUT, timeout=limit)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            write_whole(failure, f"{type(error).__name__}, see {log.name}\n")
            print(f"{name} {seed} {method}: failed, see {log}", flush=True)
            return False
    return True


def write_train(folder: Path, split: Split) -> Path:
    """The training rows, and the kind of every column."""
    folder.mkdir(parents=True, exist_ok=True)
    train = folder / "train.csv"
    write_table(split.train, train)
    write_whole(train.with_suffix(".json"), json.dumps(kinds_of(split.train), indent=2))
    return train


def options(name: str, seed: int, split: Split, budget: float) -> list[str]:
    """Of ``peer.py``, for one table."""
    found = ["--label", split.label, "--task", split.task, "--seed", str(seed), "--budget", str(budget)]
    found += ["--rows", str(len(split.holdout)), "--draws", str(tabular_scores.draws(split))]
    if name == "mixture":
        found += ["--label-value", tabular_scores.RARE]
    if name == "mixed":
        found += [word for names in tabular_scores.COMBINATIONS for word in ("--combination", ",".join(names))]
    return found


def read_cells(out: Path) -> list[dict[str, Any]]:
    """Every judged cell: its table, seed and generator, what its process measured, and its scores."""
    cells = []
    for file in sorted(out.glob("*/*/*.scores.json")):
        method = file.name.removesuffix(".scores.json")
        measured = json.loads(file.with_name(f"{method}.json").read_text(encoding="utf-8"))
        place = {"table": file.parts[-3], "seed": int(file.parts[-2]), "method": method}
        cells.append(place | measured | json.loads(file.read_text(encoding="utf-8")))
    return cells


if __name__ == "__main__":
    main()
