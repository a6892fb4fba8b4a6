"""Lists of pairs that a filter could not exclude, and how they are made and worked off."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from fastsel.backends.torch_codes import Codes, round_up
from fastsel.points import Points

# Pairs that a list of survivors has room for, for each of its rows, and more for each of the
# neighbours that are looked for. One or two a row is what is typical; the rows that do not fit are
# compared canonically with everything.
PAIRS_PER_ROW = 32
PAIRS_PER_NEIGHBOUR = 2
MIN_PAIRS = 1 << 16

# Centres of a group whose nearest bounds the reach of a row: few, so that a GPU shares the work out
# evenly, and whole tiles. More of them where the bounds of the groups would take too much memory.
GROUP = 512
MAX_GROUPS = 1024


def pairs_per_row(neighbours: int) -> int:
    """How many pairs of each row a list has room for."""
    return PAIRS_PER_ROW + PAIRS_PER_NEIGHBOUR * neighbours


class Survivors:
    """Pairs that a filter could not exclude, and the rows whose pairs did not all fit."""

    def __init__(self, n_rows: int, n_cols: int, device: torch.device, neighbours: int = 0) -> None:
        capacity = min(max(MIN_PAIRS, pairs_per_row(neighbours) * n_rows), n_rows * n_cols)
        self.pairs = torch.empty((capacity, 2), dtype=torch.int32, device=device)
        self.count = torch.zeros(1, dtype=torch.int64, device=device)
        self.overflow = torch.zeros(n_rows, dtype=torch.uint8, device=device)


class ByRow(NamedTuple):
    """Columns of listed pairs: those of row r are cols[first[r]] .. cols[first[r + 1] - 1]."""

    first: Tensor  # int64 [R + 1]
    cols: Tensor  # int32 [capacity]

    @classmethod
    def of(cls, operations: ModuleType, found: Survivors) -> ByRow:
        """The survivors, without a wait for how many there are."""
        first = found.count.new_zeros(len(found.overflow) + 1)
        operations.by_row(found.pairs, found.count, first[1:])
        first.cumsum_(dim=0)
        cols = torch.empty(len(found.pairs), dtype=torch.int32, device=first.device)
        operations.by_row(found.pairs, found.count, first[:-1].clone(), cols)
        return cls(first, cols)


def radii(codes: Codes, keys: Tensor) -> Tensor:
    """The radii under which a distance lowers the keys, float32."""
    return round_up(keys.clamp(min=0).sqrt() * codes.scale)


def lowering(
    operations: ModuleType,
    codes: Codes,
    rows: Tensor,
    centres: Tensor,
    keys: Tensor,
    first: Tensor | None = None,
) -> Survivors:
    """At least the pairs of a row and the nearest of the centres, if it lowers the row's key.

    keys: float64 [R], of the rows. first: of how many centres a row's key accounts already.
    """
    group = GROUP * -(-len(centres) // (GROUP * MAX_GROUPS))
    upper = keys.new_empty((len(rows), -(-len(centres) // group)), dtype=torch.float32)
    operations.group_min(codes, rows, codes, centres, group, upper, first)
    # A bound of the distance to any centre bounds that to the nearest.
    reach = torch.minimum(radii(codes, keys), upper.amin(dim=1))
    if first is not None:
        reach = torch.where(first < len(centres), reach, -1.0)
    found = Survivors(len(rows), len(centres), keys.device)
    operations.survivors(
        codes, rows, codes, centres, reach, found.pairs, found.count, found.overflow, first
    )
    return found


def lower_the_rest(
    operations: ModuleType,
    points: Points,
    rows: Tensor,
    centres: Tensor,
    found: Survivors,
    keys: Tensor,
) -> int:
    """Compare the rows whose pairs did not fit with all centres; returns how many pairs they are.

    keys: float64 [N], of all points.
    """
    flagged = torch.nonzero(found.overflow)[:, 0]
    for some in split(flagged, len(found.pairs) // len(centres)):
        for part in split(all_pairs(some, len(centres)), len(found.pairs)):
            operations.pair_min(points, rows, points, centres, part, count_of(part), keys)
    return len(flagged) * len(centres)


def split(items: Tensor, size: int) -> Iterator[Tensor]:
    """Parts of that size, in order; the last may be shorter."""
    for start in range(0, len(items), max(1, size)):
        yield items[start : start + max(1, size)]


def all_pairs(rows: Tensor, n_cols: int) -> Tensor:
    """Every pair of those rows and n_cols columns, int32 [*, 2]."""
    cols = torch.arange(n_cols, device=rows.device)
    return torch.cartesian_prod(rows, cols).int()


def count_of(items: Tensor) -> Tensor:
    """How many there are, as an operation takes it: int64 [1] on their device."""
    return torch.full((1,), len(items), dtype=torch.int64, device=items.device)
