"""Row generation from a fitted table model: sampling, imputation and labels drawn to go with known cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.edm.conditional import ConditionalDiffusion
from cfdg_diffusion.edm.streams import Streams
from cfdg_diffusion.tabular.cells import fill_missing, keep_columns
from cfdg_diffusion.tabular.checks import check_frame, check_unique, shown
from cfdg_diffusion.tabular.constraints import Constraint, enforced_in_holes, enforced_on_generated
from cfdg_diffusion.tabular.label_draws import (
    UnlabelledRows,
    draw_labels,
    rows_with_kept_columns,
    rows_with_missing_labels,
)
from cfdg_diffusion.tabular.rejection import SampleReport, draw_until_met
from cfdg_diffusion.tabular.request import Balance, ImputeRequest, RowRequest, SampleArguments, draw_by_frequency
from cfdg_diffusion.tabular.schema import TableSchema


@dataclass(frozen=True)
class SamplerOptions:
    """Guidance and sampler steps of one request.

    Attributes:
        guidance_weight: w of each label ``(L,)``, or one for all rows; None takes the settings'.
        guidance_interval: lowest and highest noise level at which guidance acts.
        steps: sampler steps; None takes the settings'.

    Raises:
        ValueError: if the interval or the number of steps is out of range.
    """

    guidance_weight: np.ndarray | float | None = None
    guidance_interval: tuple[float, float] = (0.0, math.inf)
    steps: int | None = None

    def __post_init__(self) -> None:
        interval = self.guidance_interval
        levels = interval if isinstance(interval, tuple | list) else ()
        numbers = [level for level in levels if isinstance(level, int | float | np.number)]
        if len(levels) != 2 or len(numbers) != 2 or not 0 <= numbers[0] <= numbers[1]:
            raise ValueError(
                f"guidance_interval is {shown(interval)}, expected two noise levels from 0, the lower first"
            )
        if self.steps is not None and (not isinstance(self.steps, int | np.integer) or self.steps < 1):
            raise ValueError(f"steps is {shown(self.steps)}, expected at least 1")


_PLAIN = SamplerOptions()
_UNGUIDED = SamplerOptions(guidance_weight=0.0)


@dataclass(frozen=True)
class Draws:
    """Random streams of one call, or of several.

    Attributes:
        rng: draws labels and the places of integers within their cells.
        streams: draw the network's noise; None continues its own, and stands for a model without a network.
    """

    rng: np.random.Generator
    streams: Streams | None = None


@dataclass(frozen=True)
class RowGenerator:
    """A fitted model at one point of its random streams.

    Attributes:
        schema: columns and labels of the table.
        network: trained model of its rows; None if every generated column is constant.
        draws: random streams.
        constraints: conditions that every generated row has to meet.
        report: counts the draws that the constraints took.
    """

    schema: TableSchema
    network: ConditionalDiffusion | None
    draws: Draws
    constraints: Sequence[Constraint]
    report: SampleReport

    def sample(self, arguments: SampleArguments, options: SamplerOptions) -> pd.DataFrame:
        """Generate the rows that the arguments of :meth:`TabularDiffusion.sample` ask for.

        Raises:
            ValueError: if the arguments contradict each other, or name a value that was not in training.
            RuntimeError: if rows still break a constraint after thousands of draws.
        """
        request = arguments.request(self.schema, self.draws.rng)
        if request.known is not None and request.cells is not None and arguments.leaves_labels_open(self.schema):
            groups = rows_with_kept_columns(self.schema, request.cells)
            request = replace(request, labels=self._draw_labels(request.known, groups))

        def draw(places: np.ndarray) -> pd.DataFrame:
            return self._table(request.at(places), options)

        kept = () if request.cells is None else request.cells.columns
        enforced = enforced_on_generated(self.constraints, kept, len(request.labels))
        table = draw_until_met(draw, len(request.labels), self.constraints, self.report, enforced)
        if self.report.unmet:
            raise RuntimeError(
                f"{self.report.unmet} of {len(table)} rows still break a constraint, most of them {self.report.worst!r}"
            )
        return table

    def impute(self, table: pd.DataFrame) -> pd.DataFrame:
        """Generate the missing cells of a table; see :meth:`TabularDiffusion.impute`.

        Raises:
            ValueError: if a column is absent, or a cell holds a value that was not in training.
        """
        check_frame("the table", table)
        check_unique(table.columns)
        asked = ImputeRequest.of(table, self.schema, self.draws.rng)
        if asked.unlabelled.any():
            known = asked.known[asked.unlabelled]
            groups = rows_with_missing_labels(self.schema, asked.table[asked.unlabelled])
            asked = asked.with_labels(self._draw_labels(known, groups))

        def draw(places: np.ndarray) -> pd.DataFrame:
            made = self._table(asked.rows.at(places), _PLAIN)
            given = asked.table.iloc[places]
            return fill_missing(given, made, asked.columns, np.arange(len(places))).reset_index(drop=True)

        enforced = enforced_in_holes(self.constraints, asked.columns, asked.holes)
        filled = draw_until_met(draw, len(asked.table), self.constraints, self.report, enforced)
        return fill_missing(table, filled, asked.columns, asked.places)

    def _table(self, request: RowRequest, options: SamplerOptions) -> pd.DataFrame:
        """Generate a table of n rows, with the kept columns of the request."""
        table = self.schema.decode(request.labels, self._rows(request, options))
        return table if request.cells is None else keep_columns(table, request.cells)

    def _rows(self, request: RowRequest, options: SamplerOptions) -> np.ndarray:
        """Generate float32 rows ``(n, D)`` in model space."""
        count = len(request.labels)
        if self.network is None or count == 0:
            return np.empty((count, self.schema.width), dtype=np.float32)
        weight = options.guidance_weight
        rows = self.network.sample(
            request.labels,
            guidance_weight=weight[request.labels] if isinstance(weight, np.ndarray) else weight,
            guidance_interval=options.guidance_interval,
            steps=options.steps,
            known=request.known,
            streams=self.draws.streams,
        )
        return rows.cpu().numpy()

    def _draw_labels(self, known: np.ndarray, groups: Sequence[UnlabelledRows]) -> np.ndarray:
        """Draw labels ``(n,)`` that go with the known dimensions ``(n, D)``, NaN where unknown."""

        def pool(allowed: np.ndarray, count: int) -> tuple[np.ndarray, pd.DataFrame]:
            request = RowRequest(draw_by_frequency(self.schema.labels, allowed, count, self.draws.rng))
            return request.labels, self._table(request, _UNGUIDED)

        return draw_labels(known, groups, pool, lambda cells: self.schema.known(cells, self.draws.rng), self.draws.rng)


def stream_tables(
    sample: Callable[..., pd.DataFrame],
    streams: AbstractContextManager[Draws],
    n: int,
    chunk: int,
    options: Mapping[str, Any],
) -> Iterator[pd.DataFrame]:
    """Generate ``n`` rows in tables of at most ``chunk`` rows, from the same streams and with one report."""
    shared = {"report": options.get("report") or SampleReport()}
    if options.get("balance"):
        shared["balance"] = Balance.of(options["balance"])
    with streams as draws:
        for start in range(0, n, chunk):
            yield sample(min(chunk, n - start), **{**options, **shared, "seed": draws})
