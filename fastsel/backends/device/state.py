"""The state of a selection on a device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastsel.points import Points
from fastsel.schedule import SELECTED
from fastsel.threshold import largest_key


@dataclass(frozen=True)
class Rows:
    """Active rows of a round: the first `count`, int64 [1], of `index`, ascending."""

    index: Tensor
    count: Tensor

    def __len__(self) -> int:
        return len(self.index)


class State:
    """The twin of fastsel.schedule.State, in tensors. A rival is a pair of tensors of one element.

    `leaders`, `active` and `mark_seen` do not wait for the device.
    """

    def __init__(self, points: Points, capacity: int) -> None:
        device = points.data.device
        self.keys = torch.full((points.n,), math.inf, dtype=torch.float64, device=device)
        self.seen = torch.zeros(points.n, dtype=torch.int64, device=device)
        self.picks = torch.zeros(capacity, dtype=torch.int64, device=device)
        self.sq_radii = torch.zeros(capacity, dtype=torch.float64, device=device)

    def largest(self) -> float:
        """The largest key."""
        return float(self.keys.max().item())

    def leader_saw(self) -> int:
        """How many centres the point of largest key has seen."""
        return int(self.seen[self.keys.argmax()].item())

    def leaders(self, size: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The `size` points of largest key, ascending in index, and the next one: the rival."""
        return leaders(self.keys, size)

    def active(
        self, rows: Tensor, rival: tuple[Tensor, Tensor], room: int
    ) -> tuple[Rows, tuple[Tensor, Tensor]]:
        """The rows that beat the rival, at most `room`, and the next point after them."""
        return active(self.keys, rows, rival, room)

    def mark_seen(self, rows: Rows, count: int) -> None:
        """Note that the rows have seen so many centres."""
        active = torch.arange(len(rows), device=rows.index.device) < rows.count
        self.seen[rows.index] = torch.where(active, count, self.seen[rows.index])

    def stale(self, rows: Tensor, count: int) -> Tensor:
        """Those of the rows that have seen fewer centres."""
        return rows[self.seen[rows] < count]

    def count_above(self, key: float) -> int:
        """How many keys are larger."""
        return int((self.keys > key).sum().item())

    def above(self, key: float, rows: Tensor | None = None) -> Tensor:
        """The points of larger key, in order, among `rows` if given."""
        if rows is None:
            return torch.nonzero(self.keys > key)[:, 0]
        return rows[self.keys[rows] > key]

    def largest_but(self, rows: Tensor, count: int) -> float:
        """The largest key of the rows but for `count` larger ones."""
        return float(self.keys[rows].kthvalue(len(rows) - count).values.item())

    @staticmethod
    def join(first: Tensor, then: Tensor) -> Tensor:
        """Rows one after the other."""
        return torch.cat([first, then])

    def keys_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """A copy of the keys of the rows, in host memory."""
        return np.asarray(self.keys[self._there(rows)].cpu().numpy())

    def put(
        self, first: int, rows: npt.NDArray[np.int64], sq_radii: npt.NDArray[np.float64]
    ) -> None:
        """Write picks from the position `first` on."""
        self.picks[first : first + len(rows)] = self._there(rows)
        self.sq_radii[first : first + len(rows)] = self._there(sq_radii)

    def select(self, rows: npt.NDArray[np.int64]) -> None:
        """Note that the rows are selected, and that every point has seen the first centre."""
        self.seen.fill_(1)
        self.keys[self._there(rows)] = SELECTED

    def result(self, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The first `count` picks, and the squares of their radii, in host memory."""
        return self.picks[:count].cpu().numpy(), self.sq_radii[:count].cpu().numpy()

    def _there(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.keys.device)


def leaders(
    keys: Tensor, size: int, selected: float = SELECTED
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The `size` points of largest key, ascending in index, and the next one: the rival."""
    # A stable sort leaves equal keys in order of index.
    keys, order = keys.sort(descending=True, stable=True)
    return order[:size].sort().values, _next(keys, order, size, selected)


def active(
    keys: Tensor,
    rows: Tensor,
    rival: tuple[Tensor, Tensor],
    room: int,
    selected: float = SELECTED,
) -> tuple[Rows, tuple[Tensor, Tensor]]:
    """The rows that beat the rival, at most `room`, and the next point after them."""
    n = len(keys)
    keys, order = keys[rows].sort(descending=True, stable=True)
    candidates = rows[order]
    keys, candidates, own = keys[:room], candidates[:room], _next(keys, candidates, room, selected)
    rival_key, rival_row = rival
    sooner = _beats(*own, rival_key, rival_row)
    rival_key = torch.where(sooner, own[0], rival_key)
    rival_row = torch.where(sooner, own[1], rival_row)
    beats = _beats(keys, candidates, rival_key, rival_row)
    # Those that are beaten go last, for the kernels to leave out.
    last = torch.where(beats, candidates, candidates + n)
    index = candidates[last.argsort()]
    return Rows(index, beats.sum(dtype=torch.int64)[None]), (rival_key, rival_row)


def _next(keys: Tensor, rows: Tensor, place: int, selected: float) -> tuple[Tensor, Tensor]:
    """The unselected row at that place of sorted ones, as a rival; row -1 where there is none."""
    if place >= len(keys):
        return keys.new_full((1,), selected), rows.new_full((1,), -1)
    key, row = keys[place : place + 1], rows[place : place + 1]
    return key, torch.where(key > selected, row, -1)


def _beats(keys: Tensor, rows: Tensor, rival_key: Tensor, rival_row: Tensor) -> Tensor:
    return (keys > rival_key) | ((keys == rival_key) & (rows < rival_row))


def too_near(min_distance: float) -> float:
    """The largest key that `min_distance` excludes; below 0 it excludes what is selected alone."""
    return largest_key(min_distance, "euclidean") if min_distance >= 0 else SELECTED
