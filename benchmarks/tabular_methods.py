"""How each table generator is told what it wants to know. Every library is imported where it is used: they live apart.

Each gets the best that its documentation offers: the types of the columns, an indicator beside a number that is missing
in places where the library knows no missing values, its default settings, and as many epochs, noise levels and copies
as fit into the budget, up to its defaults.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

TABLE = "table"
"""SDV's name for the one table."""
_MARK = " is missing"
_EPOCHS = 300
"""Default of CTGAN and TVAE."""
_LEVELS, _COPIES, _ROUNDS = 50, 100, 100
"""Defaults of ForestDiffusion: noise levels, noisy copies of each row, trees."""
_FEW_LEVELS, _FEW_COPIES = 10, 10
"""Its authors: flow works from about 10 levels. Copies are kept at 10 before levels are."""
_SPIN = 2.0
"""CPU seconds that tell how much of a core there is."""
_SMALL = 20_000
"""Cells of a table whose forests are fast to time."""


@dataclass(frozen=True)
class Job:
    """What a generator may know: kind of every column ("boolean", "integer", "number", "category"), label, seconds."""

    kinds: Mapping[str, str]
    label: str
    task: str
    seed: int
    budget: float
    combinations: tuple[tuple[str, ...], ...] = ()

    def named(self, *kinds: str) -> list[str]:
        """Columns of some kinds."""
        return [name for name, kind in self.kinds.items() if kind in kinds]


@dataclass(frozen=True)
class Fitted:
    """Ways to draw rows: any, of one label, and with fixed combinations (None: it cannot)."""

    sample: Callable[[int], pd.DataFrame]
    of_label: Callable[[str, int], pd.DataFrame]
    combined: Callable[[int], pd.DataFrame] | None = None
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A library to import, how its effort is planned (not timed) and how it is fitted (timed)."""

    module: str
    plan: Callable[[Job, pd.DataFrame], dict[str, Any]]
    fit: Callable[[Job, pd.DataFrame, dict[str, Any]], Fitted]


def filtered(sample: Callable[[int], pd.DataFrame], label: str, value: str, n: int) -> pd.DataFrame:
    """Up to ``n`` rows of one label from at most five times as many, for a library that cannot be asked for it."""
    parts, found = [], 0
    for _ in range(5):
        rows = sample(n)
        parts.append(rows[rows[label].astype(str) == value])
        found += len(parts[-1])
        if found >= n:
            break
    return pd.concat(parts, ignore_index=True).iloc[:n]


def mark_missing(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its missing numbers filled with the median, and a column that says so."""
    gaps = table.isna()
    marks = {f"{name}{_MARK}": gaps[name] for name in table if gaps[name].any()}
    return table.fillna(table.median(numeric_only=True)).assign(**marks)


def unmark_missing(table: pd.DataFrame) -> pd.DataFrame:
    """Undo :func:`mark_missing`."""
    for mark in [name for name in table if str(name).endswith(_MARK)]:
        gone = table.pop(mark).astype(str).str.lower().isin(["true", "1", "1.0"])
        name = str(mark).removesuffix(_MARK)
        table[name] = table[name].astype(float).mask(gone)
    return table


def plan_nothing(job: Job, train: pd.DataFrame) -> dict[str, Any]:
    """For a library that needs no plan."""
    return {}


def fit_cfdg(job: Job, train: pd.DataFrame, plan: dict[str, Any]) -> Fitted:
    from cfdg_diffusion import TabularDiffusion
    from cfdg_diffusion.tabular.constraints import FixedCombinations

    model = TabularDiffusion(seed=job.seed, device="cpu")
    model.fit(train, label=job.label if job.task == "classification" else None)

    def combined(n: int) -> pd.DataFrame:
        model.constraints = tuple(FixedCombinations(names, train) for names in job.combinations)
        return model.sample(n)

    notes = {"stopped": model.history.stopped, "best_step": model.history.best_step, "steps": model.history.steps[-1:]}
    return Fitted(model.sample, lambda value, n: model.sample(n, label=value), combined, notes)


def _discrete(job: Job, table: pd.DataFrame) -> list[str]:
    return job.named("category", "boolean") + [name for name in table if name not in job.kinds]


def _ctgan(name: str, epochs: int, seed: int):
    import ctgan

    model = ctgan.CTGAN(epochs=epochs, enable_gpu=False) if name == "ctgan" else ctgan.TVAE(epochs=epochs)
    model.set_random_state(seed)
    return model


def plan_ctgan(name: str) -> Callable[[Job, pd.DataFrame], dict[str, Any]]:
    """Epochs that fit into the budget, from the CPU seconds of one (its second run: the first one imports) and four."""

    def plan(job: Job, train: pd.DataFrame) -> dict[str, Any]:
        table, seconds = mark_missing(train), {}
        for epochs in (1, 1, 4):
            begin = time.process_time()
            _ctgan(name, epochs, job.seed).fit(table, _discrete(job, table))
            seconds[epochs] = time.process_time() - begin
        each = max((seconds[4] - seconds[1]) / 3, 1e-3)
        fitting = int((job.budget - seconds[1]) / each)
        return {"epochs": min(_EPOCHS, max(fitting, 1)), "seconds_per_epoch": each}

    return plan


def fit_ctgan(name: str) -> Callable[[Job, pd.DataFrame, dict[str, Any]], Fitted]:
    def fit(job: Job, train: pd.DataFrame, plan: dict[str, Any]) -> Fitted:
        table = mark_missing(train)
        model = _ctgan(name, plan["epochs"], job.seed)
        model.fit(table, _discrete(job, table))

        def sample(n: int, *condition: str) -> pd.DataFrame:
            return unmark_missing(model.sample(n, *condition))

        def of_label(value: str, n: int) -> pd.DataFrame:
            # CTGAN can only raise the chance of a label, TVAE not even that.
            asked = (job.label, value) if name == "ctgan" else ()
            return filtered(lambda rows: sample(rows, *asked), job.label, value, n)

        return Fitted(sample, of_label)

    return fit


def fit_copula(job: Job, train: pd.DataFrame, plan: dict[str, Any]) -> Fitted:
    from sdv.metadata import Metadata
    from sdv.sampling import Condition
    from sdv.single_table import GaussianCopulaSynthesizer

    types = {"category": "categorical", "boolean": "boolean", "integer": "numerical", "number": "numerical"}
    columns = {name: {"sdtype": types[kind]} for name, kind in job.kinds.items()}
    model = GaussianCopulaSynthesizer(Metadata.load_from_dict({"tables": {TABLE: {"columns": columns}}}))
    model.fit({TABLE: train})

    def of_label(value: str, n: int) -> pd.DataFrame:
        asked = Condition({job.label: value}, num_rows=n, table_name=TABLE)
        return model.sample_from_conditions([asked])[TABLE]

    return Fitted(lambda n: model.sample(n)[TABLE], of_label)


def plan_mostly(job: Job, train: pd.DataFrame) -> dict[str, Any]:
    """Wall seconds, of which it keeps count, that hold the budget's CPU seconds while others use the core too."""
    cpu, wall = time.process_time(), time.perf_counter()
    while time.process_time() - cpu < _SPIN:
        pass
    return {"max_training_seconds": job.budget * max((time.perf_counter() - wall) / _SPIN, 1)}


def fit_mostly(job: Job, train: pd.DataFrame, plan: dict[str, Any]) -> Fitted:
    from mostlyai.engine import TabularARGN

    minutes = plan["max_training_seconds"] / 60
    model = TabularARGN(max_training_time=minutes, device="cpu", random_state=job.seed)
    model.fit(train)
    return Fitted(model.sample, lambda value, n: model.sample(seed_data=pd.DataFrame({job.label: [value] * n})))


@dataclass(frozen=True)
class ForestCodes:
    """A table as ForestDiffusion wants it: numbers ``(N, D)``, codes ``(N,)`` of the label, and lists of indices."""

    table: pd.DataFrame
    levels: Mapping[str, pd.Index]
    rows: np.ndarray
    label: np.ndarray | None
    indexes: dict[str, list[int]]

    def decode(self, rows: np.ndarray, label: str) -> pd.DataFrame:
        """Generated rows ``(n, D)``, with the codes of the label behind them where there are some."""
        columns = list(self.table.columns)
        names = columns if self.label is None else [name for name in columns if name != label] + [label]
        table = pd.DataFrame(rows, columns=names)
        for name, levels in self.levels.items():
            table[name] = levels[table[name].round().astype(int).clip(0, len(levels) - 1)]
        return unmark_missing(table[columns].copy())


def encode_forest(job: Job, train: pd.DataFrame) -> ForestCodes:
    """Categories as codes; a binary column is one with two levels."""
    table = mark_missing(train)
    codes, levels = table.copy(), {}
    for name in _discrete(job, table):
        codes[name], levels[name] = pd.factorize(table[name], sort=True)
    label = codes.pop(job.label).to_numpy() if job.task == "classification" else None
    size = {name: len(levels.get(name, ())) for name in codes}
    indexes = {
        "bin_indexes": [place for place, name in enumerate(codes) if size[name] in (1, 2)],
        "cat_indexes": [place for place, name in enumerate(codes) if size[name] > 2],
        "int_indexes": [place for place, name in enumerate(codes) if job.kinds.get(name) == "integer"],
    }
    return ForestCodes(table, levels, codes.to_numpy(float), label, indexes)


def _forest(codes: ForestCodes, rows: np.ndarray, seed: int, **effort: int):
    from ForestDiffusion import ForestDiffusionModel

    label = None if codes.label is None else codes.label[rows]
    options = {"diffusion_type": "flow", "n_jobs": 1, "nthread": 1, "seed": seed, **codes.indexes}
    return ForestDiffusionModel(codes.rows[rows], label_y=label, **effort, **options)


def plan_forest(job: Job, train: pd.DataFrame) -> dict[str, Any]:
    """Noise levels, copies and rows that fit into the budget, from the CPU seconds of one level.

    A tenth of the trees tells enough of a large table.
    """
    codes, seconds = encode_forest(job, train), {}
    part, everything = 1 if codes.rows.size < _SMALL else 10, np.arange(len(train))
    for copies in (1, 1, 4):  # the first run imports
        begin = time.process_time()
        _forest(codes, everything, job.seed, n_t=1, duplicate_K=copies, n_estimators=_ROUNDS // part)
        seconds[copies] = part * (time.process_time() - begin)
    each = max((seconds[4] - seconds[1]) / 3, seconds[1] / 100)
    return forest_effort(max(seconds[1] - each, 0), each, job.budget, len(train))


def forest_effort(fixed: float, each: float, budget: float, rows: int) -> dict[str, Any]:
    """Levels before copies before rows, where a level costs ``fixed + copies * each`` seconds."""
    for levels in (_LEVELS, 20, _FEW_LEVELS):
        copies = int((budget / levels - fixed) / each)
        if copies >= _FEW_COPIES:
            return {"n_t": levels, "duplicate_K": min(copies, _COPIES), "rows": rows}
    share = min(max((budget / _FEW_LEVELS - fixed) / each, 0.1), 1.0) if copies < 1 else 1.0
    return {"n_t": _FEW_LEVELS, "duplicate_K": max(copies, 1), "rows": int(rows * share)}


def fit_forest(job: Job, train: pd.DataFrame, plan: dict[str, Any]) -> Fitted:
    codes = encode_forest(job, train)
    kept = np.random.default_rng(job.seed).permutation(len(train))[: plan["rows"]]
    model = _forest(codes, kept, job.seed, n_t=plan["n_t"], duplicate_K=plan["duplicate_K"])

    def sample(n: int) -> pd.DataFrame:
        return codes.decode(model.generate(batch_size=n), job.label)

    return Fitted(sample, lambda value, n: filtered(sample, job.label, value, n))


METHODS = {
    "cfdg": Method("cfdg_diffusion", plan_nothing, fit_cfdg),
    "ctgan": Method("ctgan", plan_ctgan("ctgan"), fit_ctgan("ctgan")),
    "tvae": Method("ctgan", plan_ctgan("tvae"), fit_ctgan("tvae")),
    "copula": Method("sdv.single_table", plan_nothing, fit_copula),
    "forest": Method("ForestDiffusion", plan_forest, fit_forest),
    "mostlyai": Method("mostlyai.engine", plan_mostly, fit_mostly),
}
