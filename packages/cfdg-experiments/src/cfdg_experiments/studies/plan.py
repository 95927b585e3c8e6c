"""Plan of a study: its cells and their places in the table, which a grid of settings multiplies."""

from __future__ import annotations

import itertools
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
import yaml

from cfdg_experiments.cells.cell import Cell, cells_of
from cfdg_experiments.cells.keys import cell_key
from cfdg_experiments.cells.results import CellKey
from cfdg_experiments.profiles.files import dump_profile, with_overrides
from cfdg_experiments.profiles.grid import Axis, Point, in_words, is_of_generator, points_of
from cfdg_experiments.profiles.profile import Profile, datasets_of, schedule_for
from cfdg_experiments.reports.header import ReportHeader
from cfdg_experiments.studies.study import Study

UNAUGMENTED = "base"  # the arm that reads no setting of a generator


@dataclass(frozen=True)
class Plan:
    """Everything that a command runs and reports.

    Attributes:
        study: the command's table or figure.
        profile: settings, without those of a grid.
        axes: the grid; empty for the profile as it is.
        header: columns and rows of the report.
        places: the cell of each place of the table; equal cells may stand in several.
    """

    study: Study
    profile: Profile
    axes: tuple[Axis, ...]
    header: ReportHeader
    places: Mapping[CellKey, Cell]

    @property
    def name(self) -> str:
        """Name of the folder and of the experiment in MLflow."""
        return "-".join([self.study.name, self.profile.name, *(axis.name for axis in self.axes)])

    @property
    def settings(self) -> str:
        """The profile as YAML, and the grid if there is one."""
        grid = {key: list(axis.values) for axis in self.axes for key in axis.keys}
        return dump_profile(self.profile) + (yaml.safe_dump({"over": grid}) if grid else "")

    def cells(self) -> list[Cell]:
        """List the cells to run, each once."""
        return list(self.keys())

    def keys(self) -> dict[Cell, list[CellKey]]:
        """List the cells to run, each once, with their places in the table."""
        first: dict[tuple[CellKey, str], Cell] = {}
        found: dict[Cell, list[CellKey]] = {}
        for key, cell in self.places.items():
            same = first.setdefault((cell.key, cell_key(cell)), cell)
            found.setdefault(same, []).append(key)
        return found


def make_plan(study: Study, profile: Profile, axes: tuple[Axis, ...] = ()) -> Plan:
    """List columns and cells of a study.

    Raises:
        ValueError: if a value of the grid has a wrong type or range, or no dataset can have one of the algorithms.
    """
    points = points_of(axes)
    columns = {arm: _columns(arm, points, axes) for arm in profile.arms}
    variants = {point.label: with_overrides(profile, point.overrides, "--over") for point in points}
    variants[""] = profile
    found = {}
    for arm, own in columns.items():
        for label, point in own.items():
            for cell in cells_of(variants[point.label]):
                if cell.arm == arm:
                    found[CellKey(cell.dataset, cell.algorithm, label)] = cell
    labels = tuple(label for own in columns.values() for label in own)
    if not found:
        raise ValueError(
            f"there is no cell to run: {', '.join(profile.algorithms)} cannot learn from the sparse rewards of "
            f"{', '.join(profile.data.datasets)}, expected iql or pex among the algorithms"
        )
    header = make_header(study, variants[points[0].label], labels, _references(columns), in_words(axes))
    header = replace(header, grid_steps=_grid_steps([variants[point.label] for point in points]))
    return Plan(study, profile, axes, header, {key: found[key] for key in header.cells()})


def _grid_steps(profiles: Sequence[Profile]) -> tuple[tuple[dict[str, int], dict[str, int]], ...]:
    """List the steps of every point of a grid; nothing where all are the same."""
    found = [_steps_of(profile) for profile in profiles]
    return tuple(found) if any(steps != found[0] for steps in found) else ()


def _steps_of(profile: Profile) -> tuple[dict[str, int], dict[str, int]]:
    """Return offline updates and environment steps, by algorithm."""
    own = {algorithm: schedule_for(profile, algorithm) for algorithm in profile.algorithms}
    offline = {name: schedule.pretrain.steps for name, schedule in own.items()}
    return offline, {name: schedule.finetune.steps for name, schedule in own.items()}


def _columns(arm: str, points: Sequence[Point], axes: Sequence[Axis]) -> dict[str, Point]:
    """Name the columns of an arm: one per point, or a single one where the arm reads none of the varied settings."""
    if arm == UNAUGMENTED and is_of_generator(axes):
        return {arm: Point("", {})}
    return {f"{arm} {point.label}".strip(): point for point in points}


def _references(columns: Mapping[str, Mapping[str, Point]]) -> dict[str, str]:
    """Compare each arm with the first one under the same settings, where the first one varies as well."""
    first, *others = columns
    same = {point.label: label for label, point in columns[first].items()}
    if len(same) == 1 or not others:
        return {}
    pairs = [(label, same[point.label]) for arm in others for label, point in columns[arm].items()]
    return {label: label for label in same.values()} | dict(pairs)


def refresh_steps(profile: Profile) -> dict[str, range]:
    """List, by algorithm, the environment steps at which the synthetic buffers are filled anew."""
    plans = {algorithm: schedule_for(profile, algorithm).finetune for algorithm in profile.algorithms}
    return {name: plan.refresh_steps for name, plan in plans.items()}


def make_header(
    study: Study, profile: Profile, arms: tuple[str, ...], references: Mapping[str, str], varied: str
) -> ReportHeader:
    """Describe the table, the machine and the software."""
    packages = ("cfdg-diffusion", "cfdg-rl", "cfdg-experiments", "torch", "gymnasium", "mujoco", "numpy")
    offline_steps, online_steps = _steps_of(profile)
    own = {algorithm: datasets_of(profile, algorithm) for algorithm in profile.algorithms}
    apart = profile.data.apl_datasets is not None
    return ReportHeader(
        profile=profile.name,
        datasets=tuple(dict.fromkeys(itertools.chain(*own.values()))) if apart else profile.data.datasets,
        own_datasets=own if apart else {},
        algorithms=profile.algorithms,
        offline_steps=offline_steps,
        online_steps=online_steps,
        seeds=profile.seeds,
        arms=arms,
        machine=machine(profile),
        software={"python": platform.python_version(), **{name: version(name) for name in packages}},
        paper=study.paper,
        references=references,
        varied=varied,
    )


def machine(profile: Profile) -> str:
    """Describe the hardware in one line."""
    if profile.device != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} cores {_processor()}, CPU only"


def _processor() -> str:
    """Name the processor as Linux does, or its architecture elsewhere."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
