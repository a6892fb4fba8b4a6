"""Greedy entropy on a device: the state, and the primitives that fastsel/greedy_entropy.py calls.

The processor keeps the balls that a candidate lies in as linked lists. A GPU follows links slowly,
but sorts and streams fast, so here they are a flat list of entries in any order: candidate, member
and the logarithm of their distance, 16 bytes. What a candidate loses to a member follows from the
logarithms alone, and so gains are all that has to be kept true.

For the picks of a round the list is sorted twice: by member, so that a ball that shrinks is one run
of candidates, and by active row, so that the balls that a pick lies in are one run of members. One
program then makes all picks (`entropy_pick`). Members that the round adds need no entries before it
ends: the matrix of distances among the active rows has them.

The host waits four times in a round: to read what the leaders have seen, how many pairs the filter
left (again for each further part that the leaders are cut into), how many rows are active, and how
many were picked.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastsel.backends import torch_codes
from fastsel.backends.device import state
from fastsel.backends.device.state import too_near
from fastsel.backends.device.survivors import (
    Survivors,
    all_pairs,
    count_of,
    lower_the_rest,
    lowering,
    split,
)
from fastsel.backends.torch_canonical import log_sq_dists
from fastsel.backends.torch_entropy_ops import Balls, Runs
from fastsel.canonical import LOG_OF_ZERO, LOG_UNITS
from fastsel.gains import LAST, NEVER
from fastsel.points import Points

# Active rows that one program holds.
MAX_ACTIVE = 2048

# Entries that a list begins with.
MIN_ENTRIES = 1 << 16

# Pairs that a cut of a refresh must spare: what is filtered in the time that a part takes to start.
CUT_PAIRS = 1 << 24


class EntropyState:
    """The twin of fastsel.greedy_entropy.EntropyState, in tensors. A rival is a pair of them."""

    def __init__(self, points: Points, capacity: int) -> None:
        device = points.data.device
        self.gains = torch.full((points.n,), LAST, dtype=torch.int64, device=device)
        self.sq_dist = torch.full((points.n,), np.inf, dtype=torch.float64, device=device)
        self.seen = torch.zeros(points.n, dtype=torch.int64, device=device)
        self.members = torch.zeros(capacity, dtype=torch.int64, device=device)
        self.sq_eps = torch.zeros(capacity, dtype=torch.float64, device=device)
        self.sq_radii = torch.zeros(capacity, dtype=torch.float64, device=device)
        self._largest = LAST

    def any_left(self) -> bool:
        """Whether a candidate may be left: by the last `active`, which waited."""
        return self._largest > NEVER

    def sq_dist_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """A copy of the squared distances of the rows to the members, in host memory."""
        return np.asarray(self.sq_dist[self._there(rows)].cpu().numpy())

    def put(
        self,
        first: int,
        rows: npt.NDArray[np.int64],
        sq_eps: npt.NDArray[np.float64],
        sq_radii: npt.NDArray[np.float64],
    ) -> None:
        """Write members from the position `first` on; their gains become NEVER."""
        end = first + len(rows)
        self.members[first:end] = self._there(rows)
        self.sq_eps[first:end] = self._there(sq_eps)
        self.sq_radii[first:end] = self._there(sq_radii)
        self.gains[self._there(rows)] = NEVER

    def bound_gains(self, min_distance: float) -> None:
        """Give every candidate the gain that it has if it lies in no ball: an upper bound."""
        known = torch.where(self.sq_dist.isfinite(), self.sq_dist, 1.0)
        gains = torch.where(self.sq_dist.isfinite(), log_sq_dists(known), self.gains)
        gains = torch.where(self.sq_dist == 0, LAST, gains)
        self.gains.copy_(torch.where(self.sq_dist <= too_near(min_distance), NEVER, gains))

    def farthest(self) -> tuple[int, float] | None:
        """The candidate of largest gain and its squared distance, if one is left."""
        largest = self.gains.max()
        row = int(torch.nonzero(self.gains == largest)[0].item())
        return None if int(largest.item()) == NEVER else (row, float(self.sq_dist[row].item()))

    def leaders(self, size: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The first `size` by gain, ascending in index, and the next one: the rival."""
        return state.leaders(self.gains, size, NEVER)

    def active(
        self, rows: Tensor, rival: tuple[Tensor, Tensor], room: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The rows that beat the rival, at most `room`, ascending, and the next one: the rival."""
        active, rival = state.active(self.gains, rows, rival, min(room, MAX_ACTIVE), NEVER)
        count, self._largest = torch.cat([active.count, self.gains.max()[None]]).tolist()
        return active.index[:count], rival

    def result(self, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The first `count` members, and the squares of their radii, in host memory."""
        return self.members[:count].cpu().numpy(), self.sq_radii[:count].cpu().numpy()

    def _there(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.gains.device)


class EntropyPool:
    """Candidates of a greedy entropy selection, over the tensors of an EntropyState.

    Memory: a byte for each component of the points, some 120 bytes for each point, 16 for each pair
    of a candidate and a ball that it lies in, twice that for some that no longer count, 48 more
    while a round picks, and 8 for each pair of active rows. torch.OutOfMemoryError where there is
    less.
    """

    operations: ClassVar[ModuleType]

    def __init__(
        self,
        points: Points,
        gains: Tensor,
        sq_dist: Tensor,
        seen: Tensor,
        members: Tensor,
        sq_eps: Tensor,
        min_distance: float,
    ) -> None:
        device = points.data.device
        shift, scale = torch_codes.frame(points)
        self._codes = torch_codes.encode(points, shift, scale)
        self._points = points
        self._gains, self._sq_dist, self._seen = gains, sq_dist, seen
        self._members, self._sq_eps = members, sq_eps
        self._log_eps = torch.full((len(members),), LOG_OF_ZERO, device=device)
        self._least = too_near(min_distance)
        self._place = torch.empty(points.n, dtype=torch.int32, device=device)
        self._entries = _Entries(device)
        self._count = 0

    def start(self, count: int) -> None:
        """Say that the first `count` members and their sq_eps are there."""
        self._count = count
        sq_eps = self._sq_eps[:count]
        # An only member has no ball.
        self._log_eps[:count] = log_sq_dists(torch.where(sq_eps.isfinite(), sq_eps, 0.0))

    @property
    def balls(self) -> int:
        """How many pairs of a candidate and a ball it lies in are kept, dead ones among them."""
        return int(self._entries.list.size.item())

    def refresh(self, rows: Tensor, rival: tuple[Tensor, Tensor]) -> tuple[int, int, int]:
        """Apply to `rows` the members they have not seen.

        Returns how many pairs were filtered, passed a sketch, and were computed canonically.
        """
        saw, order = torch.where(self._gains[rows] > NEVER, self._seen[rows], self._count).sort()
        rows = rows[order]
        filtered = evaluated = 0
        for part, first in _parts(saw.cpu().numpy(), self._count):
            filtered += 3 * len(rows[part]) * (self._count - first)
            evaluated += self._meet(rows[part], first)
        return filtered, 0, evaluated

    def _meet(self, rows: Tensor, first: int) -> int:
        """Apply the members from that one on to rows that have seen those before it."""
        operations, points, codes = self.operations, self._points, self._codes
        members = self._members[first : self._count]
        before = self._sq_dist[rows]
        near = lowering(operations, codes, rows, members, before)
        reach = torch.exp2(self._log_eps[first : self._count].double() / (2 * LOG_UNITS))
        # More than the roundings of a logarithm, and of any library's power, take away. The ball of
        # radius 0 has nothing inside.
        reach = torch_codes.round_up(reach * codes.scale * (1.0 + 2.0**-20))
        reach = torch.where(self._log_eps[first : self._count] > LOG_OF_ZERO, reach, -1.0)
        inside = Survivors(len(members), len(rows), rows.device)
        operations.survivors(
            codes, members, codes, rows, reach, inside.pairs, inside.count, inside.overflow
        )
        n_near, n_inside, overflown = torch.cat(
            [near.count, inside.count, (near.overflow.any() + inside.overflow.any())[None]]
        ).tolist()
        operations.pair_min(points, rows, points, members, near.pairs, near.count, self._sq_dist)
        if not overflown:
            self._enter(rows, first, inside.pairs, inside.count, n_inside)
        else:
            n_near, n_inside = self._meet_all(rows, first, near, inside)
        operations.renew_gains(rows, before, self._sq_dist, self._least, self._gains)
        self._seen[rows] = self._count
        return int(n_near) + int(n_inside)

    def _enter(self, rows: Tensor, first: int, pairs: Tensor, n_pairs: Tensor, most: int) -> None:
        self._entries.make_room(min(most, len(pairs)), self._gains, self._log_eps)
        self.operations.enter_balls(
            self._points,
            self._members[: self._count],
            first,
            rows,
            pairs,
            n_pairs,
            self._seen,
            self._log_eps[: self._count],
            self._gains,
            self._entries.list,
        )

    def _meet_all(
        self, rows: Tensor, first: int, near: Survivors, inside: Survivors
    ) -> tuple[int, int]:
        """As `_meet` where lists ran over: rows and members that are concerned meet all others."""
        members = self._members[first : self._count]
        n_near, n_inside = int(near.count.clamp(max=len(near.pairs)).item()), 0
        n_near += lower_the_rest(self.operations, self._points, rows, members, near, self._sq_dist)
        listed = inside.pairs[: int(inside.count.item())]
        whole = listed[inside.overflow[listed[:, 0].long()] == 0]
        flagged = torch.nonzero(inside.overflow)[:, 0]
        more = (
            part
            for some in split(flagged, len(inside.pairs) // len(rows))
            for part in split(all_pairs(some, len(rows)), len(inside.pairs))
        )
        for part in (whole, *more):
            if len(part):
                self._enter(rows, first, part.contiguous(), count_of(part), len(part))
                n_inside += len(part)
        return n_near, n_inside

    def pick(
        self, rows: Tensor, rival: tuple[Tensor, Tensor], sq_radii: Tensor
    ) -> tuple[int, int, int]:
        """Greedy picks among `rows` that have seen every member, while they beat the rival.

        Returns the number of picks, of pairs filtered and of pairs computed canonically.
        """
        n, first = len(rows), self._count
        free = slice(first, first + len(sq_radii))
        self._place.fill_(-1)
        self._place[rows] = torch.arange(n, dtype=torch.int32, device=rows.device)
        matrix = torch.empty((n, n), dtype=torch.float64, device=rows.device)
        self.operations.sq_dist_matrix(self._points, rows, matrix)
        places = torch.empty_like(self._members[free])
        counts = torch.zeros(2, dtype=torch.int64, device=rows.device)
        self.operations.entropy_pick(
            matrix,
            rows,
            self._place,
            *self._entries.runs(first, self._place, n),
            *rival,
            self._least,
            self._gains,
            self._sq_dist,
            self._log_eps[: free.stop],
            self._members[free],
            self._sq_eps[free],
            sq_radii,
            places,
            counts,
        )
        picked, entered, self._entries.used = torch.cat([counts, self._entries.list.size]).tolist()
        if entered:
            self._entries.make_room(entered, self._gains, self._log_eps)
            self.operations.enter_picks(
                matrix,
                rows,
                self._gains,
                places[:picked],
                self._sq_eps[first : first + picked],
                first,
                self._entries.list,
            )
        self._count += picked
        self._seen[rows] = self._count
        return picked, 0, n * (n - 1) // 2


class _Entries:
    """The list of candidates in balls, as long as it has to be."""

    def __init__(self, device: torch.device) -> None:
        self.list = _empty_list(MIN_ENTRIES, device)
        self.used = 0  # at most so many are there

    def make_room(self, more: int, gains: Tensor, log_eps: Tensor) -> None:
        """Make room for that many: drop what no longer counts, then grow. Waits if it has to."""
        if self.used + more > len(self.list.logs):
            self._compact(more, gains, log_eps)
        self.used += more

    def _compact(self, more: int, gains: Tensor, log_eps: Tensor) -> None:
        count = int(self.list.size.item())
        rows, members, logs = (part[:count] for part in self.list[:3])
        kept = torch.nonzero((gains[rows] > NEVER) & (logs < log_eps[members]))[:, 0]
        capacity = len(self.list.logs)
        if 2 * (len(kept) + more) > capacity:
            capacity = 2 * (len(kept) + more)
        new = _empty_list(capacity, logs.device)
        for part, old in zip(new[:3], (rows, members, logs), strict=True):
            part[: len(kept)] = old[kept]
        new.size.fill_(len(kept))
        self.list, self.used = new, len(kept)

    def runs(self, n_members: int, place: Tensor, n_active: int) -> tuple[Runs, Runs]:
        """The members in whose balls each active row lies, and the candidates in each ball."""
        used = max(1, self.used)
        rows, members, logs = (part[:used] for part in self.list[:3])
        there = torch.arange(used, device=logs.device) < self.list.size
        # What is not there has any bits.
        places = torch.where(there, place[torch.where(there, rows, 0)], -1)
        return (
            _runs(places, n_active, members, logs),
            _runs(torch.where(there, members, -1), n_members, rows, logs),
        )


def _empty_list(capacity: int, device: torch.device) -> Balls:
    return Balls(
        torch.empty(capacity, dtype=torch.int32, device=device),
        torch.empty(capacity, dtype=torch.int32, device=device),
        torch.empty(capacity, dtype=torch.int64, device=device),
        torch.zeros(1, dtype=torch.int64, device=device),
    )


def _runs(keys: Tensor, n: int, others: Tensor, logs: Tensor) -> Runs:
    """What has each of the keys 0 .. n - 1."""
    keys, order = keys.sort()
    numbers = torch.arange(n + 1, dtype=keys.dtype, device=keys.device)
    return Runs(torch.searchsorted(keys, numbers), others[order], logs[order])


def _parts(saw: npt.NDArray[np.int64], count: int) -> list[tuple[slice, int]]:
    """Slices of rows, ascending by what they saw, and what all of a slice saw; none that saw all.

    Cut where the rest has at most half as much to see and many pairs are spared.
    """
    end = int(np.searchsorted(saw, count))
    parts, begin = [], 0
    while begin < end:
        first = int(saw[begin])
        cut = int(np.searchsorted(saw, count - (count - first) // 2))
        if cut < end and (end - cut) * (int(saw[cut]) - first) > CUT_PAIRS:
            parts.append((slice(begin, cut), first))
            begin = cut
        else:
            parts.append((slice(begin, end), first))
            begin = end
    return parts
