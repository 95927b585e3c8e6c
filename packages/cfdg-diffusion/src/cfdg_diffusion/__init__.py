"""Synthetic tables: EDM diffusion with classifier-free guidance for rows, columns and labels."""

from cfdg_diffusion.edm.conditional import ConditionalDiffusion, DiffusionSettings, FitReport
from cfdg_diffusion.edm.guidance import LabelledDenoise, forget, guided, held
from cfdg_diffusion.edm.noise import Denoise
from cfdg_diffusion.edm.sampler import Churn, dpm_solver_2m, heun, karras_sigmas, leap_sigmas
from cfdg_diffusion.edm.streams import Streams
from cfdg_diffusion.tabular.constraints import FixedCombinations, Inequality, Predicate, Range
from cfdg_diffusion.tabular.demo import load_demo
from cfdg_diffusion.tabular.model import TabularDiffusion, TabularSettings

__version__ = "0.1.0"

__all__ = [
    "Churn",
    "ConditionalDiffusion",
    "Denoise",
    "DiffusionSettings",
    "FitReport",
    "FixedCombinations",
    "Inequality",
    "LabelledDenoise",
    "Predicate",
    "Range",
    "Streams",
    "TabularDiffusion",
    "TabularSettings",
    "dpm_solver_2m",
    "forget",
    "guided",
    "held",
    "heun",
    "karras_sigmas",
    "leap_sigmas",
    "load_demo",
]
