"""The ``cfdg-diffusion`` command: fit, sample, impute, report, inspect."""

from cfdg_diffusion.cli.main import main
from cfdg_diffusion.cli.parser import build_parser

__all__ = ["build_parser", "main"]
