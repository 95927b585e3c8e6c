"""EDM's noise: preconditioning coefficients and the noise-level draw (Karras et al. 2022, table 1).

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
    """Noise level as the network reads it: ln(sigma) / 4."""
    return sigma.log() / 4


def log_normal_sigma(normal: Tensor, p_mean: float = -1.2, p_std: float = 1.2) -> Tensor:
    """Training noise levels from standard normal draws: ln(sigma) ~ N(p_mean, p_std^2)."""
    return torch.exp(p_mean + p_std * normal)


def quantile_sigmas(count: int, p_mean: float = -1.2, p_std: float = 1.2) -> Tensor:
    """Compute noise levels ``(count,)`` at equally spaced quantiles of the training distribution."""
    quantiles = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return log_normal_sigma(torch.special.ndtri(quantiles).float(), p_mean, p_std)
