"""Profiles: the settings of a table, and those of one of its cells."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import SkipValidation

from cfdg_diffusion import DiffusionSettings
from cfdg_experiments.arms import Match, find_arm
from cfdg_experiments.generators.context import GeneratorSettings
from cfdg_experiments.generators.inspection import InspectionSettings
from cfdg_experiments.generators.schedule import Schedule
from cfdg_experiments.names import near_names
from cfdg_rl.agents.apl import APLSettings
from cfdg_rl.agents.iql import IQLSettings
from cfdg_rl.agents.pex import PEXSettings
from cfdg_rl.agents.td3_bc import TD3BCSettings
from cfdg_rl.datasets.load import is_sparse
from cfdg_rl.finetune import FinetunePlan
from cfdg_rl.ranges import COUNT, NATURAL, OPTIONAL_COUNT, SHARE, SWITCH, Range, check_ranges

PRETRAINED_AS = {"iql": "iql", "pex": "iql", "apl": "apl"}  # algorithms of one value share their offline checkpoints
ALGORITHMS = tuple(PRETRAINED_AS)
LEARNERS = ("conservative", "td3-bc")
OTHERS = "others"  # datasets that data.rows does not name
ROWS = Range(
    f"a whole number of at least 1, or one by the name of a dataset and {OTHERS!r}",
    lambda value: all(map(OPTIONAL_COUNT.holds, value.values() if isinstance(value, Mapping) else (value,))),
)

LearnerSettings = IQLSettings | APLSettings | TD3BCSettings  # of the learner that is pre-trained


@dataclass(frozen=True)
class DataSettings:
    """Datasets of a table, and how much is read of each: one number, or one by dataset and for "others"."""

    datasets: tuple[str, ...] = ("recorded:hopper-medium",)
    apl_datasets: tuple[str, ...] | None = None  # in place of them for APL; null: the same
    rows: Annotated[int | Mapping[str, int] | None, SkipValidation] = None  # to record or keep; null: the source's own
    seed: int = 0  # of the recorder; the agents' seeds do not change the data

    def __post_init__(self) -> None:
        check_ranges(self, rows=ROWS, seed=NATURAL)

    def rows_of(self, dataset: str) -> int | None:
        """Return the rows of a dataset; None is its source's default."""
        if isinstance(self.rows, Mapping):
            return self.rows.get(dataset, self.rows.get(OTHERS))
        return self.rows


@dataclass(frozen=True)
class PretrainSettings:
    """The offline phase."""

    steps: int = 1_000_000  # paper, section 4.1
    batch_size: int = 256

    def __post_init__(self) -> None:
        check_ranges(self, steps=COUNT, batch_size=COUNT)


@dataclass(frozen=True)
class MixingSettings:
    """The composition of an online batch."""

    synthetic_ratio: float = 1 / 3  # r; paper, section 4.1
    match: Match = "native"  # "share" gives every arm but base CFDG's share of online-like rows
    extra: bool = False  # generated rows on top of a full batch of real ones, 128 + 128 + 128 for 256
    gate: bool = False  # held-out rows judge each refresh of a learnt generator; see generators.gate
    adaptive: bool = False  # keep the share of generated rows that counts as on-policy; see generators.on_policy

    def __post_init__(self) -> None:
        check_ranges(self, synthetic_ratio=SHARE, extra=SWITCH, gate=SWITCH, adaptive=SWITCH)


@dataclass(frozen=True)
class EvaluationSettings:
    """Evaluation of the mean policy in separate environments."""

    every: int = 10_000  # environment steps; PEX
    episodes: int = 10  # PEX; the final score averages them

    def __post_init__(self) -> None:
        check_ranges(self, every=COUNT, episodes=COUNT)


@dataclass(frozen=True)
class MazeSettings:
    """Overrides of the groups of the same name, for sparse tasks: mazes, and own data with a maze's rewards."""

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
        check_ranges(self, probability=SHARE, gate=NATURAL, online_rows=COUNT, offline_gets_online=SWITCH)
        if not 0 <= self.gate < self.online_rows:
            raise ValueError(f"gate is {self.gate}, expected 0 or more and less than online_rows, {self.online_rows}")


@dataclass(frozen=True)
class APLProfile:
    """Settings of APL's agent, and overrides of the groups of the same name for APL."""

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
    refresh: Schedule = field(default_factory=lambda: Schedule(first_steps=30_000, steps=30_000))

    def __post_init__(self) -> None:
        _check_members("learner", (self.learner,), LEARNERS)


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
    refresh: Schedule = field(default_factory=Schedule)
    generators: GeneratorSettings = field(default_factory=GeneratorSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    inspection: InspectionSettings = field(default_factory=InspectionSettings)

    def __post_init__(self) -> None:
        _check_members("algorithms", self.algorithms, ALGORITHMS)
        if not self.arms:
            raise ValueError("arms is empty, expected at least one arm")
        for arm in self.arms:
            find_arm(arm)
        if not self.seeds:
            raise ValueError("seeds is empty, expected at least one seed")
        if len(set(self.seeds)) != len(self.seeds) or not all(map(NATURAL.holds, self.seeds)):
            raise ValueError(f"seeds is {list(self.seeds)}, expected distinct integers >= 0 and below 2^63")
        if not self.data.datasets:
            raise ValueError("data.datasets is empty, expected at least one dataset")
        check_ranges(self, capture=SWITCH)
        _check_once(arms=self.arms, algorithms=self.algorithms)
        _check_words(self.name, self.device)
        for group, plan in (("finetune", self.finetune), ("apl.finetune", self.apl.finetune)):
            if plan.sparse_reward:
                found = f"{group}.sparse_reward is {list(plan.sparse_reward)}"
                raise ValueError(f"{found}, expected false: the two rewards of a task are those of its data")


@dataclass(frozen=True)
class CellProfile:
    """The settings of one cell: those of a profile, with the groups of its dataset and algorithm chosen.

    Attributes:
        seeds: R seeds, trained side by side as replicas.
        device: "auto", "cpu", "cuda" or "cuda:K".
        capture: replay the learner's updates as CUDA graphs.
        rows: rows to record or to keep of the dataset; None is the source's default.
        data_seed: seed of the recorder.
        learner: hyper-parameters of the learner that is pre-trained.
        pex: policy expansion for fine-tuning; None for the algorithms without it.
        replay: mixing by paradigm 2 (APL); None is paradigm 1.
        pretrain: the offline phase.
        finetune: the online phase.
        mixing: the composition of an online batch.
        diffusion: the generator.
        refresh: the generator's training.
        generators: settings of the arms beside those of the model.
        evaluation: frequency and length of evaluations.
        inspection: measures of each refresh.
    """

    seeds: tuple[int, ...]
    device: str
    capture: bool
    rows: int | None
    data_seed: int
    learner: LearnerSettings
    pex: PEXSettings | None
    replay: ReplaySettings | None
    pretrain: PretrainSettings
    finetune: FinetunePlan
    mixing: MixingSettings
    diffusion: DiffusionSettings
    refresh: Schedule
    generators: GeneratorSettings
    evaluation: EvaluationSettings
    inspection: InspectionSettings


def has_cell(algorithm: str, dataset: str) -> bool:
    """Tell if a table has this cell: the paper has no APL on mazes, since it cannot learn from raw sparse rewards."""
    return algorithm != "apl" or not is_sparse(dataset)


def datasets_of(profile: Profile, algorithm: str) -> tuple[str, ...]:
    """List the rows of an algorithm in the table."""
    return tuple(name for name in named_datasets(profile, algorithm) if has_cell(algorithm, name))


def named_datasets(profile: Profile, algorithm: str) -> tuple[str, ...]:
    """List the datasets that the profile names for an algorithm, also those that it cannot learn from."""
    own = profile.data.apl_datasets if algorithm == "apl" else None
    return own or profile.data.datasets


def schedule_for(profile: Profile, algorithm: str) -> Profile | APLProfile:
    """Return the part of the profile whose ``pretrain``, ``finetune`` and ``refresh`` hold for the algorithm."""
    return profile.apl if algorithm == "apl" else profile


def profile_for(profile: Profile, dataset: str, algorithm: str) -> CellProfile:
    """Choose the groups of one dataset and algorithm: a sparse task's and APL's own ones replace the general ones."""
    schedule = schedule_for(profile, algorithm)
    special = profile.maze if is_sparse(dataset) else profile
    return CellProfile(
        seeds=profile.seeds,
        device=profile.device,
        capture=profile.capture,
        rows=profile.data.rows_of(dataset),
        data_seed=profile.data.seed,
        learner=_apl_learner(profile.apl) if algorithm == "apl" else special.iql,
        pex=profile.pex if algorithm == "pex" else None,
        replay=profile.apl.replay if algorithm == "apl" else None,
        pretrain=schedule.pretrain,
        finetune=schedule.finetune,
        mixing=profile.mixing,
        diffusion=profile.diffusion,
        refresh=schedule.refresh,
        generators=profile.generators,
        evaluation=special.evaluation,
        inspection=profile.inspection,
    )


def _apl_learner(apl: APLProfile) -> LearnerSettings:
    return apl.td3_bc if apl.learner == "td3-bc" else apl.conservative


def _check_once(**lists: Sequence[str]) -> None:
    for name, values in lists.items():
        if twice := [value for value in values if values.count(value) > 1]:
            raise ValueError(f"{name} has {twice[0]!r} {values.count(twice[0])} times, expected every name once")


def _check_words(name: str, device: str) -> None:
    """Refuse a name that is no plain folder name, and a device that PyTorch is not asked for here."""
    if name and not re.fullmatch(r"\w[\w.+ -]*", name):
        raise ValueError(f"name is {name!r}, expected letters, digits and . + - _, for it names a folder")
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", device):
        raise ValueError(f"device is {device!r}, expected auto, cpu, cuda or cuda:K")


def _check_members(name: str, found: Sequence[str], known: Sequence[str]) -> None:
    if not found:
        raise ValueError(f"{name} is empty, expected some of {', '.join(known)}")
    for value in found:
        if value not in known:
            raise ValueError(f"{name} is {value!r}{near_names(value, known)}, expected some of {', '.join(known)}")
