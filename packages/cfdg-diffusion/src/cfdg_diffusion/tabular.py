"""TabularDiffusion: a DataFrame in, the same kind of DataFrame out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from cfdg_diffusion import storage
from cfdg_diffusion.columns import CodecSettings, TableCodec
from cfdg_diffusion.columns.column import Kind
from cfdg_diffusion.conditional import ConditionalDiffusion, DiffusionSettings
from cfdg_diffusion.constraints import Constraint, broken
from cfdg_diffusion.heads import Category
from cfdg_diffusion.labels import LabelCodec

_ROUNDS = 50
"""Draws of the rows that break a constraint, before giving up."""


TABLE_DIFFUSION = DiffusionSettings(
    batch_size=512,
    p_mean=-0.6,  # categories are decided at higher noise levels than numbers
    p_std=1.4,
    sigma_min=0.02,  # below it nothing is left to decide
    rho=10.0,  # more of the few network calls where it is decided
    sampling_steps=16,
    guidance_weight=0.0,
)
"""The default for tables, measured by benchmarks/sampling.py and benchmarks/tabular.py."""


@dataclass(frozen=True)
class TabularSettings:
    """How a table becomes rows, and how they are learnt.

    Raises:
        ValueError: if a value is out of its range; the message names it.
    """

    diffusion: DiffusionSettings = field(default_factory=lambda: TABLE_DIFFUSION)
    codec: CodecSettings = field(default_factory=CodecSettings)
    held_out_share: float = 0.1  # of the rows, for the loss that stops the training
    patience: int = 10  # looks at that loss, of fifty in all, without a better one

    def __post_init__(self) -> None:
        if not 0 <= self.held_out_share < 1:
            raise ValueError(f"held_out_share is {self.held_out_share}, expected a share in [0, 1)")
        if self.patience < 1:
            raise ValueError(f"patience is {self.patience}, expected at least 1")


@dataclass
class History:
    """What a fit did.

    Attributes:
        steps: gradient steps at which the losses were noted.
        losses: mean denoising loss of the training rows since the note before.
        held_out: denoising loss of held-out rows, empty where there are none.
        best_step: the step whose weights were kept.
        seconds: wall time.
        stopped: why the training ended: "steps", "early", "time" or "callback".
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    best_step: int = 0
    seconds: float = 0.0
    stopped: str = "steps"


class TabularDiffusion:
    """A diffusion model of a table with numbers, categories, dates and missing values.

    ``TabularDiffusion().fit(table, label="y").sample(1000, label="rare")`` is all there is to it.

    Args:
        seed: of training and sampling; the same seed gives the same bytes on a CPU.
        settings: see :class:`TabularSettings`.
        constraints: what every generated row has to fulfil.
        device: "auto" takes a GPU if there is one.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        settings: TabularSettings | None = None,
        constraints: Sequence[Constraint] = (),
        device: str = "auto",
    ) -> None:
        self.seed, self.settings, self.constraints = seed, settings or TabularSettings(), tuple(constraints)
        self.device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.history = History()
        self.rejected: dict[str, int] = {}
        self._order: pd.Index | None = None

    def fit(  # noqa: PLR0913 - the front door: all but the table have a default
        self,
        table: pd.DataFrame,
        *,
        label: Hashable | Sequence[Hashable] | None = None,
        kinds: Mapping[Hashable, Kind] | None = None,
        steps: int | None = None,
        time_budget: float | None = None,
        progress: bool = False,
        callback: Callable[[History], bool | None] | None = None,
    ) -> TabularDiffusion:
        """Learn a table.

        Args:
            table: at least one row; any index.
            label: column or columns to condition on; rare labels get as much of the training as frequent ones.
            kinds: kind of some columns, see :meth:`TableCodec.learn`.
            steps: gradient steps; None takes the settings'. Training ends earlier when held-out rows stop improving.
            time_budget: seconds after which training ends.
            progress: show a bar with the losses.
            callback: called some fifty times with the history so far; True ends the training.

        Raises:
            ValueError: if the table cannot be learnt; the message names the column.
        """
        names = [] if label is None else [label] if isinstance(label, str) or not isinstance(label, Sequence) else label
        twice = table.columns[table.columns.duplicated()]
        if len(twice):
            raise ValueError(f"column {twice[0]!r} comes twice, expected every name once")
        if len(table) == 0:
            raise ValueError("the table has no rows, expected at least one")
        self._labels = LabelCodec.learn(table, list(names))
        hidden = [] if self._labels.is_binned else list(names)
        self._order, features = table.columns, table.drop(columns=hidden)
        own = {name: kind for name, kind in (kinds or {}).items() if name not in hidden}
        self._codec = TableCodec.learn(features, own, self.settings.codec) if features.shape[1] else None
        self._train(table, features, steps, time_budget, progress, callback)
        return self

    def _train(
        self,
        table: pd.DataFrame,
        features: pd.DataFrame,
        steps: int | None,
        time_budget: float | None,
        progress: bool,
        callback: Callable[[History], bool | None] | None,
    ) -> None:
        self.history, self._model = History(), None
        width = self._codec.width if self._codec else 0
        if not self._codec or not width:
            return
        rng = np.random.default_rng([self.seed, 0])
        rows, labels = self._codec.encode(features, rng), self._labels.encode(table)
        self._model = ConditionalDiffusion(
            width,
            len(self._labels),
            seeds=(self.seed,),
            settings=self.settings.diffusion,
            raw_columns=range(width),  # the codec gives every block its scale
            categories=_categories(self._codec),
            device=self.device,
        )
        held_out = self._held_out(labels, rng)
        watch = _Watch(self, rows[held_out], labels[held_out], time_budget, callback)
        total = self.settings.diffusion.steps if steps is None else steps
        with tqdm(total=total, disable=not progress, unit="step", desc="fit") as bar:
            watch.bar = bar
            self._model.fit(rows[~held_out], labels[~held_out], steps=total, monitor=watch)
        watch.finish()

    def _held_out(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rows ``(N,)`` that only judge; none of a table, or of a label, that has too few."""
        share, held_out = self.settings.held_out_share, np.zeros(len(labels), dtype=bool)
        if len(labels) * share >= 20:
            for label in np.unique(labels):
                mine = rng.permutation(np.flatnonzero(labels == label))
                held_out[mine[: int(len(mine) * share)]] = True
        return held_out

    def sample(  # noqa: PLR0913 - the front door: all have a default
        self,
        n: int | None = None,
        *,
        label: object = None,
        labels: pd.Series | pd.DataFrame | None = None,
        balance: bool = False,
        like: pd.DataFrame | None = None,
        fix: Sequence[Hashable] = (),
        guidance_weight: float | Mapping[object, float] | None = None,
        guidance_interval: tuple[float, float] = (0.0, math.inf),
        steps: int | None = None,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Generate rows.

        Args:
            n: number of rows; not with ``labels`` or ``like``, which have one row for each.
            label: value of the label column, or a dictionary of values of some label columns.
            labels: one label per row, a series or a table of the label columns.
            balance: equally many rows of every label.
            like: rows whose columns ``fix`` are kept while the others are generated to go with them.
            fix: these columns.
            guidance_weight: w, 0 for the plain conditional model; a dictionary gives some labels their own.
            guidance_interval: noise levels between which guidance acts.
            steps: sampler steps; None takes the settings'.
            seed: None goes on with the model's own stream.

        Raises:
            ValueError: if the model is not fitted or something asked for was not in training.
            RuntimeError: if some rows still break a constraint after fifty draws.
        """
        self._check_fitted()
        rng = self._begin(seed)
        wanted = self._choose(n, label, labels, balance, like if "label" in _kinds(self._labels, fix) else None, rng)
        if like is not None and not self._labels.columns:
            wanted = np.zeros(len(like), dtype=np.int64)
        elif like is not None and len(wanted) != len(like):
            wanted = self._draw(np.arange(len(self._labels)), len(like), rng)
        known = None if like is None else self._known(like, [name for name in fix if name in self._features], rng)
        options = {"guidance_interval": guidance_interval, "steps": steps}
        weight = self._weight(guidance_weight)
        return self._fulfilling(wanted, known, weight, options)

    def stream(
        self,
        n: int,
        *,
        chunk: int = 100_000,
        seed: int | None = None,
        **options: Any,  # noqa: ANN401 - those of sample
    ) -> Iterator[pd.DataFrame]:
        """Generate ``n`` rows in tables of at most ``chunk``, for more rows than memory holds; see :meth:`sample`."""
        self._begin(seed)
        for start in range(0, n, chunk):
            yield self.sample(min(chunk, n - start), **options)

    def impute(self, table: pd.DataFrame, *, seed: int | None = None) -> pd.DataFrame:
        """The table with its missing cells generated to go with the others; what is there stays as it is.

        Raises:
            ValueError: if a column is missing altogether or a label is.
        """
        self._check_fitted()
        rng = self._begin(seed)
        known = np.concatenate([self._known_or_not(table, name, rng) for name in self._features], axis=1)
        labels = self._labels.encode(table)
        generated = self._assemble(labels, self._rows(labels, known, None, {}))
        places: dict[Hashable, int] = {column: place for place, column in enumerate(table.columns)}
        filled = table.copy()
        for name in self._features:
            missing = table[name].isna().to_numpy()
            if missing.any():
                values = generated[name].set_axis(table.index)
                whole = table[name].where(~missing, values).astype(generated[name].dtype)
                filled.isetitem(places[name], whole.array)
        return filled

    def _known_or_not(self, table: pd.DataFrame, name: Hashable, rng: np.random.Generator) -> np.ndarray:
        """One column's dimensions, NaN where its cell is missing."""
        if name not in table.columns:
            raise ValueError(f"the table has no column {name!r}, expected it as in training")
        codec = self._codec
        assert codec is not None
        present = table[name].notna().to_numpy()
        rows = np.full((len(table), len(codec.dimensions([name]))), np.nan, dtype=np.float32)
        if present.any():
            rows[present] = codec.encode(table.loc[present, [name]], rng, columns=[name])
        blocks = [block for block in codec.blocks if block.column == name]
        if blocks and blocks[0].role == "missing" and blocks[0].words is not None:
            rows[~present, : blocks[0].stop - blocks[0].start] = blocks[0].words[0]  # generate a value, not a gap
        return rows

    @property
    def _features(self) -> list[Hashable]:
        return self._codec.names if self._codec else []

    def _check_fitted(self) -> None:
        if self._order is None:
            raise ValueError("the model has not been fitted, expected fit(table) first")

    def _begin(self, seed: int | None) -> np.random.Generator:
        """Start the streams of sampling at a seed."""
        if seed is not None and self._model is not None:
            self._model.restart_sampling((seed,))
        if seed is not None or not hasattr(self, "_rng"):
            self._rng = np.random.default_rng([self.seed if seed is None else seed, 1])
        return self._rng

    def _choose(
        self,
        n: int | None,
        label: object,
        labels: pd.Series | pd.DataFrame | None,
        balance: bool,
        like: pd.DataFrame | None,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """The integer label of every row."""
        if like is not None:
            return self._labels.encode(like)
        if labels is not None:
            table = labels if isinstance(labels, pd.DataFrame) else pd.DataFrame({self._labels.columns[0]: labels})
            return self._labels.encode(table)
        n = 0 if n is None else n
        allowed = np.arange(len(self._labels)) if label is None else self._labels.find(label)
        if balance:
            return rng.permutation(np.resize(allowed, n))
        return self._draw(allowed, n, rng)

    def _draw(self, allowed: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
        """Labels with their frequencies in training, as near to them as whole rows allow."""
        shares = self._labels.counts[allowed] / self._labels.counts[allowed].sum()
        points = (np.arange(n) + rng.random()) / max(n, 1)
        return rng.permutation(allowed[np.minimum(np.searchsorted(np.cumsum(shares), points), len(allowed) - 1)])

    def _known(self, like: pd.DataFrame, fix: Sequence[Hashable], rng: np.random.Generator) -> np.ndarray | None:
        if not fix or self._codec is None:
            return None
        known = np.full((len(like), self._codec.width), np.nan, dtype=np.float32)
        known[:, self._codec.dimensions(fix)] = self._codec.encode(like[list(fix)], rng, columns=fix)
        return known

    def _weight(self, weight: float | Mapping[object, float] | None) -> np.ndarray | float | None:
        """One weight, or one for each label."""
        if not isinstance(weight, Mapping):
            return weight
        weights = np.full(len(self._labels), self.settings.diffusion.guidance_weight, dtype=np.float32)
        for value, own in weight.items():
            weights[self._labels.find(value)] = own
        return weights

    def _rows(
        self, labels: np.ndarray, known: np.ndarray | None, weight: np.ndarray | float | None, options: dict[str, Any]
    ) -> np.ndarray:
        if self._model is None or len(labels) == 0:
            return np.empty((len(labels), 0 if self._model is None else self._model.columns), dtype=np.float32)
        each = weight[labels] if isinstance(weight, np.ndarray) else weight
        return self._model.sample(labels, guidance_weight=each, known=known, **options).cpu().numpy()

    def _assemble(self, labels: np.ndarray, rows: np.ndarray) -> pd.DataFrame:
        """Rows and labels as a table in the order of training."""
        assert self._order is not None
        told = self._labels.decode(labels)
        features = self._codec.decode(rows) if self._codec else pd.DataFrame(index=told.index)
        return pd.concat([told, features], axis=1)[list(self._order)].set_axis(self._order, axis=1)

    def _fulfilling(
        self, labels: np.ndarray, known: np.ndarray | None, weight: np.ndarray | float | None, options: dict[str, Any]
    ) -> pd.DataFrame:
        """Rows that fulfil the constraints: those that do not are drawn again with the same label."""
        table = self._assemble(labels, self._rows(labels, known, weight, options))
        self.rejected = {constraint.name: 0 for constraint in self.constraints}
        for _ in range(_ROUNDS):
            bad, counts = broken(table, self.constraints)
            if not bad.any():
                return table
            for name, count in counts.items():
                self.rejected[name] += count
            again = self._rows(labels[bad], None if known is None else known[bad], weight, options)
            fresh = self._assemble(labels[bad], again).set_axis(table.index[bad])
            table = pd.concat([table[~bad], fresh]).sort_index()
        bad, counts = broken(table, self.constraints)
        if bad.any():
            worst = max(counts, key=lambda name: counts[name])
            raise RuntimeError(f"{bad.sum()} of {len(table)} rows still break a constraint, most of them {worst!r}")
        return table

    def describe(self) -> str:
        """What the model is, and one line for each column."""
        self._check_fitted()
        labels = self._labels
        told = f"{len(labels)} labels of {', '.join(map(str, labels.columns))}" if labels.columns else "no label"
        lines = [f"TabularDiffusion of {int(labels.counts.sum()):,} rows, {told}, seed {self.seed}"]
        return "\n".join([*lines, self._codec.describe()] if self._codec else lines)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file: weights, codec and settings, no training rows and no constraints."""
        self._check_fitted()
        assert self._order is not None
        label_state, label_arrays = self._labels.state()
        codec_state, codec_arrays = self._codec.state() if self._codec else (None, {})
        arguments = {
            "kind": "tabular",
            "seed": self.seed,
            "settings": asdict(self.settings),
            "order": self._order.tolist(),
            "labels": label_state,
            "codec": codec_state,
            "history": asdict(self.history),
        }
        tensors = {f"labels.{name}": _tensor(array) for name, array in label_arrays.items()}
        tensors |= {f"codec.{name}": _tensor(array) for name, array in codec_arrays.items()}
        tensors |= {f"model.{name}": t for name, t in (self._model.state_dict() if self._model else {}).items()}
        storage.save(Path(path), arguments, tensors)

    @classmethod
    def load(
        cls, path: str | Path, *, device: str = "auto", constraints: Sequence[Constraint] = ()
    ) -> TabularDiffusion:
        """Read what :meth:`save` wrote, on any device.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is truncated, foreign, of another kind or of a newer version.
        """
        arguments, tensors = storage.load(Path(path))
        if arguments.get("kind") != "tabular":
            raise ValueError(f"{path} holds no tabular model, expected a file of TabularDiffusion.save")
        try:
            return cls._restore(arguments, tensors, device, constraints)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} does not describe a model of this version: {error}") from error

    @classmethod
    def _restore(
        cls,
        arguments: dict[str, Any],
        tensors: Mapping[str, torch.Tensor],
        device: str,
        constraints: Sequence[Constraint],
    ) -> TabularDiffusion:
        own = arguments["settings"]
        diffusion, codec = DiffusionSettings(**own.pop("diffusion")), CodecSettings(**own.pop("codec"))
        settings = TabularSettings(diffusion=diffusion, codec=codec, **own)
        model = cls(seed=arguments["seed"], settings=settings, constraints=constraints, device=device)
        parts = {kind: _part(tensors, kind) for kind in ("labels", "codec", "model")}
        model._labels = LabelCodec.restore(arguments["labels"], {k: t.numpy() for k, t in parts["labels"].items()})
        arrays = {name: tensor.numpy() for name, tensor in parts["codec"].items()}
        model._codec = TableCodec.restore(arguments["codec"], arrays) if arguments["codec"] else None
        model.history, model._model = History(**arguments["history"]), None
        if model._codec is not None and model._codec.width:
            width = model._codec.width
            model._model = ConditionalDiffusion(
                width, len(model._labels), seeds=(model.seed,), settings=settings.diffusion,
                raw_columns=range(width), categories=_categories(model._codec), device=model.device,
            )  # fmt: skip
            model._model.load_state_dict(parts["model"])
        dtype = model._codec.names_dtype if model._codec else None
        model._order = pd.Index(arguments["order"], dtype=dtype)
        return model


@dataclass
class _Watch:
    """Notes losses, keeps the best weights by the held-out loss, and says when to stop."""

    model: TabularDiffusion
    rows: np.ndarray
    labels: np.ndarray
    time_budget: float | None
    callback: Callable[[History], bool | None] | None
    bar: Any = None
    best: float = math.inf
    since: int = 0

    def __post_init__(self) -> None:
        self.began = time.perf_counter()
        self.state: dict[str, torch.Tensor] | None = None

    def __call__(self, step: int, loss: float) -> bool:
        history, fitted = self.model.history, self.model._model
        assert fitted is not None
        history.steps.append(step)
        history.losses.append(loss)
        shown = {"loss": f"{loss:.3f}"}
        if len(self.rows):
            held_out = float(fitted.held_out_loss(self.rows, self.labels))
            history.held_out.append(held_out)
            self._keep(held_out, step)
            shown["held out"] = f"{held_out:.3f}"
        self.bar.set_postfix(shown)
        self.bar.update(step - self.bar.n)
        history.seconds = time.perf_counter() - self.began
        return self._ends()

    def _keep(self, held_out: float, step: int) -> None:
        self.since += 1
        fitted = self.model._model
        if held_out < self.best and fitted is not None:
            self.best, self.since, self.model.history.best_step = held_out, 0, step
            self.state = fitted.state_dict()

    def _ends(self) -> bool:
        history = self.model.history
        if self.time_budget is not None and history.seconds > self.time_budget:
            history.stopped = "time"
        elif self.since >= self.model.settings.patience:
            history.stopped = "early"
        elif self.callback is not None and self.callback(history):
            history.stopped = "callback"
        return history.stopped != "steps"

    def finish(self) -> None:
        """Take the best weights back."""
        if self.state is not None and self.model._model is not None:
            self.model._model.load_state_dict(self.state)
        elif self.model.history.steps:
            self.model.history.best_step = self.model.history.steps[-1]
        self.model.history.seconds = time.perf_counter() - self.began


def _categories(codec: TableCodec) -> list[Category]:
    """What the model learns by cross-entropy: all blocks but the numbers."""
    return [Category(block.start, block.words) for block in codec.blocks if block.words is not None]


def _kinds(labels: LabelCodec, fix: Sequence[Hashable]) -> set[str]:
    """Whether the label columns are all among the fixed ones."""
    return {"label"} if labels.columns and set(labels.columns) <= set(fix) else set()


def _part(tensors: Mapping[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    prefix = f"{kind}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
