"""TabularDiffusion: a diffusion model of a DataFrame, which generates DataFrames of the same kind."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from cfdg_diffusion.edm.checks import NotFittedError
from cfdg_diffusion.tabular.checks import (
    check_at_least,
    check_parameters,
    check_rows,
    check_table,
    checked_seed,
    resolved_device,
)
from cfdg_diffusion.tabular.columns import Kind
from cfdg_diffusion.tabular.constraints import Constraint, check_constraints
from cfdg_diffusion.tabular.early_stopping import Callback, CheckpointFile, History
from cfdg_diffusion.tabular.fitted import FittedTable, make_plan
from cfdg_diffusion.tabular.generation import Draws, RowGenerator, SamplerOptions, stream_tables
from cfdg_diffusion.tabular.model_file import read_model, write_model
from cfdg_diffusion.tabular.rejection import SampleReport
from cfdg_diffusion.tabular.request import Balance, SampleArguments, guidance_weights
from cfdg_diffusion.tabular.schema import TableSchema
from cfdg_diffusion.tabular.settings import TABLE_DIFFUSION, TabularSettings
from cfdg_diffusion.tabular.training import Fitting

__all__ = ["TABLE_DIFFUSION", "History", "TabularDiffusion", "TabularSettings"]


class TabularDiffusion:
    """A diffusion model of a table with numbers, categories, dates and missing values.

    ``TabularDiffusion().fit(table, label="y").sample(1000, label="rare")`` fits a model and generates rows.

    Args:
        seed: of training and sampling, 0 or more; on a CPU the same seed gives the same bytes.
        settings: None takes :class:`TabularSettings`' defaults.
        constraints: conditions on every generated row; a row that breaks one is drawn again, nothing is clipped.
        device: "cpu", "cuda" or another of PyTorch's names; "auto" takes a GPU if there is one.

    Raises:
        ValueError: if the seed is negative or the device is not available.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        settings: TabularSettings | None = None,
        constraints: Sequence[Constraint] = (),
        device: str = "auto",
    ) -> None:
        self.seed = checked_seed(seed)
        self.settings = settings or TabularSettings()
        self.constraints = tuple(constraints)
        self.device = resolved_device(device)
        self._report = SampleReport()
        self._fitted: FittedTable | None = None

    @property
    def history(self) -> History:
        """Losses, steps and time of the latest fit; empty before the first."""
        return History() if self._fitted is None else self._fitted.history

    @property
    def rejected(self) -> dict[str, int]:
        """Draws of the latest ``sample``, ``stream`` or ``impute`` that broke each constraint, by its name."""
        return self._report.rejected

    @property
    def repaired(self) -> int:
        """Rows of the latest call that another draw replaced."""
        return self._report.repaired

    @property
    def unmet(self) -> int:
        """Rows of the latest ``impute`` that still break a constraint."""
        return self._report.unmet

    @property
    def schema(self) -> TableSchema:
        """Columns and labels of the latest fit.

        Raises:
            NotFittedError: if the model has not been fitted.
        """
        return self._require_fitted().schema

    def _require_fitted(self) -> FittedTable:
        if self._fitted is None:
            raise NotFittedError("the model has not been fitted, expected fit(table) first")
        return self._fitted

    @property
    def dtypes(self) -> pd.Series:
        """Dtype of each generated column by its name, in the order of training; see :attr:`schema` for errors."""
        return self.schema.dtypes

    def fit(  # noqa: PLR0913 - the public front door: every argument but the table has a default
        self,
        table: pd.DataFrame,
        *,
        label: Hashable | Sequence[Hashable] | None = None,
        kinds: Mapping[Hashable, Kind | str] | None = None,
        steps: int | None = None,
        time_budget: float | None = None,
        progress: bool = False,
        callback: Callback | None = None,
        warm_start: bool = False,
        checkpoint: str | Path | None = None,
        checkpoint_every: float = 60.0,
        keep_checkpoint: bool = False,
    ) -> TabularDiffusion:
        """Learn a table of N rows; a fit that fails or is interrupted leaves the model as it was.

        It needs N x D x 4 bytes of memory, twice that while rows are encoded, with D as in :meth:`describe`: about one
        dimension for a number and up to 24 for a category.

        Args:
            table: at least one row; any index. An IdentifierWarning tells a text column whose values nearly all differ.
            label: column or columns to condition on; rare labels get as much of the training as frequent ones.
            kinds: kinds of some columns, see :meth:`TableCodec.learn`.
            steps: gradient steps at most; None takes the settings'. Early stopping may end the training before.
            time_budget: seconds after which training ends.
            progress: show a bar with the losses.
            callback: called about 60 times per fit with the history so far; True ends the training.
            warm_start: continue from the present weights, if there are any, on more rows of the same columns; only the
                label frequencies become those of the new rows, while levels, labels and scales stay.
            checkpoint: file written during training and removed at its end. After a kill, the same call continues from
                it; on a CPU it ends with the bytes of an uninterrupted training.
            checkpoint_every: least number of seconds between two writes; there are about 60 at most.
            keep_checkpoint: leave the result in it, which the same call returns at once, until the model is saved.

        Raises:
            ValueError: if the table cannot be learnt, or the checkpoint belongs to another fit.
            RuntimeError: if training diverges, or another process runs the fit with this checkpoint.
        """
        check_table(table)
        check_at_least("steps", steps, 1)
        check_at_least("time_budget", time_budget, 0)
        old = self._fitted if warm_start else None
        learnt = partial(TableSchema.learn, kinds=kinds, settings=self.settings.codec)
        schema = old.schema.renewed(table, label) if old else learnt(table, label)
        check_constraints(table, schema.comparing(self.constraints))
        plan = make_plan(self.settings, steps, time_budget=time_budget, progress=progress, callback=callback)
        fitting = Fitting(schema, self.settings, self.seed, plan)
        file = None if checkpoint is None else CheckpointFile(Path(checkpoint), checkpoint_every, keep_checkpoint)
        self._fitted = FittedTable.learn(fitting, table, self.device, old.network if old else None, file)
        return self

    def sample(  # noqa: PLR0913 - the public front door: every argument has a default
        self,
        n: int | None = None,
        *,
        label: object = None,
        labels: pd.Series | pd.DataFrame | Sequence[object] | None = None,
        balance: bool | Balance = False,
        like: pd.DataFrame | None = None,
        fix: Sequence[Hashable] = (),
        guidance_weight: float | Mapping[object, float] | None = None,
        guidance_interval: tuple[float, float] = (0.0, math.inf),
        steps: int | None = None,
        seed: int | None = None,
        report: SampleReport | None = None,
    ) -> pd.DataFrame:
        """Generate a table of n rows.

        Args:
            n: number of rows; ``labels`` and ``like`` set it if they are given.
            label: value of the label column, or a dictionary of values of some label columns.
            labels: one label per row, a series or a table of the label columns.
            balance: equal counts of every label; a :class:`Balance` keeps them equal over several calls.
            like: rows whose columns ``fix`` are kept, while the others are generated to go with them. Constraints that
                read kept columns alone are not enforced.
            fix: names of these columns, features or labels. Other label columns are drawn to go with them.
            guidance_weight: w, 0 for the plain conditional model, or a dictionary of w by label.
            guidance_interval: lowest and highest noise level at which guidance acts.
            steps: sampler steps; None takes the settings'.
            seed: restarts the random stream; None continues it. Threads that share a model give each call a seed.
            report: counts of this call are added to it, see ``rejected``; other threads leave it alone.

        Raises:
            ValueError: if the model is not fitted or an argument names a value that was not in training.
            RuntimeError: if rows still break a constraint after thousands of draws.
        """
        options = SamplerOptions(guidance_interval=guidance_interval, steps=steps)
        default = self.settings.diffusion.guidance_weight
        weight = guidance_weights(guidance_weight, self.schema.labels, default)
        arguments = SampleArguments(n=n, label=label, labels=labels, balance=balance, like=like, fix=fix)
        with _call(self, seed, report) as generator:
            return generator.sample(arguments, replace(options, guidance_weight=weight))

    def stream(
        self,
        n: int,
        *,
        chunk: int = 100_000,
        seed: int | None = None,
        **options: Any,  # noqa: ANN401 - those of sample
    ) -> Iterator[pd.DataFrame]:
        """Generate ``n`` rows in tables of at most ``chunk`` rows; ``rejected`` and ``repaired`` count over all tables.

        Raises:
            ValueError: if the model is not fitted, or n or chunk is not a number of rows.
        """
        draws = self._require_fitted().draws(seed)
        check_rows("n", n, 0)
        check_rows("chunk", chunk, 1)
        return stream_tables(self.sample, draws, n, chunk, options)

    def impute(
        self, table: pd.DataFrame, *, seed: int | None = None, report: SampleReport | None = None
    ) -> pd.DataFrame:
        """Generate the missing cells of a table to go with the others, which stay as they are.

        A missing label is drawn from p(label | known cells) before the other cells, unless training had missing labels:
        then it is a label like any other. Columns that were always missing in training are not filled. Constraints are
        enforced where they read a generated cell; ``unmet`` counts the rows whose known cells allow no solution within
        thousands of draws.

        Raises:
            ValueError: if a column is absent, or a cell holds a value that was not in training.
        """
        with _call(self, seed, report) as generator:
            return generator.impute(table)

    def describe(self) -> str:
        """Describe the model in one line, and each column in another."""
        return f"TabularDiffusion of {self.schema.title}, seed {self.seed}{self.schema.describe()}"

    def __repr__(self) -> str:
        own = f"TabularDiffusion(seed={self.seed}, device={self.device!r})"
        if self._fitted is None:
            return f"{own}, not fitted"
        return f"{own}, fitted to {self.schema.rows:,} rows of {len(self.schema.order)} columns"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments, as scikit-learn's clone and grid search expect them."""
        return {name: getattr(self, name) for name in ("seed", "settings", "constraints", "device")}

    def set_params(self, **params: Any) -> TabularDiffusion:  # noqa: ANN401 - the constructor's arguments
        """Change constructor arguments; seed, settings and device take effect in the next fit.

        Raises:
            ValueError: if there is no such argument, the seed is negative or the device is not available.
        """
        check_parameters(params, self.get_params())
        vars(self).update(TabularDiffusion(**{**self.get_params(), **params}).get_params())
        return self

    def save(self, path: str | Path) -> None:
        """Write one safetensors file: weights, schema, settings and constraints, no training rows.

        ``FixedCombinations`` are stored with their combinations. A ``Predicate`` is code and is never stored.

        Raises:
            NotFittedError: if the model has not been fitted.
        """
        write_model(Path(path), self.get_params(), self._require_fitted())

    @classmethod
    def load(
        cls, path: str | Path, *, device: str = "auto", constraints: Sequence[Constraint] | None = None
    ) -> TabularDiffusion:
        """Read what :meth:`save` wrote, on any device; ``constraints`` take the place of the stored ones.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is truncated, foreign or newer, or had a constraint that is code: then give all of them.
        """
        device = resolved_device(device)
        arguments, fitted = read_model(Path(path), device, constraints)
        model = cls(**arguments, device=device)
        model._fitted = fitted
        return model


@contextmanager
def _call(model: TabularDiffusion, seed: int | Draws | None, report: SampleReport | None) -> Iterator[RowGenerator]:
    """Yield the generator of one call, and add its counts to ``report``."""
    fitted = model._require_fitted()
    own = SampleReport()
    model._report = own
    try:
        with fitted.draws(seed) as draws:
            rules = fitted.schema.comparing(model.constraints)
            yield RowGenerator(fitted.schema, fitted.network, draws, rules, own)
    finally:
        if report is not None:
            report.merge(own)
            model._report = report
