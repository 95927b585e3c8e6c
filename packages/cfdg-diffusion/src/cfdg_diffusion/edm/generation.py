"""Generation of rows in model space by a sampler, with or without cells that are known."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from cfdg_diffusion.edm.guidance import inpaint
from cfdg_diffusion.edm.noise import Denoise
from cfdg_diffusion.edm.sampler import solve
from cfdg_diffusion.edm.settings import Sampler


def generate(
    sampler: Sampler, denoise: Denoise, sigmas: Tensor, known: Tensor | None, normal: Callable[[], Tensor]
) -> Tensor:
    """Generate rows ``(R, n, D)`` in model space, one per draw of ``normal``, with the finite numbers of ``known``."""
    x = normal() * float(sigmas[0])
    if known is None:
        return solve(sampler, denoise, x, sigmas, normal)
    denoise = inpaint(denoise, known.nan_to_num(), known.isfinite(), normal())
    return solve("heun-stochastic", denoise, x, sigmas, normal)
