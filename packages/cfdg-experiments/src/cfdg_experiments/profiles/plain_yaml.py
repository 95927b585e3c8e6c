"""YAML of plain values: text, numbers, lists and keys that stand once each; nothing else is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

LARGEST = 10_000  # values; a profile has some hundred, and aliases can stand for billions
DEEPEST = 20


def parse_yaml(text: str, where: str) -> Any:  # noqa: ANN401 - whatever YAML can say
    """Read YAML text.

    Raises:
        ValueError: if it is no YAML, or a key stands twice; the message begins with ``where``.
    """
    try:
        _check_once(yaml.compose(text, Loader=yaml.SafeLoader), where, set())
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{where} is not YAML: {' '.join(str(error).split())}") from error
    except ValueError as error:  # such as the 31st of February
        raise error if str(error).startswith(where) else ValueError(f"{where} is not YAML: {error}") from error


def dump_yaml(tree: Mapping[str, Any]) -> str:
    """Write plain values as YAML in their order."""
    return yaml.safe_dump(tree, sort_keys=False)


def check_plain(tree: Mapping[str, Any], where: str) -> None:
    """Refuse dates, bytes, sets, keys that are no text, and more values than any settings have.

    Raises:
        ValueError: naming the key; the message begins with ``where``.
    """
    waiting: list[tuple[str, object]] = [("", tree)]
    for count, (key, value) in enumerate(waiting, start=1):
        if count > LARGEST or key.count(".") > DEEPEST:
            raise ValueError(
                f"{where}: {key[:60]} makes more than {LARGEST} values or {DEEPEST} levels, expected fewer"
            )
        if isinstance(value, Mapping):
            waiting += [(_name(key, inner, where), own) for inner, own in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{key}.{index}", own) for index, own in enumerate(value)]
        elif not isinstance(value, str | int | float | None):
            raise ValueError(f"{where}: {key} is {value!r}, expected a number, a word, a list or a group of keys")


def _name(prefix: str, key: object, where: str) -> str:
    if not isinstance(key, str):
        raise ValueError(f"{where}: {prefix or 'it'} has the key {key!r}, expected words for keys")
    return f"{prefix}.{key}" if prefix else key


def _check_once(node: yaml.Node | None, where: str, seen: set[int]) -> None:
    """Refuse a key that stands twice in one mapping: the last would win without a word."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{where}: key {twice[0]} stands twice, expected once")
    for child in node.value if isinstance(node, yaml.CollectionNode) else ():
        for own in child if isinstance(child, tuple) else (child,):
            _check_once(own, where, seen)
