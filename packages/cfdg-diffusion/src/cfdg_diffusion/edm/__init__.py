"""EDM diffusion with classifier-free guidance for rows of numbers and integer labels."""

from cfdg_diffusion.edm.checks import NotFittedError
from cfdg_diffusion.edm.conditional import ConditionalDiffusion
from cfdg_diffusion.edm.guidance import LabelledDenoise, drop_labels, guided, inpaint
from cfdg_diffusion.edm.losses import FitReport
from cfdg_diffusion.edm.noise import Denoise
from cfdg_diffusion.edm.sampler import Churn, dpm_solver_2m, heun, karras_sigmas, leap_sigmas
from cfdg_diffusion.edm.settings import DiffusionSettings
from cfdg_diffusion.edm.streams import Streams

__all__ = [
    "Churn",
    "ConditionalDiffusion",
    "Denoise",
    "DiffusionSettings",
    "FitReport",
    "LabelledDenoise",
    "NotFittedError",
    "Streams",
    "dpm_solver_2m",
    "drop_labels",
    "guided",
    "heun",
    "inpaint",
    "karras_sigmas",
    "leap_sigmas",
]
