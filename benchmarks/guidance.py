"""What guidance does to precision, recall and density, on a mixture whose density is known.

    python benchmarks/guidance.py --out docs            3 seeds; writes guidance.json, .png and the tables of .md
    python benchmarks/guidance.py --out build --quick   one short fit, to see it work
    python benchmarks/guidance.py --out docs --report-only    picture and tables again, from guidance.json

The table is `mixture` of benchmarks/tables.py: two columns, three classes of 75, 20 and 5 % of 5,000 rows. For every
class, weight and interval of noise levels as many rows are generated as true ones are drawn, and compared:

    precision   share of generated rows inside the region that holds 99 % of the truth
    recall      share of true rows within a ball around a generated row that reaches its third nearest generated
                neighbour (Kynkaanniemi et al. 2019)
    error       sliced Wasserstein distance to the true rows

Needs matplotlib and scipy; the package needs neither.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

import tables
from cfdg_diffusion import TabularDiffusion, TabularSettings
from markers import rewrite

WEIGHTS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
INTERVALS = {
    "all noise": (0.0, math.inf),
    "above 1": (1.0, math.inf),
    "0.2 to 1": (0.2, 1.0),
    "below 0.2": (0.0, 0.2),
}
"""Of noise levels, in standard deviations of a column."""
PANELS = (0.0, 1.0, 4.0)
SCORES = ("precision", "recall", "error")
_NEIGHBOURS = 3
_SHOWN = 600

Cell = dict[str, Any]


def recall(generated: np.ndarray, truth: np.ndarray) -> float:
    """Share of true rows ``(N, 2)`` within the manifold of generated ones ``(M, 2)``, of k = 3 neighbours."""
    distances, _ = cKDTree(generated).query(generated, k=_NEIGHBOURS + 1)
    covered = np.zeros(len(truth), dtype=bool)
    for found in cKDTree(truth).query_ball_point(generated, distances[:, -1]):
        covered[found] = True
    return float(covered.mean())


def score(name: str, points: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Precision, recall and error of points ``(M, 2)`` of a class, against as many true rows."""
    return {
        "precision": 1 - tables.outside(name, points),
        "recall": recall(points, truth),
        "error": tables.sliced_wasserstein(points, truth, np.random.default_rng(0)),
    }


def cells(model: TabularDiffusion, split: tables.Split, seed: int, rows: int) -> Iterator[Cell]:
    """All scores of one fit; and of its training rows and of a second true draw, by which to judge them."""
    for name, count in split.train[split.label].value_counts().items():
        rng = np.random.default_rng([seed, 7])
        truth, again = tables.draw(name, rows, rng), tables.draw(name, rows, rng)
        own = split.train.loc[split.train[split.label] == name, ["x", "y"]].to_numpy()
        base = {"seed": seed, "class": str(name), "count": int(count)}
        yield {**base, "source": "training rows", **score(name, own, truth)}
        yield {**base, "source": "fresh true rows", **score(name, again, truth)}
        for interval, weight in _asked():
            limits = INTERVALS[interval]
            drawn = model.sample(rows, label=name, guidance_weight=weight, guidance_interval=limits, seed=seed)
            points = drawn[["x", "y"]].to_numpy()
            cell = {**base, "source": "model", "interval": interval, "weight": weight, **score(name, points, truth)}
            shown = interval == "all noise" and weight in PANELS and seed == 0
            yield cell | ({"points": points[:_SHOWN].round(3).tolist()} if shown else {})


def _asked() -> Iterator[tuple[str, float]]:
    for interval in INTERVALS:
        yield from ((interval, weight) for weight in WEIGHTS if weight or interval == "all noise")


def mean(found: Sequence[Cell], **wanted: Any) -> dict[str, tuple[float, float, float]]:
    """Mean, smallest and largest score over the seeds of the cells that have these values."""
    chosen = [cell for cell in found if all(cell.get(key) == value for key, value in wanted.items())]
    values = {name: [cell[name] for cell in chosen] for name in SCORES}
    return {name: (float(np.mean(own)), min(own), max(own)) for name, own in values.items()}


def classes(found: Sequence[Cell]) -> list[str]:
    """Names of the classes, the most frequent first."""
    counts = {cell["class"]: cell["count"] for cell in found}
    return sorted(counts, key=lambda name: -counts[name])


def markdown(result: Mapping[str, Any]) -> str:
    """The tables of the page."""
    found, names = result["cells"], classes(result["cells"])
    best = min(WEIGHTS, key=lambda weight: _relative_error(found, names, weight))
    default = TabularSettings().diffusion.guidance_weight
    steps, seconds = (", ".join(f"{fit[name]:,.0f}" for fit in result["fits"]) for name in ("steps", "seconds"))
    head = (
        f"Seeds {', '.join(str(fit['seed']) for fit in result['fits'])}; the weights of steps {steps} were kept, after "
        f"{seconds} s of training; {result['rows']:,} rows for every class and weight. Each cell is precision / recall "
        "/ density error, the mean over the seeds."
    )
    verdict = (
        "**Least density error** (divided by that of fresh true rows, geometric mean of the classes): "
        f"w = {best:g}, against the default of w = {default:g}."
    )
    return "\n\n".join([head, _weights_table(found, names), verdict, _intervals_table(found, names[-1])])


def _relative_error(found: Sequence[Cell], names: Sequence[str], weight: float) -> float:
    ratios = [
        mean(found, source="model", interval="all noise", weight=weight, **{"class": name})["error"][0]
        / mean(found, source="fresh true rows", **{"class": name})["error"][0]
        for name in names
    ]
    return float(np.exp(np.mean(np.log(ratios))))


def _weights_table(found: Sequence[Cell], names: Sequence[str]) -> str:
    counts = {cell["class"]: cell["count"] for cell in found}
    lines = [
        "| w | " + " | ".join(f"{name} ({counts[name]:,} rows)" for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for weight in WEIGHTS:
        wanted = {"source": "model", "interval": "all noise", "weight": weight}
        lines.append(
            f"| {weight:g} | " + " | ".join(_text(mean(found, **wanted, **{"class": name})) for name in names) + " |"
        )
    for source in ("training rows", "fresh true rows"):
        lines.append(
            f"| {source} | " + " | ".join(_text(mean(found, source=source, **{"class": name})) for name in names) + " |"
        )
    return "\n".join(lines)


def _intervals_table(found: Sequence[Cell], name: str) -> str:
    lines = [f"The class {name}, guided only at some noise levels:", "", "| w | " + " | ".join(INTERVALS) + " |"]
    lines.append("|---" * (len(INTERVALS) + 1) + "|")
    for weight in WEIGHTS[1:]:
        each = [mean(found, source="model", interval=own, weight=weight, **{"class": name}) for own in INTERVALS]
        lines.append(f"| {weight:g} | " + " | ".join(map(_text, each)) + " |")
    return "\n".join(lines)


def _text(scores: Mapping[str, tuple[float, float, float]]) -> str:
    precision, found, error = (scores[name][0] for name in SCORES)
    return f"{precision:.3f} / {found:.3f} / {error:.3f}"


def picture(result: Mapping[str, Any], path: Path) -> None:
    """Curves over w above, rows of the rarest class over its true density below."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(10, 6.4), layout="constrained")
    found, names = result["cells"], classes(result["cells"])
    for axis, name in zip(axes[0], SCORES, strict=True):
        _curves(axis, found, names, name)
    axes[0, 0].legend(frameon=False, fontsize=8)
    rare = names[-1]
    for axis, weight in zip(axes[1], PANELS, strict=True):
        points = next(c["points"] for c in found if "points" in c and c["class"] == rare and c["weight"] == weight)
        _panel(axis, rare, np.array(points), f"{rare}, w = {weight:g}")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _curves(axis: Any, found: Sequence[Cell], names: Sequence[str], score_name: str) -> None:
    places = np.arange(len(WEIGHTS))
    for colour, name in zip(("C0", "C1", "C3"), names, strict=True):
        own = [
            mean(found, source="model", interval="all noise", weight=w, **{"class": name})[score_name] for w in WEIGHTS
        ]
        middle, low, high = np.array(own).T
        axis.plot(places, middle, "o-", color=colour, label=name, markersize=3)
        axis.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        fresh = mean(found, source="fresh true rows", **{"class": name})[score_name][0]
        axis.axhline(fresh, color=colour, linestyle=":", linewidth=1)
    axis.set_xticks(places, [f"{weight:g}" for weight in WEIGHTS])
    axis.set_xlabel("guidance weight w (dotted: fresh true rows)")
    axis.set_title("density error" if score_name == "error" else score_name, fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    if score_name == "error":
        axis.set_yscale("log")


def _panel(axis: Any, name: str, points: np.ndarray, title: str) -> None:
    truth = tables.draw(name, 5_000, np.random.default_rng(1))
    low, high = truth.min(0), truth.max(0)
    low, high = low - 0.1 * (high - low), high + 0.1 * (high - low)
    x, y = np.meshgrid(*(np.linspace(low[i], high[i], 160) for i in range(2)))
    density = tables.log_density(name, np.stack([x.ravel(), y.ravel()], axis=1)).reshape(x.shape)
    edge = tables.region_99(name)
    axis.contour(
        x, y, density, levels=np.linspace(edge, density.max(), 5)[:-1], colors="0.6", linewidths=0.7, linestyles="solid"
    )
    axis.scatter(*points.T, s=3, color="C3", alpha=0.5, linewidths=0)
    axis.set(title=title, xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
    axis.title.set_fontsize(10)


def measure(seeds: Sequence[int], rows: int, steps: int | None) -> dict[str, Any]:
    """Fit each seed once and score everything."""
    fits, found = [], []
    for seed in seeds:
        split = tables.table("mixture", seed)
        model = TabularDiffusion(seed=seed).fit(split.train, label=split.label, steps=steps)
        fits.append({"seed": seed, "steps": model.history.best_step, "seconds": model.history.seconds})
        print(f"fitted {fits[-1]}", flush=True)
        found += list(cells(model, split, seed, rows))
    return {"fits": fits, "rows": rows, "cells": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("build"), help="folder; its guidance.md is rewritten if it is there"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=5_000, help="generated for each class, weight and interval")
    parser.add_argument("--steps", type=int, help="of training; the package's default if not given")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--report-only", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "guidance.json"
    if arguments.quick:
        arguments.seeds, arguments.rows, arguments.steps = arguments.seeds[:1], 1_000, 500
    if not arguments.report_only:
        path.write_text(json.dumps(measure(arguments.seeds, arguments.rows, arguments.steps)), encoding="utf-8")
    result = json.loads(path.read_text(encoding="utf-8"))
    print(markdown(result))
    picture(result, arguments.out / "guidance.png")
    page = arguments.out / "guidance.md"
    if page.exists():
        rewrite(page, "guidance", markdown(result))


if __name__ == "__main__":
    main()
