"""Composition of a batch: how many rows come from D_off, D_on, D_off_syn and D_on_syn.

Two protocols make arms comparable. ``native`` is what each method does. It confounds the worth of generated rows with
the share of *online-like* rows (real online ones and generated ones that imitate them): half of a batch for the base,
60 % for CFDG at 1:1:1 and 8:2, two thirds for SynthER at 1:1:1. ``matched`` fixes that share, so that arms of one
``online_like`` and ``ratio`` differ in where their rows come from and in nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple


def split(total: int, *shares: float) -> list[int]:
    """Cut ``total`` into whole parts near ``shares`` that always add up (largest remainder, ties to the last).

    ``split(256, 1/3, 1/3, 1/3) == [85, 85, 86]``; ``split(85, 0.8, 0.2) == [68, 17]``.

    Raises:
        ValueError: if a share is negative or the shares do not add up to 1.
    """
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"shares are {shares}, expected non-negative numbers that add up to 1")
    exact = [total * share for share in shares]
    parts = [int(value + 1e-6) for value in exact]
    remainders = [round(value - part, 6) for value, part in zip(exact, parts, strict=True)]
    neediest = sorted(range(len(parts)), key=lambda i: (remainders[i], i), reverse=True)
    for i in neediest[: total - sum(parts)]:
        parts[i] += 1
    return parts


class Counts(NamedTuple):
    """Rows of a batch by their buffer."""

    offline: int
    online: int
    offline_synthetic: int
    online_synthetic: int


@dataclass(frozen=True)
class Composition:
    """Shares of a batch of paradigm 1 (section 3.3 of the paper), which add up to 1.

    Attributes:
        offline: share of D_off.
        online: share of D_on.
        offline_synthetic: share of D_off_syn.
        online_synthetic: share of D_on_syn.

    Raises:
        ValueError: if a share is negative or the shares do not add up to 1.
    """

    offline: float = 0.5
    online: float = 0.5
    offline_synthetic: float = 0.0
    online_synthetic: float = 0.0

    def __post_init__(self) -> None:
        shares = [getattr(self, field.name) for field in fields(self)]
        if min(shares) < -1e-9 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"shares are {shares}, expected non-negative numbers that add up to 1")

    @property
    def online_like(self) -> float:
        """Share of real and generated online rows."""
        return self.online + self.online_synthetic

    @property
    def synthetic(self) -> float:
        """Share of generated rows."""
        return self.offline_synthetic + self.online_synthetic

    def counts(self, batch_size: int, *, extra: bool = False) -> Counts:
        """Turn the shares into rows: offline, online and generated ones, of which then each label's.

        ``Composition(1/3, 1/3, 1/15, 4/15).counts(256)`` is 85 + 85 + 17 + 69, the paper's 1:1:1 and 8:2. Where
        rounding leaves fewer online-like rows than their share, online rows take the place of offline ones.

        Args:
            batch_size: rows of the batch; with ``extra`` its real rows.
            extra: generated rows come on top of the real ones, in the same shares: 128 + 128 + 26 + 102.

        Raises:
            ValueError: if ``extra`` is asked for without a share of real rows.
        """
        if extra:
            return self._on_top(batch_size)
        offline, online, synthetic = split(batch_size, self.offline, self.online, self.synthetic)
        label = self.online_synthetic / self.synthetic if self.synthetic > 1e-9 else 1.0
        online_synthetic, offline_synthetic = split(synthetic, label, 1 - label)
        short = int(batch_size * self.online_like + 0.5) - online - online_synthetic
        moved = min(max(short, 0), offline)
        return Counts(offline - moved, online + moved, offline_synthetic, online_synthetic)

    def _on_top(self, real: int) -> Counts:
        generated = extra_rows(real, self.synthetic)
        offline, online = split(real, *_of_whole(self.offline, self.online))
        if not generated:
            return Counts(offline, online, 0, 0)
        online_synthetic, offline_synthetic = split(
            generated, *_of_whole(self.online_synthetic, self.offline_synthetic)
        )
        return Counts(offline, online, offline_synthetic, online_synthetic)


BASE = Composition()  # half offline, half online: the base algorithm of paradigm 1


def native(ratio: float, online_share: float) -> Composition:
    """Compose the batch of CFDG and SynthER: a share of generated rows, the rest half offline and half online.

    Args:
        ratio: r, the share of generated rows in [0, 1].
        online_share: share of them that carry the online label, in [0, 1]; 0.8 for CFDG, 1 for SynthER.

    Raises:
        ValueError: if a share is outside [0, 1].
    """
    check_shares(synthetic_ratio=ratio, online_share=online_share)
    real = (1 - ratio) / 2
    return Composition(real, real, ratio * (1 - online_share), ratio * online_share)


def replaced(ratio: float) -> Composition:
    """Compose the batch of EDIS, whose generated rows take the place of the offline ones.

    Args:
        ratio: share of generated rows in [0, 1]; the rest is online (EDIS' m, 0.5).

    Raises:
        ValueError: if the share is outside [0, 1].
    """
    check_shares(synthetic_ratio=ratio)
    return Composition(0.0, 1 - ratio, 0.0, ratio)


def matched(online_like: float, ratio: float, online_share: float) -> Composition:
    """Compose a batch with a given share of online-like rows.

    ``matched(0.6, 1/3, 0.8)`` is CFDG's own batch, ``matched(0.6, 1/3, 1)`` SynthER's or EDIS' with its shares, and
    ``matched(0.6, 0, 1)`` real rows alone, 40:60.

    Args:
        online_like: share of real online rows and of generated rows with the online label, in (0, 1].
        ratio: share of generated rows in [0, 1].
        online_share: share of those with the online label, in [0, 1].

    Raises:
        ValueError: if a share is outside [0, 1], or the generated rows of a label are more than all rows like them.
    """
    check_shares(online_like=online_like, synthetic_ratio=ratio, online_share=online_share)
    online = online_like - ratio * online_share
    offline = 1 - online_like - ratio * (1 - online_share)
    if min(online, offline) < -1e-9:
        raise ValueError(
            f"online_like is {online_like} with ratio {ratio} and online_share {online_share}, "
            "expected room for the generated rows of each label"
        )
    return Composition(max(offline, 0.0), max(online, 0.0), ratio * (1 - online_share), ratio * online_share)


@dataclass(frozen=True)
class BranchComposition:
    """Shares of generated rows in the two branches of paradigm 2 (section 3.3): a batch is all online or all offline.

    The share of online-like rows is the probability of the online branch, in every arm.

    Attributes:
        online_ratio: share of D_on_syn in a batch of the online branch, in [0, 1].
        offline_ratio: share of D_off_syn in a batch of the offline branch, in [0, 1].

    Raises:
        ValueError: if a share is outside [0, 1].
    """

    online_ratio: float = 0.0
    offline_ratio: float = 0.0

    def __post_init__(self) -> None:
        check_shares(online_ratio=self.online_ratio, offline_ratio=self.offline_ratio)

    def counts(self, batch_size: int, *, online: bool, extra: bool = False) -> Counts:
        """Rows of a batch of one branch, real and generated under its label; with ``extra`` on top of the real ones."""
        ratio = self.online_ratio if online else self.offline_ratio
        real, generated = split(batch_size, 1 - ratio, ratio)
        if extra:
            real = batch_size
            generated = extra_rows(batch_size, ratio)
        return Counts(0, real, 0, generated) if online else Counts(real, 0, generated, 0)


def branches(ratio: float, online_share: float) -> BranchComposition:
    """Compose paradigm 2 for an arm that generates ``online_share`` of its rows under the online label.

    A branch whose label is not generated stays real; else the split of the generated rows only says how many there
    are to draw from, and both branches hold the share ``ratio``.
    """
    return BranchComposition(ratio if online_share > 0 else 0.0, ratio if online_share < 1 else 0.0)


def extra_rows(real: int, ratio: float) -> int:
    """Count generated rows on top of ``real`` ones, so that they are the share ``ratio`` of all: n = real r / (1 - r).

    Raises:
        ValueError: if the ratio is 1, which leaves no real rows.
    """
    if ratio > 1 - 1e-9:
        raise ValueError(f"synthetic_ratio is {ratio} with extra generated rows, expected less than 1")
    return int(real * ratio / (1 - ratio) + 0.5)


def _of_whole(*shares: float) -> list[float]:
    """Scale shares so that they add up to 1."""
    return [share / sum(shares) for share in shares]


def check_shares(**shares: float) -> None:
    """Refuse a share outside [0, 1].

    Raises:
        ValueError: naming it.
    """
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is {share}, expected 0 to 1")


PAPER = native(1 / 3, 0.8)  # section 4.1: online : offline : generated = 1 : 1 : 1, generated online : offline = 8 : 2
PAPER_BRANCHES = branches(1 / 3, 0.8)
