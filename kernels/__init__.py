"""Triton kernels, one operation a file. Imported as fastsel.kernels.

The operations are those of fastsel/backends/torch_ops.py, which says what each does.
"""

from fastsel.kernels.accept import accept
from fastsel.kernels.by_row import by_row
from fastsel.kernels.enter_balls import enter_balls
from fastsel.kernels.enter_picks import enter_picks
from fastsel.kernels.entropy_pick import entropy_pick
from fastsel.kernels.group_min import group_min
from fastsel.kernels.min_update import min_update
from fastsel.kernels.pair_min import pair_min
from fastsel.kernels.pair_sq_dists import pair_sq_dists
from fastsel.kernels.pick import pick
from fastsel.kernels.renew_gains import renew_gains
from fastsel.kernels.sq_dist_matrix import sq_dist_matrix
from fastsel.kernels.survivors import survivors
from fastsel.kernels.tiles import rows_together
from fastsel.kernels.top_k import top_k

__all__ = [
    "accept",
    "by_row",
    "enter_balls",
    "enter_picks",
    "entropy_pick",
    "group_min",
    "min_update",
    "pair_min",
    "pair_sq_dists",
    "pick",
    "renew_gains",
    "rows_together",
    "sq_dist_matrix",
    "survivors",
    "top_k",
]
