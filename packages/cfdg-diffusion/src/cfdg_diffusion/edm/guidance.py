"""Classifier-free guidance (Ho and Salimans 2022); as in the CFDG paper, w = 0 is the plain conditional model."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from cfdg_diffusion.edm.noise import Denoise

LabelledDenoise = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(x (..., N, D), sigma broadcastable to (..., N), labels (..., N)) -> (..., N, D)``."""

EnergyGradient = Callable[[Tensor, Tensor], Tensor]
"""``(x (..., N, D), sigma broadcastable to (..., N)) -> (..., N, D)``, the gradient of an energy in x."""


def drop_labels(labels: Tensor, p_uncond: float, null: int, uniform: Tensor) -> Tensor:
    """Replace each label by ``null`` with probability ``p_uncond``: the training half, label dropout.

    Args:
        labels: ``(..., N)`` integers.
        p_uncond: probability in [0, 1].
        null: the label that stands for no label.
        uniform: ``(..., N)`` draws in [0, 1).
    """
    return torch.where(uniform < p_uncond, null, labels)


def guided(
    denoiser: LabelledDenoise,
    labels: Tensor,
    weight: float | Tensor,
    null: int,
    interval: tuple[float, float] = (0.0, math.inf),
    columns: Tensor | None = None,
) -> Denoise:
    """Guide a denoiser by equation 7 of the paper in denoiser form: D~ = (1 + w) D(x; c) - w D(x; null).

    The score is affine in D and the weights add up to 1, so the combination of scores is that of denoisers. Both
    terms run in one pass of 2N rows; ``weight`` 0 needs N rows only.

    Args:
        denoiser: the labelled denoiser.
        labels: ``(..., N)`` integers c.
        weight: w, one or ``(..., N)``; 0 is the plain conditional model, -1 the unconditional one.
        null: the label the model was trained on after :func:`drop_labels`.
        interval: noise levels at which guidance acts (Kynkaanniemi et al. 2024); outside them w is 0.
        columns: ``(D,)`` booleans, columns on which guidance acts; w is 0 on the others. None is all of them.
    """
    if not isinstance(weight, Tensor) and weight == 0:
        return lambda x, sigma: denoiser(x, sigma, labels)
    everywhere = interval == (0.0, math.inf)
    share = 1 + (weight[..., None] if isinstance(weight, Tensor) else weight) * (1 if columns is None else columns)
    both = torch.cat([labels, torch.full_like(labels, null)], dim=-1)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        if not everywhere and not interval[0] <= float(sigma.max()) <= interval[1]:
            return denoiser(x, sigma, labels)
        level = sigma if sigma.shape[-1] == 1 else torch.cat([sigma, sigma], dim=-1)
        conditional, unconditional = denoiser(torch.cat([x, x], dim=-2), level, both).chunk(2, dim=-2)
        return unconditional + share * (conditional - unconditional)

    return denoise


def tilted(denoise: Denoise, energy_gradient: EnergyGradient) -> Denoise:
    """Make the denoiser of the density q ~ p exp(-E) from that of p: D - sigma^2 grad E.

    D = x + sigma^2 grad log p (EDM, equation 3), so that the gradient of -E is added to the score at every noise level.

    Args:
        denoise: the denoiser of p.
        energy_gradient: grad E of the *noised* densities, E(x; sigma) = -log q(x; sigma) / p(x; sigma) + a constant.
    """
    return lambda x, sigma: denoise(x, sigma) - sigma[..., None] ** 2 * energy_gradient(x, sigma)


def inpaint(denoise: Denoise, clean: Tensor, known: Tensor, noise: Tensor) -> Denoise:
    """Denoiser whose ``known`` columns enter at the present noise level and leave with their clean values.

    Args:
        denoise: any denoiser.
        clean: ``(..., N, D)`` rows whose ``known`` columns are given.
        known: ``(..., N, D)`` booleans.
        noise: ``(..., N, D)`` standard normal draws, the same at every noise level.
    """

    def denoise_rest(x: Tensor, sigma: Tensor) -> Tensor:
        noisy = torch.where(known, clean + sigma[..., None] * noise, x)
        return torch.where(known, clean, denoise(noisy, sigma))

    return denoise_rest
