"""Grids of settings on the command line: ``--over guidance_weight=0,0.5,1`` for any dotted key of a profile."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, get_args, get_type_hints

from cfdg_experiments.names import near_names
from cfdg_experiments.profiles.files import parse_overrides
from cfdg_experiments.profiles.profile import Profile
from cfdg_rl.datasets.load import is_sparse

# What only a generator reads: the arm without one is the same run for all values.
GENERATOR_KEYS = (
    "diffusion.",
    "refresh.",
    "generators.",
    "inspection.",
    "mixing.",
    "finetune.refresh_every",
    "finetune.synthetic_rows",
    "finetune.online_share",
    "finetune.margin",
)
LISTS_OF_ROWS = ("data.datasets", "data.apl_datasets")  # a grid makes columns
_SPECIAL = ("apl.", "maze.", "generators.")  # of some cells or arms only: a short key means the general one


@dataclass(frozen=True)
class Axis:
    """One setting and its values.

    Attributes:
        name: last word of the key, for labels.
        keys: dotted keys that are set together.
        values: of the setting, in order.
    """

    name: str
    keys: tuple[str, ...]
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Point:
    """One combination of values.

    Attributes:
        label: such as ``guidance_weight=0.5``; empty for the profile as it is.
        overrides: value by dotted key.
    """

    label: str
    overrides: dict[str, Any]


def parse_grid(words: Sequence[str], profile: Profile) -> tuple[Axis, ...]:
    """Read ``KEY=VALUE,VALUE,...`` words; values are YAML.

    Raises:
        ValueError: if a key does not exist, is given twice or is ambiguous, or a value is missing or given twice.
    """
    axes = tuple(_axis(word, profile) for word in words)
    names = [key for axis in axes for key in axis.keys]
    for key in names:
        if names.count(key) > 1:
            raise ValueError(f"--over has {key} twice, expected every key once")
    return axes


def _axis(word: str, profile: Profile) -> Axis:
    key, equals, text = word.partition("=")
    if not equals or not key or not text:
        raise ValueError(f"--over is {word!r}, expected KEY=VALUE,VALUE, such as guidance_weight=0,0.5,1")
    keys = resolve_key(key, profile)
    values = parse_overrides([f"{key}=[{text}]"])[key]
    values = tuple(_number(value) for value in values)
    if any(value is None for value in values) or any(values.count(value) > 1 for value in values):
        raise ValueError(f"--over {key} is {text!r}, expected different values with commas between them")
    return Axis(key.rpartition(".")[2], keys, values)


def _number(value: object) -> object:
    """Read 3e-4, a word in YAML 1.1, as a number."""
    return parse_overrides([f"value={value}"])["value"] if isinstance(value, str) else value


def resolve_key(word: str, profile: Profile) -> tuple[str, ...]:
    """Return the dotted keys of a dotted or short key; a short one is set for APL and mazes too, where they are run.

    Raises:
        ValueError: if there is no such key, with near names, or several, with their names, or it lists datasets.
    """
    known = dotted_keys(Profile)
    if word in [name for key in LISTS_OF_ROWS for name in (key, key.rpartition(".")[2])]:
        raise ValueError(f"--over has {word}, expected another setting: all datasets are rows, named after --datasets")
    if word in known:
        return (word,)
    ending = [key for key in known if key.endswith(f".{word}")]
    general = [key for key in ending if not key.startswith(_SPECIAL)] or ending
    if len(general) > 1:
        raise ValueError(f"key {word!r} is ambiguous, expected one of {', '.join(general)}")
    if not general:
        names = list(dict.fromkeys([key.rpartition(".")[2] for key in known] + known))
        raise ValueError(f"unknown key {word!r}{near_names(word, names)}, expected a key of the profile")
    return _with_twins(general[0], known, profile)


def _with_twins(key: str, known: Sequence[str], profile: Profile) -> tuple[str, ...]:
    """Add the same key of the groups that hold for the profile's cells in place of the general one."""
    uses_apl = "apl" in profile.algorithms and f"apl.{key}" in known
    uses_maze = any(is_sparse(name) for name in profile.data.datasets) and f"maze.{key}" in known
    general = [] if uses_apl and profile.algorithms == ("apl",) else [key]
    return (*general, *[f"apl.{key}"] * uses_apl, *[f"maze.{key}"] * uses_maze)


def dotted_keys(kind: type, prefix: str = "") -> list[str]:
    """List the keys of a dataclass's groups, such as ``finetune.steps``; what stands in no group is left out."""
    return [key for key in _keys(kind, prefix) if "." in key]


def _keys(kind: type, prefix: str) -> Iterator[str]:
    for name, hint in get_type_hints(kind).items():
        groups = [part for part in (hint, *get_args(hint)) if is_dataclass(part)]
        if groups:
            yield from _keys(groups[0], f"{prefix}{name}.")
        else:
            yield prefix + name


def points_of(axes: Sequence[Axis]) -> list[Point]:
    """List every combination of values, the last axis fastest; no axes give the profile as it is."""
    found = []
    for values in itertools.product(*(axis.values for axis in axes)):
        pairs = list(zip(axes, values, strict=True))
        label = " ".join(f"{axis.name}={_text(value)}" for axis, value in pairs)
        found.append(Point(label, {key: value for axis, value in pairs for key in axis.keys}))
    return found


def in_words(axes: Sequence[Axis]) -> str:
    """Say the grid in one line, such as ``guidance_weight 0, 0.5, 1``."""
    return "; ".join(f"{axis.name} {', '.join(_text(value) for value in axis.values)}" for axis in axes)


def is_of_generator(axes: Sequence[Axis]) -> bool:
    """Tell if only generators read the varied settings."""
    keys = [key.removeprefix("apl.") for axis in axes for key in axis.keys]
    return all(key.startswith(GENERATOR_KEYS) for key in keys)


def _text(value: object) -> str:
    return str(value).replace(" ", "")
