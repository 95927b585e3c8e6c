"""Cells of a table: their settings, the keys that name their files, and the events of a running one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cfdg_experiments.arms import Arm, find_arm
from cfdg_experiments.cells.keys import cell_key, generator_key, pretrain_key
from cfdg_experiments.cells.results import CellKey, CellResult, Evaluation
from cfdg_experiments.profiles.profile import PRETRAINED_AS, CellProfile, Profile, datasets_of, profile_for
from cfdg_experiments.storage.ring_files import remove_rings
from cfdg_rl.composition import extra_rows
from cfdg_rl.datasets.load import content_digest, environment_of
from cfdg_rl.envs.simulate import has_simulator
from cfdg_rl.files import remove_drafts
from cfdg_rl.locks import BusyError, locked, remove_free_locks

Phase = Literal["pre-training", "fine-tuning"]


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
    def starts_from_a_fit(self) -> bool:
        """True where the arm's model starts from a fit on the offline rows."""
        return self.augmentation.offline_fit is not None and self.profile.refresh.offline_steps > 0

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
        ValueError: if the arm needs a simulator that there is none of, more generated rows than fit in a batch, or such
            on top of no real ones.
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
        batch = arm.composition(mixing.match, mixing.synthetic_ratio, cell.profile.finetune.online_share)
        if mixing.extra:
            extra_rows(cell.profile.finetune.batch_size, batch.synthetic)
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


def _slug(name: str) -> str:
    return name.replace("recorded:", "").replace(":", "-").replace("/", "-")
