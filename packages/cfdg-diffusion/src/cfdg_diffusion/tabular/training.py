"""A table and a network -> a trained network."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cfdg_diffusion.edm.conditional import ConditionalDiffusion, DiffusionSettings
from cfdg_diffusion.tabular.early_stopping import Checkpoint, History, Plan, digest, train
from cfdg_diffusion.tabular.schema import TableSchema
from cfdg_diffusion.tabular.settings import TabularSettings

_NARROW = 10
"""Dimensions; fewer hold sharper densities: the network reads waves of them and the sampler takes twice the steps."""
_LEAST_HELD_OUT, _ENOUGH_HELD_OUT = 5, 100
"""Fewer rows judge nothing, so none is held out; up to so many, a small table gives a larger share than is usual."""
_LARGEST_SHARE = 0.3
_MOST_HELD_OUT = 5_000
"""More would cost memory and time that do not make the judgement better."""


def network(schema: TableSchema, settings: DiffusionSettings, seed: int, device: str) -> ConditionalDiffusion | None:
    """The untrained model of a table's rows; None if there is nothing to generate but constants."""
    if not schema.width:
        return None
    if schema.width < _NARROW:
        settings = replace(settings, waves=settings.waves + 3, sampling_steps=2 * settings.sampling_steps)
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
    """One fit.

    Attributes:
        schema: of the table.
        settings: see :class:`TabularSettings`.
        seed: of dequantisation and of the choice of held-out rows.
        plan: how long, and who is told.
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
        file: tuple[Path, float] | None,
    ) -> History:
        """Train a new model.

        Args:
            model: untrained.
            table: training rows.
            before: the model whose weights to go on from; it stays as it is.
            file: checkpoint and least seconds between two writes.
        """
        if before is not None:
            model.load_state_dict(before.state_dict())
        rng = np.random.default_rng([self.seed, 0])
        rows, labels = self.schema.encode(table, rng), self.schema.labels.encode(table)
        held_out = move_back(self._held_out(labels, rng), rows, labels)
        plan = self.plan if file is None else replace(self.plan, checkpoint=self._checkpoint(model, rows, labels, file))
        history = train(model, rows, labels, held_out, plan)
        if before is not None:
            _keep_labels(model, before)
        return history

    def _held_out(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rows ``(N,)`` that only judge; none of a table, or of a label, that has too few."""
        share, held_out = self.settings.held_out_share, np.zeros(len(labels), dtype=bool)
        if share:
            share = max(share, min(_ENOUGH_HELD_OUT / len(labels), _LARGEST_SHARE))
            share = min(share, _MOST_HELD_OUT / len(labels))
        if len(labels) * share >= _LEAST_HELD_OUT:
            for label in np.unique(labels):
                mine = rng.permutation(np.flatnonzero(labels == label))
                held_out[mine[: int(len(mine) * share)]] = True
        return held_out

    def _checkpoint(
        self, model: ConditionalDiffusion, rows: np.ndarray, labels: np.ndarray, file: tuple[Path, float]
    ) -> Checkpoint:
        weights = model.state_dict()["learner.weights"].cpu().numpy()
        run = {"seed": self.seed, "steps": self.plan.steps, "settings": asdict(self.settings)}
        return Checkpoint(*file, {**run, "rows": digest(rows, labels, weights)})


def move_back(chosen: np.ndarray, rows: np.ndarray, labels: np.ndarray) -> int:
    """Move the chosen rows ``(N,)`` to the end and count them; in place, as a copy would double the memory."""
    count = int(chosen.sum())
    kept = len(chosen) - count
    back, front = np.flatnonzero(chosen[:kept]), kept + np.flatnonzero(~chosen[kept:])
    for array in (rows, labels):
        array[back], array[front] = array[front], array[back]
    return count


def _keep_labels(model: ConditionalDiffusion, before: ConditionalDiffusion) -> None:
    """Labels that an earlier fit had can be asked for though the latest had none of their rows."""
    state, name = model.state_dict(), "label_counts"
    state[name] = torch.maximum(state[name], before.state_dict()[name])
    model.load_state_dict(state)
