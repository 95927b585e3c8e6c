"""The ``cfdg-diffusion`` command: fit, sample, impute, report, inspect."""

from cfdg_diffusion.cli.main import build_parser, main

__all__ = ["build_parser", "main"]
