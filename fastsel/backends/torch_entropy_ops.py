"""The operations of greedy entropy in plain torch; torch_ops.py has the others and says more."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastsel import canonical
from fastsel.backends.torch_canonical import listed, log_sq_dists, sq_dists, wide_rows
from fastsel.gains import LAST, NEVER
from fastsel.points import Points


class Balls(NamedTuple):
    """A list of entries, in any order: a candidate that lies in the ball of a member."""

    rows: Tensor  # int32 [E]
    members: Tensor  # int32 [E], their numbers, in the order of picking
    logs: Tensor  # int64 [E], of the squared distance
    size: Tensor  # int64 [1], how many are there


class Runs(NamedTuple):
    """Entries of balls by one of their two sides: those of number i are first[i] : first[i + 1]."""

    first: Tensor  # int64 [n + 1]
    others: Tensor  # int32 [E], the other side
    logs: Tensor  # int64 [E]


def enter_balls(
    points: Points,
    members: Tensor,
    first: int,
    rows: Tensor,
    pairs: Tensor,
    n_pairs: Tensor,
    seen: Tensor,
    log_eps: Tensor,
    gains: Tensor,
    balls: Balls,
) -> None:
    """Enter candidate rows[r] into the ball of member first + m, for every listed pair (m, r).

    If it lies there, at a distance above 0, and has not seen the member: seen, int64 [N], counts
    those that a candidate has. members and log_eps, of the radii: int64 [M]. The candidate's gain
    falls by what it takes from the member, unless it is a duplicate's. There is room.
    """
    for block in listed(pairs, n_pairs, points.dim):
        member, row = block[:, 0] + first, rows[block[:, 1]]
        unseen = member >= seen[row]
        member, row = member[unseen], row[unseen]
        sq_dist = sq_dists(wide_rows(points, row), wide_rows(points, members[member]))
        logs = log_sq_dists(sq_dist)
        inside = (sq_dist > 0) & (logs < log_eps[member])
        member, row, logs = member[inside], row[inside], logs[inside]
        losses = torch.where(gains[row] > LAST, logs - log_eps[member], 0)
        gains.scatter_add_(0, row, losses)
        _enter(balls, row, member, logs)


def renew_gains(rows: Tensor, before: Tensor, sq_dist: Tensor, least: float, gains: Tensor) -> None:
    """Gains of some rows, int64 [R], account for their distances, which were `before`, float64 [R].

    A duplicate of a member has LAST, and a row whose squared distance is at most `least` has NEVER.
    """
    now, own = sq_dist[rows], gains[rows]
    changed = own + (log_sq_dists(now) - log_sq_dists(before))
    changed = torch.where(own > LAST, torch.where(now > 0, changed, LAST), own)
    gains[rows] = torch.where(now <= least, NEVER, changed)


def entropy_pick(
    matrix: Tensor,
    rows: Tensor,
    place: Tensor,
    of_row: Runs,
    of_member: Runs,
    rival_gain: Tensor,
    rival_row: Tensor,
    least: float,
    gains: Tensor,
    sq_dist: Tensor,
    log_eps: Tensor,
    members: Tensor,
    sq_eps: Tensor,
    sq_radii: Tensor,
    places: Tensor,
    counts: Tensor,
) -> None:
    """Greedy picks by gain among `rows`, ascending, int64 [A], which have seen every member.

    The row of largest gain, the first of equals, as long as it beats the rival and all other rows,
    whose gains may rise, and there is room: members, sq_eps, sq_radii and places, its position
    among the rows, have one capacity. matrix: as of sq_dist_matrix. place: int32 [N], the position
    of each of the rows, else -1. of_row, of each position: the members in whose balls it lies;
    of_member, of each member before: the candidates in its ball. log_eps: int64, for all members.

    gains, and sq_dist of the rows, account for every pick, whose own gain becomes NEVER. counts,
    int64 [2], gets how many were picked, and how many entries enter_picks will make.

    Here the chain of picks runs on the host: each is too little work for a device.
    """
    near, order = matrix.cpu().numpy(), rows.cpu().numpy()
    position = place.cpu().numpy()
    all_gains, eps = gains.cpu().numpy(), log_eps.cpu().numpy()
    mine = sq_dist[rows].cpu().numpy()
    starts, owners, own_logs = (part.cpu().numpy() for part in of_row)
    ball_starts, inside, inside_logs = (part.cpu().numpy() for part in of_member)
    log, n_before = canonical.log_sq_dists, len(ball_starts) - 1
    to_beat = (-int(rival_gain.item()), int(rival_row.item()))
    picked: list[int] = []
    radii = np.empty(len(members))
    new_eps = np.empty(len(members))
    while len(picked) < len(members):
        best = int(all_gains[order].argmax())
        row, gain = int(order[best]), int(all_gains[order[best]])
        if gain == NEVER or (-gain, row) >= to_beat:
            break
        all_gains[row] = NEVER
        for entry in range(starts[best], starts[best + 1]):
            member, lower = owners[entry], own_logs[entry]
            if lower >= eps[member]:
                continue
            ball = slice(ball_starts[member], ball_starts[member + 1])
            rise = _rise(inside_logs[ball], eps[member], lower)
            eps[member] = lower
            touched = inside[ball][(rise > 0) & (all_gains[inside[ball]] > LAST)]
            all_gains[touched] += rise[(rise > 0) & (all_gains[inside[ball]] > LAST)]
            others = touched[position[touched] < 0]
            if len(others):
                top = all_gains[others].max()
                to_beat = min(to_beat, (-int(top), int(others[all_gains[others] == top].min())))
        count = len(picked)
        to_pick = near[picked, best]
        for new in np.flatnonzero((to_pick > 0) & (to_pick < new_eps[:count])):
            lower = log(to_pick[new : new + 1])[0]
            within = (all_gains[order] > LAST) & (near[picked[new]] < new_eps[new])
            rise = _rise(log(near[picked[new], within]), eps[n_before + new], lower)
            all_gains[order[within]] += rise
            eps[n_before + new], new_eps[new] = lower, to_pick[new]
        radius = mine[best]
        radii[count] = new_eps[count] = radius
        eps[n_before + count] = log(radius[None])[0]
        picked.append(best)
        dist = near[best]
        inner = (all_gains[order] > LAST) & (dist > 0) & (dist < radius)
        all_gains[order[inner]] += log(dist[inner]) - eps[n_before + count]
        lowered = (all_gains[order] > NEVER) & (dist < mine)
        change = log(dist[lowered]) - log(mine[lowered])
        mine[lowered] = dist[lowered]
        all_gains[order[lowered]] += change
        all_gains[order[lowered & (mine == 0)]] = LAST
        all_gains[order[lowered & (mine <= least)]] = NEVER
    count = len(picked)
    free = all_gains[order] > NEVER
    entered = (near[picked] > 0) & (near[picked] < new_eps[:count, None]) & free
    chosen = torch.tensor(picked, dtype=torch.int64)
    gains.copy_(torch.from_numpy(all_gains))
    log_eps.copy_(torch.from_numpy(eps))
    sq_dist[rows] = torch.from_numpy(mine).to(rows.device)
    members[:count] = rows[chosen.to(rows.device)]
    sq_eps[:count] = torch.from_numpy(new_eps[:count])
    sq_radii[:count] = torch.from_numpy(radii[:count])
    places[:count] = chosen
    counts.copy_(torch.tensor([count, int(entered.sum())]))


def _rise(logs: NDArray[np.int64], before: int, now: int) -> NDArray[np.int64]:
    """By how much gains rise as the logarithm of a radius falls, of candidates at those logs."""
    result: NDArray[np.int64] = np.minimum(logs - now, 0) - np.minimum(logs - before, 0)
    return result


def enter_picks(
    matrix: Tensor,
    rows: Tensor,
    gains: Tensor,
    places: Tensor,
    sq_eps: Tensor,
    first: int,
    balls: Balls,
) -> None:
    """Enter rows into the balls of picks among them, members first, first + 1, ...

    As `entropy_pick` leaves gains, and places and sq_eps of the picks. There is room.
    """
    near = matrix[places]
    inside = (near > 0) & (near < sq_eps[:, None]) & (gains[rows] > NEVER)
    pick, place = torch.nonzero(inside).unbind(dim=1)
    _enter(balls, rows[place], pick + first, log_sq_dists(near[pick, place]))


def _enter(balls: Balls, rows: Tensor, members: Tensor, logs: Tensor) -> None:
    begin = int(balls.size.item())
    end = begin + len(rows)
    balls.rows[begin:end] = rows.int()
    balls.members[begin:end] = members.int()
    balls.logs[begin:end] = logs
    balls.size.fill_(end)
