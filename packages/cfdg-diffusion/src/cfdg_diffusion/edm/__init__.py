"""EDM diffusion with classifier-free guidance for rows of numbers and integer labels."""

from cfdg_diffusion.edm.conditional import ConditionalDiffusion, DiffusionSettings, FitReport
from cfdg_diffusion.edm.guidance import LabelledDenoise, forget, guided, held
from cfdg_diffusion.edm.noise import Denoise
from cfdg_diffusion.edm.sampler import Churn, dpm_solver_2m, heun, karras_sigmas, leap_sigmas

__all__ = [
    "Churn",
    "ConditionalDiffusion",
    "Denoise",
    "DiffusionSettings",
    "FitReport",
    "LabelledDenoise",
    "dpm_solver_2m",
    "forget",
    "guided",
    "held",
    "heun",
    "karras_sigmas",
    "leap_sigmas",
]
