"""Header of a report: all that a table or figure is to hold, except its results, and how far it is from the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cfdg_experiments.cells.results import CellKey
from cfdg_experiments.profiles.profile import has_cell
from cfdg_experiments.reports.published import (
    PAPER_OFFLINE_STEPS,
    PAPER_ONLINE_STEPS,
    PAPER_SEEDS,
    TABLE_1_ITEM,
    PaperItem,
)

MOST_KEYS = 4  # named in a sentence


@dataclass(frozen=True)
class ReportHeader:
    """Description of a table: everything but its results.

    Attributes:
        profile: name of the profile, such as ``quick``.
        datasets: the rows, in order, with their sources.
        algorithms: the groups, in order.
        offline_steps: pre-training updates, by algorithm.
        online_steps: environment steps of fine-tuning, by algorithm.
        seeds: the seeds that every cell is to have.
        arms: the reference arm first.
        machine: one line about the hardware.
        software: version by package.
        bootstrap_seed: seed of the resampling over tasks; the same results give the same file.
        paper: the table or figure of the paper that this one stands beside; None where the paper has none.
        references: by arm, the arm that it is compared with, where that is not the first one.
        varied: settings that differ between the arms, in words.
        own_datasets: by algorithm, its rows, where they are not all that it can have.
        grid_steps: offline_steps and online_steps of every point of a grid that varies them; empty where none does.
        changed: dotted keys of settings that the paper's profile has otherwise.
        copies: by the name of a place, the arm that holds the same run, where an earlier one does.
    """

    profile: str
    datasets: tuple[str, ...]
    algorithms: tuple[str, ...]
    offline_steps: Mapping[str, int]
    online_steps: Mapping[str, int]
    seeds: tuple[int, ...]
    arms: tuple[str, ...] = ("base", "cfdg")
    machine: str = ""
    software: Mapping[str, str] = field(default_factory=dict)
    bootstrap_seed: int = 0
    paper: PaperItem | None = TABLE_1_ITEM
    references: Mapping[str, str] = field(default_factory=dict)
    varied: str = ""
    own_datasets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    grid_steps: tuple[tuple[Mapping[str, int], Mapping[str, int]], ...] = ()
    changed: tuple[str, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)

    @property
    def sources(self) -> str:
        """Sources of the data, such as ``recorded``."""
        return ", ".join(dict.fromkeys(name.partition(":")[0] for name in self.datasets))

    def cells(self) -> list[CellKey]:
        """List every cell of the full table."""
        pairs = [(dataset, name) for name in self.algorithms for dataset in self.datasets_of(name)]
        return [CellKey(*pair, arm) for pair in pairs for arm in self.arms]

    def datasets_of(self, algorithm: str) -> list[str]:
        """List the rows of an algorithm: the paper has no APL on mazes."""
        own = self.own_datasets.get(algorithm, self.datasets)
        return [dataset for dataset in own if has_cell(algorithm, dataset)]

    def pairs(self) -> list[tuple[str, str]]:
        """List every arm that is compared, with its reference."""
        found = [(arm, self.references.get(arm, self.arms[0])) for arm in self.arms]
        return [(arm, reference) for arm, reference in found if arm != reference]

    def distinct(self, algorithm: str, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Leave out pairs of the same runs as an earlier pair's, and those of runs with themselves."""
        found: dict[tuple[object, object], tuple[str, str]] = {}
        for arm, reference in pairs:
            runs = self._runs(algorithm, arm), self._runs(algorithm, reference)
            if runs[0] != runs[1]:
                found.setdefault(runs, (arm, reference))
        return list(found.values())

    def _runs(self, algorithm: str, arm: str) -> tuple[str, ...]:
        keys = [CellKey(dataset, algorithm, arm) for dataset in self.datasets_of(algorithm)]
        return tuple(self.copies.get(key.name, arm) for key in keys)


def deviations(header: ReportHeader) -> list[str]:
    """List the points in which a run differs from the paper's protocol; empty only for the paper's own."""
    found = [] if header.paper else ["the paper has no such comparison"]
    found += [] if header.profile == "paper" else [f"profile {header.profile}"]
    found += [_changed_text(header.changed)] if header.changed else []
    if header.sources != "d4rl" or not all(name.endswith("-v2") for name in header.datasets):
        found.append(f"{header.sources} data (paper: D4RL v2)")
    offline, online = _steps_of_all_points(header)
    for steps in dict.fromkeys(steps for algorithm in header.algorithms for steps in offline[algorithm]):
        if steps != PAPER_OFFLINE_STEPS:
            found.append(f"{count(steps)} offline updates (paper: {count(PAPER_OFFLINE_STEPS)})")
    for algorithm in header.algorithms:
        theirs = PAPER_ONLINE_STEPS.get(algorithm)
        if online[algorithm] != [theirs]:
            paper = "none" if theirs is None else count(theirs)
            ours = " / ".join(map(count, online[algorithm]))
            found.append(f"{ours} environment steps for {algorithm.upper()} (paper: {paper})")
    if len(header.seeds) != PAPER_SEEDS:
        found.append(f"{len(header.seeds)} seeds (paper: {PAPER_SEEDS})")
    return found


def _changed_text(keys: Sequence[str]) -> str:
    """Name a few settings and count the rest."""
    more = len(keys) - MOST_KEYS
    return f"changed {', '.join(keys[:MOST_KEYS])}" + (f" and {more} more" if more > 0 else "")


def _steps_of_all_points(header: ReportHeader) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """List, by algorithm, the different numbers of offline updates and of environment steps."""
    points = header.grid_steps or ((header.offline_steps, header.online_steps),)
    offline, online = (
        {name: list(dict.fromkeys(steps[name] for steps in kind)) for name in header.algorithms}
        for kind in zip(*points, strict=True)
    )
    return offline, online


def caption(header: ReportHeader) -> str:
    """Say profile, data, steps and seeds in one line, short enough for the foot of a figure."""
    offline, online = (
        " / ".join(dict.fromkeys(count(steps) for algorithm in header.algorithms for steps in found[algorithm]))
        for found in _steps_of_all_points(header)
    )
    seeds = ", ".join(str(seed) for seed in header.seeds)
    varied = f" Varied: {header.varied}." if header.varied else ""
    return (
        f"Profile {header.profile}, {header.sources} data, {offline} offline updates "
        f"+ {online} environment steps, {len(header.seeds)} seed{'s'[: len(header.seeds) > 1]} ({seeds}).{varied}"
    )


def warning(header: ReportHeader) -> str:
    """Say that, and why, a run is no reproduction of the paper; empty for the paper's own protocol."""
    found = deviations(header)
    name = f"a reproduction of the paper's {header.paper.name}" if header.paper else "an experiment of the paper"
    return f"This is not {name}: {'; '.join(found)}." if found else ""


def arm_title(arm: str) -> str:
    """Write an arm as the head of a column: in capitals, unless it names settings or a class."""
    return arm if "=" in arm or ":" in arm else arm.upper()


def short_name(dataset: str, header: ReportHeader) -> str:
    """Leave out the dataset's source where all rows have the same one (the caption names it)."""
    return dataset.partition(":")[2] if "," not in header.sources and ":" in dataset else dataset


def count(number: int) -> str:
    """Write 1000000 as 1M, 20000 as 20k, 1500 as 1.5k."""
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if number >= unit:
            return f"{number / unit:.6g}{name}"
    return str(number)
