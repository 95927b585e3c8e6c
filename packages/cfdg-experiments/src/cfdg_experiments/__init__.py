"""Datasets, arms, tables and figures of Classifier-Free Diffusion Generation.

From the bottom up, each folder importing from those before it alone: ``storage``, ``generators`` (with ``arms``),
``profiles``, ``cells``, ``reports``, ``tracking``, ``studies``, ``cluster``; ``cli``, ``policies`` and ``play`` are the
command.
"""

__version__ = "0.1.0"
