"""Exact, fast selection of diverse, high-entropy subsets of data.

The public functions take NumPy arrays, torch tensors or anything else with DLPack, shape [N, D],
and answer in the library and on the device of their input. See docs/architecture.md for the way
from here to the kernels.
"""

from fastsel.backends import BackendStatus, backends
from fastsel.entropy import generalization_score, kl_entropy
from fastsel.neighbors import knn, nearest_distances
from fastsel.selection import greedy_select, threshold_decay_select

__version__ = "0.1.0"

__all__ = [
    "BackendStatus",
    "__version__",
    "backends",
    "generalization_score",
    "greedy_select",
    "kl_entropy",
    "knn",
    "nearest_distances",
    "threshold_decay_select",
]
