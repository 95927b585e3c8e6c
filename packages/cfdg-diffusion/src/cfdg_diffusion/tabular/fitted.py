"""The result of a fit: schema, network, history and the random stream that sampling continues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.edm.conditional import ConditionalDiffusion
from cfdg_diffusion.tabular.checks import checked_seed
from cfdg_diffusion.tabular.early_stopping import CheckpointFile, History, Plan
from cfdg_diffusion.tabular.generation import Draws
from cfdg_diffusion.tabular.identifiers import warn_of_identifiers
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
        rng: draws labels and the places of integers within their cells, in calls without a seed.
    """

    schema: TableSchema
    network: ConditionalDiffusion | None
    history: History
    rng: np.random.Generator

    @classmethod
    def learn(
        cls,
        fitting: Fitting,
        table: pd.DataFrame,
        device: str,
        before: ConditionalDiffusion | None,
        checkpoint: CheckpointFile | None,
    ) -> FittedTable:
        """Train a new model, warning of identifiers first; see :meth:`Fitting.fit` for the arguments."""
        if before is None:
            warn_of_identifiers(fitting.schema, stacklevel=3)  # the caller of TabularDiffusion.fit
        model = network(fitting.schema, fitting.settings.diffusion, fitting.seed, device)
        history = History() if model is None else fitting.fit(model, table, before, checkpoint)
        return cls(fitting.schema, model, history, _labels_rng(fitting.seed))

    @contextmanager
    def draws(self, seed: int | Draws | None) -> Iterator[Draws]:
        """Yield the random streams of a call: the model's, or for a seed its own, which no other thread draws from.

        After a call with a seed, calls without one go on where it ended.

        Args:
            seed: None continues the model's streams; ``Draws`` are those of an outer call.

        Raises:
            ValueError: if it is not an integer of 0 or more.
        """
        if seed is None:
            yield Draws(self.rng)
        elif isinstance(seed, Draws):
            yield seed
        else:
            number = checked_seed(seed)
            streams = None if self.network is None else self.network.sampling_streams((number,))
            own = Draws(_labels_rng(number), streams)
            yield own
            self.rng = own.rng
            if self.network is not None and streams is not None:
                self.network.restart_sampling(streams)

    def state(self) -> dict[str, Any]:
        """Return a tree of arrays and JSON, as :meth:`restore` takes it."""
        return {
            "schema": self.schema.state(),
            "history": asdict(self.history),
            "random": self.rng.bit_generator.state,
            "model": None if self.network is None else self.network.state_dict(),
        }

    @classmethod
    def restore(cls, tree: Mapping[str, Any], settings: TabularSettings, device: str) -> FittedTable:
        """Rebuild what :meth:`state` was taken of, on any device."""
        schema = TableSchema.restore(tree["schema"])
        model = network(schema, settings.diffusion, tree["seed"], device)
        if model is not None:
            model.load_state_dict(tree["model"])
        rng = _labels_rng(tree["seed"])
        if tree["random"] is not None:  # as older files have it before the first request
            rng.bit_generator.state = tree["random"]
        return cls(schema, model, History(**tree["history"]), rng)


def _labels_rng(seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, 1])


def make_plan(settings: TabularSettings, steps: int | None, **limits: Any) -> Plan:  # noqa: ANN401 - those of Plan
    """Combine the limits of one fit with the settings' number of steps and patience."""
    return Plan(settings.diffusion.steps if steps is None else steps, settings.patience, **limits)
