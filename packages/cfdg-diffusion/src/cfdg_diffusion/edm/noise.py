"""EDM's noise: preconditioning, noise-level draw and denoising loss (Karras et al. 2022, table 1).

Everything is elementwise in sigma and polymorphic in leading axes: ``x (..., N, D)``, ``sigma (..., N)`` or
anything that broadcasts against it, such as ``(1,)`` when all rows share one noise level.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]
"""``(x (..., N, D), sigma broadcastable to (..., N)) -> the expected clean rows (..., N, D)``."""


def c_skip(sigma: Tensor, sigma_data: float = 1.0) -> Tensor:
    """Share of the noisy row that passes straight to the output."""
    return sigma_data**2 / (sigma.square() + sigma_data**2)


def c_out(sigma: Tensor, sigma_data: float = 1.0) -> Tensor:
    """Scale of the network's output; keeps its training target at unit variance."""
    return sigma * sigma_data * (sigma.square() + sigma_data**2).rsqrt()


def c_in(sigma: Tensor, sigma_data: float = 1.0) -> Tensor:
    """Scale of the network's input; keeps it at unit variance."""
    return (sigma.square() + sigma_data**2).rsqrt()


def c_noise(sigma: Tensor) -> Tensor:
    """What the network sees of the noise level: ln(sigma) / 4."""
    return sigma.log() / 4


def precondition(network: Denoise, sigma_data: float = 1.0) -> Denoise:
    """Equation 7: D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        raw = network(x * c_in(sigma, sigma_data)[..., None], c_noise(sigma))
        return c_skip(sigma, sigma_data)[..., None] * x + c_out(sigma, sigma_data)[..., None] * raw

    return denoise


def log_normal_sigma(normal: Tensor, p_mean: float = -1.2, p_std: float = 1.2) -> Tensor:
    """Training noise levels from standard normal draws: ln(sigma) ~ N(p_mean, p_std^2)."""
    return torch.exp(p_mean + p_std * normal)


def loss_weight(sigma: Tensor, sigma_data: float = 1.0) -> Tensor:
    """lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 = 1 / c_out^2."""
    return (sigma.square() + sigma_data**2) / (sigma * sigma_data).square()


def denoising_loss(denoise: Denoise, clean: Tensor, sigma: Tensor, normal: Tensor, sigma_data: float = 1.0) -> Tensor:
    """Equation 8: the weighted squared error of D(clean + sigma n; sigma) against the clean rows.

    Args:
        denoise: the denoiser D.
        clean: ``(..., N, D)`` rows in model space.
        sigma: ``(..., N)`` noise levels.
        normal: ``(..., N, D)`` standard normal draws n.
        sigma_data: standard deviation of the clean rows.

    Returns:
        ``(...)``, the mean over rows and columns: one loss per replica. Their sum is what is differentiated, so that
        the gradient of a replica does not depend on how many others run beside it.
    """
    error = denoise(clean + sigma[..., None] * normal, sigma) - clean
    return (loss_weight(sigma, sigma_data)[..., None] * error.square()).mean((-2, -1))
