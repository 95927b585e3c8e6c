"""Datasets by name, from four sources behind one interface: see :func:`load_dataset`."""

from cfdg_rl.datasets.dataset import Dataset
from cfdg_rl.datasets.load import content_digest, dataset_names, is_sparse, load_dataset, resolve_name, suite

__all__ = [
    "Dataset",
    "content_digest",
    "dataset_names",
    "is_sparse",
    "load_dataset",
    "resolve_name",
    "suite",
]
