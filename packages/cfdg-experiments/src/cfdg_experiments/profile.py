"""Profiles: everything a table depends on, as YAML that is checked key by key."""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from cfdg_diffusion import DiffusionSettings
from cfdg_experiments.arms import ARMS
from cfdg_rl.agents.apl import APLSettings
from cfdg_rl.agents.iql import IQLSettings
from cfdg_rl.agents.pex import PEXSettings
from cfdg_rl.agents.td3_bc import TD3BCSettings
from cfdg_rl.datasets.load import suite
from cfdg_rl.finetune import FinetunePlan

PROFILES = ("quick", "reduced", "paper")
ALGORITHMS = ("iql", "pex", "apl")
LEARNERS = ("conservative", "td3-bc")


@dataclass(frozen=True)
class DataSettings:
    """Which datasets, and how much of each."""

    datasets: tuple[str, ...] = ("recorded:hopper-medium",)
    rows: int | None = None  # rows to record or to keep; null is the source's default
    seed: int = 0  # of the recorder; the agents' seeds do not change the data


@dataclass(frozen=True)
class PretrainSettings:
    """The offline phase."""

    steps: int = 1_000_000  # paper, section 4.1
    batch_size: int = 256


@dataclass(frozen=True)
class MixingSettings:
    """The composition of an online batch."""

    synthetic_ratio: float = 1 / 3  # r; paper, section 4.1


@dataclass(frozen=True)
class RefreshSettings:
    """How the generator is trained at a refresh; the paper states none of these."""

    first_steps: int = 100_000  # SynthER, EDIS
    steps: int = 100_000
    warm_start: bool = False  # continue from the previous refresh's weights; SynthER and EDIS start anew


@dataclass(frozen=True)
class EvaluationSettings:
    """When and how long the mean policy is played in environments of its own."""

    every: int = 10_000  # environment steps; PEX
    episodes: int = 10  # PEX; the final score averages them


@dataclass(frozen=True)
class MazeSettings:
    """What takes the place of the groups of the same name for mazes, whose reward is sparse."""

    iql: IQLSettings = field(default_factory=lambda: IQLSettings(reward="minus-one"))
    evaluation: EvaluationSettings = field(default_factory=lambda: EvaluationSettings(episodes=100))


@dataclass(frozen=True)
class ReplaySettings:
    """APL's online-offline replay (paradigm 2); the defaults are its repository's."""

    probability: float = 0.5  # p of an online batch, constant
    gate: int = 10_000  # rows that the online ring must exceed before its first batch
    online_rows: int = 20_000  # the near-on-policy ring
    offline_gets_online: bool = True  # offline batches are drawn from all online rows too

    def __post_init__(self) -> None:
        if not 0 <= self.gate < self.online_rows:
            raise ValueError(f"gate must lie in [0, {self.online_rows}), the rows of the ring, found {self.gate}")


@dataclass(frozen=True)
class APLProfile:
    """APL's agent, and what takes the place of the groups of the same name for it."""

    learner: str = "conservative"  # the repository's default engine; "td3-bc" is the other
    conservative: APLSettings = field(default_factory=APLSettings)
    td3_bc: TD3BCSettings = field(default_factory=TD3BCSettings)
    replay: ReplaySettings = field(default_factory=ReplaySettings)
    pretrain: PretrainSettings = field(default_factory=lambda: PretrainSettings(steps=100_000))  # repository; paper: 1M
    finetune: FinetunePlan = field(
        default_factory=lambda: FinetunePlan(
            steps=100_000,
            refresh_every=10_000,
            warm_up=0,
            round_steps=1_000,
            updates_per_round=10_000,
            restart_rounds=True,
            synthetic_rows=200_000,
        )
    )
    refresh: RefreshSettings = field(default_factory=lambda: RefreshSettings(first_steps=30_000, steps=30_000))

    def __post_init__(self) -> None:
        _members("learner", (self.learner,), LEARNERS)


@dataclass(frozen=True)
class Profile:
    """One table, completely specified."""

    name: str
    algorithms: tuple[str, ...] = ALGORITHMS
    arms: tuple[str, ...] = ("base", "cfdg")
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    device: str = "auto"  # "auto", "cpu", "cuda" or "cuda:K"
    capture: bool = False  # replay the learner's updates as CUDA graphs; needs a GPU
    data: DataSettings = field(default_factory=DataSettings)
    iql: IQLSettings = field(default_factory=IQLSettings)
    pex: PEXSettings = field(default_factory=PEXSettings)
    apl: APLProfile = field(default_factory=APLProfile)
    maze: MazeSettings = field(default_factory=MazeSettings)
    pretrain: PretrainSettings = field(default_factory=PretrainSettings)
    finetune: FinetunePlan = field(default_factory=FinetunePlan)
    mixing: MixingSettings = field(default_factory=MixingSettings)
    diffusion: DiffusionSettings = field(default_factory=DiffusionSettings)
    refresh: RefreshSettings = field(default_factory=RefreshSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)

    def __post_init__(self) -> None:
        for name, known in (("arms", tuple(ARMS)), ("algorithms", ALGORITHMS)):
            _members(name, getattr(self, name), known)
        if not self.seeds:
            raise ValueError("seeds is empty, expected at least one seed")
        if len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds must be distinct and not negative, found {list(self.seeds)}")
        if not self.data.datasets:
            raise ValueError("data.datasets is empty, expected at least one dataset")
        for key, value in (("pretrain.steps", self.pretrain.steps), ("evaluation.every", self.evaluation.every)):
            if value < 1:
                raise ValueError(f"{key} must be at least 1, found {value}")


def applies(algorithm: str, dataset: str) -> bool:
    """Whether a table has this cell: the paper has no APL on mazes, whose raw rewards APL cannot learn from."""
    return algorithm != "apl" or suite(dataset) != "maze"


def settled(profile: Profile, dataset: str | None, algorithm: str) -> Profile:
    """The profile as it stands for one dataset and algorithm: their own groups take the place of the general ones."""
    if dataset is not None and suite(dataset) == "maze":
        profile = replace(profile, iql=profile.maze.iql, evaluation=profile.maze.evaluation)
    if algorithm == "apl":
        own = profile.apl
        profile = replace(profile, pretrain=own.pretrain, finetune=own.finetune, refresh=own.refresh)
    return profile


def _members(name: str, found: Sequence[str], known: Sequence[str]) -> None:
    if not found:
        raise ValueError(f"{name} is empty, expected some of {', '.join(known)}")
    for value in found:
        if value not in known:
            raise ValueError(f"{name}: unknown {value!r}{near(value, known)}, expected some of {', '.join(known)}")


def near(word: str, known: Sequence[str]) -> str:
    """The ``(did you mean ...?)`` of an error message, or nothing."""
    matches = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(matches)}?)" if matches else ""


def load_profile(name_or_path: str, overrides: Mapping[str, Any] | None = None) -> Profile:
    """Read a shipped profile or a YAML file, and change the dotted keys of ``overrides``.

    Raises:
        ValueError: if the profile, a key, a type or a value is wrong; the message names file and key.
        FileNotFoundError: if there is no such file.
    """
    where, text = _read(name_or_path)
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{where} holds a {type(tree).__name__}, expected keys and values")
    for key, value in (overrides or {}).items():
        _set(tree, key, value)
    return build_profile(tree, where)


def build_profile(tree: Mapping[str, Any], where: str) -> Profile:
    """Check every key and type of a nested mapping and build the profile."""
    _known_keys(Profile, tree, where, "")
    whole = _merged(json.loads(json.dumps(asdict(Profile(name="")))), tree)
    try:
        return TypeAdapter(Profile).validate_json(json.dumps(whole), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        found = f", found {first['input']!r}" if first["type"] != "value_error" else ""
        raise ValueError(f"{where}: {key + ': ' if key else ''}{message}{found}") from error


def dump_profile(profile: Profile) -> str:
    """The profile as YAML that :func:`load_profile` reads back unchanged."""
    return yaml.safe_dump(json.loads(json.dumps(asdict(profile))), sort_keys=False)


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """``key.path=value`` words of the command line as a mapping; values are YAML.

    Raises:
        ValueError: if a word has no ``=``.
    """
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"override {pair!r} is not of the form key=value, such as finetune.steps=2000")
        found[key] = _number(yaml.safe_load(value))
    return found


def _number(value: object) -> object:
    """YAML 1.1 takes 3e-4 for a word, because it has no dot."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    return value


def _read(name_or_path: str) -> tuple[str, str]:
    if name_or_path in PROFILES:
        source = resources.files("cfdg_experiments") / "profiles" / f"{name_or_path}.yaml"
        return f"profile {name_or_path}", source.read_text(encoding="utf-8")
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        raise ValueError(
            f"unknown profile {name_or_path!r}{near(name_or_path, PROFILES)}, "
            f"expected {', '.join(PROFILES)} or a .yaml file"
        )
    if not path.exists():
        raise FileNotFoundError(f"profile {path} does not exist")
    return f"profile {path}", path.read_text(encoding="utf-8")


def _set(tree: dict[str, Any], key: str, value: object) -> None:
    *groups, last = key.split(".")
    for group in groups:
        tree = tree.setdefault(group, {})
        if not isinstance(tree, dict):
            raise ValueError(f"override {key}: {group} is a value, not a group of keys")
    tree[last] = value


def _merged(defaults: Mapping[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """``tree`` with the keys that it does not mention; a group keeps its own defaults, APL's plan for one."""
    both = {
        key: _merged(defaults[key], value)
        for key, value in tree.items()
        if isinstance(defaults.get(key), dict) and isinstance(value, dict)
    }
    return {**defaults, **tree, **both}


def _known_keys(kind: type, tree: Mapping[str, Any], where: str, prefix: str) -> None:
    """Refuse unknown keys, with near names, before any type is looked at."""
    hints, names = get_type_hints(kind), [item.name for item in fields(kind)]
    for key, value in tree.items():
        if key not in names:
            raise ValueError(f"{where}: unknown key {prefix}{key}{near(str(key), names)}")
        if is_dataclass(hints[key]) and isinstance(value, dict):
            _known_keys(hints[key], value, where, f"{prefix}{key}.")
