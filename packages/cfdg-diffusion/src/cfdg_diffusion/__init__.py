"""Synthetic tables: EDM diffusion with classifier-free guidance for rows, columns and labels.

Public names are imported on first use (PEP 562): the help of the command needs neither PyTorch nor pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from cfdg_diffusion.tabular.demo import load_demo
    from cfdg_diffusion.tabular.early_stopping import History
    from cfdg_diffusion.tabular.identifiers import IdentifierWarning
    from cfdg_diffusion.tabular.model import TabularDiffusion
    from cfdg_diffusion.tabular.rejection import SampleReport
    from cfdg_diffusion.tabular.request import Balance
    from cfdg_diffusion.tabular.settings import TabularSettings
else:
    _HOMES = {
        "edm.checks": ("NotFittedError",),
        "edm.conditional": ("ConditionalDiffusion",),
        "edm.guidance": ("LabelledDenoise", "drop_labels", "guided", "inpaint"),
        "edm.losses": ("FitReport",),
        "edm.noise": ("Denoise",),
        "edm.sampler": ("Churn", "dpm_solver_2m", "heun", "karras_sigmas", "leap_sigmas"),
        "edm.settings": ("DiffusionSettings",),
        "edm.streams": ("Streams",),
        "tabular.columns": ("CodecSettings", "Kind"),
        "tabular.constraints": ("Constraint", "FixedCombinations", "Inequality", "Predicate", "Range"),
        "tabular.demo": ("load_demo",),
        "tabular.early_stopping": ("History",),
        "tabular.identifiers": ("IdentifierWarning",),
        "tabular.model": ("TabularDiffusion",),
        "tabular.rejection": ("SampleReport",),
        "tabular.request": ("Balance",),
        "tabular.settings": ("TabularSettings",),
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
    "IdentifierWarning",
    "Inequality",
    "Kind",
    "LabelledDenoise",
    "NotFittedError",
    "Predicate",
    "Range",
    "SampleReport",
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
    "load_demo",
]
