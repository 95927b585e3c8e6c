"""Classifier-free guidance (Ho and Salimans 2022); as in the CFDG paper, w = 0 is the plain conditional model."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from cfdg_diffusion.edm.noise import Denoise

LabelledDenoise = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(x (..., N, D), sigma broadcastable to (..., N), labels (..., N)) -> (..., N, D)``."""


def forget(labels: Tensor, p_uncond: float, null: int, uniform: Tensor) -> Tensor:
    """Training half: each label becomes ``null`` with probability ``p_uncond``.

    Args:
        labels: ``(..., N)`` integers.
        p_uncond: probability in [0, 1].
        null: the label that stands for "not told".
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
    """Sampling half, equation 7 of the paper in denoiser form: D~ = (1 + w) D(x; c) - w D(x; null).

    The score is affine in D and the weights add up to 1, so the combination of scores is that of denoisers. Both
    halves run in one pass of 2N rows; ``weight`` 0 needs N rows only.

    Args:
        denoiser: the labelled denoiser.
        labels: ``(..., N)`` integers c.
        weight: w, one or ``(..., N)``; 0 is the plain conditional model, -1 the unconditional one.
        null: the label the model was trained on after :func:`forget`.
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


def held(denoise: Denoise, clean: Tensor, known: Tensor, noise: Tensor) -> Denoise:
    """A denoiser that is told some columns: they enter at the right noise level and come out as they are.

    Args:
        denoise: any denoiser.
        clean: ``(..., N, D)`` rows whose ``known`` columns are given.
        known: ``(..., N, D)`` booleans.
        noise: ``(..., N, D)`` standard normal draws, the same at every noise level.
    """

    def told(x: Tensor, sigma: Tensor) -> Tensor:
        there = torch.where(known, clean + sigma[..., None] * noise, x)
        return torch.where(known, clean, denoise(there, sigma))

    return told
