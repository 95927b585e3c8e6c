"""Synthetic tables: EDM diffusion with classifier-free guidance for rows, columns and labels.

Public names are imported on first use (PEP 562): the help of the command needs neither PyTorch nor pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cfdg_diffusion.edm.conditional import ConditionalDiffusion, DiffusionSettings, FitReport
    from cfdg_diffusion.edm.guidance import LabelledDenoise, forget, guided, held
    from cfdg_diffusion.edm.noise import Denoise
    from cfdg_diffusion.edm.sampler import Churn, dpm_solver_2m, heun, karras_sigmas, leap_sigmas
    from cfdg_diffusion.edm.streams import Streams
    from cfdg_diffusion.tabular.constraints import FixedCombinations, Inequality, Predicate, Range
    from cfdg_diffusion.tabular.model import TabularDiffusion, TabularSettings
else:
    _HOMES = {
        "edm.conditional": ("ConditionalDiffusion", "DiffusionSettings", "FitReport"),
        "edm.guidance": ("LabelledDenoise", "forget", "guided", "held"),
        "edm.noise": ("Denoise",),
        "edm.sampler": ("Churn", "dpm_solver_2m", "heun", "karras_sigmas", "leap_sigmas"),
        "edm.streams": ("Streams",),
        "tabular.constraints": ("FixedCombinations", "Inequality", "Predicate", "Range"),
        "tabular.model": ("TabularDiffusion", "TabularSettings"),
    }
    _MODULES = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}

    def __getattr__(name: str) -> object:
        """Import a public name, or a part of the package, on first use."""
        if name in _MODULES:
            found = getattr(import_module(_MODULES[name]), name)
        elif name in ("edm", "storage", "tabular"):
            found = import_module(f"{__name__}.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


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
]
