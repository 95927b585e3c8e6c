"""Profile files: YAML that is checked key by key, and the dotted overrides of the command line."""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from cfdg_experiments.names import near_names
from cfdg_experiments.profiles.plain_yaml import check_plain, dump_yaml, parse_yaml
from cfdg_experiments.profiles.profile import Profile

PROFILES = ("quick", "reduced", "paper")
_SHOULD = re.compile(r"^\w+ should (be|have) ")  # how pydantic's messages begin


def load_profile(
    name_or_path: str, overrides: Mapping[str, Any] | None = None, defaults: Mapping[str, Any] | None = None
) -> Profile:
    """Read a shipped profile or a YAML file, and change the dotted keys of ``overrides``.

    Args:
        name_or_path: a name of :data:`PROFILES`, or a file.
        overrides: value by dotted key, instead of the file's.
        defaults: value by key, where the file has none.

    Raises:
        ValueError: if the profile, a key, a type or a value is wrong; the message names file and key.
        FileNotFoundError: if there is no such file.
    """
    where, text = _read(name_or_path)
    tree = parse_yaml(text, where)
    if not isinstance(tree, dict):
        raise ValueError(f"{where} is a {type(tree).__name__}, expected keys and values")
    tree = {**(defaults or {}), **tree}
    for key, value in (overrides or {}).items():
        _set(tree, key, value)
    _rename_old_keys(tree)
    return build_profile(tree, where)


def with_overrides(profile: Profile, overrides: Mapping[str, Any], where: str) -> Profile:
    """Change the dotted keys of ``overrides``.

    Raises:
        ValueError: if a key, a type or a value is wrong; the message begins with ``where``.
    """
    tree = parse_yaml(dump_profile(profile), where)
    for key, value in overrides.items():
        _set(tree, key, value)
    return build_profile(tree, where)


def build_profile(tree: Mapping[str, Any], where: str) -> Profile:
    """Check every key and type of a nested mapping and build the profile.

    Raises:
        ValueError: if a key, a type or a value is wrong; the message begins with ``where``.
    """
    check_plain(tree, where)
    _check_keys(Profile, tree, where, "")
    whole = _merged(json.loads(json.dumps(asdict(Profile(name="")))), tree)
    try:
        return _adapter().validate_json(json.dumps(whole), strict=True)
    except ValidationError as error:
        raise ValueError(f"{where}: {_sentence(error)}") from error


@functools.cache
def _adapter() -> TypeAdapter[Profile]:
    """Build the checks of every type once: it takes longer than checking a profile."""
    return TypeAdapter(Profile)


def dump_profile(profile: Profile) -> str:
    """Write the profile as YAML that :func:`load_profile` reads back unchanged."""
    return dump_yaml(json.loads(json.dumps(asdict(profile))))


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """Turn ``key.path=value`` words of the command line into a mapping; values are YAML.

    Raises:
        ValueError: if a word has no ``=`` or its value is not YAML.
    """
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"override is {pair!r}, expected key=value, such as finetune.steps=2000")
        try:
            found[key] = _number(parse_yaml(value, ""))
        except ValueError as error:
            raise ValueError(f"override {key} is {value!r}, expected a YAML value") from error
        check_plain({key: found[key]}, "override")
    return found


def _number(value: object) -> object:
    """Read 3e-4 as a number: YAML 1.1 takes it for a word, because it has no dot."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    return value


def _read(name_or_path: str) -> tuple[str, str]:
    """Return the profile's name for messages, and its text."""
    if name_or_path in PROFILES:
        source = resources.files("cfdg_experiments") / "profiles" / f"{name_or_path}.yaml"
        return f"profile {name_or_path}", source.read_text(encoding="utf-8")
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        near = near_names(name_or_path, PROFILES)
        raise ValueError(f"profile is {name_or_path!r}{near}, expected {', '.join(PROFILES)} or a .yaml file")
    if not path.exists():
        raise FileNotFoundError(f"profile {path} does not exist")
    try:
        return f"profile {path}", path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"profile {path} is not UTF-8 text, expected YAML") from error


def _set(tree: dict[str, Any], key: str, value: object) -> None:
    *groups, last = key.split(".")
    if not all((*groups, last)):
        raise ValueError(f"override key is {key!r}, expected words between the dots, such as finetune.steps")
    for group in groups:
        tree = tree.setdefault(group, {})
        if not isinstance(tree, dict):
            raise ValueError(f"override {key}: {group} is a value, expected a group of keys")
    tree[last] = value


def _rename_old_keys(tree: Mapping[str, Any]) -> None:
    """Give the keys of older profile files their present names."""
    diffusion = tree.get("diffusion")
    if isinstance(diffusion, dict) and "waves" in diffusion:
        diffusion.setdefault("fourier_octaves", diffusion.pop("waves"))


def _merged(defaults: Mapping[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """Complete ``tree`` with the keys that it does not mention; a group keeps its own defaults, such as APL's plan."""
    both = {
        key: _merged(defaults[key], value)
        for key, value in tree.items()
        if isinstance(defaults.get(key), dict) and isinstance(value, dict)
    }
    return {**defaults, **tree, **both}


def _check_keys(kind: type, tree: Mapping[str, Any], where: str, prefix: str) -> None:
    """Refuse unknown keys, with near names, before any type is looked at."""
    hints = get_type_hints(kind)
    names = [item.name for item in fields(kind)]
    for key, value in tree.items():
        if key not in names:
            raise ValueError(f"{where}: unknown key {prefix}{key}{near_names(str(key), names)}")
        if is_dataclass(hints[key]) and isinstance(value, dict):
            _check_keys(hints[key], value, where, f"{prefix}{key}.")


def _sentence(error: ValidationError) -> str:
    """Say the first fault as "key is value, expected ..."; the settings' own checks have their own sentences."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "value_error":
        message = first["msg"].removeprefix("Value error, ")
        joint = "." if re.match(r"\w+( \(\w+\))? is ", message) else ": "  # a setting of the group, or the group
        return f"{key}{joint}{message}" if key else message
    if first["type"] == "missing":
        return f"{key} is missing in {first['input']!r}, expected a value"
    return f"{key} is {first['input']!r}, expected {_SHOULD.sub('', first['msg'])}"
