"""Triton kernels, one operation a file. Imported as fastsel.kernels.

The operations are those of fastsel/backends/torch_ops.py, which says what each does.
"""

from fastsel.kernels.accept import accept
from fastsel.kernels.by_row import by_row
from fastsel.kernels.group_min import group_min
from fastsel.kernels.min_update import min_update
from fastsel.kernels.pair_min import pair_min
from fastsel.kernels.pair_sq_dists import pair_sq_dists
from fastsel.kernels.pick import pick
from fastsel.kernels.sq_dist_matrix import sq_dist_matrix
from fastsel.kernels.survivors import survivors
from fastsel.kernels.tiles import rows_together
from fastsel.kernels.top_k import top_k

__all__ = [
    "accept",
    "by_row",
    "group_min",
    "min_update",
    "pair_min",
    "pair_sq_dists",
    "pick",
    "rows_together",
    "sq_dist_matrix",
    "survivors",
    "top_k",
]
