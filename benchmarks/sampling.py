"""Quality against network calls: every sampler at 5 to 80 calls of the network, in fp32 and bf16.

    python benchmarks/sampling.py --out docs            fits one model; writes sampling.json, .png and the table of .md
    python benchmarks/sampling.py --out docs --model model.safetensors    takes a fitted model of the table
    python benchmarks/sampling.py --out build --quick   a short fit and few rows, to see it work
    python benchmarks/sampling.py --out docs --report-only    picture and table again, from sampling.json

The table is `mixed` of benchmarks/tables.py: 11 columns, 20,000 training and 20,000 held-out rows. Samplers:

    dpm               DPM-Solver++(2M), one call per step
    heun              EDM's second-order solver, 2 n - 1 calls for n steps
    heun-stochastic   the same with fresh noise (EDM algorithm 2)

For each, as many rows are generated as are held out: the AUC of boosted trees that tell the two apart (0.5 is best),
the share of rows with a pair of categories that training never has (city and region, city and product: the worse of the
two), and rows per CPU second of one thread.
Needs matplotlib and scikit-learn.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import tables
from cfdg_diffusion import TabularDiffusion, TabularSettings, storage
from cfdg_diffusion.quality.detection import FOLDS, detection_auc
from cfdg_diffusion.quality.tables import read_tables, subsample
from markers import rewrite

CALLS = (5, 9, 13, 17, 21, 31, 41, 81)
"""Network calls, odd so that Heun's n steps of 2 n - 1 calls come out even."""
SAMPLERS = ("dpm", "heun", "heun-stochastic")
PRECISIONS = ("fp32", "bf16")

Cell = dict[str, Any]


def fitted(split: tables.Split, steps: int | None, path: Path) -> None:
    """Fit the table with the package's defaults and save the model."""
    model = TabularDiffusion(seed=0).fit(split.train, label=split.label, steps=steps)
    model.save(path)


def sampling_with(path: Path, folder: Path, sampler: str, precision: str) -> TabularDiffusion:
    """The saved model with another sampler and precision."""
    tree = storage.load(path)
    tree["settings"]["diffusion"] |= {"sampler": sampler, "precision": precision}
    changed = folder / f"{sampler}-{precision}.safetensors"
    storage.save(changed, tree)
    return TabularDiffusion.load(changed, device="cpu")


def steps_of(sampler: str, calls: int) -> int:
    """Sampler steps that need so many calls of the network; exact for odd ``calls``."""
    return calls if sampler == "dpm" else (calls + 1) // 2


def detected(split: tables.Split, synthetic: pd.DataFrame) -> tuple[float, float]:
    """AUC of boosted trees against held-out rows, and half of its 95 % interval."""
    read = read_tables(split.train, synthetic, split.holdout, 2 * FOLDS)
    rows, rng = min(len(read.synthetic), len(read.reference)), np.random.default_rng(0)
    real, generated = subsample(read.reference, rows, rng), subsample(read.synthetic, rows, rng)
    auc = detection_auc(read.columns, real, generated, 0)
    return auc.value, (auc.high - auc.low) / 2


def measure(path: Path, split: tables.Split, rows: int, calls: Sequence[int]) -> list[Cell]:
    """One cell for each sampler, precision and number of calls, and one for the training rows."""
    value, half = detected(split, split.train.iloc[:rows])
    found: list[Cell] = [{"sampler": "real rows", "auc": value, "half": half, "broken": 0.0}]
    with tempfile.TemporaryDirectory() as folder:
        for sampler in SAMPLERS:
            for precision in PRECISIONS:
                model = sampling_with(path, Path(folder), sampler, precision)
                model.sample(min(rows, 1_000), steps=2, seed=1)  # the first call is slower
                for count in calls:
                    found.append(_cell(model, split, rows, steps_of(sampler, count)))
                    found[-1] |= {"sampler": sampler, "precision": precision, "calls": count}
                    print(found[-1], flush=True)
    return found


def _cell(model: TabularDiffusion, split: tables.Split, rows: int, steps: int) -> Cell:
    began = time.process_time()  # other programs may share the core
    synthetic = model.sample(rows, steps=steps, seed=0)
    seconds = time.process_time() - began
    value, half = detected(split, synthetic)
    broken = max(tables.dependencies_broken(synthetic, split.train).values())
    return {"steps": steps, "auc": value, "half": half, "broken": broken, "rate": rows / seconds}


def markdown(result: Mapping[str, Any]) -> str:
    """The table of the page."""
    found = result["cells"]
    real = next(cell for cell in found if cell["sampler"] == "real rows")
    calls = sorted({cell["calls"] for cell in found if "calls" in cell})
    default = TabularSettings().diffusion
    lines = [
        f"{result['rows']:,} rows from one model ({result['model']}), one thread. Each cell is detection AUC / broken "
        f"dependencies / rows per CPU second. Real rows get {real['auc']:.3f} ± {real['half']:.3f}. The default is "
        f"{default.sampler} in {default.sampling_steps} steps.",
        "",
        "| sampler | " + " | ".join(f"{count} calls" for count in calls) + " |",
        "|---" * (len(calls) + 1) + "|",
    ]
    for sampler in SAMPLERS:
        for precision in PRECISIONS:
            own = {c["calls"]: c for c in found if (c["sampler"], c.get("precision")) == (sampler, precision)}
            texts = [f"{own[n]['auc']:.3f} / {own[n]['broken']:.1%} / {own[n]['rate']:,.0f}" for n in calls]
            lines.append(f"| {sampler}, {precision} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def picture(result: Mapping[str, Any], path: Path) -> None:
    """Detection and broken dependencies against calls, and the frontier of detection against speed."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    for colour, sampler in zip(("C0", "C1", "C2"), SAMPLERS, strict=True):
        for precision, style in zip(PRECISIONS, ("o-", "s--"), strict=True):
            own = [c for c in result["cells"] if (c["sampler"], c.get("precision")) == (sampler, precision)]
            columns = {name: [cell[name] for cell in own] for name in ("calls", "auc", "broken", "rate")}
            options = {"color": colour, "markersize": 3, "linewidth": 1.2, "label": f"{sampler}, {precision}"}
            for axis, (x, y) in zip(axes, _AXES, strict=True):
                axis.plot(columns[x], columns[y], style, **options)
    for axis, (x, y) in zip(axes, _AXES, strict=True):
        _dress(axis, x, y, result)
    axes[1].legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


_AXES = (("calls", "auc"), ("calls", "broken"), ("rate", "auc"))
_TITLES = {
    "calls": "network calls per row",
    "rate": "rows per CPU second",
    "auc": "detection AUC (0.5 is best)",
    "broken": "share of rows with a broken dependency",
}


def _dress(axis: Any, x: str, y: str, result: Mapping[str, Any]) -> None:
    real = next(cell for cell in result["cells"] if cell["sampler"] == "real rows")
    axis.set_xscale("log")
    if x == "calls":
        ticks = sorted({cell["calls"] for cell in result["cells"] if "calls" in cell})
    else:
        ticks = [power * first for power in (1_000, 10_000) for first in (1, 2, 5)]
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.minorticks_off()
    if y == "auc":
        axis.axhline(real["auc"], color="0.5", linestyle=":", linewidth=1)
        axis.annotate("real rows", (0.98, real["auc"]), xycoords=("axes fraction", "data"), ha="right", fontsize=7)
    axis.set_xlabel(_TITLES[x], fontsize=9)
    axis.set_title(_TITLES[y], fontsize=9)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fit if no model is given, then measure."""
    split = tables.table("mixed", 0)
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.model or Path(folder) / "model.safetensors"
        if arguments.model is None:
            fitted(split, arguments.steps, path)
        history = TabularDiffusion.load(path, device="cpu").history
        found = measure(path, split, arguments.rows, CALLS[:3] if arguments.quick else CALLS)
    told = f"the weights of step {history.best_step:,}, fitted in {history.seconds:.0f} s"
    return {"rows": arguments.rows, "model": told, "cells": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build"), help="folder; a sampling.md there is rewritten")
    parser.add_argument("--model", type=Path, help="saved by TabularDiffusion.save; fitted if not given")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--steps", type=int, help="of training; the package's default if not given")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--report-only", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.steps, arguments.rows = 500, 2_000
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path, page = arguments.out / "sampling.json", arguments.out / "sampling.md"
    if not arguments.report_only:
        path.write_text(json.dumps(run(arguments)), encoding="utf-8")
    result = json.loads(path.read_text(encoding="utf-8"))
    print(markdown(result))
    picture(result, arguments.out / "sampling.png")
    if page.exists():
        rewrite(page, "sampling", markdown(result))


if __name__ == "__main__":
    main()
