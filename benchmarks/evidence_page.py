"""Tables, raw scores and picture of the study of docs/evidence.md, from the cells that are finished."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

from cfdg_experiments.cells.results import CellResult, write_text
from cfdg_experiments.reports.comparisons import Comparison, holm, paired_mean, probability_of_improvement
from cfdg_experiments.reports.evidence import mean_height
from cfdg_experiments.reports.statistics import Estimate, mean_interval, paired_scores
from evidence_scores import Results, raw_scores
from markers import rewrite

if TYPE_CHECKING:
    from evidence import Place

ARM = "cfdg-split"  # of the first hypothesis
CONTROL = "repeat"
GENERATORS = ("cfdg", "cfdg-split-gated", "cfdg-split-adaptive", "synther", "edis")  # that are compared with the arm


def write_page(
    places: Sequence[Place],
    added: Sequence[Place],
    samples: Mapping[str, Sequence[Place]],
    ablation: tuple[Place, Mapping[str, tuple[Place, str]]],
    everything: Results,
    page: Path,
) -> None:
    """Write the raw scores, the picture and the results between the page's markers.

    Args:
        places: registered cells, over which the first hypothesis is corrected.
        added: cells that were added later; they have tables and no verdict.
        samples: by ordinal, cells of fresh seeds, pooled in one table with a verdict of its own.
        ablation: a cell in which the arm helps; by what differs, a cell and an arm.
        everything: finished cells, of all these.
        page: page that is written.
    """
    write_text(page.with_suffix(".csv"), raw_scores(everything))

    def of(own: Sequence[Place]) -> Results:
        return {place: everything[place] for place in own if place in everything}

    results, later = of(places), of(added)
    fresh = {ordinal: of(own) for ordinal, own in samples.items()}
    draw({**results, **later}, page.with_suffix(".png"))
    text = [counted(places, results), hypothesis(places, results), *tables(results), "#### Added cells", *tables(later)]
    text += ["#### Other generators", generators({**results, **later})]
    text += [part for ordinal, own in fresh.items() for part in _of_sample(ordinal, own)]
    text += ["#### What makes it help", ablated(everything, *ablation)]
    rewrite(page, "results", "\n\n".join(text))


def gap(cells: Mapping[str, CellResult], arm: str, reference: str) -> np.ndarray | None:
    """Subtract the areas of paired seeds ``(n,)``; None while one of the two is not finished."""
    if arm not in cells or reference not in cells:
        return None
    one, other = cells[reference], cells[arm]
    pairs = paired_scores(mean_height(one), one.seeds, mean_height(other), other.seeds)
    return pairs[1] - pairs[0]


def compared(gaps: Mapping[str, np.ndarray], family: int) -> dict[str, Comparison]:
    """Compare paired differences with 0, corrected for a family of so many: a missing one counts as p = 1."""
    found = {name: paired_mean([own]) for name, own in gaps.items()}
    corrected = holm([p for _, p in found.values()] + [1.0] * (family - len(found)))
    return {
        name: Comparison(name, estimate, p, one, float(probability_of_improvement(gaps[name])))
        for (name, (estimate, p)), one in zip(found.items(), corrected, strict=False)
    }


@dataclass(frozen=True)
class Verdict:
    """The first hypothesis in a cell: against both controls, each corrected over all registered cells."""

    share: Comparison
    repeat: Comparison

    @property
    def word(self) -> str:
        """``win`` or ``loss`` where both comparisons are resolved that way, else ``unresolved``."""
        both = {self.share.verdict, self.repeat.verdict}
        return {"better": "win", "worse": "loss"}.get(both.pop(), "unresolved") if len(both) == 1 else "unresolved"


def verdicts(places: Sequence[Place], results: Results) -> dict[Place, Verdict]:
    """Judge the first hypothesis in every cell that has the arm and both controls."""
    families: list[dict[str, np.ndarray]] = [{}, {}]
    for place, cells in results.items():
        for family, reference in zip(families, (place.reference, CONTROL), strict=True):
            if (own := gap(cells, ARM, reference)) is not None:
                family[place.name] = own
    share, repeat = (compared(family, len(places)) for family in families)
    names = {place.name: place for place in results}
    return {names[name]: Verdict(share[name], repeat[name]) for name in share if name in repeat}


def counted(places: Sequence[Place], results: Results) -> str:
    """Count wins, losses, unresolved and unfinished cells in a sentence."""
    words = [verdict.word for verdict in verdicts(places, results).values()]
    counts = ", ".join(f"{words.count(word)} {name}" for word, name in (("win", "wins"), ("loss", "losses")))
    left = len(places) - len(words)
    done = sum(len(cells) for cells in results.values())
    return (
        f"**First hypothesis: {counts}, {words.count('unresolved')} unresolved, {left} of {len(places)} cells not "
        f"finished.** {done} arms of cells are finished in all."
    )


def hypothesis(places: Sequence[Place], results: Results) -> str:
    """Make the table of the first hypothesis."""
    lines = ["| cell | cfdg-split − base-share | Holm p | cfdg-split − repeat | Holm p | verdict |", "|" + " -- |" * 6]
    for place, verdict in verdicts(places, results).items():
        parts = [f"{interval(one.difference)} | {p_text(one.holm)}" for one in (verdict.share, verdict.repeat)]
        lines.append(f"| {place.name} | {' | '.join(parts)} | {verdict.word} |")
    return "\n".join(lines)


def generators(results: Results) -> str:
    """Make the table of other generators against the arm: differences of area per cell, corrected in each column."""
    gaps = {
        other: {place.name: own for place, cells in results.items() if (own := gap(cells, other, ARM)) is not None}
        for other in GENERATORS
    }
    found = {other: compared(own, len(own)) for other, own in gaps.items()}
    lines = [f"| − {ARM} | {' | '.join(GENERATORS)} |", "|" + " -- |" * (1 + len(GENERATORS))]
    for name in dict.fromkeys(name for own in found.values() for name in own):
        words = (_resolved(own[name]) if name in own else "" for own in found.values())
        lines.append(f"| {name} | {' | '.join(words)} |")
    return "\n".join(lines)


def _resolved(one: Comparison) -> str:
    """Write a difference, in bold letters where the correction leaves it resolved."""
    return interval(one.difference) if one.verdict == "unresolved" else f"**{interval(one.difference)}**"


def confirmation(results: Results) -> str:
    """Make the table of the pooled fresh seeds: differences of the arm from both controls, corrected over the two."""
    reference = next((place.reference for place in results), "base")
    pooled = {
        other: [found for cells in results.values() if (found := gap(cells, ARM, other)) is not None]
        for other in (reference, CONTROL)
    }
    gaps = {other: np.concatenate(found) for other, found in pooled.items() if found}
    lines = [f"| {ARM} − | seeds | area | Holm p | verdict | seeds better |", "|" + " -- |" * 6]
    for other, one in compared(gaps, len(pooled)).items():
        rest = f"{interval(one.difference)} | {p_text(one.holm)} | {one.verdict} | {one.probability:.0%}"
        lines.append(f"| {other} | {len(gaps[other])} | {rest} |")
    return "\n".join(lines)


def _of_sample(ordinal: str, results: Results) -> list[str]:
    """Write head and tables of a sample of fresh seeds."""
    names = ", ".join(place.name for place in results) or "not begun"
    return [f"#### The {ordinal} sample", f"{names}.", confirmation(results), pooled_arms(results)]


def pooled_arms(results: Results) -> str:
    """Make the table of the arms' areas and final scores over the fresh seeds of all cells.

    Differences are of paired seeds and not corrected.
    """
    lines = [f"| arm | seeds | area | final | {ARM} − arm, area |", "|" + " -- |" * 5]
    for arm in dict.fromkeys(arm for cells in results.values() for arm in cells):
        own = [cells[arm] for cells in results.values() if arm in cells]
        measures = (np.concatenate([mean_height(cell) for cell in own]), np.concatenate([cell.final for cell in own]))
        intervals = [mean_interval(values) for values in measures]
        words = [f"{one.mean:.1f} ± {one.half_width:.1f}" for one in intervals]
        gaps = [found for cells in results.values() if (found := gap(cells, ARM, arm)) is not None]
        words.append(interval(mean_interval(np.concatenate(gaps))) if gaps and arm != ARM else "")
        lines.append(f"| {arm} | {len(measures[0])} | {' | '.join(words)} |")
    return "\n".join(lines)


def ablated(results: Results, whole: Place, altered: Mapping[str, tuple[Place, str]]) -> str:
    """Make the table of a helping cell and of what differs from it in one thing: gains, and what the thing changes.

    Intervals are of paired seeds and not corrected.
    """
    head = f"|  | {whole.reference}, area | arm, area | gain | gain − gain of the first line |"
    lines = [head, "|" + " -- |" * 5]
    first: np.ndarray | None = None
    for words, (place, arm) in {f"{ARM} as it is": (whole, ARM), **altered}.items():
        cells = results.get(place, {})
        own = gap(cells, arm, whole.reference)
        if own is None:
            continue
        areas = [mean_interval(mean_height(cells[name])) for name in (whole.reference, arm)]
        parts = [f"{one.mean:.1f} ± {one.half_width:.1f}" for one in areas]
        parts += [interval(paired_mean([own])[0]), "" if first is None else interval(paired_mean([own - first])[0])]
        first = own if first is None else first
        lines.append(f"| {words} | {' | '.join(parts)} |")
    return "\n".join(lines)


def _gaps(place: Place, cells: Mapping[str, CellResult]) -> dict[str, np.ndarray]:
    """Subtract the reference's areas from those of every finished arm."""
    found = {arm: gap(cells, arm, place.reference) for arm in cells if arm != place.reference}
    return {arm: own for arm, own in found.items() if own is not None}


def tables(results: Results) -> list[str]:
    """Make one table per cell: every finished arm, its area and final score, and its difference from the reference."""
    return [_table(place, cells) for place, cells in results.items()]


def _table(place: Place, cells: Mapping[str, CellResult]) -> str:
    gaps = _gaps(place, cells)
    found = compared(gaps, len(gaps))
    head = f"| {place.name} | area | final | − {place.reference} | Holm p | verdict | seeds better |"
    lines = [head, "|" + " -- |" * 7]
    for arm, cell in cells.items():
        area, final = (mean_interval(values) for values in (mean_height(cell), cell.final))
        words = [f"{one.mean:.1f} ± {one.half_width:.1f}" for one in (area, final)]
        rest = ["", "", "", ""]
        if arm in found:
            one = found[arm]
            rest = [interval(one.difference), p_text(one.holm), one.verdict, f"{one.probability:.0%}"]
        lines.append("| " + " | ".join([arm, *words, *rest]) + " |")
    return "\n".join(lines)


def interval(one: Estimate) -> str:
    """Write a difference with its 95 % interval, where it has one."""
    if math.isnan(one.low):
        return f"{one.mean:+.1f}"
    return f"{one.mean:+.1f} [{one.low:.1f}, {one.high:.1f}]"


def p_text(p: float) -> str:
    """Write a p-value with two digits."""
    return "" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.2g}"


def draw(results: Results, path: Path) -> None:
    """Draw every cell's differences from its reference with their intervals, a panel each."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    panels = {place: own for place, cells in results.items() if (own := compared(_gaps(place, cells), 0))}
    columns = 3
    rows = max(1, math.ceil(len(panels) / columns))
    figure, axes = plt.subplots(rows, columns, figsize=(12, 2.4 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis, (place, found) in zip(axes.flat, panels.items(), strict=False):
        for y, one in enumerate(reversed(found.values())):
            axis.plot([one.difference.low, one.difference.high], [y, y], color="0.5")
            axis.plot(one.difference.mean, y, "o", color="tab:red" if one.arm == ARM else "black")
        axis.set_yticks(range(len(found)), list(reversed(found)), fontsize=8)
        axis.set_ylim(-0.6, len(found) - 0.4)
        axis.axvline(0, color="0.8", zorder=0)
        axis.set_title(f"{place.name}:\narea − {place.reference}", fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
