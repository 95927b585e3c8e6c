"""Training of a table's model: hold out rows, train until it is time to stop, keep the best weights."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from cfdg_diffusion import storage
from cfdg_diffusion.edm.conditional import ConditionalDiffusion
from cfdg_diffusion.edm.losses import check_losses, looks
from cfdg_diffusion.edm.settings import DiffusionSettings
from cfdg_diffusion.tabular.early_stopping import (
    Checkpoint,
    CheckpointFile,
    EarlyStopping,
    History,
    Plan,
    digest,
)
from cfdg_diffusion.tabular.schema import TableSchema
from cfdg_diffusion.tabular.settings import TabularSettings

_NARROW = 10
"""Dimensions; fewer hold sharper densities: the network reads their Fourier features, the sampler takes twice the
steps."""
_LEAST_HELD_OUT = 5
"""Rows; fewer judge nothing, so none is held out."""
_ENOUGH_HELD_OUT = 100
"""Rows; up to so many, a small table gives a larger share than is usual."""
_LARGEST_SHARE = 0.3
_MOST_HELD_OUT = 5_000
"""Rows; more would cost memory and time that do not make the judgement better."""


def network(schema: TableSchema, settings: DiffusionSettings, seed: int, device: str) -> ConditionalDiffusion | None:
    """Build the untrained model of a table's rows; None if there is nothing to generate but constants."""
    if not schema.width:
        return None
    if schema.width < _NARROW:
        octaves = settings.fourier_octaves + 3
        settings = replace(settings, fourier_octaves=octaves, sampling_steps=2 * settings.sampling_steps)
    return ConditionalDiffusion(
        schema.width,
        len(schema.labels),
        seeds=(seed,),
        settings=settings,
        raw_columns=range(schema.width),  # the codec gives every block its scale
        categories=schema.categories,
        device=device,
    )


@dataclass(frozen=True)
class Fitting:
    """Arguments of one fit.

    Attributes:
        schema: of the table.
        settings: see :class:`TabularSettings`.
        seed: of dequantisation and of the choice of held-out rows.
        plan: limits of the training.
    """

    schema: TableSchema
    settings: TabularSettings
    seed: int
    plan: Plan

    def fit(
        self,
        model: ConditionalDiffusion,
        table: pd.DataFrame,
        before: ConditionalDiffusion | None,
        file: CheckpointFile | None,
    ) -> History:
        """Train a new model.

        Args:
            model: untrained.
            table: training rows.
            before: the model whose weights to continue from; it stays as it is.
            file: checkpoint; None writes none.
        """
        if before is not None:
            model.load_state_dict(before.state_dict())
        rng = np.random.default_rng([self.seed, 0])
        rows = self.schema.encode(table, rng)
        labels = self.schema.labels.encode(table)
        held_out = move_back(self._held_out(labels, rng), rows, labels)
        plan = self.plan if file is None else replace(self.plan, checkpoint=self._checkpoint(model, rows, labels, file))
        with nullcontext() if file is None else storage.locked(file.path, "the fit with checkpoint"):
            history = train(model, rows, labels, held_out, plan)
        if before is not None:
            _keep_labels(model, before)
        return history

    def _held_out(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Choose rows ``(N,)`` that only judge; none of a table, or of a label, that has too few."""
        share = self.settings.held_out_share
        held_out = np.zeros(len(labels), dtype=bool)
        if share:
            share = max(share, min(_ENOUGH_HELD_OUT / len(labels), _LARGEST_SHARE))
            share = min(share, _MOST_HELD_OUT / len(labels))
        if len(labels) * share >= _LEAST_HELD_OUT:
            for label in np.unique(labels):
                mine = rng.permutation(np.flatnonzero(labels == label))
                held_out[mine[: int(len(mine) * share)]] = True
        return held_out

    def _checkpoint(
        self, model: ConditionalDiffusion, rows: np.ndarray, labels: np.ndarray, file: CheckpointFile
    ) -> Checkpoint:
        weights = model.state_dict()["learner"]["weights"].cpu().numpy()
        run = {"seed": self.seed, "steps": self.plan.steps, "settings": asdict(self.settings)}
        return Checkpoint(file, {**run, "rows": digest(rows, labels, weights)})


def move_back(chosen: np.ndarray, rows: np.ndarray, labels: np.ndarray) -> int:
    """Move the chosen rows ``(N,)`` to the end and count them; in place, as a copy would double the memory."""
    count = int(chosen.sum())
    kept = len(chosen) - count
    back = np.flatnonzero(chosen[:kept])
    front = kept + np.flatnonzero(~chosen[kept:])
    for array in (rows, labels):
        array[back], array[front] = array[front], array[back]
    return count


def train(model: ConditionalDiffusion, rows: np.ndarray, labels: np.ndarray, held_out: int, plan: Plan) -> History:
    """Train on all rows ``(N, D)`` but the last ``held_out``, which only judge; the best weights stay in ``model``.

    A checkpoint of a training that had ended gives its result at once.

    Raises:
        ValueError: if the checkpoint is of another fit.
        RuntimeError: if training diverges.
    """
    file = plan.checkpoint
    ended = None if file is None else file.result()
    if ended is not None:
        history, state = ended
        model.load_state_dict(state)
    else:
        history = _train(model, rows, labels, held_out, plan)
    if file is not None:
        file.end(history, model)
    return history


def _train(model: ConditionalDiffusion, rows: np.ndarray, labels: np.ndarray, held_out: int, plan: Plan) -> History:
    """Train, and a second time where few rows make it worth while.

    If the held-out rows end the training before its half, it begins again with all rows and three quarters of the steps
    that were best: a small table can spare none, the learning rate falls to 0 as it should, and the last steps before
    the best teach little but the training rows themselves.
    """
    count = len(rows) - held_out
    untrained = model.state_dict()
    history = _train_until_stopped(model, (rows[:count], labels[:count]), (rows[count:], labels[count:]), plan)
    again = max(3 * history.best_step // 4, 1)
    expected = history.seconds * (1 + again / history.steps[-1])
    if history.stopped == "early" and history.best_step < plan.steps / 2 and plan.allows(expected):
        began = time.perf_counter()
        model.load_state_dict(untrained)
        model.fit(rows, labels, steps=again, progress=plan.progress)
        history.seconds += time.perf_counter() - began
    return history


Examples = tuple[np.ndarray, np.ndarray]
"""Rows ``(N, D)`` and labels ``(N,)``."""


def _train_until_stopped(model: ConditionalDiffusion, fitted: Examples, held_out: Examples, plan: Plan) -> History:
    """Train on ``fitted``, from the checkpoint if there is one; the best weights by ``held_out`` stay in ``model``."""
    history, stopping = _resumed(model, plan)
    began = time.perf_counter() - history.seconds
    start = history.steps[-1] if history.steps else 0
    training = model.training(*fitted, steps=plan.steps, start=start)
    with tqdm(total=plan.steps, initial=start, disable=not plan.progress, unit="step", desc="fit") as bar:
        for step, losses in looks(training, plan.steps, start):
            history.steps.append(step)
            history.losses.append(float(losses.mean()))
            if len(held_out[0]):
                history.held_out.append(float(model.held_out_loss(*held_out)))
                history.best_step = stopping.look(step, history.held_out[-1], model)
            history.seconds = time.perf_counter() - began
            _show(bar, history)
            history.stopped = plan.reason_to_stop(history, stopping)
            if history.stopped != "steps":
                break
            if step < plan.steps and plan.checkpoint is not None and plan.checkpoint.is_due():
                state = {"history": asdict(history), "stopping": stopping.state(), "model": model.state_dict()}
                plan.checkpoint.write(state)
    check_losses(torch.tensor(history.losses))
    _keep_best(model, history, stopping)
    history.seconds = time.perf_counter() - began
    return history


def _resumed(model: ConditionalDiffusion, plan: Plan) -> tuple[History, EarlyStopping]:
    """Begin, or continue from the checkpoint."""
    stopping = EarlyStopping(plan.patience)
    tree = None if plan.checkpoint is None else plan.checkpoint.read()
    if tree is None:
        return History(), stopping
    model.load_state_dict(tree["model"])
    stopping.restore(tree["stopping"])
    return History(**tree["history"]), stopping


def _show(bar: tqdm, history: History) -> None:
    shown = {"loss": f"{history.losses[-1]:.3f}"}
    if history.held_out:
        shown["held out"] = f"{history.held_out[-1]:.3f}"
    bar.set_postfix(shown)
    bar.update(history.steps[-1] - bar.n)


def _keep_best(model: ConditionalDiffusion, history: History, stopping: EarlyStopping) -> None:
    """Restore the best weights, unless all steps are done and the final ones are within 1 %."""
    settled = history.stopped == "steps" and history.held_out and stopping.is_settled(history.held_out[-1])
    if stopping.weights is None or settled:
        history.best_step = history.steps[-1]
    else:
        model.load_state_dict(stopping.weights)


def _keep_labels(model: ConditionalDiffusion, before: ConditionalDiffusion) -> None:
    """Keep labels of the earlier fit, which can be asked for though the latest had none of their rows."""
    state = model.state_dict()
    state["label_counts"] = torch.maximum(state["label_counts"], before.state_dict()["label_counts"])
    model.load_state_dict(state)
