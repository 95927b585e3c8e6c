"""The comparison that ``tabular.py`` prints: one table of scores for each table of rows, and the bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tabular_scores import means

OURS = "cfdg"
_ORDER = ("wine", "breast_cancer", "diabetes", "digits", "mixed", "mixture")
_METHODS = ("cfdg", "ctgan", "tvae", "copula", "forest", "mostlyai")
Scores = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A score: its heading, its name, the name of what real rows get, its format, and a factor."""

    heading: str
    name: str
    real: str | None = None
    form: str = ".3f"
    factor: float = 1.0


_COLUMNS = (
    Column("detection AUC", "detection", "real_detection"),
    Column("pair trends", "trends", "real_trends"),
    Column("shapes", "shapes", "real_shapes"),
    Column("TSTR", "utility", "real_utility"),
    Column("closest to train", "closest_to_train"),
    Column("membership", "membership"),
    Column("copies %", "copies", "real_copies", ".2f", 100),
    Column("city-region broken %", "broken_city_region", None, ".2f", 100),
    Column("city-product broken %", "broken_city_product", None, ".2f", 100),
    Column("broken with constraints %", "broken_constrained", None, ".2f", 100),
    Column("rare outside %", "outside", "real_outside", ".1f", 100),
    Column("rare Wasserstein", "wasserstein", "real_wasserstein"),
    Column("rare rows", "rare_rows", None, ",.0f"),
    Column("fit CPU s", "fit_cpu_seconds", None, ",.0f"),
    Column("fit s", "fit_seconds", None, ",.0f"),
    Column("rows/s", "rows_per_second", None, ",.0f"),
    Column("import s", "import_seconds", None, ".2f"),
    Column("peak MiB", "peak_mib", None, ",.0f"),
)


def compare(cells: Sequence[Scores]) -> str:
    """Markdown: means over the seeds for each table, and the bars."""
    parts = []
    for table in _sorted({cell["table"] for cell in cells}, _ORDER):
        methods = averaged([cell for cell in cells if cell["table"] == table])
        parts += [f"## {table}", "", *_scores(methods), "", *_bars(table, methods), ""]
    return "\n".join(parts)


def averaged(cells: Sequence[Scores]) -> dict[str, Scores]:
    """Means over the seeds for each method, with ``seeds`` and ``efforts``."""
    found = {}
    for method in _sorted({cell["method"] for cell in cells}, _METHODS):
        mine = [cell for cell in cells if cell["method"] == method]
        found[method] = means(mine) | {"seeds": [cell["seed"] for cell in mine], "plan": mine[0].get("plan", {})}
    return found


def _sorted(names: set[str], order: Sequence[str]) -> list[str]:
    return [name for name in order if name in names] + sorted(names - set(order))


def _scores(methods: dict[str, Scores]) -> list[str]:
    """Methods by scores; the last row is what training rows get against the same holdout."""
    shown = [c for c in _COLUMNS if any(scores.get(c.name) is not None for scores in methods.values())]
    lines = [_line(["", *(c.heading for c in shown), "seeds", "effort"]), _line(["---"] * (len(shown) + 3))]
    for method, scores in methods.items():
        cells = [_shown(c, scores.get(c.name)) for c in shown]
        effort = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in scores["plan"].items())
        lines.append(_line([method, *cells, ", ".join(map(str, scores["seeds"])), effort]))
    real = means(list(methods.values()))
    return [*lines, _line(["real rows", *(_shown(c, real.get(c.real)) if c.real else "" for c in shown), "", ""])]


def _shown(column: Column, value: float | None) -> str:
    return "" if value is None else f"{value * column.factor:{column.form}}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


@dataclass(frozen=True)
class Bar:
    """What is asked of a score: what it says, and whether it holds; None where a number is missing."""

    text: str
    holds: bool | None


def _bars(table: str, methods: dict[str, Scores]) -> list[str]:
    if OURS not in methods:
        return []
    mark = {True: "pass", False: "FAIL", None: "not measured"}
    return [f"- {mark[bar.holds]}: {bar.text}" for bar in bars(table, methods)]


def bars(table: str, methods: dict[str, Scores]) -> list[Bar]:
    """All the bars of one table, from means over the seeds of our method and the others."""
    ours, peers = methods[OURS], {name: scores for name, scores in methods.items() if name != OURS}
    found = [
        _better("detection AUC", "detection", ours, peers, min),
        _better("pair trends", "trends", ours, peers, max),
        _better("TSTR", "utility", ours, peers, max),
        _at_most("closest-to-train share", ours.get("closest_to_train"), 0.56),
        _at_most("exact copies", ours.get("copies"), ours["real_copies"] + ours["copies_noise"]),
    ]
    if table == "mixed":
        found += _mixed(ours)
    if table == "mixture":
        found.append(_at_most("rare rows outside the 99 % region", ours.get("outside"), 0.05))
        found.append(_at_most("rare Wasserstein distance", ours.get("wasserstein"), ours["real_wasserstein"]))
    return found


def _mixed(ours: Scores) -> list[Bar]:
    worst = max(ours["broken_city_region"], ours["broken_city_product"])
    return [
        _at_most("detection AUC", ours["detection"], 0.60),
        _at_most("loss of TSTR AUC", ours["real_utility"] - ours["utility"], 0.02),
        _at_most("dependencies broken", worst, 0.02),
        _at_most("dependencies broken with constraints", ours.get("broken_constrained"), 0.0),
        _at_most("fit CPU seconds", ours["fit_cpu_seconds"], 300),
        _at_most("-rows per CPU second", -ours["rows_per_second"], -20_000),
        _at_most("import CPU seconds", ours["import_seconds"], 2),
        _at_most("peak MiB", ours["peak_mib"], 1536),
    ]


def _at_most(text: str, value: float | None, limit: float) -> Bar:
    if value is None:
        return Bar(f"{text} at most {limit:.4g}", None)
    return Bar(f"{text} {value:.4g}, at most {limit:.4g}", value <= limit)


def _better(text: str, name: str, ours: Scores, peers: dict[str, Scores], best: Callable[..., str]) -> Bar:
    """Strictly better than the best peer there is."""
    found = {method: scores[name] for method, scores in peers.items() if scores.get(name) is not None}
    if not found or ours.get(name) is None:
        return Bar(f"{text} better than every peer", None)
    rival = best(found, key=lambda method: found[method])
    ahead = ours[name] < found[rival] if best is min else ours[name] > found[rival]
    return Bar(f"{text} {ours[name]:.4f}, best peer {rival} {found[rival]:.4f} (of {', '.join(found)})", ahead)
