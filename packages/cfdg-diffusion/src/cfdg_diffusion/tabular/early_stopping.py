"""What looks after a training: losses, the best weights, the end, and a file to go on from."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from cfdg_diffusion import storage
from cfdg_diffusion.edm.conditional import ConditionalDiffusion

_KIND = "tabular checkpoint"
_AS_GOOD = 0.99
"""Share of the last held-out loss that an earlier one has to stay below to end the training or to be gone back to: when
all steps are done the learning rate is 0 and the weights have settled, which is worth more than so small a
difference."""


@dataclass
class History:
    """What a fit did.

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


@dataclass(frozen=True)
class Checkpoint:
    """A file that a fit writes while it runs, and goes on from when it is called again.

    Attributes:
        path: of the file.
        every: least seconds between two writes.
        run: what has to be the same to go on, as JSON: seed, settings, steps and a digest of the training rows.
    """

    path: Path
    every: float
    run: Mapping[str, Any]

    def read(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """What was written last; None if there is no file.

        Raises:
            ValueError: if the file is no checkpoint, or that of another fit.
        """
        if not self.path.exists():
            return None
        arguments, tensors = storage.load(self.path)
        if arguments.get("kind") != _KIND:
            raise ValueError(f"{self.path} holds no checkpoint, expected one of this fit or no file")
        for name, own in self.run.items():
            found = arguments.get("run", {}).get(name)
            if found != own:
                shown = "another table" if name == "rows" else f"{name} = {found}, not {own}"
                raise ValueError(f"{self.path} is of a fit with {shown}: delete it or give another checkpoint")
        return arguments, tensors

    def write(self, watch: Watch) -> None:
        """All that training goes on from."""
        arguments = {"kind": _KIND, "run": dict(self.run), "history": asdict(watch.history)}
        tensors = {f"model.{name}": tensor for name, tensor in watch.model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in (watch.state or {}).items()}
        storage.save(self.path, {**arguments, "best": watch.best, "since": watch.since}, tensors)


@dataclass(frozen=True)
class Plan:
    """How long to train, and who is told.

    Attributes:
        steps: gradient steps at most.
        patience: looks at the held-out loss without a better one.
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


def train(model: ConditionalDiffusion, rows: np.ndarray, labels: np.ndarray, held_out: int, plan: Plan) -> History:
    """Train on all rows ``(N, D)`` but the last ``held_out``, which only judge; the best weights stay in ``model``.

    If the held-out rows end the training before its half, it begins again with all rows and three quarters of the steps
    that were best: a small table can spare none, the learning rate falls to 0 as it should, and the last steps before
    the best teach little but the training rows themselves.
    """
    count, untrained = len(rows) - held_out, model.state_dict()
    watch = Watch(model, rows[count:], labels[count:], plan)
    start = watch.resume()
    with tqdm(total=plan.steps, initial=start, disable=not plan.progress, unit="step", desc="fit") as watch.bar:
        model.fit(rows[:count], labels[:count], steps=plan.steps, monitor=watch, start=start)
    watch.finish()
    history, again = watch.history, max(3 * watch.history.best_step // 4, 1)
    expected = history.seconds * (1 + again / history.steps[-1])
    in_time = plan.time_budget is None or expected <= plan.time_budget
    if history.stopped == "early" and history.best_step < plan.steps / 2 and in_time:
        model.load_state_dict(untrained)
        model.fit(rows, labels, steps=again, progress=plan.progress)
        history.seconds = time.perf_counter() - watch.began
    if plan.checkpoint is not None:
        plan.checkpoint.path.unlink(missing_ok=True)
    return history


class Watch:
    """Notes losses, keeps the best weights by the held-out loss, and says when to stop.

    Args:
        model: in training.
        rows: ``(H, D)`` held-out rows, perhaps none.
        labels: ``(H,)`` of them.
        plan: see :class:`Plan`.
    """

    def __init__(self, model: ConditionalDiffusion, rows: np.ndarray, labels: np.ndarray, plan: Plan) -> None:
        self.model, self.rows, self.labels, self.plan = model, rows, labels, plan
        self.history, self.best, self.since = History(), math.inf, 0
        self.state: dict[str, Tensor] | None = None
        self.bar: Any = None
        self.began = self._written = time.perf_counter()

    def resume(self) -> int:
        """Go on from the checkpoint, if there is one; returns the steps that are done."""
        found = self.plan.checkpoint.read() if self.plan.checkpoint else None
        if found is None:
            return 0
        arguments, tensors = found
        self.history, self.best, self.since = History(**arguments["history"]), arguments["best"], arguments["since"]
        self.model.load_state_dict(_part(tensors, "model."))
        self.state = _part(tensors, "best.") or None
        self.began -= self.history.seconds
        return self.history.steps[-1]

    def __call__(self, step: int, loss: float) -> bool:
        """A look after ``step`` steps, at the mean loss since the last one; True ends the training."""
        history = self.history
        history.steps.append(step)
        history.losses.append(loss)
        shown = {"loss": f"{loss:.3f}"}
        if len(self.rows):
            held_out = float(self.model.held_out_loss(self.rows, self.labels))
            history.held_out.append(held_out)
            self._keep(held_out, step)
            shown["held out"] = f"{held_out:.3f}"
        self.bar.set_postfix(shown)
        self.bar.update(step - self.bar.n)
        history.seconds = time.perf_counter() - self.began
        ends = self._ends()
        if not ends and step < self.plan.steps:
            self._write()
        return ends

    def _keep(self, held_out: float, step: int) -> None:
        self.since += 1
        if held_out < self.best:
            self.best, self.since, self.history.best_step = held_out, 0, step
            self.state = self.model.state_dict()

    def _ends(self) -> bool:
        history, plan = self.history, self.plan
        if plan.time_budget is not None and history.seconds > plan.time_budget:
            history.stopped = "time"
        elif self.since >= plan.patience and self.best < _AS_GOOD * history.held_out[-1]:
            history.stopped = "early"
        elif plan.callback is not None and plan.callback(history):
            history.stopped = "callback"
        return history.stopped != "steps"

    def _write(self) -> None:
        file, now = self.plan.checkpoint, time.perf_counter()
        if file is not None and now - self._written >= file.every:
            file.write(self)
            self._written = time.perf_counter()

    def finish(self) -> None:
        """Take the best weights back unless settled ones are as good."""
        settled = self.history.stopped == "steps" and self.state is not None
        if self.state is not None and not (settled and self.best >= _AS_GOOD * self.history.held_out[-1]):
            self.model.load_state_dict(self.state)
        else:
            self.history.best_step = self.history.steps[-1]
        self.history.seconds = time.perf_counter() - self.began


def digest(*arrays: np.ndarray) -> str:
    """One name for the content of arrays."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(repr((array.shape, array.dtype)).encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
