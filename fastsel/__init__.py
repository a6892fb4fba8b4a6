"""Exact, fast selection of diverse, high-entropy subsets of data.

The public functions take NumPy arrays, torch tensors or anything else with DLPack, shape [N, D],
and answer in the library and on the device of their input. See docs/architecture.md for the way
from here to the kernels.
"""

from fastsel.backends import BackendStatus, backends
from fastsel.duplicates import duplicate_groups
from fastsel.entropy import kl_entropy
from fastsel.neighbors import knn, nearest_distances
from fastsel.refinement import refine
from fastsel.scores import PRDC, generalization_score, memorization_ratio, prdc
from fastsel.selection import greedy_select, threshold_decay_select

__version__ = "0.1.0"

__all__ = [
    "PRDC",
    "BackendStatus",
    "__version__",
    "backends",
    "duplicate_groups",
    "generalization_score",
    "greedy_select",
    "kl_entropy",
    "knn",
    "memorization_ratio",
    "nearest_distances",
    "prdc",
    "refine",
    "threshold_decay_select",
]
