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

from cfdg_experiments.cells.cell import Cell
from cfdg_experiments.cells.keys import cell_key
from cfdg_experiments.cells.results import CellKey
from cfdg_experiments.profiles.files import dump_profile
from cfdg_experiments.profiles.grid import Axis, in_words, points_of
from cfdg_experiments.profiles.paper_settings import changed_settings
from cfdg_experiments.profiles.profile import Profile, datasets_of, schedule_for
from cfdg_experiments.reports.header import ReportHeader
from cfdg_experiments.studies.columns import columns_of, profile_at, references_of
from cfdg_experiments.studies.study import Study


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
        return _by_run(self.places)


def make_plan(study: Study, profile: Profile, axes: tuple[Axis, ...] = ()) -> Plan:
    """List columns and cells of a study.

    Raises:
        ValueError: if a value of the grid has a wrong type or range, or no dataset can have one of the algorithms.
    """
    variants = [profile_at(profile, point) for point in points_of(axes)]
    columns = columns_of(profile, axes)
    titled = [(column.label, cell) for own in columns.values() for column in own for cell in column.cells]
    found = {CellKey(cell.dataset, cell.algorithm, label): cell for label, cell in titled}
    if not found:
        raise ValueError(
            f"there is no cell to run: {', '.join(profile.algorithms)} cannot learn from the sparse rewards of "
            f"{', '.join(profile.data.datasets)}, expected iql or pex among the algorithms"
        )
    labels = tuple(column.label for own in columns.values() for column in own)
    header = make_header(study, variants[0], labels, references_of(columns), in_words(axes))
    places = {key: found[key] for key in header.cells()}
    header = replace(
        header, grid_steps=_grid_steps(variants), copies=_copies(places), changed=changed_settings(profile)
    )
    return Plan(study, profile, axes, header, places)


def _by_run(places: Mapping[CellKey, Cell]) -> dict[Cell, list[CellKey]]:
    """List the different runs of a table with their places."""
    first: dict[tuple[CellKey, str], Cell] = {}
    found: dict[Cell, list[CellKey]] = {}
    for key, cell in places.items():
        same = first.setdefault((cell.key, cell_key(cell)), cell)
        found.setdefault(same, []).append(key)
    return found


def _copies(places: Mapping[CellKey, Cell]) -> dict[str, str]:
    """Name, by place, the column that has the same run before it."""
    return {key.name: first.arm for first, *others in _by_run(places).values() for key in others}


def _grid_steps(profiles: Sequence[Profile]) -> tuple[tuple[dict[str, int], dict[str, int]], ...]:
    """List the steps of every point of a grid; nothing where all are the same."""
    found = [_steps_of(profile) for profile in profiles]
    return tuple(found) if any(steps != found[0] for steps in found) else ()


def _steps_of(profile: Profile) -> tuple[dict[str, int], dict[str, int]]:
    """Return offline updates and environment steps, by algorithm."""
    own = {algorithm: schedule_for(profile, algorithm) for algorithm in profile.algorithms}
    offline = {name: schedule.pretrain.steps for name, schedule in own.items()}
    return offline, {name: schedule.finetune.steps for name, schedule in own.items()}


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
