"""Verdicts on the scores: a sentence for each, and the limits of good, fair and poor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cfdg_diffusion.quality.privacy import Privacy, Share
from cfdg_diffusion.quality.scores import Scores
from cfdg_diffusion.quality.shapes import ColumnShape
from cfdg_diffusion.quality.trends import PairTrend

Verdict = Literal["good", "fair", "poor", "not judged"]


@dataclass(frozen=True, slots=True)
class Headline:
    """One number of the report.

    Attributes:
        name: of the score.
        value: the number as text, with its interval if it has one.
        fresh: the same of a fresh draw of real rows; empty if there is none.
        reading: one sentence on its meaning.
        verdict: see :class:`Limits`.
    """

    name: str
    value: str
    fresh: str
    reading: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a distance from the ideal: up to ``good`` it is good, up to ``fair`` fair, beyond it poor."""

    good: float
    fair: float

    def verdict(self, distance: float) -> Verdict:
        """Judge a distance from the ideal."""
        return "good" if distance <= self.good else "fair" if distance <= self.fair else "poor"


TELLING = 0.01
"""Least AUC that a column costs the detector to be named: less is noise."""

# Conventions of this report, set where the best published tabular generators stand on well-behaved tables;
# a fresh real draw of a few thousand rows is "good" in every one of them. What chance explains does not count: an AUC
# or a share whose interval reaches 0.5 is good, else its value is judged; of dependence the better end of the interval
# is judged; of copies, and of pair trends in place of dependence, what is beyond the noise.
_DETECTION = Limits(0.10, 0.25)  # AUC above (or below) 0.5
_KEPT = Limits(0.05, 0.20)  # share of the dependence lost
_RELATIVE = Limits(0.02, 0.05)  # below the baseline, where there is no dependence to keep
_UTILITY = Limits(0.02, 0.05)  # AUC or R2 below training on real rows
_CLOSEST = Limits(0.06, 0.10)  # above 0.5
_COPIES = Limits(0.001, 0.01)  # share above what the holdout has


def headlines(scores: Scores) -> list[Headline]:
    """Return the numbers to read first, detection before all others.

    Column shapes are not among them: a table without any dependence wins there.
    """
    found = [_detection(scores), *_trends(scores), *_utility(scores)]
    return found + (list(_privacy(scores.privacy)) if scores.privacy else [])


def worst_columns(scores: Scores) -> list[ColumnShape]:
    """Sort the columns by score minus baseline, worst first; without a baseline it counts as 1."""
    return sorted(scores.shapes.columns, key=lambda column: column.score - _or_one(column.baseline))


def worst_pairs(scores: Scores) -> list[PairTrend]:
    """Sort the pairs by score minus baseline, worst first; without a baseline it counts as 1."""
    pairs = scores.trends.pairs if scores.trends else ()
    return sorted(pairs, key=lambda pair: pair.score - _or_one(pair.baseline))


def number(value: float | None, digits: int = 3) -> str:
    """Format a score with three digits, or as a dash if it was not measured."""
    return "–" if value is None else f"{value:.{digits}f}"


def percent(share: float) -> str:
    """Format a share in [0, 1] as a percentage, with two digits below 1 %."""
    return f"{100 * share:.2f} %" if 0 < share < 0.01 else f"{100 * share:.1f} %"


def _or_one(baseline: float | None) -> float:
    return 1.0 if baseline is None else baseline


def _detection(scores: Scores) -> Headline:
    found = scores.detection
    value = f"{number(found.auc.value)} ({number(found.auc.low)} to {number(found.auc.high)})"
    against = "holdout" if found.reference == "holdout" else "training (there is no holdout)"
    if found.auc.value < 0.5 - _DETECTION.good:
        text = f"Clearly below 0.5: synthetic rows repeat the {against} rows they are compared with."
    else:
        text = (
            f"Shown a synthetic and a real row of the {against} table, boosted trees point at the synthetic one "
            f"{100 * max(found.auc.value, 0.5):.0f} times in 100; guessing gives 50."
        )
    return Headline(
        name="Detection (AUC)",
        value=value,
        fresh=number(found.floor.value) if found.floor else "",
        reading=text,
        verdict="good" if found.auc.low <= 0.5 <= found.auc.high else _DETECTION.verdict(abs(found.auc.value - 0.5)),
    )


def _trends(scores: Scores) -> Iterator[Headline]:
    found = scores.trends
    if found is None:
        return
    if found.baseline is None:
        text = "Mean agreement of the joint distributions of two columns; without a holdout there is no yardstick."
        yield Headline("Pair trends", number(found.mean), "", text, "not judged")
    elif found.kept is None:
        text = "The columns hardly depend on each other, or the tables are too small to measure it."
        lacking = found.baseline - found.mean - 2 * (found.noise or 0)
        yield Headline("Pair trends", number(found.mean), number(found.baseline), text, _RELATIVE.verdict(lacking))
    else:
        text = (
            f"The joint distributions of two columns agree to {number(found.mean)}: real rows get "
            f"{number(found.baseline)}, columns without any dependence {number(found.independent)}."
        )
        kept = found.kept
        value = f"{100 * kept.value:.0f} % ({100 * kept.low:.0f} to {100 * kept.high:.0f})"
        yield Headline("Dependence kept", value, "100 %", text, _KEPT.verdict(1 - kept.high))


def _utility(scores: Scores) -> Iterator[Headline]:
    found = scores.utility
    if found is None or found.difference is None:
        return
    direction = "less" if found.difference < 0 else "more"
    text = (
        f"A model for {found.label!r} trained on synthetic rows scores {abs(found.difference):.3f} {direction} on real "
        "holdout rows than one trained on real rows."
    )
    verdict = _UTILITY.verdict(-found.difference)
    yield Headline(f"Utility ({found.metric})", number(found.synthetic), number(found.real), text, verdict)


def _privacy(found: Privacy) -> Iterator[Headline]:
    closest = found.closest_to_train
    membership = found.membership
    text = f"{percent(closest.value)} of the synthetic rows lie closer to a training row than to an unseen real row."
    yield Headline("Closest to training rows", _with_interval(closest), "0.500", text, _leak(closest))
    text = (
        f"{found.copies} synthetic rows equal a training row in every column ({percent(found.copies_share)}); "
        f"of unseen real rows {percent(found.copies_expected)} do."
    )
    excess = found.copies_share - found.copies_expected - found.copies_noise
    expected = percent(found.copies_expected)
    yield Headline("Exact copies", percent(found.copies_share), expected, text, _COPIES.verdict(excess))
    text = (
        "Given a training row and an unseen row, an attacker with the synthetic table picks the training row "
        f"{100 * membership.value:.0f} times in 100; guessing gives 50."
    )
    yield Headline("Membership attack (AUC)", _with_interval(membership), "0.500", text, _leak(membership))


def _with_interval(share: Share) -> str:
    return f"{number(share.value)} ({number(share.low)} to {number(share.high)})"


def _leak(share: Share) -> Verdict:
    """Judge a share: good if 0.5 lies inside the interval or above it."""
    return "good" if share.low <= 0.5 else _CLOSEST.verdict(share.value - 0.5)
