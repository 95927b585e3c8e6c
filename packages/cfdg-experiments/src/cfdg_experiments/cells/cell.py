"""Cells of a table: their settings, the keys that name their files, and the events of a running one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cfdg_experiments.arms import Arm, find_arm
from cfdg_experiments.cells.results import CellKey, CellResult, Evaluation
from cfdg_experiments.generators.schedule import Schedule
from cfdg_experiments.profiles.profile import PRETRAINED_AS, CellProfile, Profile, datasets_of, profile_for
from cfdg_experiments.storage.ring_files import remove_rings
from cfdg_rl.composition import Composition
from cfdg_rl.datasets.load import content_digest, environment_of
from cfdg_rl.datasets.recorded.recording import plan_recording
from cfdg_rl.envs.simulate import has_simulator
from cfdg_rl.files import remove_drafts
from cfdg_rl.locks import BusyError, locked, remove_free_locks

SAMPLING = ("guidance_weight", "sampler", "sampling_steps", "chunk_rows")  # settings that no fit depends on
Phase = Literal["pre-training", "fine-tuning"]
FIRST_FORMAT = 2  # of recordings when keys were first made, in which it is no part


@dataclass(frozen=True)
class Cell:
    """One (dataset, algorithm, arm) of a table with its own settings: everything that its curves depend on.

    Attributes:
        dataset: with its source, such as ``recorded:hopper-medium``.
        algorithm: ``iql``, ``pex`` or ``apl``.
        arm: a name of :data:`~cfdg_experiments.arms.ARMS`, or ``module:Name`` of one's own.
        profile: the settings of this cell.
        content: digest of the dataset's files where they may change under their name, else "".
    """

    dataset: str
    algorithm: str
    arm: str
    profile: CellProfile
    content: str = ""

    @property
    def key(self) -> CellKey:
        """Place of the cell in the table."""
        return CellKey(self.dataset, self.algorithm, self.arm)

    @property
    def name(self) -> str:
        """``dataset/algorithm/arm``, for messages and run names."""
        return self.key.name

    @property
    def augmentation(self) -> Arm:
        """Settings of the arm."""
        return find_arm(self.arm)

    @property
    def pretraining(self) -> str:
        """Name of the offline phase, which every arm of a dataset shares, and IQL with PEX."""
        return f"{self.dataset}/{PRETRAINED_AS[self.algorithm]} pre-training"


def cells_of(profile: Profile) -> list[Cell]:
    """List every cell, in the order of the table, and choose the settings of each.

    Raises:
        ValueError: if a dataset cannot have an arm.
    """
    pairs = [(name, algorithm) for algorithm in profile.algorithms for name in datasets_of(profile, algorithm)]
    settings = {pair: profile_for(profile, *pair) for pair in pairs}
    contents = {name: content_digest(name) for name in dict(pairs)}
    cells = [Cell(*pair, arm, own, contents[pair[0]]) for pair, own in settings.items() for arm in profile.arms]
    for cell in cells:
        check_cell(cell)
    return cells


def check_cell(cell: Cell) -> None:
    """Refuse an arm that the cell's dataset or settings cannot have, before any work.

    Raises:
        ValueError: if the arm needs a simulator that there is none of, or more generated rows than fit in a batch.
    """
    arm = cell.augmentation
    env_id = environment_of(cell.dataset) if arm.needs_simulator else None
    if env_id is not None and not has_simulator(env_id):
        raise ValueError(
            f"arm {cell.arm} needs a simulator that can be set to a state, and {cell.dataset} has none "
            f"for environment {env_id}, expected hopper, halfcheetah, walker2d or a cfdg maze"
        )
    mixing = cell.profile.mixing
    try:
        arm.composition(mixing.match, mixing.synthetic_ratio, cell.profile.finetune.online_share)
    except ValueError as error:
        raise ValueError(f"arm {cell.arm} with match {mixing.match}: {error}") from error


@dataclass(frozen=True)
class Event:
    """Progress of a running cell, and a new evaluation if there is one.

    Attributes:
        cell: the cell.
        phase: "pre-training" or "fine-tuning".
        step: steps of the phase that are done.
        total: steps of the phase.
        evaluation: the evaluation at this step, or None.
    """

    cell: Cell
    phase: Phase
    step: int
    total: int
    evaluation: Evaluation | None = None


Listener = Callable[[Event], None]


@dataclass(frozen=True)
class Workspace:
    """The folder of a table's files.

    Attributes:
        folder: of everything.
        cache: where datasets are cached; None is the user's cache folder.
        on_saved: told of each checkpoint: its step, negative in the offline fit of a generator, and its files.
        stops: tells if work is to end with a checkpoint.
    """

    folder: Path
    cache: Path | None = None
    on_saved: Callable[[int, Sequence[Path]], None] | None = None
    stops: Callable[[], bool] = bool  # which is False

    def pretrained(self, cell: Cell) -> Path:
        """Return the offline checkpoint that every arm of a dataset shares, and IQL with PEX."""
        name = f"{_slug(cell.dataset)}-{PRETRAINED_AS[cell.algorithm]}-{pretrain_key(cell)}.safetensors"
        return self.folder / "pretrained" / name

    def generator(self, cell: Cell) -> Path:
        """Return the offline fit of a generator, which all arms and algorithms with the same model and units share."""
        name = f"{_slug(cell.dataset)}-{cell.augmentation.offline_fit}-{generator_key(cell)}.safetensors"
        return self.folder / "pretrained" / name

    def checkpoint(self, cell: Cell) -> Path:
        """Return the file of an unfinished cell's state."""
        return self.folder / "unfinished" / f"{_slug(cell.name)}-{cell_key(cell)}.safetensors"

    def rings(self, cell: Cell) -> Path:
        """Return the folder of an unfinished cell's rings, beside its checkpoint."""
        return self.checkpoint(cell).with_suffix(".rings")

    def discard(self, cell: Cell) -> None:
        """Remove the unfinished state of a cell."""
        self.checkpoint(cell).unlink(missing_ok=True)
        remove_rings(self.rings(cell))

    def result(self, cell: Cell) -> Path:
        """Return the file of a finished cell's curves."""
        return self.folder / "cells" / f"{_slug(cell.name)}-{cell_key(cell)}.json"

    def saved(self, step: int, files: Sequence[Path]) -> None:
        """Tell of a checkpoint."""
        if self.on_saved is not None:
            self.on_saved(step, files)

    def lock(self, name: str) -> Path:
        """Return the lock file of some work."""
        return self.folder / "unfinished" / f"{name}.lock"

    def remove_empty(self) -> None:
        """Remove free locks, the folder of unfinished work, and the whole one, where nothing is in them."""
        remove_free_locks(self.lock("").parent)
        with suppress(OSError):
            self.lock("").parent.rmdir()
            self.folder.rmdir()

    def sweep(self, cells: Iterable[Cell]) -> None:
        """Remove what killed processes left: drafts, free locks, and states of what is finished and nobody works on."""
        for cell in cells:
            with suppress(BusyError), locked(self.lock(self.result(cell).stem), cell.name, wait=False):
                if self.result(cell).exists() or not self.checkpoint(cell).exists():
                    self.discard(cell)
            with suppress(BusyError), locked(self.lock(self.pretrained(cell).stem), cell.name, wait=False):
                for path in (self.pretrained(cell), self.generator(cell)):
                    if path.exists():
                        path.with_suffix(".partial").unlink(missing_ok=True)
        for folder in (self.folder, *(path for path in self.folder.glob("**/") if path != self.folder)):
            remove_drafts(folder)
        remove_free_locks(self.folder / "unfinished")


def finished_cells(cells: Iterable[Cell], space: Workspace) -> dict[Cell, CellResult]:
    """Read the results that are on disk already."""
    paths = {cell: space.result(cell) for cell in cells}
    return {cell: CellResult.from_json(path, cell.key) for cell, path in paths.items() if path.exists()}


def pretrain_key(cell: Cell) -> str:
    """Hash everything that an offline checkpoint depends on."""
    own = cell.profile
    data = {"rows": own.rows, "seed": own.data_seed} | _recording_format(cell)
    agent = asdict(own.learner) | {"online_learning_rate": None}  # for fine-tuning alone
    pretrained_as = PRETRAINED_AS[cell.algorithm]
    parts = [cell.dataset, pretrained_as, data, agent, asdict(own.pretrain), list(own.seeds)]
    return _hash(parts + [cell.content] * bool(cell.content))


def generator_key(cell: Cell) -> str:
    """Hash everything that the offline fit of a generator depends on."""
    own = cell.profile
    kind = cell.augmentation.offline_fit
    diffusion = {name: value for name, value in asdict(own.diffusion).items() if name not in SAMPLING}
    outcomes = asdict(own.generators.outcomes) if kind == "split" else None
    held_out = own.generators.gate.held_out_every
    fit = [diffusion, outcomes, own.refresh.offline_steps, held_out]
    data = {"rows": own.rows, "seed": own.data_seed} | _recording_format(cell)
    parts = [cell.dataset, kind, data, own.learner.reward, fit, list(own.seeds)]
    return _hash(parts + [cell.content] * bool(cell.content))


def _recording_format(cell: Cell) -> dict[str, int]:
    """Return the version of a recorded dataset's contents, where it is not the first that keys were made of."""
    source, _, name = cell.dataset.partition(":")
    if source != "recorded":
        return {}
    version = plan_recording(name, cell.profile.rows, cell.profile.data_seed).format
    return {} if version == FIRST_FORMAT else {"format": version}


def cell_key(cell: Cell) -> str:
    """Hash everything that a cell's curves depend on."""
    own = cell.profile
    groups: list[Any] = [own.learner, own.finetune]
    parts = [asdict(group) for group in groups] + [{"synthetic_ratio": own.mixing.synthetic_ratio}]
    groups = [group for group in (own.pex, own.replay) if group is not None] + [own.evaluation]
    parts += [asdict(group) for group in groups] + _augmentation_parts(cell)
    return _hash([pretrain_key(cell), cell.algorithm, cell.arm, *parts])


def _augmentation_parts(cell: Cell) -> list[Any]:
    """List what an arm's rows depend on; a cell whose batch is the same in both protocols is one cell."""
    own = cell.profile
    arm = cell.augmentation
    values = {"diffusion": _with_old_names(asdict(own.diffusion)), "refresh": _schedule(own.refresh)}
    values |= asdict(own.generators)
    parts = [values[name] for name in arm.reads]
    ratio = own.mixing.synthetic_ratio
    shares = (ratio, own.finetune.online_share)
    chosen, native = (arm.composition(match, *shares) for match in (own.mixing.match, "native"))
    if _batch(cell, chosen) != _batch(cell, native):
        parts.append({"match": own.mixing.match})
    return parts + _mixing_parts(cell) + ([{"digest": arm.digest}] if arm.digest else [])


def _mixing_parts(cell: Cell) -> list[Any]:
    """List what else decides which generated rows a batch holds; nothing where all are off."""
    mixing = cell.profile.mixing
    arm = cell.augmentation
    parts: list[Any] = [{"extra": True}] if mixing.extra and arm.augments else []
    parts += [{"gate": asdict(cell.profile.generators.gate)}] if arm.is_gated(mixing.gate) else []
    return parts + ([{"on_policy": asdict(cell.profile.generators.on_policy)}] if arm.adapts(mixing.adaptive) else [])


def _batch(cell: Cell, composition: Composition) -> object:
    """Return the rows of a batch, which in paradigm 2 depend on the share of generated rows alone."""
    size = cell.profile.finetune.batch_size
    return composition.counts(size) if cell.profile.replay is None else round(size * composition.synthetic)


def _with_old_names(diffusion: dict[str, Any]) -> dict[str, Any]:
    """Keep the keys of cells that were finished before a setting was renamed."""
    return {"waves" if name == "fourier_octaves" else name: value for name, value in diffusion.items()}


def _schedule(refresh: Schedule) -> dict[str, Any]:
    """Describe a schedule; one without an offline fit as it was before there were any."""
    found = asdict(refresh)
    return found if refresh.offline_steps else {name: value for name, value in found.items() if name != "offline_steps"}


def _slug(name: str) -> str:
    return name.replace("recorded:", "").replace(":", "-").replace("/", "-")


def _hash(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
