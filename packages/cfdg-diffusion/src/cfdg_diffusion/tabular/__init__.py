"""Tables with labels: DataFrames in, synthetic DataFrames out."""

from cfdg_diffusion.tabular.demo import load_demo
from cfdg_diffusion.tabular.early_stopping import History
from cfdg_diffusion.tabular.model import TabularDiffusion
from cfdg_diffusion.tabular.settings import TabularSettings

__all__ = ["History", "TabularDiffusion", "TabularSettings", "load_demo"]
