"""Network calls of a diffusion model, the cost of generated rows that no machine changes."""

from __future__ import annotations

from cfdg_diffusion import DiffusionSettings


def calls_per_row(settings: DiffusionSettings) -> int:
    """Count the network calls that generate one row; guidance needs two for one."""
    steps = settings.sampling_steps
    calls = steps if settings.sampler == "dpm" else 2 * steps - 1
    return calls if settings.guidance_weight == 0 else 2 * calls
