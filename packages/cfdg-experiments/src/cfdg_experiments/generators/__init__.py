"""Generators for Algorithm 1: the paper's model, its rivals, controls without a model, references without model error.

Each has ``fit`` and ``sample`` as the loop wants them, and ``state`` and ``restore``, which continue bit for bit.
"""

from cfdg_experiments.generators.context import Context, GeneratorSettings, Maker, row_model
from cfdg_experiments.generators.copies import Jitter, JitterSettings, Repeat
from cfdg_experiments.generators.curiosity import Curiosity, CuriositySettings
from cfdg_experiments.generators.edis import Edis, EdisSettings
from cfdg_experiments.generators.energies import EnergySettings
from cfdg_experiments.generators.fitted import Fitted, SeparateModels, Unlabelled, unconditional
from cfdg_experiments.generators.interface import ResumableGenerator
from cfdg_experiments.generators.pgr import Pgr, PgrSettings, pgr_diffusion
from cfdg_experiments.generators.schedule import Schedule
from cfdg_experiments.generators.simulated import Outcomes, Simulated, SimulatedOutcomes, SimulatedSettings

__all__ = [
    "Context",
    "Curiosity",
    "CuriositySettings",
    "Edis",
    "EdisSettings",
    "EnergySettings",
    "Fitted",
    "GeneratorSettings",
    "Jitter",
    "JitterSettings",
    "Maker",
    "Outcomes",
    "Pgr",
    "PgrSettings",
    "Repeat",
    "ResumableGenerator",
    "Schedule",
    "SeparateModels",
    "Simulated",
    "SimulatedOutcomes",
    "SimulatedSettings",
    "Unlabelled",
    "pgr_diffusion",
    "row_model",
    "unconditional",
]
