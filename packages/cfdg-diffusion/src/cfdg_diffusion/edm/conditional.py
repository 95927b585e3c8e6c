"""ConditionalDiffusion: arrays and integer labels in, arrays out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cfdg_diffusion import storage
from cfdg_diffusion.edm import checks
from cfdg_diffusion.edm.batches import BalancedRows
from cfdg_diffusion.edm.denoiser import Denoiser
from cfdg_diffusion.edm.gaussians import LabelGaussians
from cfdg_diffusion.edm.generation import generate
from cfdg_diffusion.edm.guidance import EnergyGradient, guided, tilted
from cfdg_diffusion.edm.learner import Learner, cosine
from cfdg_diffusion.edm.losses import FitReport, check_losses, looks
from cfdg_diffusion.edm.normaliser import Normaliser, measure
from cfdg_diffusion.edm.outputs import Category
from cfdg_diffusion.edm.parts import LabelledParts, Part
from cfdg_diffusion.edm.replay import replayed
from cfdg_diffusion.edm.sampler import schedule
from cfdg_diffusion.edm.settings import DiffusionSettings
from cfdg_diffusion.edm.streams import Streams

Array = Tensor | np.ndarray
Rows = Array | Sequence[Part]
Labels = Array | None
_ARGUMENTS = ("columns", "num_labels", "seeds", "raw_columns")


class ConditionalDiffusion:
    """R class-conditional diffusion models of rows, trained and sampled side by side.

    Replica r learns and samples exactly what a model built with the single seed ``seeds[r]`` would (to the rounding of
    a matrix product), given the same calls.

    Args:
        columns: D, columns of a row.
        num_labels: L; labels are the integers 0 to L - 1. Use 1 for a model without labels.
        seeds: one seed per replica.
        settings: None takes the defaults of :class:`DiffusionSettings`.
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
        settings: DiffusionSettings | None = None,
        raw_columns: Sequence[int] = (),
        categories: Sequence[Category] = (),
        device: str | torch.device = "cpu",
    ) -> None:
        checks.check_sizes(columns, num_labels, raw_columns)
        self.columns = columns
        self.num_labels = num_labels
        self.seeds = tuple(int(seed) for seed in seeds)
        self.settings = settings or DiffusionSettings()
        self.raw_columns = tuple(int(column) for column in raw_columns)
        self.categories = tuple(categories)
        self.device = torch.device(device)
        self._denoiser = Denoiser(columns, num_labels, self.categories, self.settings, self.device)
        self._training = Streams(self.seeds, "diffusion training", self.device)
        self._sampling = Streams(self.seeds, "diffusion sampling", self.device)
        self.reset()

    def reset(self) -> None:
        """Draw fresh weights from the seeds and drop all statistics; the streams of training and sampling run on."""
        weights = self._denoiser.network.initial(Streams(self.seeds, "diffusion weights", self.device))
        self._learner = Learner(weights, self.settings.gradient_clip, self.settings.ema_decay)
        self.normaliser = Normaliser(*torch.zeros(2, len(self.seeds), self.columns, device=self.device))
        self._label_counts = torch.zeros(len(self.seeds), self.num_labels, dtype=torch.long)
        self._denoiser.gaussians = None

    def fit(self, rows: Rows, labels: Labels = None, *, steps: int | None = None, progress: bool = False) -> FitReport:
        """Train for ``steps`` gradient steps, see :meth:`training`; ``progress`` shows a bar.

        Raises:
            ValueError: if rows or labels are not as described there; the message names the column.
            RuntimeError: if training diverges.
        """
        began = time.perf_counter()
        steps = self.settings.steps if steps is None else steps
        bar = {"total": steps, "disable": not progress, "desc": "diffusion", "unit": "step"}
        loss_steps, notes = zip(*looks(tqdm(self.training(rows, labels, steps=steps), **bar), steps), strict=True)
        losses = torch.stack(notes).cpu()
        check_losses(losses)
        return FitReport(steps, time.perf_counter() - began, loss_steps, losses, self._label_counts)

    def training(
        self, rows: Rows, labels: Labels = None, *, steps: int | None = None, start: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield ``(step, losses (R,))`` after each gradient step; nothing is noted, judged or saved here.

        The learning rate falls to 0 along a cosine. Another training starts from the present weights, with the
        statistics of the new rows but the Gaussians of the first; :meth:`reset` first trains from scratch.

        Args:
            rows: ``(N, D)`` shared by all replicas or ``(R, N, D)``, in original units; checked before the first step.
                Or parts of one label each, never copied nor measured for Gaussians; they tell the labels themselves.
            labels: ``(N,)`` or ``(R, N)`` integers in [0, L). Batches hold equally many rows of every label present.
            steps: number of the last gradient step; None takes the settings'.
            start: steps done before; with the state of that step, training continues bit for bit.

        Raises:
            ValueError: if shapes, labels or numbers are not as described; the message names the column.
        """
        steps = self.settings.steps if steps is None else steps
        checks.check_steps(start, steps)
        data = self._measured(rows, labels)
        compute = replayed(lambda: self._gradient(data), self._training)
        rates = (cosine(step, steps) * self.settings.learning_rate for step in range(start, steps))
        return ((step, self._learner.follow(compute, rate)) for step, rate in enumerate(rates, start + 1))

    def _measured(self, rows: Rows, labels: Labels) -> BalancedRows | LabelledParts:
        """Check the data of a training and take their statistics."""
        replicas = len(self.seeds)
        raw = [*self.raw_columns, *self._denoiser.heads.categorical]
        if not isinstance(rows, Tensor | np.ndarray):
            data = LabelledParts(rows, self.columns, self.num_labels, replicas)
            self.normaliser = data.measure(raw)
        else:
            rows = checks.check_rows(rows, self.columns, replicas, self.device)
            labels = checks.check_labels(labels, self.num_labels, replicas, self.device)
            checks.check_pairs(rows, labels)
            data = BalancedRows(rows, labels, self.num_labels)
            self.normaliser = measure(rows, data.shares, raw).expand(replicas)
            if not self._label_counts.any() and rows.shape[1] < self.settings.gaussian_rows:
                self._denoiser.measure_gaussians(self.normaliser.encode(rows), labels.expand(replicas, -1))
        self._label_counts = data.counts.expand(replicas, -1).cpu().clone()
        return data

    def _gradient(self, data: BalancedRows | LabelledParts) -> tuple[Tensor, Tensor]:
        """Compute the losses ``(R,)`` of a batch and their gradient ``(R, P)``."""
        rows, labels = data.draw(self._training, self.settings.batch_size)
        loss = self._denoiser.training_loss(self._learner.weights, self.normaliser.encode(rows), labels, self._training)
        return loss.detach(), self._learner.gradient(loss)

    @torch.no_grad()
    def held_out_loss(self, rows: Array, labels: Array, *, draws: int = 0, seed: int = 0) -> Tensor:
        """Compute the denoising loss ``(R,)`` of the averaged weights on rows and labels that were not fitted.

        ``seed`` fixes the noise; ``draws`` is the number of noise levels, 0 takes 8, or more of a few rows.

        Raises:
            ValueError: if rows or labels are not as described; the message names the column.
        """
        replicas = len(self.seeds)
        rows = checks.check_rows(rows, self.columns, replicas, self.device).expand(replicas, -1, -1)
        labels = checks.check_labels(labels, self.num_labels, replicas, self.device).expand(replicas, -1)
        noise = Streams((seed,) * replicas, "held-out noise", self.device)
        return self._denoiser.held_out_loss(self._learner.average, self.normaliser.encode(rows), labels, noise, draws)

    @torch.no_grad()  # inference_mode would give tensors that nobody can edit or differentiate through
    def sample(  # noqa: PLR0913 - all but the labels have a default
        self,
        labels: Array,
        *,
        guidance_weight: float | Array | None = None,
        guidance_interval: tuple[float, float] = (0.0, math.inf),
        steps: int | None = None,
        known: Array | None = None,
        guided_columns: Sequence[int] | None = None,
        energy_gradient: EnergyGradient | None = None,
        streams: Streams | None = None,
    ) -> Tensor:
        """Generate one row per label from the averaged weights.

        Args:
            labels: ``(n,)``, or ``(R, n)`` for different labels per replica; integers in [0, L).
            guidance_weight: w of equation 7, 0 for the plain conditional model, or ``(n,)`` or ``(R, n)`` of them, one
                per row; None takes the settings'.
            guidance_interval: noise levels between which guidance acts.
            steps: sampler steps; None takes the settings'.
            known: ``(n, D)`` or ``(R, n, D)`` rows in original units whose finite numbers are kept; NaN is
                generated to go with them by the stochastic sampler in 40 steps, whose fresh noise lets both settle.
            guided_columns: columns on which guidance acts, the others are conditional on the label alone; None is all.
            energy_gradient: grad E(x; sigma) in model space: rows are drawn from p exp(-E), see :func:`tilted`.
            streams: one per replica, as :meth:`sampling_streams` makes them; None continues the model's own.

        Returns:
            float32 rows in original units: ``(n, D)`` for ``(n,)`` labels and a single seed, else ``(R, n, D)``.

        Raises:
            NotFittedError: if there was no fit.
            ValueError: if a label is outside [0, L) or had no rows in the latest fit.
        """
        asked = checks.check_labels(labels, self.num_labels, len(self.seeds), self.device).expand(len(self.seeds), -1)
        checks.check_fitted(asked, self._label_counts)
        weight = self.settings.guidance_weight if guidance_weight is None else guidance_weight
        weight = checks.check_weights(weight, asked)
        sigmas = schedule(self.settings, steps, inpaints=known is not None)
        cells = None if known is None else self.normaliser.encode(checks.check_known(known, asked, self.columns))
        denoiser = self._denoiser.with_weights(self._learner.average)
        columns = checks.check_columns(guided_columns, self.columns, self.device)
        rows = torch.empty(*asked.shape, self.columns, device=self.device)
        for start in range(0, asked.shape[1], self.settings.chunk_rows):
            part = slice(start, start + self.settings.chunk_rows)
            own = weight[:, part] if isinstance(weight, Tensor) else weight
            denoise = guided(denoiser, asked[:, part], own, self.num_labels, guidance_interval, columns=columns)
            denoise = denoise if energy_gradient is None else tilted(denoise, energy_gradient)
            given = None if cells is None else cells[:, part]
            normal = partial((streams or self._sampling).normal, asked[:, part].shape[1], self.columns)
            rows[:, part] = self.normaliser.decode(generate(self.settings.sampler, denoise, sigmas, given, normal))
        return rows[0] if len(self.seeds) == 1 and np.ndim(labels) == 1 else rows

    def sampling_streams(self, seeds: Sequence[int]) -> Streams:
        """Make streams of :meth:`sample` from one seed per replica; those of the model stay as they are."""
        return Streams(tuple(seeds), "diffusion sampling", self.device)

    def restart_sampling(self, seeds: Sequence[int] | Streams) -> None:
        """Begin the model's streams of sampling anew, from one seed per replica, or go on with other streams."""
        self._sampling = seeds if isinstance(seeds, Streams) else self.sampling_streams(seeds)

    def state_dict(self) -> dict[str, Any]:
        """Copy everything that changes, as a tree of tensors: loading it continues fits and samples bit for bit."""
        state = {
            "learner": self._learner.state(),
            "normaliser": {"mean": self.normaliser.mean.clone(), "std": self.normaliser.std.clone()},
            "label_counts": self._label_counts.clone(),
            "streams": {"training": self._training.state(), "sampling": self._sampling.state()},
        }
        gaussians = self._denoiser.gaussians
        return state if gaussians is None else state | {"gaussians": gaussians.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the :meth:`state_dict` of a model built with the same arguments.

        Random streams start from the seeds on another kind of device. Dotted names, as in version 1, are read too.

        Raises:
            ValueError: if a tensor is missing, unknown or of another shape; nothing is changed then.
        """
        state = storage.nested(state)
        own = self.state_dict() | {"gaussians": self._denoiser.standard_gaussians(len(self.seeds)).state()}
        if "gaussians" not in state:
            del own["gaussians"]
        found = checks.check_state(state, own, self.device)
        self._learner.restore(found["learner"])
        self.normaliser = Normaliser(**found["normaliser"])
        self._label_counts = found["label_counts"].cpu()
        self._denoiser.gaussians = LabelGaussians(**found["gaussians"]) if "gaussians" in found else None
        for name, streams in (("training", self._training), ("sampling", self._sampling)):
            streams.restore(found["streams"][name])

    def save(self, path: str | Path) -> None:
        """Write one safetensors file with the arguments and the whole state of this object.

        Raises:
            OSError: if the file cannot be written.
        """
        arguments = {name: getattr(self, name) for name in _ARGUMENTS} | {"settings": asdict(self.settings)}
        arguments["categories"] = [asdict(part) for part in self.categories]
        storage.save(Path(path), {"arguments": arguments, "state": self.state_dict()})

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> ConditionalDiffusion:
        """Read the file of :meth:`save`.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is truncated, foreign, or written by a newer version.
        """
        tree = storage.load(Path(path))
        try:
            arguments = dict(tree["arguments"])
            settings = DiffusionSettings(**arguments.pop("settings"))
            categories = [Category(**own) for own in arguments.pop("categories")]
            model = cls(**arguments, categories=categories, settings=settings, device=device)
            model.load_state_dict(tree["state"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} does not describe a model of this version: {error}") from error
        return model
