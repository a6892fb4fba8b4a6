"""Lists of pairs that a filter could not exclude."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

# Pairs that a list of survivors has room for, for each of its rows, and more for each of the
# neighbours that are looked for. One or two a row is what is typical; the rows that do not fit are
# compared canonically with everything.
PAIRS_PER_ROW = 32
PAIRS_PER_NEIGHBOUR = 2
MIN_PAIRS = 1 << 16


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
