"""TabularDiffusion: a DataFrame in, the same kind of DataFrame out."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cfdg_diffusion import storage
from cfdg_diffusion.edm.conditional import ConditionalDiffusion, DiffusionSettings
from cfdg_diffusion.tabular.cells import fill, with_cells
from cfdg_diffusion.tabular.columns import CodecSettings
from cfdg_diffusion.tabular.columns.column import Kind
from cfdg_diffusion.tabular.constraints import (
    Constraint,
    check_constraints,
    columns_of,
    constraint_state,
    restore_constraint,
)
from cfdg_diffusion.tabular.early_stopping import Callback, History, Plan
from cfdg_diffusion.tabular.label_draws import OpenRows, blank_rows, guess, kept_rows
from cfdg_diffusion.tabular.rejection import Tally, drawn
from cfdg_diffusion.tabular.request import Balance, RowRequest, Wanted, draw, weights_of
from cfdg_diffusion.tabular.schema import TableSchema, check_table, check_unique
from cfdg_diffusion.tabular.settings import TABLE_DIFFUSION, TabularSettings
from cfdg_diffusion.tabular.training import Fitting, network

__all__ = ["TABLE_DIFFUSION", "History", "TabularDiffusion", "TabularSettings"]

_KIND = "tabular"


class TabularDiffusion:
    """A diffusion model of a table with numbers, categories, dates and missing values.

    ``TabularDiffusion().fit(table, label="y").sample(1000, label="rare")`` is all there is to it.

    Args:
        seed: of training and sampling; the same seed gives the same bytes on a CPU.
        settings: see :class:`TabularSettings`.
        constraints: what every generated row has to fulfil; rows that do not are drawn again, nothing is clipped.
        device: "auto" takes a GPU if there is one.

    Attributes:
        history: see :class:`History`.
        rejected: draws of the latest ``sample``, ``stream`` or ``impute`` that broke each constraint.
        repaired: rows of it that another draw replaced.
        unmet: rows of the latest ``impute`` that break a constraint all the same.

    Raises:
        ValueError: if the seed is negative or there is no such device.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        settings: TabularSettings | None = None,
        constraints: Sequence[Constraint] = (),
        device: str = "auto",
    ) -> None:
        self.seed, self.settings = _seed(seed), settings or TabularSettings()
        self.constraints, self.device = tuple(constraints), _device(device)
        self.history = History()
        self._tally = Tally()
        self._schema: TableSchema | None = None
        self._model: ConditionalDiffusion | None = None
        self._rng: np.random.Generator | None = None

    @property
    def rejected(self) -> dict[str, int]:
        """Draws of the latest call that broke each constraint."""
        return self._tally.rejected

    @property
    def repaired(self) -> int:
        """Rows of the latest call that another draw replaced."""
        return self._tally.repaired

    @property
    def unmet(self) -> int:
        """Rows of the latest ``impute`` that break a constraint all the same."""
        return self._tally.unmet

    def fit(  # noqa: PLR0913 - the front door: all but the table have a default
        self,
        table: pd.DataFrame,
        *,
        label: Hashable | Sequence[Hashable] | None = None,
        kinds: Mapping[Hashable, Kind] | None = None,
        steps: int | None = None,
        time_budget: float | None = None,
        progress: bool = False,
        callback: Callback | None = None,
        warm_start: bool = False,
        checkpoint: str | Path | None = None,
        checkpoint_every: float = 60.0,
    ) -> TabularDiffusion:
        """Learn a table.

        Needs N x D x 4 bytes for the rows, twice that while they are encoded, beside the table itself: N rows, D
        dimensions as :meth:`describe` counts them, about one for a number and up to 24 for a category. What training
        adds does not grow with N. A fit that fails or is interrupted leaves the model as it was.

        Args:
            table: at least one row; any index.
            label: column or columns to condition on; rare labels get as much of the training as frequent ones.
            kinds: kind of some columns, see :meth:`TableCodec.learn`.
            steps: gradient steps; None takes the settings'. Training ends earlier when held-out rows stop improving.
            time_budget: seconds after which training ends.
            progress: show a bar with the losses.
            callback: called some sixty times with the history so far; True ends the training.
            warm_start: go on from the present weights, if there are any, on more rows of the same columns; levels,
                labels and scales are those of the first fit, the frequencies of labels those of the latest.
            checkpoint: a file that is written during the training and removed at its end. The same call goes on from
                it after a kill and ends, on a CPU, with the bytes of a training that was never interrupted.
            checkpoint_every: least seconds between two writes, at most some sixty in all.

        Raises:
            ValueError: if the table cannot be learnt, or the checkpoint is of another fit; the message says why.
            RuntimeError: if training diverges.
        """
        check_table(table)
        check_constraints(table, self.constraints)
        total = self.settings.diffusion.steps if steps is None else steps
        for name, value, least in (("steps", total, 1), ("time_budget", time_budget, 0)):
            if value is not None and not value >= least:
                raise ValueError(f"{name} is {value!r}, expected at least {least}")
        old = self._schema if warm_start else None
        schema = old.renewed(table, label) if old else TableSchema.learn(table, label, kinds, self.settings.codec)
        plan = Plan(total, self.settings.patience, time_budget, progress, callback)
        file = None if checkpoint is None else (Path(checkpoint), checkpoint_every)
        model, history = self._network(schema), History()
        if model is not None:
            before = self._model if old else None
            history = Fitting(schema, self.settings, self.seed, plan).fit(model, table, before, file)
        self._schema, self._model, self.history, self._rng = schema, model, history, None
        return self

    def _network(self, schema: TableSchema) -> ConditionalDiffusion | None:
        return network(schema, self.settings.diffusion, self.seed, self.device)

    def sample(  # noqa: PLR0913 - the front door: all have a default
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
    ) -> pd.DataFrame:
        """Generate rows.

        Args:
            n: number of rows; not needed with ``labels`` or ``like``, which have one row for each.
            label: value of the label column, or a dictionary of values of some label columns.
            labels: one label per row, a series or a table of the label columns.
            balance: equally many rows of every label; a :class:`Balance` is for several calls that share it.
            like: rows whose columns ``fix`` are kept while the others are generated to go with them. Constraints that
                look at kept columns alone are not enforced.
            fix: these columns, features or labels. Label columns that are not among them are drawn to go with them.
            guidance_weight: w, 0 for the plain conditional model; a dictionary gives some labels their own.
            guidance_interval: noise levels between which guidance acts.
            steps: sampler steps; None takes the settings'.
            seed: None goes on with the model's own stream.

        Raises:
            ValueError: if the model is not fitted or something asked for was not in training.
            RuntimeError: if rows still break a constraint after thousands of draws.
        """
        self._tally = Tally()
        wanted = Wanted(n, label, labels, balance, like, fix)
        return self._sampled(wanted, seed, guidance_weight, _options(guidance_interval, steps))

    def _sampled(
        self,
        wanted: Wanted,
        seed: int | None,
        guidance_weight: float | Mapping[object, float] | None,
        options: dict[str, Any],
    ) -> pd.DataFrame:
        schema, rng = self._begin(seed)
        weight = weights_of(guidance_weight, schema.labels, self.settings.diffusion.guidance_weight)
        request = wanted.request(schema, rng)
        if request.known is not None and request.cells is not None and wanted.leaves_labels_open(schema):
            request = replace(request, labels=self._guessed(request.known, kept_rows(schema, request.cells), rng))

        def draw(places: np.ndarray) -> pd.DataFrame:
            asked = request.at(places)
            table = schema.decode(asked.labels, self._rows(asked, weight, options))
            return table if asked.cells is None else with_cells(table, asked.cells)

        given = () if request.cells is None else request.cells.columns
        counted = [np.full(len(request.labels), _looks_beyond(rule, given)) for rule in self.constraints]
        table = drawn(draw, len(request.labels), self.constraints, self._tally, counted)
        if self._tally.unmet:
            raise RuntimeError(
                f"{self._tally.unmet} of {len(table)} rows still break a constraint, most of them {self._tally.worst!r}"
            )
        return table

    def stream(
        self,
        n: int,
        *,
        chunk: int = 100_000,
        seed: int | None = None,
        **options: Any,  # noqa: ANN401 - those of sample
    ) -> Iterator[pd.DataFrame]:
        """Generate ``n`` rows in tables of at most ``chunk``, for more rows than memory holds; see :meth:`sample`.

        ``rejected`` and ``repaired`` count over all tables.

        Raises:
            ValueError: if the model is not fitted, or n or chunk is no number of rows.
        """
        _ = self.schema
        for name, value, least in (("n", n, 0), ("chunk", chunk, 1)):
            if not isinstance(value, int | np.integer) or value < least:
                raise ValueError(f"{name} is {value!r}, expected a number of rows, at least {least}")
        return self._stream(n, chunk, seed, options)

    def _stream(self, n: int, chunk: int, seed: int | None, options: dict[str, Any]) -> Iterator[pd.DataFrame]:
        self._begin(seed)
        whole = Tally()
        if options.get("balance"):
            options = options | {"balance": Balance.of(options["balance"])}
        for start in range(0, n, chunk):
            table = self.sample(min(chunk, n - start), **options)
            whole.add(self.rejected)
            whole.repaired += self.repaired
            self._tally = whole
            yield table

    def impute(self, table: pd.DataFrame, *, seed: int | None = None) -> pd.DataFrame:
        """The table with its missing cells generated to go with the others; what is there stays as it is.

        Constraints are fulfilled where they look at a generated cell, in every row whose given cells allow it within
        thousands of draws; ``unmet`` counts the others. A missing label is drawn from p(label | given cells), once and
        before the other cells, unless training had missing labels: then it is a label like any other. Columns that were
        always missing in training are not filled.

        Raises:
            ValueError: if a column is missing altogether, or a cell holds what training did not.
        """
        schema, rng = self._begin(seed)
        check_unique(table)
        self._tally = Tally()
        open_labels = [n for n in schema.labels.columns if n in table.columns and n not in schema.labels.may_miss]
        blank = np.asarray(table[open_labels].isna().any(axis=1))
        labels = np.zeros(len(table), dtype=np.int64)
        labels[~blank] = schema.labels.encode(table[~blank])
        features = [name for name in schema.features if name in table.columns and name not in schema.labels.columns]
        columns = features + open_labels
        holes = table[columns].isna()
        open_rows = np.flatnonzero(holes.to_numpy().any(axis=1))
        part, holes, blank = table.iloc[open_rows], holes.iloc[open_rows].to_numpy(), blank[open_rows]
        known, labels = schema.present(part, rng), labels[open_rows]
        if blank.any():
            labels[blank] = self._guessed(known[blank], blank_rows(schema, part[blank]), rng)
        request = RowRequest(labels, known)

        def draw(places: np.ndarray) -> pd.DataFrame:
            made = schema.decode(request.labels[places], self._rows(request.at(places), None, {}))
            return fill(part.iloc[places], made, columns, np.arange(len(places))).reset_index(drop=True)

        counted = [_touches(constraint, columns, holes) for constraint in self.constraints]
        filled = drawn(draw, len(part), self.constraints, self._tally, counted)
        return fill(table, filled, columns, open_rows)

    @property
    def schema(self) -> TableSchema:
        """Columns and labels of the latest fit.

        Raises:
            ValueError: if there was none.
        """
        if self._schema is None:
            raise ValueError("the model has not been fitted, expected fit(table) first")
        return self._schema

    @property
    def dtypes(self) -> dict[Hashable, Any]:
        """Dtype of every column of a generated table, by name, in the order of training.

        Raises:
            ValueError: if the model is not fitted.
        """
        schema = self.schema
        empty = schema.decode(np.empty(0, dtype=np.int64), np.empty((0, schema.width), dtype=np.float32))
        return dict(empty.dtypes)

    def _begin(self, seed: int | None) -> tuple[TableSchema, np.random.Generator]:
        """Start the streams of sampling at a seed."""
        schema = self.schema
        if seed is not None:
            _seed(seed)
            if self._model is not None:
                self._model.restart_sampling((seed,))
        if seed is not None or self._rng is None:
            self._rng = np.random.default_rng([self.seed if seed is None else seed, 1])
        return schema, self._rng

    def _rows(self, asked: RowRequest, weight: np.ndarray | float | None, options: dict[str, Any]) -> np.ndarray:
        """Rows ``(n, D)`` in model space."""
        count = len(asked.labels)
        if self._model is None or count == 0:
            return np.empty((count, self.schema.width), dtype=np.float32)
        each = weight[asked.labels] if isinstance(weight, np.ndarray) else weight
        options = options | {"guidance_weight": each, "known": asked.known}
        return self._model.sample(asked.labels, **options).cpu().numpy()

    def _guessed(self, known: np.ndarray, groups: Sequence[OpenRows], rng: np.random.Generator) -> np.ndarray:
        """Labels ``(n,)`` that go with rows of which ``known (n, D)`` is."""
        schema = self.schema

        def pool(allowed: np.ndarray, count: int) -> tuple[np.ndarray, pd.DataFrame]:
            request = RowRequest(draw(schema.labels, allowed, count, rng))
            return request.labels, schema.decode(request.labels, self._rows(request, 0.0, {}))

        return guess(known, groups, pool, lambda cells: schema.known(cells, rng), rng)

    def describe(self) -> str:
        """What the model is, and one line for each column."""
        schema = self.schema
        labels = schema.labels
        told = f"{len(labels)} labels of {', '.join(map(str, labels.columns))}" if labels.columns else "no label"
        lines = [f"TabularDiffusion of {int(labels.counts.sum()):,} rows, {told}, seed {self.seed}"]
        return "\n".join([*lines, schema.codec.describe()] if schema.codec else lines)

    def __repr__(self) -> str:
        schema = self._schema
        state = "not fitted"
        if schema is not None:
            state = f"fitted to {int(schema.labels.counts.sum()):,} rows of {len(schema.order)} columns"
        return f"TabularDiffusion(seed={self.seed}, device={self.device!r}), {state}"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments, as scikit-learn's clone and grid search take them."""
        return {name: getattr(self, name) for name in ("seed", "settings", "constraints", "device")}

    def set_params(self, **params: Any) -> TabularDiffusion:  # noqa: ANN401 - the constructor's arguments
        """Change constructor's arguments; seed, settings and device act in the next fit.

        Raises:
            ValueError: if there is no such argument, the seed is negative or there is no such device.
        """
        unknown = [name for name in params if name not in self.get_params()]
        if unknown:
            raise ValueError(f"there is no parameter {unknown[0]!r}, expected one of {', '.join(self.get_params())}")
        own = TabularDiffusion(**{**self.get_params(), **params})
        self.seed, self.settings = own.seed, own.settings
        self.constraints, self.device = own.constraints, own.device
        return self

    def save(self, path: str | Path) -> None:
        """Write one safetensors file: weights, schema, settings and constraints, no training rows.

        ``FixedCombinations`` are stored with their combinations. A ``Predicate`` is code and is never stored.

        Raises:
            ValueError: if the model has not been fitted.
        """
        schema_state, arrays = self.schema.state()
        arguments = {
            "kind": _KIND,
            "seed": self.seed,
            "settings": asdict(self.settings),
            **schema_state,
            "history": asdict(self.history),
            "constraints": [constraint_state(constraint) for constraint in self.constraints],
            "random": None if self._rng is None else self._rng.bit_generator.state,
        }
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        tensors |= {f"model.{name}": t for name, t in (self._model.state_dict() if self._model else {}).items()}
        storage.save(Path(path), arguments, tensors)

    @classmethod
    def load(
        cls, path: str | Path, *, device: str = "auto", constraints: Sequence[Constraint] | None = None
    ) -> TabularDiffusion:
        """Read what :meth:`save` wrote, on any device.

        Args:
            path: of the file.
            device: see the class.
            constraints: take the place of the stored ones; to be given if one of these was code.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is truncated, foreign, of another kind or of a newer version, or had a constraint that
                is code.
        """
        arguments, tensors = storage.load(Path(path))
        if arguments.get("kind") != _KIND:
            raise ValueError(f"{path} holds no tabular model, expected a file of TabularDiffusion.save")
        stored = arguments.get("constraints", [])
        code = [state["name"] for state in stored if state.get("type") == "code"]
        if code and constraints is None:
            raise ValueError(
                f"{path} had the constraint {code[0]!r}, which is code and never stored: give all constraints to load"
            )
        device = _device(device)
        try:
            own = [restore_constraint(state) for state in stored] if constraints is None else constraints
            return cls._restore(arguments, tensors, device, own)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ValueError(f"{path} does not describe a model of this version: {error}") from error

    @classmethod
    def _restore(
        cls,
        arguments: dict[str, Any],
        tensors: Mapping[str, torch.Tensor],
        device: str,
        constraints: Sequence[Constraint],
    ) -> TabularDiffusion:
        own = dict(arguments["settings"])
        diffusion, codec = DiffusionSettings(**own.pop("diffusion")), CodecSettings(**own.pop("codec"))
        settings = TabularSettings(diffusion=diffusion, codec=codec, **own)
        model = cls(seed=arguments["seed"], settings=settings, constraints=constraints, device=device)
        parts = {name: tensor.numpy() for name, tensor in tensors.items() if not name.startswith("model.")}
        model._schema, model.history = TableSchema.restore(arguments, parts), History(**arguments["history"])
        model._model = model._network(model._schema)
        if model._model is not None:
            prefix = "model."
            state = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            model._model.load_state_dict(state)
        if arguments["random"] is not None:
            model._rng = np.random.default_rng()
            model._rng.bit_generator.state = arguments["random"]
        return model


def _options(interval: tuple[float, float], steps: int | None) -> dict[str, Any]:
    if len(interval) != 2 or not 0 <= interval[0] <= interval[1]:
        raise ValueError(f"guidance_interval is {interval}, expected two noise levels from 0, the lower first")
    if steps is not None and (not isinstance(steps, int | np.integer) or steps < 1):
        raise ValueError(f"steps is {steps!r}, expected at least 1")
    return {"guidance_interval": interval, "steps": steps}


def _device(device: str) -> str:
    """The device to use; "auto" is resolved.

    Raises:
        ValueError: if there is none of that name here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ValueError(f"device is {device!r}, which this machine has not, expected auto, cpu or cuda") from error
    return device


def _seed(seed: int) -> int:
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed is {seed!r}, expected an integer of 0 or more")
    return int(seed)


def _looks_beyond(constraint: Constraint, given: Iterable[Hashable]) -> bool:
    """Whether the constraint looks at a column that is not given: no draw changes what is."""
    names = columns_of(constraint)
    return names is None or not set(names) <= set(given)


def _touches(constraint: Constraint, columns: Sequence[Hashable], holes: np.ndarray) -> np.ndarray:
    """Rows ``(n,)`` with a hole ``(n, columns)`` that the constraint looks at."""
    names = columns_of(constraint)
    looked = [True if names is None else name in names for name in columns]
    return np.asarray(holes[:, np.array(looked, dtype=bool)].any(axis=1))
