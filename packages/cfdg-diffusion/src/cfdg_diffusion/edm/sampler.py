"""Noise schedules and samplers: free functions of any callable denoiser (Karras et al. 2022; Lu et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from cfdg_diffusion.edm.noise import Denoise
from cfdg_diffusion.edm.settings import DiffusionSettings, Sampler

_INPAINTING_STEPS = 40


def karras_sigmas(steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """Compute noise levels ``(steps + 1,)`` from ``sigma_max`` to ``sigma_min``, then 0, in float64 (EDM equation 5).

    Raises:
        ValueError: if ``steps`` is below 1 or the levels are not 0 < ``sigma_min`` < ``sigma_max``.
    """
    if steps < 1 or not 0 < sigma_min < sigma_max:
        raise ValueError(
            f"steps = {steps}, sigma_min = {sigma_min}, sigma_max = {sigma_max}: expected steps >= 1 and "
            "0 < sigma_min < sigma_max"
        )
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    sigmas = (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def leap_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float, leap: float) -> Tensor:
    """Compute :func:`karras_sigmas` from ``leap`` down, after a first step that goes there from ``sigma_max``.

    At noise levels far above the spread of the data the denoiser gives the mean of all rows, whatever the noisy row:
    one step is exact there, and to start at ``leap`` without it would be to start around 0 instead of that mean.
    A single step has nowhere to leap.

    Raises:
        ValueError: as :func:`karras_sigmas`, or if ``leap`` is not between the two levels.
    """
    if not sigma_min < leap < sigma_max:
        raise ValueError(f"leap is {leap}, expected a noise level between {sigma_min} and {sigma_max}")
    if steps == 1:
        return karras_sigmas(steps, sigma_min, sigma_max, rho)
    sigmas = karras_sigmas(steps - 1, sigma_min, leap, rho)
    return torch.cat([sigmas.new_full((1,), sigma_max), sigmas])


def schedule(settings: DiffusionSettings, steps: int | None = None, *, inpaints: bool = False) -> Tensor:
    """Compute the noise levels ``(steps + 1,)`` of the settings.

    Args:
        settings: their range, spacing and leap.
        steps: None takes the settings', or 40 for inpainting.
        inpaints: whether cells are known; then known and generated cells have to settle at the high levels too, so
            that no step leaps over these.

    Raises:
        ValueError: if ``steps`` is below 1.
    """
    if steps is None:
        steps = _INPAINTING_STEPS if inpaints else settings.sampling_steps
    if inpaints or not settings.sigma_leap:
        return karras_sigmas(steps, settings.sigma_min, settings.sigma_max, settings.rho)
    return leap_sigmas(steps, settings.sigma_min, settings.sigma_max, settings.rho, settings.sigma_leap)


def solve(sampler: Sampler, denoise: Denoise, x: Tensor, sigmas: Tensor, normal: Callable[[], Tensor]) -> Tensor:
    """Go from noise to data with the sampler of that name; arguments and shapes are those of :func:`heun`."""
    if sampler == "dpm":
        return dpm_solver_2m(denoise, x, sigmas)
    if sampler == "heun":
        return heun(denoise, x, sigmas)
    return heun(denoise, x, sigmas, Churn(), normal)


@dataclass(frozen=True)
class Churn:
    """Fresh noise of the stochastic sampler: its amount, and the noise levels it acts at (EDM algorithm 2).

    The defaults are SynthER's for transitions: EDM's for ImageNet-64 with twice its churn.
    """

    s_churn: float = 80.0
    s_tmin: float = 0.05
    s_tmax: float = 50.0
    s_noise: float = 1.003

    def gamma(self, sigma: float, steps: int) -> float:
        """Compute the relative increase of the noise level ``sigma`` before a step, at most sqrt(2) - 1."""
        return min(self.s_churn / steps, math.sqrt(2) - 1) if self.s_tmin <= sigma <= self.s_tmax else 0.0


def heun(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    churn: Churn | None = None,
    normal: Callable[[], Tensor] | None = None,
) -> Tensor:
    """Solve the probability-flow ODE by Heun's method (EDM algorithm 1), stochastic with ``churn`` (algorithm 2).

    Calls the denoiser twice per step, once in a step that ends at 0.

    Args:
        denoise: any ``(x (..., N, D), sigma (..., 1)) -> (..., N, D)``.
        x: ``(..., N, D)`` noise of standard deviation ``sigmas[0]``.
        sigmas: ``(steps + 1,)`` falling noise levels on the CPU; the last may be 0.
        churn: fresh noise; None is deterministic.
        normal: draws standard normal noise shaped as ``x``; needed with ``churn``.

    Raises:
        ValueError: if ``churn`` comes without ``normal``.
    """
    if churn is not None and normal is None:
        raise ValueError("churn was given without normal, expected a source of noise shaped as x")
    levels = sigmas.tolist()
    for sigma, following in pairwise(levels):
        gamma = churn.gamma(sigma, len(levels) - 1) if churn is not None else 0.0
        if churn is not None and normal is not None and gamma > 0:
            raised = sigma * (1 + gamma)
            x = x + math.sqrt(raised**2 - sigma**2) * churn.s_noise * normal()
            sigma = raised
        x = _heun_step(denoise, x, sigma, following)
    return x


def dpm_solver_2m(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """Solve by DPM-Solver++(2M): second order at one call per step (Lu et al. 2022b, algorithm 2), lambda = -ln sigma.

    Args and shapes are those of :func:`heun`. The first step, having no past, and a last step to 0, where lambda is
    infinite, are of first order.
    """
    levels = sigmas.tolist()
    past = x
    past_width = math.inf
    for sigma, following in pairwise(levels):
        clean = denoise(x, _level(x, sigma))
        if following == 0:
            return clean
        width = math.log(sigma / following)
        slope = width / (2 * past_width)
        x = torch.lerp(clean + slope * (clean - past), x, following / sigma)
        past = clean
        past_width = width
    return x


def _heun_step(denoise: Denoise, x: Tensor, sigma: float, following: float) -> Tensor:
    """Take one step of dx/dsigma = (x - D(x; sigma)) / sigma; the Euler step is all there is when it ends at 0."""
    clean = denoise(x, _level(x, sigma))
    if following == 0:
        return clean
    slope = (x - clean) / sigma
    ahead = x + (following - sigma) * slope
    slope_ahead = (ahead - denoise(ahead, _level(x, following))) / following
    return x + (following - sigma) / 2 * (slope + slope_ahead)


def _level(x: Tensor, sigma: float) -> Tensor:
    """One noise level for all rows of ``x (..., N, D)``, of shape ``(1, ..., 1)`` that broadcasts to ``(..., N)``."""
    return x.new_full((1,) * (x.dim() - 1), sigma)
