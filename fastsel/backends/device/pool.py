"""The primitives of the lazy schedule on a device."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastsel.backends import torch_codes
from fastsel.backends.device.state import Rows, too_near
from fastsel.backends.device.survivors import (
    Survivors,
    count_of,
    lower_the_rest,
    lowering,
    radii,
)
from fastsel.points import Points
from fastsel.sketch import Trial

# Active rows from which on only the distances that may lower a key are computed: by the filter, for
# some thirty more launches. Fewer rows take less time than these.
FILTERED_ACTIVE = 1024

# Keys, what points have seen, and the temporaries of a sort.
BYTES_PER_POINT = 80


class _Refreshed(NamedTuple):
    """A refresh whose outcome the host has not read yet."""

    rows: Tensor
    keys: Tensor
    centres: Tensor
    survivors: Survivors


class Pool:
    """Candidates of a selection: the primitives of the lazy schedule."""

    operations: ClassVar[ModuleType]

    @staticmethod
    def bytes_needed(points: Points, capacity: int, active: int) -> int:
        """Memory of a pool, its picks, and calls of `pick` with that many rows."""
        width = -(-points.dim // torch_codes.CODE_UNIT) * torch_codes.CODE_UNIT
        codes = points.n * (width + 12 + BYTES_PER_POINT) + 24 * capacity
        return codes + 8 * active * active + 64 * points.dim + (1 << 28)

    def __init__(self, points: Points, capacity: int) -> None:
        self._points = points
        shift, scale = torch_codes.frame(points)
        self._codes = torch_codes.encode(points, shift, scale)
        self._centres = torch.zeros(capacity, dtype=torch.int64, device=points.data.device)
        self._count = 0
        self._pending: _Refreshed | None = None
        self._evaluated = torch.zeros(1, dtype=torch.int64, device=points.data.device)
        self.trials: list[Trial] = []  # it has no sketches

    def append(self, picks: Tensor) -> None:
        """Add rows to the centres that `refresh` applies."""
        self._centres[self._count : self._count + len(picks)] = picks
        self._count += len(picks)

    def refresh(
        self, rows: Any, keys: Tensor, seen: Tensor, rival: tuple[Any, Any]
    ) -> tuple[Any, int, int]:
        """Apply to `rows` the centres they have not seen.

        Rows that have seen about as many come together: a tile of them begins with the first centre
        that is new to one. The others' keys account for it already, so that it changes nothing.

        The keys are there after `settle`, or after `pick`, which then picks nothing where they were
        not. Returns how many pairs were filtered, as a tensor of one number for which nothing has
        waited; the canonical ones count in what follows.
        """
        self.settle()
        rows = torch.as_tensor(rows, device=keys.device)
        centres = self._centres[: self._count]
        if not len(rows) or not self._count:
            return 0, 0, 0
        # Keys of points that have seen all stay, and so do those of selected points.
        new = (seen[rows] < self._count) & (keys[rows] > 0)
        first, order = torch.where(new, seen[rows], self._count).sort()
        rows = rows[order]
        found = lowering(self.operations, self._codes, rows, centres, keys[rows], first)
        self.operations.pair_min(
            self._points, rows, self._points, centres, found.pairs, found.count, keys
        )
        seen[rows] = self._count
        self._evaluated += found.count.clamp(max=len(found.pairs))
        self._pending = _Refreshed(rows, keys, centres, found)
        return self._looked_at(first), 0, 0

    def _looked_at(self, first: Tensor) -> Tensor:
        """Pairs of rows and centres in tiles of rows that begin where the first row does."""
        height = self.operations.rows_together(first, self._count)
        place = torch.arange(len(first), device=first.device)
        return (self._count - first[place // height * height]).sum()

    def settle(self) -> None:
        """Wait until keys are as the last `refresh` leaves them."""
        if self._pending is not None and self._pending.survivors.overflow.any().item():
            rows, keys, centres, found = self._pending
            self._evaluated += lower_the_rest(
                self.operations, self._points, rows, centres, found, keys
            )
        self._pending = None

    def pick(
        self,
        rows: Rows,
        keys: Tensor,
        rival: tuple[Tensor, Tensor],
        min_distance: float,
        picks: Tensor,
        sq_radii: Tensor,
    ) -> tuple[int, int, int]:
        """Greedy picks among up-to-date `rows`, while they beat the rival.

        Returns the number of picks, of pairs filtered, and of pairs computed canonically since the
        last call.
        """
        rival_key, rival_row = rival
        matrix, missing = self._distances(rows.index, keys, rows.count)
        stale = torch.zeros_like(missing)
        if self._pending is not None:
            stale = self._pending.survivors.overflow.any()[None].bool()
        least = too_near(min_distance)
        n_picks = self._evaluated.new_zeros(1)

        def pick(matrix: Tensor, rival_key: Tensor) -> None:
            self.operations.pick(
                matrix,
                rows.index,
                keys,
                rows.count,
                rival_key,
                rival_row,
                least,
                picks,
                sq_radii,
                n_picks,
            )

        # Nothing beats infinity: the keys of some rows may be too large, or distances be missing.
        pick(matrix, torch.where(stale | missing, math.inf, rival_key))
        picked, late, short, evaluated = torch.cat(
            [n_picks, stale, missing, self._evaluated]
        ).tolist()
        if short and not late:
            pick(self._matrix(rows.index), rival_key)
            picked, evaluated = torch.cat([n_picks, self._evaluated]).tolist()
        self._evaluated.zero_()
        if not late:
            self._pending = None
        self.settle()
        return picked, 0, evaluated

    def accept(
        self,
        rows: Tensor,
        keys: Tensor,
        limits: npt.NDArray[np.float64],
        picks: Tensor,
        sweeps: npt.NDArray[np.int64],
        sq_radii: Tensor,
    ) -> tuple[int, int, int]:
        """Sweeps over up-to-date `rows` under falling limits; returns as `pick` does."""
        if not len(rows):
            return 0, 0, 0
        numbers = torch.zeros_like(picks)
        n_picks = self._evaluated.new_zeros(1)
        there = torch.from_numpy(limits).to(keys.device)
        matrix, missing = self._distances(rows, keys, count_of(rows))

        def accept(matrix: Tensor, limits: Tensor) -> None:
            self.operations.accept(
                matrix, rows, keys, count_of(rows), limits, picks, numbers, sq_radii, n_picks
            )

        # No key is above infinity.
        accept(matrix, torch.where(missing, math.inf, there))
        accepted, short, evaluated = torch.cat([n_picks, missing, self._evaluated]).tolist()
        if short:
            accept(self._matrix(rows), there)
            accepted, evaluated = torch.cat([n_picks, self._evaluated]).tolist()
        self._evaluated.zero_()
        sweeps[:accepted] = numbers[:accepted].cpu().numpy()
        return accepted, 0, evaluated

    def _distances(self, rows: Tensor, keys: Tensor, n_active: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances among the first n_active rows, as far as they may lower a key.

        Element [p, r] is that of rows p and r, or infinity if it is not below the key of r. And
        whether some do not fit, bool [1], so that the matrix is of no use.
        """
        n = len(rows)
        if n < FILTERED_ACTIVE:
            return self._matrix(rows), torch.zeros(1, dtype=torch.bool, device=rows.device)
        place, own = torch.arange(n, device=rows.device), keys[rows]
        reach = torch.where((place < n_active) & (own > 0), radii(self._codes, own), -1.0)
        found = Survivors(n, n, rows.device)
        codes, pairs = self._codes, found.pairs
        self.operations.survivors(
            codes, rows, codes, rows, reach, pairs, found.count, found.overflow
        )
        listed = self._points.part(rows)
        sq_dist = keys.new_empty(len(pairs))
        self.operations.pair_sq_dists(listed, listed, pairs, found.count, sq_dist)
        # What the list has no pair for goes behind the matrix.
        row, other = pairs.long().unbind(dim=1)
        used = torch.arange(len(pairs), device=rows.device) < found.count
        matrix = keys.new_full((n * n + 1,), math.inf)
        matrix[torch.where(used, other * n + row, n * n)] = sq_dist
        self._evaluated += found.count.clamp(max=len(pairs))
        return matrix[: n * n].view(n, n), found.overflow.any()[None].bool()

    def _matrix(self, rows: Tensor) -> Tensor:
        matrix = torch.empty((len(rows), len(rows)), dtype=torch.float64, device=rows.device)
        self.operations.sq_dist_matrix(self._points, rows, matrix)
        self._evaluated += len(rows) * (len(rows) - 1) // 2
        return matrix
