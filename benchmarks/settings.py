"""Is another setting better than the default? Judged on splits that the comparison with other generators never sees.

    python benchmarks/settings.py --tables wine diabetes --vary gaussian_rows 0 500
    python benchmarks/settings.py --tables mixture --seeds 0 1 2 --vary sampling_steps 8 13 26 --vary sigma_leap 0 10

Every value of every ``--vary`` is fitted on every table and seed beside the default, one setting changed at a time, and
judged as ``tabular.py`` judges: detection, pair trends, train-on-synthetic, closest-to-train share, and of the rare
class of ``mixture`` the Wasserstein distance to its density over that of its training rows. Beside a mean stands
the mean difference from the default on the same seeds, with its standard error. Fields are those of TabularSettings,
DiffusionSettings and CodecSettings. Results are kept under ``--out``; a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

import tables
import tabular_scores
from cfdg_diffusion import TabularDiffusion, TabularSettings
from peer import write_whole

_SEEN = range(10)
"""Seeds for choosing; ``tabular.py`` compares on others."""
_RARE_ROWS = 20_000
_SCORES = ("detection", "trends", "utility", "closest_to_train", "rare_ratio", "fit_cpu_seconds")

Scores = dict[str, float]


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    varied = {"default": {}} | {
        f"{name} = {value}": {name: value} for name, *values in arguments.vary for value in values
    }
    for table in arguments.tables:
        found = {
            told: [judged(arguments.out, table, seed, change) for seed in arguments.seeds]
            for told, change in varied.items()
        }
        print(f"\n{table}, seeds {', '.join(map(str, arguments.seeds))}\n" + compared(found), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=["wine"], choices=tables.TABLES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of 0 to 9")
    parser.add_argument("--vary", nargs="+", action="append", default=[], metavar=("FIELD", "VALUE"))
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks/settings"))
    arguments = parser.parse_args()
    if not set(arguments.seeds) <= set(_SEEN):
        parser.error(f"--seeds are {arguments.seeds}, expected some of 0 to 9: the others are for the comparison")
    arguments.vary = [[name, *map(json.loads, values)] for name, *values in arguments.vary]
    return arguments


def changed(change: dict[str, Any]) -> TabularSettings:
    """The default settings with some fields changed, wherever they are.

    Raises:
        ValueError: if no settings have such a field.
    """
    settings = TabularSettings()
    for name, value in change.items():
        if name in _names(settings):
            settings = replace(settings, **{name: value})
        elif name in _names(settings.diffusion):
            settings = replace(settings, diffusion=replace(settings.diffusion, **{name: value}))
        elif name in _names(settings.codec):
            settings = replace(settings, codec=replace(settings.codec, **{name: value}))
        else:
            raise ValueError(f"there is no setting {name!r}, expected a field of TabularSettings or of what it holds")
    return settings


def _names(settings: Any) -> set[str]:
    return {field.name for field in fields(settings)}


def judged(out: Path, table: str, seed: int, change: dict[str, Any]) -> Scores:
    """Scores of one fit, from its file if there is one."""
    name = "-".join(f"{key}={value}" for key, value in change.items()) or "default"
    file = out / table / str(seed) / f"{name}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(score(table, seed, changed(change))))
    return json.loads(file.read_text(encoding="utf-8"))


def score(table: str, seed: int, settings: TabularSettings) -> Scores:
    """Fit one split or draw of a table and judge what comes out."""
    split, began = tables.table(table, seed), time.process_time()
    model = TabularDiffusion(seed=seed, settings=settings, device="cpu")
    model.fit(split.train, label=split.label if split.task == "classification" else None)
    seconds, size = time.process_time() - began, len(split.holdout)
    parts = [model.sample(size) for _ in range(tabular_scores.draws(split))]
    found = tabular_scores.mean_scores(split, parts, seed) | {"fit_cpu_seconds": seconds}
    if table == "mixture":
        rare = tabular_scores.density(model.sample(_RARE_ROWS, label=tabular_scores.RARE), split.train)
        found |= rare | {"rare_ratio": rare["wasserstein"] / rare["real_wasserstein"]}
    return found


def compared(found: dict[str, list[Scores]]) -> str:
    """A line for each setting: means, and differences from the first with their standard errors."""
    shown = [name for name in _SCORES if all(name in scores for each in found.values() for scores in each)]
    lines, first = [["", *shown]], next(iter(found.values()))
    for told, each in found.items():
        cells = [_cell([s[name] for s in each], [s[name] for s in first], each is first) for name in shown]
        lines.append([told, *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _cell(values: Sequence[float], default: Sequence[float], alone: bool) -> str:
    text = f"{fmean(values):.4g}"
    if alone:
        return text
    differences = [value - other for value, other in zip(values, default, strict=True)]
    error = f" ± {stdev(differences) / len(differences) ** 0.5:.2g}" if len(differences) > 1 else ""
    return f"{text} ({fmean(differences):+.2g}{error})"


if __name__ == "__main__":
    main()
