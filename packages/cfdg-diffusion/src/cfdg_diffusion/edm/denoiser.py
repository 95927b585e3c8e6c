"""Denoiser of labelled rows: network, outputs and Gaussians; the training loss and D(x; sigma, label)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cfdg_diffusion.edm.gaussians import LabelGaussians
from cfdg_diffusion.edm.guidance import LabelledDenoise, drop_labels
from cfdg_diffusion.edm.network import ResidualMLP, Weights, fourier_features
from cfdg_diffusion.edm.noise import c_in, c_noise, log_normal_sigma, quantile_sigmas
from cfdg_diffusion.edm.outputs import Category, OutputHeads, select_columns
from cfdg_diffusion.edm.settings import DiffusionSettings, Precision
from cfdg_diffusion.edm.streams import Streams


class Denoiser:
    """D(x; sigma, label) of R models, as a function of their weights (EDM, equation 7).

    Rows are in model space. The weights are arguments, so that the live and the averaged ones share one denoiser.

    Args:
        columns: D, width of a row.
        num_labels: L; label L is the null label.
        categories: columns that are learnt by cross-entropy.
        settings: sizes, precision, Fourier octaves and training noise.
        device: where rows and weights live.

    Attributes:
        heads: meaning of the network's outputs.
        network: sizes and initial values of the weights.
        gaussians: linear denoiser of the numbers; None is EDM's skip connection.
    """

    def __init__(
        self,
        columns: int,
        num_labels: int,
        categories: Sequence[Category],
        settings: DiffusionSettings,
        device: torch.device,
    ) -> None:
        self.heads = OutputHeads(columns, categories, device)
        self.network = ResidualMLP(
            columns=columns + 2 * settings.fourier_octaves * len(self.heads.numbers),
            labels=num_labels,
            width=settings.width,
            blocks=settings.blocks,
            outputs=self.heads.outputs,
            normed=settings.block_norm,
        )
        self.gaussians: LabelGaussians | None = None
        self._settings = settings
        self._dtype = _matrix_dtype(settings.precision, device)

    def measure_gaussians(self, rows: Tensor, labels: Tensor) -> None:
        """Start from the Gaussian of each label of rows ``(R, N, D)`` with labels ``(R, N)``, if there are numbers."""
        if len(self.heads.numbers):
            numbers = rows[..., self.heads.numbers]
            self.gaussians = LabelGaussians.measure(numbers, labels, self.network.labels)

    def standard_gaussians(self, replicas: int) -> LabelGaussians:
        """Make standard Gaussians of the shapes that :meth:`measure_gaussians` gives."""
        return LabelGaussians.empty(replicas, self.network.labels, len(self.heads.numbers))

    def loss(self, flat: Tensor, clean: Tensor, labels: Tensor, sigma: Tensor, normal: Tensor) -> Tensor:
        """Compute the denoising losses ``(R,)`` of the weights ``flat (R, P)``, see :meth:`OutputHeads.loss`.

        Args:
            flat: weights.
            clean: ``(R, N, D)`` rows.
            labels: ``(R, N)``.
            sigma: ``(R, N)`` noise levels.
            normal: ``(R, N, D)`` standard normal draws.
        """
        x = clean + sigma[..., None] * normal
        raw = self._outputs(self._unpack(flat), x, sigma, labels)
        return self.heads.loss(raw, clean, x, sigma, self._linear(x, sigma, labels))

    def training_loss(self, flat: Tensor, clean: Tensor, labels: Tensor, streams: Streams) -> Tensor:
        """Compute :meth:`loss` at random noise levels, with some labels dropped; draws come from ``streams``."""
        settings = self._settings
        count, columns = clean.shape[1:]
        labels = drop_labels(labels, settings.p_uncond, self.network.labels, streams.uniform(count))
        draws = streams.normal(count, columns + 1)
        sigma = log_normal_sigma(draws[..., 0], settings.p_mean, settings.p_std)
        return self.loss(flat, clean, labels, sigma, draws[..., 1:])

    def held_out_loss(self, flat: Tensor, clean: Tensor, labels: Tensor, noise: Streams, draws: int = 0) -> Tensor:
        """Compute :meth:`loss` at ``draws`` quantiles of the training noise levels, the same for all rows.

        Args:
            flat: weights.
            clean: ``(R, N, D)`` rows.
            labels: ``(R, N)``.
            noise: source of the standard normal draws.
            draws: noise levels; 0 takes 8, or more of a few rows.
        """
        draws = draws or max(8, min(64, 2048 // clean.shape[1]))
        losses = []
        for sigma in quantile_sigmas(draws, self._settings.p_mean, self._settings.p_std):
            level = sigma.to(clean.device).expand(labels.shape)
            losses.append(self.loss(flat, clean, labels, level, noise.normal(*clean.shape[1:])))
        return torch.stack(losses).mean(0)

    def with_weights(self, flat: Tensor) -> LabelledDenoise:
        """Bind the weights ``flat (R, P)``: a function ``(x, sigma, labels) -> D(x; sigma, labels)``."""
        weights = self._unpack(flat)

        def denoise(x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
            raw = self._outputs(weights, x, sigma, labels)
            return self.heads.denoise(raw, x, sigma, self._linear(x, sigma, labels))

        return denoise

    def _unpack(self, flat: Tensor) -> Weights:
        return self.network.unpack(flat, self._dtype)

    def _outputs(self, weights: Weights, x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """F(c_in x; c_noise, labels), with the Fourier features of the numbers beside c_in x."""
        scaled = x * c_in(sigma)[..., None]
        if self._settings.fourier_octaves:
            features = fourier_features(scaled[..., self.heads.numbers], self._settings.fourier_octaves)
            scaled = torch.cat([scaled, features], dim=-1)
        return self.network(weights, scaled, c_noise(sigma), labels)

    def _linear(self, x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor | None:
        """Numbers as the Gaussians denoise them; None without Gaussians."""
        if self.gaussians is None:
            return None
        return self.gaussians.denoise(select_columns(x, self.heads.numbers), sigma, labels)


def _matrix_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Choose the type of matrix products; the weights themselves are always float32."""
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" or torch.cpu._is_avx512_bf16_supported() else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32
