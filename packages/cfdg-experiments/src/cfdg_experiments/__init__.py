"""Datasets, arms, tables and figures of Classifier-Free Diffusion Generation."""

__version__ = "0.1.0"
