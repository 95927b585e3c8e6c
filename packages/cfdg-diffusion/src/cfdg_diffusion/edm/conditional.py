"""ConditionalDiffusion: arrays and integer labels in, arrays out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cfdg_diffusion import storage
from cfdg_diffusion.edm.batches import BalancedRows
from cfdg_diffusion.edm.checks import check_labels, check_rows
from cfdg_diffusion.edm.gaussians import LabelGaussians
from cfdg_diffusion.edm.guidance import LabelledDenoise, forget, guided, held
from cfdg_diffusion.edm.learner import Learner
from cfdg_diffusion.edm.network import ResidualMLP, waves
from cfdg_diffusion.edm.noise import Denoise, c_in, c_noise, log_normal_sigma
from cfdg_diffusion.edm.normaliser import Normaliser, measure
from cfdg_diffusion.edm.outputs import Category, Heads, taken
from cfdg_diffusion.edm.sampler import Churn, dpm_solver_2m, heun, karras_sigmas, leap_sigmas
from cfdg_diffusion.edm.streams import Streams

Array = Tensor | np.ndarray
Monitor = Callable[[int, float], bool]
"""Step and mean loss since the last call; True ends the fit."""
Sampler = Literal["dpm", "heun", "heun-stochastic"]
_KNOWN_STEPS = 40
_GAUSSIANS = "gaussians."
_FIRST_LOOK, _LATEST_LOOK = 8, 500
"""Steps between two looks at the losses: few at first, never more."""
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class DiffusionSettings:
    """Settings of the model, its training and its sampling; each default says where it comes from.

    "Measured" is the one-step dynamics error of generated MuJoCo Hopper transitions (27 columns, 180,000 rows) after
    about a minute of training on one core.

    Raises:
        ValueError: if a value is out of its range; the message names it.
    """

    width: int = 256  # measured: 512 was no better for its time; SynthER's 1024 is for a GPU
    blocks: int = 3  # of two linear maps each; measured against 4 of one
    block_norm: bool = False  # a norm in each block; measured: worse for transitions, better for dependent categories
    batch_size: int = 256  # SynthER and EDIS; measured: 512 was no better for its time
    steps: int = 10_000  # about a minute on one core
    learning_rate: float = 3e-3  # measured against 1e-3 and 6e-3
    gradient_clip: float = 1.0  # largest gradient norm of a replica; SynthER
    ema_decay: float = 0.99  # per ten steps; half the memory of SynthER's 0.995, whose fits are ten times as long
    gaussian_rows: int = 0  # fits of fewer rows begin from a Gaussian of each label, see LabelGaussians
    waves: int = 0  # octaves of sines and cosines of each number beside it; measured: they sharpen narrow densities
    p_uncond: float = 0.25  # the only precedents for transitions, PGR and GTA; not in the CFDG paper
    guidance_weight: float = (
        0.2  # w of equation 7; of 0 to 1 the largest that stays true to each class, docs/measured.md
    )
    p_mean: float = -1.2  # EDM table 1
    p_std: float = 1.2  # EDM table 1
    sigma_min: float = 0.002  # EDM table 1
    sigma_max: float = 80.0  # EDM table 1
    rho: float = 7.0  # EDM table 1
    sigma_leap: float = 0.0  # noise level that the first sampler step ends at, see leap_sigmas; 0 leaves it to rho
    sampler: Sampler = "dpm"  # DPM-Solver++(2M), the fewest network calls
    sampling_steps: int = 20  # network calls of "dpm"; "heun" needs 2 n - 1, "heun-stochastic" rather more steps
    precision: Precision = "auto"  # bf16 where the hardware multiplies it natively
    chunk_rows: int = 2048  # rows per replica that are denoised together

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "batch_size", "steps", "sampling_steps", "chunk_rows"):
            _require(isinstance(getattr(self, name), int) and getattr(self, name) >= 1, self, name, "an integer >= 1")
        for name in ("learning_rate", "gradient_clip", "p_std", "sigma_min", "sigma_max", "rho"):
            _require(0 < getattr(self, name) < math.inf, self, name, "a number > 0")
        _require(self.sigma_min < self.sigma_max, self, "sigma_min", f"less than sigma_max = {self.sigma_max}")
        between = self.sigma_leap == 0 or self.sigma_min < self.sigma_leap < self.sigma_max
        _require(between, self, "sigma_leap", "0 or a noise level between sigma_min and sigma_max")
        _require(0 <= self.ema_decay < 1, self, "ema_decay", "a number in [0, 1)")
        for name in ("waves", "gaussian_rows"):
            _require(isinstance(getattr(self, name), int) and getattr(self, name) >= 0, self, name, "an integer >= 0")
        _require(0 <= self.p_uncond <= 1, self, "p_uncond", "a probability in [0, 1]")
        for name in ("guidance_weight", "p_mean"):
            _require(math.isfinite(getattr(self, name)), self, name, "a finite number")
        for name, choices in (("sampler", Sampler), ("precision", Precision)):
            _require(getattr(self, name) in get_args(choices), self, name, f"one of {', '.join(get_args(choices))}")


def _require(holds: bool, settings: DiffusionSettings, name: str, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {getattr(settings, name)!r}, expected {expected}")


@dataclass(frozen=True)
class FitReport:
    """What a call of ``fit`` did.

    Attributes:
        steps: gradient steps of this call.
        seconds: wall-clock time of this call.
        loss_steps: step at which each loss was noted.
        losses: ``(len(loss_steps), R)`` mean denoising loss since the previous note; without categories, 1 is an
            untrained network.
        label_counts: ``(R, L)`` rows of each label.
    """

    steps: int
    seconds: float
    loss_steps: tuple[int, ...]
    losses: Tensor
    label_counts: Tensor


class ConditionalDiffusion:
    """R class-conditional diffusion models of rows, trained and sampled side by side.

    Replica r learns and samples exactly what a model built with the single seed ``seeds[r]`` would (to the rounding of
    a matrix product), given the same calls.

    Args:
        columns: D, columns of a row.
        num_labels: L; labels are the integers 0 to L - 1. Use 1 for a model without labels.
        seeds: one seed per replica.
        settings: see :class:`DiffusionSettings`.
        raw_columns: columns to leave un-normalised, such as a flag that is thresholded afterwards.
        categories: columns that hold one of a few vectors, learnt by cross-entropy; they are never normalised.
        device: where everything lives.

    Raises:
        ValueError: if a size is below 1, a seed negative, a raw column outside [0, D) or categories overlap.
    """

    def __init__(  # noqa: PLR0913 - the front door: all but the sizes have a default
        self,
        columns: int,
        num_labels: int,
        *,
        seeds: Sequence[int] = (0,),
        settings: DiffusionSettings = DiffusionSettings(),
        raw_columns: Sequence[int] = (),
        categories: Sequence[Category] = (),
        device: str | torch.device = "cpu",
    ) -> None:
        if columns < 1 or num_labels < 1:
            raise ValueError(f"columns = {columns} and num_labels = {num_labels}, expected at least 1 of each")
        if not all(0 <= column < columns for column in raw_columns):
            raise ValueError(f"raw_columns are {list(raw_columns)}, expected columns in [0, {columns})")
        self.columns, self.num_labels, self.null = columns, num_labels, num_labels
        self.seeds, self.settings = tuple(int(seed) for seed in seeds), settings
        self.raw_columns = tuple(int(column) for column in raw_columns)
        self.device = torch.device(device)
        self.categories = tuple(categories)
        self.heads = Heads(columns, categories, self.device)
        read = columns + 2 * settings.waves * len(self.heads.numbers)
        self.network = ResidualMLP(
            read, num_labels, settings.width, settings.blocks, self.heads.outputs, settings.block_norm
        )
        self._dtype = _matrix_dtype(settings.precision, self.device)
        self._training = Streams(self.seeds, "diffusion training", self.device)
        self._sampling = Streams(self.seeds, "diffusion sampling", self.device)
        self.reset()

    def reset(self) -> None:
        """Forget all that was learnt: fresh weights from the seeds; the streams of training and sampling run on."""
        replicas = len(self.seeds)
        weights = self.network.initial(Streams(self.seeds, "diffusion weights", self.device))
        self._learner = Learner(weights, self.settings.gradient_clip, self.settings.ema_decay)
        self._normaliser = Normaliser(*torch.zeros(2, replicas, self.columns, device=self.device))
        self._label_counts = torch.zeros(replicas, self.num_labels, dtype=torch.long)
        self._gaussians: LabelGaussians | None = None

    def fit(
        self,
        rows: Array,
        labels: Array,
        *,
        steps: int | None = None,
        progress: bool = False,
        monitor: Monitor | None = None,
        start: int = 0,
    ) -> FitReport:
        """Train for ``steps`` gradient steps, the learning rate falling to 0 along a cosine.

        A further call starts from the present weights, with the statistics of the new rows but the Gaussians of the
        first; :meth:`reset` first trains from scratch.

        Args:
            rows: ``(N, D)`` shared by all replicas or ``(R, N, D)``, in original units.
            labels: ``(N,)`` or ``(R, N)`` integers in [0, L). Batches hold equally many rows of every label present.
            steps: gradient steps; None takes the settings'.
            progress: show a progress bar.
            monitor: called with the step and the mean loss since its last call, some 60 times in all, the most of them
                at first; True ends the fit.
            start: steps done before: after :meth:`load_state_dict` of what :meth:`state_dict` was when ``monitor`` was
                called with this step, the fit goes on as if it had never stopped.

        Raises:
            ValueError: if shapes, labels or numbers are not as described; the message names the column.
            RuntimeError: if training diverges.
        """
        began = time.perf_counter()
        steps = self.settings.steps if steps is None else steps
        if steps < 1:
            raise ValueError(f"steps is {steps}, expected at least 1")
        if not 0 <= start < steps:
            raise ValueError(f"start is {start}, expected a step from 0 to {steps - 1}")
        data = self._read(rows, labels)
        loss_steps, losses = self._train(data, range(start + 1, steps + 1), progress, monitor)
        if not bool(losses.isfinite().all()):
            raise RuntimeError("the loss is no longer finite, expected finite numbers: lower learning_rate")
        return FitReport(loss_steps[-1] - start, time.perf_counter() - began, loss_steps, losses, self._label_counts)

    def _read(self, rows: Array, labels: Array) -> BalancedRows:
        """Check the data of a fit and take its statistics."""
        replicas = len(self.seeds)
        rows = check_rows(rows, self.columns, replicas, self.device)
        labels = check_labels(labels, self.num_labels, replicas, self.device)
        if labels.shape[1] != rows.shape[1]:
            raise ValueError(f"there are {labels.shape[1]} labels for {rows.shape[1]} rows, expected one per row")
        data = BalancedRows(rows, labels, self.num_labels)
        categorical = [part.start + place for part in self.categories for place in range(part.words.shape[1])]
        found = measure(rows, data.shares, [*self.raw_columns, *categorical])
        self._normaliser = Normaliser(found.mean.expand(replicas, -1).clone(), found.std.expand(replicas, -1).clone())
        first, few = not self._label_counts.any(), rows.shape[1] < self.settings.gaussian_rows
        if first and few and len(self.heads.numbers):
            numbers = self._normaliser.encode(rows)[..., self.heads.numbers]
            self._gaussians = LabelGaussians.measure(numbers, labels.expand(replicas, -1), self.num_labels)
        self._label_counts = data.counts.expand(replicas, -1).cpu().clone()
        return data

    def _train(
        self, data: BalancedRows, numbers: range, progress: bool, monitor: Monitor | None
    ) -> tuple[tuple[int, ...], Tensor]:
        """All gradient steps of a fit; the loss is averaged and noted now and then, read back once at the end."""
        steps = numbers.stop - 1
        latest = numbers.start - 1
        total, noted, notes = torch.zeros(len(self.seeds), device=self.device), [], []
        for step in tqdm(numbers, total=steps, initial=latest, disable=not progress, desc="diffusion", unit="step"):
            total = total + self._update(data, 0.5 * (1 + math.cos(math.pi * (step - 1) / steps)))
            if step == _next_look(latest, steps):
                noted.append(step)
                notes.append(total / (step - latest))
                latest = step
                total = torch.zeros_like(total)
                if monitor is not None and monitor(step, float(notes[-1].mean())):
                    break
        return tuple(noted), torch.stack(notes).cpu()

    def _update(self, data: BalancedRows, rate: float) -> Tensor:
        """One gradient step of every replica; returns the losses ``(R,)``."""
        settings = self.settings
        rows, labels = data.draw(self._training, settings.batch_size)
        labels = forget(labels, settings.p_uncond, self.null, self._training.uniform(settings.batch_size))
        draws = self._training.normal(settings.batch_size, self.columns + 1)
        sigma = log_normal_sigma(draws[..., 0], settings.p_mean, settings.p_std)
        losses = self._loss(self._learner.weights, self._normaliser.encode(rows), labels, sigma, draws[..., 1:])
        self._learner.step(losses, rate * settings.learning_rate)
        return losses.detach()

    def _loss(self, flat: Tensor, clean: Tensor, labels: Tensor, sigma: Tensor, normal: Tensor) -> Tensor:
        """Denoising losses ``(R,)`` of the weights ``flat (R, P)``, rows and draws in model space."""
        x = clean + sigma[..., None] * normal
        weights = self.network.unpack(flat, self._dtype)
        raw = self.network(weights, self._inputs(x, sigma), c_noise(sigma), labels)
        return self.heads.loss(raw, clean, x, sigma, self._linear(x, sigma, labels))

    def _linear(self, x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor | None:
        """What the Gaussians make of noisy numbers; None without Gaussians."""
        if self._gaussians is None:
            return None
        return self._gaussians.denoise(taken(x, self.heads.numbers), sigma, labels)

    def _inputs(self, x: Tensor, sigma: Tensor) -> Tensor:
        """What the network sees of noisy rows: c_in x, and waves of its numbers."""
        scaled = x * c_in(sigma)[..., None]
        if not self.settings.waves:
            return scaled
        return torch.cat([scaled, waves(scaled[..., self.heads.numbers], self.settings.waves)], dim=-1)

    def _denoiser(self, flat: Tensor) -> LabelledDenoise:
        """D(x; sigma, labels) with the weights ``flat (R, P)``: equation 7 around the network."""
        weights = self.network.unpack(flat, self._dtype)

        def denoise(x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
            raw = self.network(weights, self._inputs(x, sigma), c_noise(sigma), labels)
            return self.heads.denoise(raw, x, sigma, self._linear(x, sigma, labels))

        return denoise

    @torch.inference_mode()
    def held_out_loss(self, rows: Array, labels: Array, *, draws: int = 0, seed: int = 0) -> Tensor:
        """Denoising loss ``(R,)`` of the averaged weights on rows that were not fitted, on noise fixed by ``seed``.

        Each row is seen at ``draws`` noise levels; 0 takes 8, or more of a few rows.
        """
        replicas, settings = len(self.seeds), self.settings
        rows = check_rows(rows, self.columns, replicas, self.device).expand(replicas, -1, -1)
        labels = check_labels(labels, self.num_labels, replicas, self.device).expand(replicas, -1)
        clean = self._normaliser.encode(rows)
        noise, count = Streams((seed,) * replicas, "held-out noise", self.device), rows.shape[1]
        draws = draws or max(8, min(64, 2048 // count))
        losses = []
        for draw in range(draws):  # noise levels at fixed quantiles of their training distribution
            quantile = torch.full((1,), (draw + 0.5) / draws, dtype=torch.float64)
            sigma = log_normal_sigma(torch.special.ndtri(quantile).float(), settings.p_mean, settings.p_std)
            level, normal = sigma.to(self.device).expand(replicas, count), noise.normal(count, self.columns)
            losses.append(self._loss(self._learner.average, clean, labels, level, normal))
        return torch.stack(losses).mean(0)

    @torch.inference_mode()
    def sample(
        self,
        labels: Array,
        *,
        guidance_weight: float | Array | None = None,
        guidance_interval: tuple[float, float] = (0.0, math.inf),
        steps: int | None = None,
        known: Array | None = None,
        guided_columns: Sequence[int] | None = None,
    ) -> Tensor:
        """Generate one row per label from the averaged weights.

        Args:
            labels: ``(n,)``, or ``(R, n)`` for different labels per replica; integers in [0, L).
            guidance_weight: w of equation 7, 0 for the plain conditional model, or ``(n,)`` or ``(R, n)`` of them, one
                per row; None takes the settings'.
            guidance_interval: noise levels between which guidance acts.
            steps: sampler steps; None takes the settings'.
            known: ``(n, D)`` or ``(R, n, D)`` rows in original units whose finite numbers are kept; what is NaN is
                generated to go with them, by the stochastic sampler in 40 steps, whose fresh noise lets both parts
                settle (deterministic samplers broke one dependency in seven where it broke one in forty).
            guided_columns: columns on which guidance acts, the others are conditional on the label alone; None is all.

        Returns:
            float32 rows in original units: ``(n, D)`` for ``(n,)`` labels and a single seed, else ``(R, n, D)``.

        Raises:
            ValueError: if a label is outside [0, L) or had no rows in the latest fit.
        """
        asked = check_labels(labels, self.num_labels, len(self.seeds), self.device).expand(len(self.seeds), -1)
        self._check_fitted(asked)
        weights = self._weights(guidance_weight, asked)
        sigmas = self._schedule(steps, known is not None)
        columns = None if guided_columns is None else self._mask(guided_columns)
        denoiser = self._denoiser(self._learner.average)
        given = None if known is None else self._known(known, asked.shape[1])
        chunks, start = [], 0
        for part in asked.split(self.settings.chunk_rows, dim=1):
            stop = start + part.shape[1]
            weight = weights if isinstance(weights, float) else weights[:, start:stop]
            denoise = guided(denoiser, part, weight, self.null, guidance_interval, columns)
            chunks.append(self._solve(denoise, part.shape[1], sigmas, None if given is None else given[:, start:stop]))
            start = stop
        rows = self._normaliser.decode(torch.cat(chunks, dim=1))
        return rows[0] if len(self.seeds) == 1 and np.ndim(labels) == 1 else rows

    def _schedule(self, steps: int | None, known: bool) -> Tensor:
        """Noise levels of the sampler; where cells are known both parts have to settle at the high ones too."""
        settings = self.settings
        levels = settings.sigma_min, settings.sigma_max, settings.rho
        if known:
            return karras_sigmas(_KNOWN_STEPS if steps is None else steps, *levels)
        steps = settings.sampling_steps if steps is None else steps
        return (
            leap_sigmas(steps, *levels, settings.sigma_leap) if settings.sigma_leap else karras_sigmas(steps, *levels)
        )

    def _weights(self, guidance_weight: float | Array | None, labels: Tensor) -> float | Tensor:
        """One guidance weight, or one per row ``(R, n)``."""
        weight = self.settings.guidance_weight if guidance_weight is None else guidance_weight
        found = torch.as_tensor(weight, dtype=torch.float32)
        if not bool(found.isfinite().all()) or (found.dim() and found.shape[-1] != labels.shape[1]):
            raise ValueError(f"guidance_weight is {weight}, expected a finite number, or one per row")
        return float(found) if found.dim() == 0 else found.to(self.device).expand(labels.shape)

    def _known(self, known: Array, count: int) -> Tensor:
        """Rows ``(R, n, D)`` in model space, NaN where they are to be generated."""
        found = torch.as_tensor(known).to(self.device, torch.float32)
        shape, found = tuple(found.shape), found[None] if found.dim() == 2 else found
        if found.shape[1:] != (count, self.columns) or len(found) not in (1, len(self.seeds)):
            raise ValueError(f"known has shape {shape}, expected ({count}, {self.columns})")
        return self._normaliser.encode(found.expand(len(self.seeds), -1, -1))

    def _solve(self, denoise: Denoise, count: int, sigmas: Tensor, known: Tensor | None = None) -> Tensor:
        """``(R, count, D)`` rows in model space, from noise to data."""

        def normal() -> Tensor:
            return self._sampling.normal(count, self.columns)

        x = normal() * float(sigmas[0])
        if known is not None:
            there = known.isfinite()
            denoise = held(denoise, known.nan_to_num(), there, normal())
            return heun(denoise, x, sigmas, Churn(), normal)

        if self.settings.sampler == "dpm":
            return dpm_solver_2m(denoise, x, sigmas)
        if self.settings.sampler == "heun":
            return heun(denoise, x, sigmas)
        return heun(denoise, x, sigmas, Churn(), normal)

    def _mask(self, columns: Sequence[int]) -> Tensor:
        """Mark columns ``(D,)``."""
        mask = torch.zeros(self.columns, dtype=torch.bool, device=self.device)
        mask[list(columns)] = True
        return mask

    def restart_sampling(self, seeds: Sequence[int]) -> None:
        """Begin the streams of sampling anew, from one seed per replica."""
        self._sampling = Streams(tuple(seeds), "diffusion sampling", self.device)

    def _check_fitted(self, labels: Tensor) -> None:
        counts = self._label_counts.to(self.device).gather(1, labels)
        if bool((counts == 0).any()):
            label = int(labels[counts == 0][0])
            raise ValueError(f"label {label} had no rows in the latest fit, expected a label that was fitted")

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that changes, as tensors by name: loading it continues bit for bit, fits and samples alike."""
        return {
            **{f"learner.{name}": tensor for name, tensor in self._learner.state().items()},
            "normaliser.mean": self._normaliser.mean.clone(),
            "normaliser.std": self._normaliser.std.clone(),
            "label_counts": self._label_counts.clone(),
            "streams.training": self._training.state(),
            "streams.sampling": self._sampling.state(),
            **{f"{_GAUSSIANS}{name}": tensor for name, tensor in self._gaussian_state().items()},
        }

    def _gaussian_state(self) -> dict[str, Tensor]:
        return {} if self._gaussians is None else self._gaussians.state()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over the state of a model built with the same arguments.

        Random streams are restored on the same kind of device only; elsewhere they start from the seeds.

        Raises:
            ValueError: if a tensor is missing, unknown or of another shape; nothing is changed then.
        """
        own = {name: tensor for name, tensor in self.state_dict().items() if not name.startswith(_GAUSSIANS)}
        found = {name.removeprefix(_GAUSSIANS): state[name] for name in state if name.startswith(_GAUSSIANS)}
        _check_state(own, {name: tensor for name, tensor in state.items() if not name.startswith(_GAUSSIANS)})
        gaussians = self._restored(found) if found else None
        put = {name: tensor.to(self.device, own[name].dtype) for name, tensor in state.items() if name in own}
        prefix = "learner."
        self._learner.load({name.removeprefix(prefix): put[name] for name in put if name.startswith(prefix)})
        self._normaliser = Normaliser(put["normaliser.mean"].clone(), put["normaliser.std"].clone())
        self._label_counts, self._gaussians = put["label_counts"].cpu().clone(), gaussians
        for name, streams in (("training", self._training), ("sampling", self._sampling)):
            if state[f"streams.{name}"].shape == own[f"streams.{name}"].shape:
                streams.restore(state[f"streams.{name}"])

    def _restored(self, state: Mapping[str, Tensor]) -> LabelGaussians:
        replicas, width = len(self.seeds), len(self.heads.numbers)
        own = LabelGaussians.empty(replicas, self.num_labels, width).state()
        _check_state(own, state)
        return LabelGaussians(**{name: tensor.to(self.device, torch.float32) for name, tensor in state.items()})

    def save(self, path: str | Path) -> None:
        """Write one safetensors file with the whole state; the arguments of this object are JSON in its header."""
        arguments = {
            "columns": self.columns,
            "num_labels": self.num_labels,
            "seeds": list(self.seeds),
            "raw_columns": list(self.raw_columns),
            "categories": [part.start for part in self.categories],
            "settings": {field.name: getattr(self.settings, field.name) for field in fields(self.settings)},
        }
        words = {f"words.{index}": torch.from_numpy(part.words).clone() for index, part in enumerate(self.categories)}
        storage.save(Path(path), arguments, {**self.state_dict(), **words})

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> ConditionalDiffusion:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is truncated, foreign, or written by a newer version.
        """
        arguments, state = storage.load(Path(path))
        try:
            settings = DiffusionSettings(**arguments.pop("settings"))
            starts = arguments.pop("categories", [])  # files of version 1 may have none
            words = [state.pop(f"words.{index}").numpy() for index in range(len(starts))]
            categories = [Category(start, part) for start, part in zip(starts, words, strict=True)]
            model = cls(**arguments, categories=categories, settings=settings, device=device)
            model.load_state_dict(state)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} does not describe a model of this version: {error}") from error
        return model


def _next_look(step: int, steps: int) -> int:
    """When to look at the losses after a look at ``step``: a small table is learnt in dozens of steps."""
    soon = step + max(_FIRST_LOOK, step // 4)
    return min(soon, step + math.ceil(steps / 50), step + _LATEST_LOOK, steps)


def _check_state(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    if own.keys() != state.keys():
        raise ValueError(f"state has the wrong tensors: {sorted(own.keys() ^ state.keys())} missing or unknown")
    for name, tensor in own.items():
        free = name.startswith("streams.")  # a generator's state is as long as its kind of device needs
        if state[name].shape != tensor.shape and not (free and len(state[name]) == len(tensor)):
            raise ValueError(f"state {name!r} has shape {tuple(state[name].shape)}, expected {tuple(tensor.shape)}")


def _matrix_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type of matrix products; the weights themselves are always float32."""
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" or torch.cpu._is_avx512_bf16_supported() else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32
