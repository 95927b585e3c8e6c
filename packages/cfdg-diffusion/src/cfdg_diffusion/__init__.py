"""Synthetic tables: EDM diffusion with classifier-free guidance for rows, columns and labels."""

from cfdg_diffusion.edm.checks import NotFittedError
from cfdg_diffusion.edm.conditional import ConditionalDiffusion
from cfdg_diffusion.edm.guidance import LabelledDenoise, drop_labels, guided, inpaint
from cfdg_diffusion.edm.losses import FitReport
from cfdg_diffusion.edm.noise import Denoise
from cfdg_diffusion.edm.sampler import Churn, dpm_solver_2m, heun, karras_sigmas, leap_sigmas
from cfdg_diffusion.edm.settings import DiffusionSettings
from cfdg_diffusion.edm.streams import Streams
from cfdg_diffusion.tabular.columns import CodecSettings, Kind
from cfdg_diffusion.tabular.constraints import Constraint, FixedCombinations, Inequality, Predicate, Range
from cfdg_diffusion.tabular.early_stopping import History
from cfdg_diffusion.tabular.model import TabularDiffusion
from cfdg_diffusion.tabular.request import Balance
from cfdg_diffusion.tabular.settings import TabularSettings

__version__ = "0.1.0"

__all__ = [
    "Balance",
    "Churn",
    "CodecSettings",
    "ConditionalDiffusion",
    "Constraint",
    "Denoise",
    "DiffusionSettings",
    "FitReport",
    "FixedCombinations",
    "History",
    "Inequality",
    "Kind",
    "LabelledDenoise",
    "NotFittedError",
    "Predicate",
    "Range",
    "Streams",
    "TabularDiffusion",
    "TabularSettings",
    "dpm_solver_2m",
    "drop_labels",
    "guided",
    "heun",
    "inpaint",
    "karras_sigmas",
    "leap_sigmas",
]
