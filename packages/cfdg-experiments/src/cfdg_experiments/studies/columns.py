"""Columns of a study's table: each arm under every combination of the varied settings that it reads."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cfdg_experiments.cells.cell import Cell, cells_of
from cfdg_experiments.cells.keys import cell_key
from cfdg_experiments.profiles.files import with_overrides
from cfdg_experiments.profiles.grid import Axis, Point, is_of_generator, points_of
from cfdg_experiments.profiles.profile import Profile

UNAUGMENTED = "base"  # the arm that reads no setting of a generator


@dataclass(frozen=True)
class Column:
    """One arm under one combination of the settings that it reads.

    Attributes:
        label: title, such as ``cfdg guidance_weight=0.5``; the arm's name where it reads none of them.
        values: by dotted key, of the varied settings that the arm reads.
        cells: of every dataset and algorithm.
    """

    label: str
    values: Mapping[str, Any]
    cells: tuple[Cell, ...]


def columns_of(profile: Profile, axes: Sequence[Axis]) -> dict[str, list[Column]]:
    """List the columns of every arm; a setting that changes none of an arm's runs makes no columns of it.

    Raises:
        ValueError: if a value of the grid has a wrong type or range.
    """
    own = {arm: _axes_of(arm, axes) for arm in profile.arms}
    points = {str(point.overrides): point for some in own.values() for point in points_of(some)}
    cells = {name: cells_of(profile_at(profile, point)) for name, point in points.items()}
    return {arm: _columns(arm, some, cells) for arm, some in own.items()}


def profile_at(profile: Profile, point: Point) -> Profile:
    """Give a profile the settings of a point of the grid.

    Raises:
        ValueError: if a value has a wrong type or range.
    """
    return with_overrides(profile, point.overrides, "--over") if point.overrides else profile


def references_of(columns: Mapping[str, Sequence[Column]]) -> dict[str, str]:
    """Compare each column with the first arm's one of the same settings, the first of them where several have these.

    A column of the first arm is the reference of itself if others are compared with it, else it is compared with the
    very first one. Nothing is returned where that is the reference of all.
    """
    first, *others = columns.values()
    found = {column.label: _alike(column, first).label for own in others for column in own}
    same = {column.label: column.label if column.label in found.values() else first[0].label for column in first}
    references = same | found
    return references if set(references.values()) != {first[0].label} else {}


def _alike(column: Column, others: Sequence[Column]) -> Column:
    """Find the first one that agrees in all settings that both read."""
    wanted = column.values.items()
    return next(other for other in others if all(other.values.get(key, value) == value for key, value in wanted))


def _axes_of(arm: str, axes: Sequence[Axis]) -> list[Axis]:
    """Leave out what an arm cannot read; its cells keep the profile's own values of that."""
    return [axis for axis in axes if arm != UNAUGMENTED or not is_of_generator([axis])]


def _columns(arm: str, axes: Sequence[Axis], cells: Mapping[str, Sequence[Cell]]) -> list[Column]:
    """List the columns of one arm, given the cells of all arms at every point."""
    places = list(itertools.product(*(range(len(axis.values)) for axis in axes)))
    names = [str(point.overrides) for point in points_of(axes)]
    own = {
        place: tuple(cell for cell in cells[name] if cell.arm == arm) for place, name in zip(places, names, strict=True)
    }
    read = _read_axes(axes, own)
    kept = [place for place in places if not any(at for at, axis in zip(place, axes, strict=True) if axis not in read)]
    return [
        Column(f"{arm} {point.label}".strip(), point.overrides, own[place])
        for point, place in zip(points_of(read), kept, strict=True)
    ]


def _read_axes(axes: Sequence[Axis], cells: Mapping[tuple[int, ...], Sequence[Cell]]) -> list[Axis]:
    """List the axes along which runs differ, and those of a single value; cells are by place in the grid."""
    runs = {place: [cell_key(cell) for cell in own] for place, own in cells.items()} if axes else {}

    def differs(index: int) -> bool:
        return any(own != runs[(*place[:index], 0, *place[index + 1 :])] for place, own in runs.items())

    return [axis for index, axis in enumerate(axes) if len(axis.values) == 1 or differs(index)]
