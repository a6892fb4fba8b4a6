"""The operations of the device backends in plain torch, exact on any device that torch runs on.

They are the fallback, and what the kernels of the same names (kernels/, csrc/cuda/) are tested
against. Points hold tensors throughout; arguments that are written to come last.

An operation on codes answers in radii: distances times the scale of the codes, float32, as
csrc/cpu/filter.h has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastsel import canonical
from fastsel.canonical import LANES, LOG_OF_ZERO, LOG_SERIES, LOG_UNITS, SQRT_HALF
from fastsel.filter import MIN_SAMPLE_ROWS, SAMPLE_ELEMENTS, largest_code
from fastsel.gains import LAST, NEVER
from fastsel.points import Points, take_roots

# Rows times columns of float64 temporaries.
BLOCK_ELEMENTS = 1 << 22

# Bytes of a row of codes are a multiple of this, so that kernels take whole steps.
CODE_UNIT = 64

# Queries that a product takes together where they may pass over points.
TOGETHER = 512

# Columns of codes whose inner products, of at most 127^2 each, are exact in float32: on tensor
# cores too, in TF32 as well, since codes have 8 bits.
EXACT_DEPTH = 1024

# Neighbours that `top_k` finds at most, and the index of one that is not there.
MAX_TOP = 64
NO_INDEX = torch.iinfo(torch.int64).max


Role = Literal["both", "query", "point"]


class Codes(NamedTuple):
    """How rows look to the filter; csrc/cpu/filter.h tells what these mean."""

    values: Tensor  # int8 [N, W], zeros beyond the columns of the points
    scales: Tensor  # float32 [N]
    sq_norms: Tensor  # float32 [N]
    errors: Tensor  # float32 [N]
    scale: float  # a power of two


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


def wide_rows(points: Points, rows: Tensor | slice) -> Tensor:
    """Those rows, float64 [len, D], exactly (normalised, for the cosine metric)."""
    wide: Tensor = points.data[rows].double()
    if points.norms is None:
        return wide
    norms: Tensor = points.norms[rows, None]
    return wide / norms


def sq_dists(x: Tensor, y: Tensor) -> Tensor:
    """Canonical squared distances (fastsel/canonical.py) of broadcast rows; [..., D] each -> [...].

    float64. Torch rounds every operation: it has no way to contract a product and a sum.
    """
    return _sum_terms(x, y, _sq_differences)


def inner_products(x: Tensor, y: Tensor) -> Tensor:
    """Canonical inner products of broadcast rows, likewise."""
    return _sum_terms(x, y, torch.mul)


def _sq_differences(x: Tensor, y: Tensor) -> Tensor:
    diff = x - y
    return diff * diff


def _sum_terms(x: Tensor, y: Tensor, term: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    shape = (x[..., 0] - y[..., 0]).shape
    lanes = x.new_zeros((*shape, LANES))
    for start in range(0, x.shape[-1], LANES):
        terms = term(x[..., start : start + LANES], y[..., start : start + LANES])
        lanes[..., : terms.shape[-1]] += terms
    half = lanes[..., :4] + lanes[..., 4:]
    quarter = half[..., :2] + half[..., 2:]
    return quarter[..., 0] + quarter[..., 1]


def log_sq_dists(sq_dist: Tensor) -> Tensor:
    """Canonical logarithms (fastsel/canonical.py) of finite squared distances, int64."""
    fraction, exponent = torch.frexp(sq_dist)
    fraction = torch.floor(fraction * 2.0**43) * 2.0**-43
    low = fraction < SQRT_HALF
    fraction = torch.where(low, fraction * 2.0, fraction)
    s = (fraction - 1.0) / (fraction + 1.0)
    square = s * s
    series = torch.full_like(s, LOG_SERIES[0])
    for coefficient in LOG_SERIES[1:]:
        series = series * square + coefficient
    units = torch.round(series * s * LOG_UNITS).long()
    units += (exponent.long() - low.long()) * LOG_UNITS
    return torch.where(sq_dist > 0, units, LOG_OF_ZERO)


def norms(data: Tensor) -> Tensor:
    """Canonical Euclidean norm of every row, float64 [N]."""
    squares = torch.empty(len(data), dtype=torch.float64, device=data.device)
    for block in _blocks(len(data), data.shape[1]):
        rows = data[block].double()
        squares[block] = sq_dists(rows, torch.zeros_like(rows[:1]))
    take_roots(squares)
    return squares


def frame(*parts: Points, centred: bool = True) -> tuple[Tensor, float]:
    """A shift, float64 [D], and a scale, as those of fastsel/filter.py."""
    first = parts[0]
    step = -(-first.n // max(MIN_SAMPLE_ROWS, SAMPLE_ELEMENTS // first.dim))
    shift = wide_rows(first, slice(None, None, step)).mean(dim=0)
    if not centred:
        shift = torch.zeros_like(shift)
    largest = torch.zeros((), dtype=torch.float64, device=shift.device)
    for points in parts:
        for block in _blocks(points.n, points.dim):
            sq_norms = (wide_rows(points, block) - shift).square().sum(dim=1)
            largest = torch.maximum(largest, sq_norms.max())
    norm = math.sqrt(largest.item())
    return shift, math.ldexp(1.0, -max(-500, math.frexp(norm)[1]) if norm > 0 else 0)


def encode(points: Points, shift: Tensor, scale: float, role: Role = "both") -> Codes:
    """Codes of the points, as csrc/cpu/encode.cpp makes them.

    In a search by inner product queries and points have a `role`, and the shift is 0. A query is
    brought to a norm in [1/2, 1) by a power of two, which changes no order. A point, of norm up to
    1, gets one more component, sqrt(1 - |c|^2), which is 0 for queries and has no error. Then
    |x - c|^2 = |x|^2 + 1 - 2 x.c: the nearest points have the largest products, and the filter of
    csrc/cpu/filter.h is one for these, with its proof.
    """
    n, dim = points.n, points.dim
    limit = largest_code(dim)
    width = -(-dim // CODE_UNIT) * CODE_UNIT
    values = torch.zeros((n, width), dtype=torch.int8, device=shift.device)
    scales, sq_norms, errors = torch.empty((3, n), dtype=torch.float32, device=shift.device)
    for block in _blocks(n, dim):
        image = (wide_rows(points, block) - shift) * scale
        if role == "query":
            image *= _to_unit_norm(image.square().sum(dim=1).sqrt(), scale)[:, None]
        top = image.abs().amax(dim=1)
        # Rows too small for a float32 scale are coded as zeros.
        unit = torch.where(top > 2.0**-100, round_up(top / limit), 0.0)
        wide_unit = unit.double()
        inverse = torch.where(unit > 0, 1.0 / wide_unit, 0.0)
        code = (image * inverse[:, None]).round()
        off = (image - code * wide_unit[:, None]).square().sum(dim=1).sqrt()
        norm = image.square().sum(dim=1).sqrt()
        values[block, :dim] = code.to(torch.int8)
        scales[block] = unit
        sq_norm = code.square().sum(dim=1) * wide_unit.square()
        if role == "point":
            sq_norm += 1.0 - norm.square()
        sq_norms[block] = (sq_norm * (1.0 - 2.0**-20)).float()
        # The shift's subtraction may take an image of norm 1 off by 2^-40; squares may underflow.
        errors[block] = round_up(off * (1.0 + 2.0**-20) + norm * 2.0**-40 + 2.0**-50)
    return Codes(values, scales, sq_norms, errors, scale)


def _to_unit_norm(norms: Tensor, scale: float) -> Tensor:
    """Powers of two that bring the norms into [1/2, 1), and the scale to 2^500 at most."""
    exponents = norms.frexp().exponent.clamp(min=math.frexp(scale)[1] - 501).long()
    return ((1023 - exponents) << 52).view(torch.float64)


def round_up(values: Tensor) -> Tensor:
    """The float32 numbers next to float64 ones, not below them."""
    nearest = values.float()
    above = torch.nextafter(nearest, torch.full_like(nearest, math.inf))
    return torch.where(nearest.double() < values, above, nearest)


def min_update(points: Points, centre: Tensor, sq_dist: Tensor) -> None:
    """Lower sq_dist, float64 [N], to the canonical squared distance to `centre`, float64 [D]."""
    for block in _blocks(points.n, points.dim):
        lower = sq_dists(wide_rows(points, block), centre)
        sq_dist[block] = torch.minimum(sq_dist[block], lower)


def rows_together(like: Tensor, n_points: int) -> int:
    """How many queries, one after the other, `group_min` and `survivors` take at a time.

    With `first`, they look at all points from the least of theirs on. like: a tensor on the device.
    """
    return min(TOGETHER, max(1, BLOCK_ELEMENTS // n_points))


def group_min(
    queries: Codes,
    query_rows: Tensor,
    points: Codes,
    point_rows: Tensor,
    group: int,
    out: Tensor,
    first: Tensor | None = None,
) -> None:
    """At least the radius from each listed query to the nearest of every `group` listed points.

    Rows are int64 [R] and [C]; out float32 [R, ceil(C / group)], the last group perhaps shorter.

    first: int64 [R], in 0 .. C, how many of the points each query may pass over. It may look at
    some of them nevertheless, and has infinity for a group of which it saw none. Queries next to
    each other should have nearly the same.
    """
    labels = _label(points, point_rows)
    groups = out.shape[1]
    for block in _query_blocks(len(query_rows), len(point_rows), first):
        passed = _least(first, block)
        begin = groups if passed == len(point_rows) else passed // group
        rows, seen = query_rows[block], labels.beyond(begin * group)
        sq_norms = queries.sq_norms[rows, None] + seen.sq_norms
        lower = _filtered(queries, rows, seen)
        # A filtered distance may be too small by 2^-19 of the norms (csrc/cpu/filter.h).
        radius = (lower.double() + 2.0**-18 * sq_norms.double()).clamp_(min=0.0).sqrt_()
        radius += queries.errors[rows, None].double() + seen.errors.double()
        padded = radius.new_full((len(rows), (groups - begin) * group), math.inf)
        padded[:, : radius.shape[1]] = radius
        least = padded.view(len(rows), groups - begin, group).amin(dim=2)
        out[block, :begin] = math.inf
        out[block, begin:] = round_up(least * (1.0 + 2.0**-18) + 2.0**-48)


def survivors(
    queries: Codes,
    query_rows: Tensor,
    points: Codes,
    point_rows: Tensor,
    reach: Tensor,
    pairs: Tensor,
    n_pairs: Tensor,
    overflow: Tensor,
    first: Tensor | None = None,
) -> None:
    """List at least those pairs of a query and a point whose radius is below the query's reach.

    reach: float32 [R]; below 0 or NaN, nothing is. Appends positions (in query_rows, in point_rows)
    to pairs, int32 [capacity, 2], in any order; n_pairs, int64 [1], counts those that do not fit
    too. They set overflow, uint8 [R], of their query.

    first: as for `group_min`. Pairs with points that a query may pass over may be missing.
    """
    labels = _label(points, point_rows)
    capacity = len(pairs)
    for block in _query_blocks(len(query_rows), len(point_rows), first):
        begin = _least(first, block)
        rows, seen = query_rows[block], labels.beyond(begin)
        radius = reach[block].double()
        raised = round_up((radius + queries.errors[rows]) * (1.0 + 2.0**-20) + 2.0**-50)
        raised = torch.where(radius >= 0, raised, math.nan)
        bound = raised[:, None] + seen.errors
        found = torch.nonzero(_filtered(queries, rows, seen) < bound * bound)
        found += torch.tensor([block.start, begin], device=found.device)
        listed = int(n_pairs.item())
        room = max(0, capacity - listed)
        pairs[listed : listed + room][: len(found)] = found[:room].int()
        overflow[found[room:, 0]] = 1
        n_pairs += len(found)


def pair_min(
    points: Points,
    rows: Tensor,
    centres: Points,
    cols: Tensor,
    pairs: Tensor,
    n_pairs: Tensor,
    keys: Tensor,
) -> None:
    """Lower keys[rows[r]], for every listed pair (r, c), to the distance to centre cols[c].

    Canonical squared distances; keys float64 [N]. At most len(pairs) are there, whatever n_pairs
    says. Points and centres have one dtype.
    """
    for block in _listed(pairs, n_pairs, points.dim):
        row, col = rows[block[:, 0]], cols[block[:, 1]]
        sq_dist = sq_dists(wide_rows(points, row), wide_rows(centres, col))
        keys.scatter_reduce_(0, row, sq_dist, "amin")


def pair_sq_dists(
    queries: Points,
    points: Points,
    pairs: Tensor,
    n_pairs: Tensor,
    out: Tensor,
    by_inner_product: bool = False,
) -> None:
    """Write the canonical squared distance of every listed pair (query, point) to out [pairs].

    Or minus the canonical inner product, of points without norms.
    """
    first = 0
    for block in _listed(pairs, n_pairs, points.dim):
        x, y = wide_rows(queries, block[:, 0]), wide_rows(points, block[:, 1])
        out[first : first + len(block)] = (
            -inner_products(x, y) if by_inner_product else sq_dists(x, y)
        )
        first += len(block)


def by_row(pairs: Tensor, n_pairs: Tensor, next: Tensor, cols: Tensor | None = None) -> None:
    """Bring the columns of listed pairs together by their rows: a counting sort in two calls.

    Adds to next[r], int64, how many pairs of row r are listed. With cols, int32 [pairs], next[r] is
    first where the columns of row r begin in there, and they are written, in any order.
    """
    row, col = pairs[: int(n_pairs.item())].long().unbind(dim=1)
    count = row.bincount(minlength=len(next))
    if cols is not None:
        order = row.argsort(stable=True)
        row, begin = row[order], count.cumsum(0) - count
        place = next[row] - begin[row] + torch.arange(len(row), device=row.device)
        cols[place] = col[order].int()
    next += count


def top_k(
    queries: Points,
    rows: Tensor,
    points: Points,
    first: Tensor,
    cols: Tensor,
    exclude_self: bool,
    by_inner_product: bool,
    keys: Tensor,
    index: Tensor,
) -> None:
    """Of the points that are listed for every query, the k first by (key, index).

    For query rows[r], int64 [R], the points cols[first[r]] .. cols[first[r + 1] - 1], each once;
    first int64 [R + 1], cols int32. Keys as of `pair_sq_dists`. keys float64 and index int64
    [R, k], k at most MAX_TOP; infinity and NO_INDEX where there are fewer. With `exclude_self`,
    query i skips point i.
    """
    row = torch.arange(len(rows), device=rows.device).repeat_interleave(first.diff())
    col = cols[: len(row)]
    pairs = torch.stack([rows[row].int(), col], dim=1)
    found = torch.empty(len(row), dtype=torch.float64, device=rows.device)
    pair_sq_dists(queries, points, pairs, first[-1:], found, by_inner_product)
    sort_pairs(row, rows, col.long(), found, first, exclude_self, keys, index)


def sort_pairs(
    row: Tensor,
    rows: Tensor,
    col: Tensor,
    found: Tensor,
    first: Tensor,
    exclude_self: bool,
    keys: Tensor,
    index: Tensor,
) -> None:
    """The same for any k, in three sorts of pairs (row[p], col[p]), in any order, of keys found[p].

    first, int64 [R + 1], counts the pairs of all rows before each.
    """
    if exclude_self:
        own = rows[row] == col
        found, col = torch.where(own, math.inf, found), torch.where(own, NO_INDEX, col)
    if not len(row):
        keys.fill_(math.inf)
        index.fill_(NO_INDEX)
        return
    order = col.argsort()
    order = order[found[order].argsort(stable=True)]
    order = order[row[order].argsort(stable=True)]
    place = first[:-1, None] + torch.arange(keys.shape[1], device=row.device)
    there = place < first[1:, None]
    chosen = order[place.clamp(max=len(order) - 1)]
    keys.copy_(torch.where(there, found[chosen], math.inf))
    index.copy_(torch.where(there, col[chosen], NO_INDEX))


def sq_dist_matrix(points: Points, rows: Tensor, out: Tensor) -> None:
    """Write the canonical squared distances among the listed rows, int64 [A], to out [A, A]."""
    wide = wide_rows(points, rows)
    for block in _blocks(len(rows), len(rows) * LANES):
        out[block] = sq_dists(wide[block, None], wide)


def pick(
    matrix: Tensor,
    rows: Tensor,
    keys: Tensor,
    n_active: Tensor,
    rival_key: Tensor,
    rival_row: Tensor,
    least: float,
    picks: Tensor,
    sq_radii: Tensor,
    n_picks: Tensor,
) -> None:
    """Greedy picks among the first n_active of `rows`, ascending, whose keys are up to date.

    The row of largest key, the first of equals, as long as it beats the rival, its key is above
    `least` and there is room: picks, int64, and sq_radii, float64, of one capacity, are appended to
    at n_picks, which counts on. The others' keys account for every pick; that of a picked row
    becomes -1. matrix: as of sq_dist_matrix. All counts and the rival are tensors of one element.

    Here the chain of picks runs on the host: each is too little work for a device.
    """
    active = rows[: int(n_active.item())]
    near = matrix.cpu().numpy()[:, : len(active)]
    mine = keys[active].cpu().numpy()
    to_beat = (-rival_key.item(), rival_row.item())
    order = active.tolist()
    first = int(n_picks.item())
    picked: list[int] = []
    radii: list[float] = []
    while first + len(picked) < len(picks) and order:
        best = int(mine.argmax())
        key = float(mine[best])
        if (-key, order[best]) >= to_beat or key <= least:
            break
        picked.append(order[best])
        radii.append(key)
        np.minimum(mine, near[best], out=mine)
        mine[best] = -1.0
    keys[active] = torch.from_numpy(mine).to(keys.device)
    _append(picked, radii, picks, sq_radii, first)
    n_picks += len(picked)


def accept(
    matrix: Tensor,
    rows: Tensor,
    keys: Tensor,
    n_active: Tensor,
    limits: Tensor,
    picks: Tensor,
    sweeps: Tensor,
    sq_radii: Tensor,
    n_picks: Tensor,
) -> None:
    """Sweeps over the first n_active of `rows`, one for each of some falling limits, float64 [S].

    A sweep takes the rows in their order and accepts each whose key is above its limit, while there
    is room; sweeps, int64, gets its number. The rest is as for `pick`.
    """
    active = rows[: int(n_active.item())]
    near = matrix.cpu().numpy()[:, : len(active)]
    mine = keys[active].cpu().numpy()
    order = active.tolist()
    first = int(n_picks.item())
    accepted: list[int] = []
    radii: list[float] = []
    numbers: list[int] = []
    for sweep, limit in enumerate(limits.tolist()):
        for i, row in enumerate(order):
            key = float(mine[i])
            if first + len(accepted) == len(picks) or key <= limit:
                continue
            accepted.append(row)
            radii.append(key)
            numbers.append(sweep)
            np.minimum(mine, near[i], out=mine)
            mine[i] = -1.0
    keys[active] = torch.from_numpy(mine).to(keys.device)
    _append(accepted, radii, picks, sq_radii, first)
    sweeps[first : first + len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
    n_picks += len(accepted)


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
    for block in _listed(pairs, n_pairs, points.dim):
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


def _append(
    rows: list[int], keys: list[float], picks: Tensor, sq_radii: Tensor, first: int
) -> None:
    picks[first : first + len(rows)] = torch.tensor(rows, dtype=torch.int64)
    sq_radii[first : first + len(rows)] = torch.tensor(keys, dtype=torch.float64)


class _Labelled(NamedTuple):
    """Listed rows of codes."""

    values: Tensor  # float32 [C, W]
    scales: Tensor
    sq_norms: Tensor
    errors: Tensor

    def beyond(self, count: int) -> _Labelled:
        """All but the first ones."""
        return _Labelled(*(part[count:] for part in self))


def _label(codes: Codes, rows: Tensor) -> _Labelled:
    return _Labelled(
        codes.values[rows].float(), codes.scales[rows], codes.sq_norms[rows], codes.errors[rows]
    )


def _filtered(queries: Codes, rows: Tensor, points: _Labelled) -> Tensor:
    """Squared distances of decoded rows, never too large; float32 [R, C]."""
    values = queries.values[rows].float()
    product = values.new_zeros((len(rows), len(points.values)), dtype=torch.float64)
    for start in range(0, values.shape[1], EXACT_DEPTH):
        step = slice(start, start + EXACT_DEPTH)
        product += values[:, step] @ points.values[:, step].T
    return (queries.sq_norms[rows, None] + points.sq_norms) - (
        product.float() * queries.scales[rows, None] * (2.0 * points.scales)
    )


def _query_blocks(n: int, n_points: int, first: Tensor | None) -> list[slice]:
    """Blocks of queries; small ones, if they may pass over points."""
    if first is None:
        return _blocks(n, n_points)
    step = rows_together(first, n_points)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def _least(first: Tensor | None, block: slice) -> int:
    """How many points all queries of a block may pass over."""
    return 0 if first is None else int(first[block].min().item())


def _blocks(n: int, width: int) -> list[slice]:
    """Slices of n rows, small enough for temporaries of that width."""
    step = max(1, BLOCK_ELEMENTS // max(1, width))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def _listed(pairs: Tensor, n_pairs: Tensor, dim: int) -> list[Tensor]:
    """The pairs that are there, int64 [*, 2], in blocks."""
    there = pairs[: int(n_pairs.item())].long()
    return [there[block] for block in _blocks(len(there), dim)]
