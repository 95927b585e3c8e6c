"""Early stopping of a fit by held-out rows: its history, its plan, and the checkpoint it continues from."""

from __future__ import annotations

import hashlib
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cfdg_diffusion import storage
from cfdg_diffusion.edm.conditional import ConditionalDiffusion
from cfdg_diffusion.tabular.settings import TabularSettings

_KIND = "tabular checkpoint"
_FINISHED = "finished"  # key of a checkpoint that holds the result of its fit
_TOLERANCE = 0.99
"""An earlier loss counts as better only if it is at least 1 % below the last one: when all steps are done the learning
rate is 0 and the weights have settled, which is worth more than a smaller difference."""


@dataclass
class History:
    """Losses and end of a fit.

    Attributes:
        steps: gradient steps at which the losses were noted.
        losses: mean denoising loss of the training rows since the note before.
        held_out: denoising loss of held-out rows, empty where there are none.
        best_step: the step whose weights were kept.
        seconds: wall time, with that of the runs before where a checkpoint was continued.
        stopped: why the training ended: "steps", "early", "time" or "callback".
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    best_step: int = 0
    seconds: float = 0.0
    stopped: str = "steps"


Callback = Callable[[History], bool | None]


class EarlyStopping:
    """Best weights by the held-out loss, and whether it is time to stop.

    Args:
        patience: looks without a better loss before training stops.

    Attributes:
        best: lowest held-out loss so far.
        best_step: gradient step of it, 0 before the first look.
        looks_since_best: looks since then.
        weights: state of the model at that step; None before the first look.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best = math.inf
        self.best_step = 0
        self.looks_since_best = 0
        self.weights: dict[str, Any] | None = None

    def look(self, step: int, held_out: float, model: ConditionalDiffusion) -> int:
        """Compare the held-out loss after ``step`` steps with the best; returns the step whose weights are kept."""
        self.looks_since_best += 1
        if held_out < self.best:
            self.best = held_out
            self.best_step = step
            self.looks_since_best = 0
            self.weights = model.state_dict()
        return self.best_step

    def is_due(self, latest: float) -> bool:
        """Return whether to stop: patience is exhausted and the latest held-out loss is worse than the best."""
        return self.looks_since_best >= self.patience and self.best < _TOLERANCE * latest

    def is_settled(self, latest: float) -> bool:
        """Return whether the latest held-out loss is as good as the best, within 1 %."""
        return self.best >= _TOLERANCE * latest

    def state(self) -> dict[str, Any]:
        """Return everything that changes."""
        names = ("best", "best_step", "looks_since_best", "weights")
        return {name: getattr(self, name) for name in names}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state` was taken."""
        self.best = state["best"]
        self.best_step = state["best_step"]
        self.looks_since_best = state["looks_since_best"]
        self.weights = state["weights"]


@dataclass(frozen=True)
class CheckpointFile:
    """Place and pace of a checkpoint.

    Attributes:
        path: of the file.
        every: least seconds between two writes.
        keep: keep it at the end, with the result of the fit, instead of removing it.
    """

    path: Path
    every: float = 60.0
    keep: bool = False

    def is_finished(self) -> bool:
        """Return whether the file is there and holds the result of a fit.

        Raises:
            ValueError: if it is damaged.
        """
        return self.path.is_file() and _FINISHED in storage.load(self.path)


class Checkpoint:
    """File that a fit writes while it runs, and continues from when it is called again.

    Args:
        file: place and pace.
        run: JSON that has to be the same to continue: seed, settings, steps and a digest of the training rows.
    """

    def __init__(self, file: CheckpointFile, run: Mapping[str, Any]) -> None:
        self.path = file.path
        self.every = file.every
        self.keep = file.keep
        self.run = dict(run)
        self._written = time.perf_counter()
        self._told = False

    def read(self) -> dict[str, Any] | None:
        """Read the tree that was written last; None if there is no file.

        Raises:
            ValueError: if the file is no checkpoint, or that of another fit.
        """
        if not self.path.exists():
            return None
        tree = storage.load(self.path)
        if tree.get("kind") != _KIND:
            raise ValueError(f"{self.path} holds no checkpoint, expected one of this fit or no file")
        settings = asdict(TabularSettings.restore(tree["run"]["settings"]))  # an older file lacks later settings
        for name, own in self.run.items():
            found = settings if name == "settings" else tree["run"].get(name)
            if found != own:
                shown = "another table" if name == "rows" else f"{name} = {found}, not {own}"
                raise ValueError(f"{self.path} is of a fit with {shown}: delete it or give another checkpoint")
        return tree

    def result(self) -> tuple[History, dict[str, Any]] | None:
        """Read history and model of a fit that had ended; None if it had not; see :meth:`read` for errors."""
        tree = self.read()
        return (History(**tree["history"]), tree["model"]) if tree is not None and _FINISHED in tree else None

    def end(self, history: History, model: ConditionalDiffusion) -> None:
        """Write the result of the fit, or remove the file if it is not to be kept."""
        if self.keep:
            self.write({_FINISHED: True, "history": asdict(history), "model": model.state_dict()})
        else:
            self.path.unlink(missing_ok=True)

    def is_due(self) -> bool:
        """Return whether the latest write is long enough ago."""
        return time.perf_counter() - self._written >= self.every

    def write(self, state: Mapping[str, Any]) -> None:
        """Write the tree ``state``; where that fails, say so once, keep the last file and let the fit go on."""
        try:
            storage.save(self.path, {"kind": _KIND, "run": self.run, **state})
        except OSError as error:
            if not self._told:
                message = f"checkpoint {self.path} cannot be written ({error.strerror}); the fit goes on"
                warnings.warn(message, RuntimeWarning, stacklevel=2)
            self._told = True
        self._written = time.perf_counter()


@dataclass(frozen=True)
class Plan:
    """Limits of a training, its callback and its checkpoint.

    Attributes:
        steps: gradient steps at most.
        patience: see :class:`EarlyStopping`.
        time_budget: seconds at most.
        progress: whether to show a bar.
        callback: called at every look; True ends the training.
        checkpoint: None writes none.
    """

    steps: int
    patience: int
    time_budget: float | None = None
    progress: bool = False
    callback: Callback | None = None
    checkpoint: Checkpoint | None = None

    def allows(self, seconds: float) -> bool:
        """Return whether so many seconds are within the time budget."""
        return self.time_budget is None or seconds <= self.time_budget

    def reason_to_stop(self, history: History, stopping: EarlyStopping) -> str:
        """Return why training ends after the latest look: "time", "early" or "callback"; "steps" if it goes on."""
        if not self.allows(history.seconds):
            return "time"
        if history.held_out and stopping.is_due(history.held_out[-1]):
            return "early"
        if self.callback is not None and self.callback(history):
            return "callback"
        return "steps"


def digest(*arrays: np.ndarray) -> str:
    """Hash shapes, types and content of arrays to a hexadecimal name."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(repr((array.shape, array.dtype)).encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
