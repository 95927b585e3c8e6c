"""The result of a fit: schema, network, history and the random stream that sampling continues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.edm.conditional import ConditionalDiffusion
from cfdg_diffusion.tabular.early_stopping import History, Plan
from cfdg_diffusion.tabular.schema import TableSchema
from cfdg_diffusion.tabular.settings import TabularSettings
from cfdg_diffusion.tabular.training import Fitting, network


@dataclass
class FittedTable:
    """A fitted model of a table.

    Attributes:
        schema: columns and labels of the table.
        network: trained model of its rows; None if every generated column is constant.
        history: losses, steps and time of the fit.
        rng: draws labels and the places of integers within their cells; None before the first request.
    """

    schema: TableSchema
    network: ConditionalDiffusion | None
    history: History
    rng: np.random.Generator | None = None

    @classmethod
    def learn(
        cls,
        fitting: Fitting,
        table: pd.DataFrame,
        device: str,
        before: ConditionalDiffusion | None,
        checkpoint: tuple[Path, float] | None,
    ) -> FittedTable:
        """Train a new model; see :meth:`Fitting.fit` for the arguments."""
        model = network(fitting.schema, fitting.settings.diffusion, fitting.seed, device)
        history = History() if model is None else fitting.fit(model, table, before, checkpoint)
        return cls(fitting.schema, model, history)

    def stream(self, seed: int | None, first_seed: int) -> np.random.Generator:
        """Continue the random streams of sampling, or restart them at a seed; ``first_seed`` is for the first call."""
        if seed is not None and self.network is not None:
            self.network.restart_sampling((seed,))
        if seed is not None or self.rng is None:
            self.rng = np.random.default_rng([first_seed if seed is None else seed, 1])
        return self.rng

    def state(self) -> dict[str, Any]:
        """Return a tree of arrays and JSON, as :meth:`restore` takes it."""
        return {
            "schema": self.schema.state(),
            "history": asdict(self.history),
            "random": None if self.rng is None else self.rng.bit_generator.state,
            "model": None if self.network is None else self.network.state_dict(),
        }

    @classmethod
    def restore(cls, tree: Mapping[str, Any], settings: TabularSettings, device: str) -> FittedTable:
        """Rebuild what :meth:`state` was taken of, on any device."""
        schema = TableSchema.restore(tree["schema"])
        model = network(schema, settings.diffusion, tree["seed"], device)
        if model is not None:
            model.load_state_dict(tree["model"])
        rng = None
        if tree["random"] is not None:
            rng = np.random.default_rng()
            rng.bit_generator.state = tree["random"]
        return cls(schema, model, History(**tree["history"]), rng)


def make_plan(settings: TabularSettings, steps: int | None, **limits: Any) -> Plan:  # noqa: ANN401 - those of Plan
    """Combine the limits of one fit with the settings' number of steps and patience."""
    return Plan(settings.diffusion.steps if steps is None else steps, settings.patience, **limits)
