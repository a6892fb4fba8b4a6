"""How every kernel cuts its work, by architecture.

Chosen by arithmetic (docs/gpu.md): large enough that a tile of a product is bound by its tensor
cores rather than by loads, small enough that nothing spills (tests/test_kernels_compiled.py).
`python -m fastsel.kernels.tune` times other choices on the GPU at hand; nothing else does.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor


class Tile(NamedTuple):
    """What a program takes, and the options it is compiled with.

    rows and cols: of a tile of pairs, or rows alone where the operation has no tile. depth: bytes
    of a code in a step of a product, a divisor of torch_codes.CODE_UNIT.
    """

    rows: int
    cols: int = 1
    depth: int = 1
    warps: int = 4
    stages: int = 1


# Canonical distances are bound by float64 arithmetic: their tiles are the same everywhere.
_CANONICAL = {
    "min_update": Tile(64),
    "pair_min": Tile(32),
    "pair_sq_dists": Tile(32),
    "top_k": Tile(1, 32),
    "sq_dist_matrix": Tile(16),
}

_LISTS = {"by_row": Tile(256)}

# Of `pick` and `accept` only the warps matter: the one program holds all active rows.
_CHAIN = {"pick": Tile(1, warps=16), "accept": Tile(1, warps=16)}

# rows: of entropy_pick, the entries of a ball that are taken at a time.
_ENTROPY = {
    "enter_balls": Tile(32),
    "renew_gains": Tile(128),
    "enter_picks": Tile(128),
    "entropy_pick": Tile(512, warps=16),
}

# In the interpreter a program costs the more, the more there are, whatever they hold.
INTERPRETER = {
    "min_update": Tile(1024),
    "pair_min": Tile(1024),
    "pair_sq_dists": Tile(1024),
    "by_row": Tile(1024),
    "top_k": Tile(32, 32),
    "sq_dist_matrix": Tile(64),
    "pick": Tile(1),
    "accept": Tile(1),
    "enter_balls": Tile(1024),
    "renew_gains": Tile(1024),
    "enter_picks": Tile(1024),
    "entropy_pick": Tile(512),
    "group_min": Tile(128, 128, 64),
    "survivors": Tile(128, 128, 64),
}

# By compute capability, major times ten; the newest that is not newer than the GPU counts.
TILES: dict[int, dict[str, Tile]] = {
    80: {
        **_CANONICAL,
        **_LISTS,
        **_CHAIN,
        **_ENTROPY,
        "group_min": Tile(128, 128, 64, warps=8, stages=3),
        "survivors": Tile(128, 128, 64, warps=8, stages=3),
    },
    90: {
        **_CANONICAL,
        **_LISTS,
        **_CHAIN,
        **_ENTROPY,
        "group_min": Tile(128, 128, 64, warps=8, stages=4),
        "survivors": Tile(128, 128, 64, warps=8, stages=4),
    },
    # Its tensor cores keep their sums apart and serve up to 8 warps, whose registers 128 columns
    # would not fit into.
    100: {
        **_CANONICAL,
        **_LISTS,
        **_CHAIN,
        **_ENTROPY,
        "group_min": Tile(128, 64, 64, warps=8, stages=4),
        "survivors": Tile(128, 64, 64, warps=8, stages=4),
    },
}

OLDEST = min(TILES)


def tile(operation: str, like: Tensor) -> Tile:
    """The tile of an operation on the device of a tensor."""
    return TILES[newest(like.device)][operation] if like.is_cuda else INTERPRETER[operation]


def rows_together(like: Tensor, n_points: int) -> int:
    """As in fastsel/backends/torch_ops.py."""
    cut = tile("group_min", like).rows
    assert cut == tile("survivors", like).rows
    return cut


@cache
def newest(device: torch.device) -> int:
    """The entry for that CUDA device."""
    major, _ = torch.cuda.get_device_capability(device)
    return max(known for known in TILES if known <= max(OLDEST, 10 * major))
