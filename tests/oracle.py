"""The algorithms as their papers state them, slow and obvious, in canonical distances.

Written apart from fastsel/schedule.py and fastsel/backends/, so that an error there is not repeated
here.
"""

from __future__ import annotations

import math

import numpy as np


def sq_dist(x, y) -> float:
    """Canonical squared distance, one Python float operation at a time."""
    lanes = [0.0] * 8
    for j, (a, b) in enumerate(zip(x, y, strict=True)):
        diff = float(a) - float(b)
        lanes[j % 8] += diff * diff
    a, b, c, d, e, f, g, h = lanes
    return ((a + e) + (c + g)) + ((b + f) + (d + h))


def sq_dists(x, y) -> np.ndarray:
    """Canonical squared distances of rows x [N, D] to rows y [M, D], float64 [N, M]."""
    x = np.asarray(x, np.float64)
    y = np.asarray(y, np.float64)
    lanes = np.zeros((8, len(x), len(y)))
    for j in range(x.shape[1]):
        diff = x[:, j, None] - y[None, :, j]
        lanes[j % 8] += diff * diff
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + (
        (lanes[1] + lanes[5]) + (lanes[3] + lanes[7])
    )


def inner_products(x, y) -> np.ndarray:
    """Canonical inner products of rows x [N, D] and rows y [M, D], float64 [N, M]."""
    x = np.asarray(x, np.float64)
    y = np.asarray(y, np.float64)
    lanes = np.zeros((8, len(x), len(y)))
    for j in range(x.shape[1]):
        lanes[j % 8] += x[:, j, None] * y[None, :, j]
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + (
        (lanes[1] + lanes[5]) + (lanes[3] + lanes[7])
    )


def unit_rows(x) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return x / np.sqrt(np.array([sq_dist(row, [0.0] * len(row)) for row in x]))[:, None]


def greedy(x, m, start=0):
    """Algorithm 1 of arXiv 2509.16499: picks and radii."""
    nearest = np.full(len(x), np.inf)
    free = np.ones(len(x), bool)
    picks, radii = [], []
    pick = start
    while True:
        radii.append(math.sqrt(nearest[pick]))
        picks.append(pick)
        free[pick] = False
        if len(picks) == m:
            return np.array(picks), np.array(radii)
        nearest = np.minimum(nearest, sq_dists(x, x[[pick]])[:, 0])
        # argmax takes the first of equals.
        rest = np.flatnonzero(free)
        pick = int(rest[np.argmax(nearest[rest])])


LOG_OF_ZERO = -(2**51)

# Gains of what can not be picked, and of duplicates of members.
NEVER = -(2**63)
LAST = NEVER + 1


def log_sq_dist(value) -> int:
    """Canonical binary logarithm of a squared distance in units of 2^-40, from exact bits."""
    if value == 0:
        return LOG_OF_ZERO
    fraction, exponent = math.frexp(value)
    fraction = math.floor(fraction * 2.0**43) / 2.0**43
    if fraction < math.sqrt(0.5):
        fraction, exponent = 2 * fraction, exponent - 1
    s = (fraction - 1) / (fraction + 1)
    series = 0.0
    for power in range(21, 0, -2):
        series = series * (s * s) + 2 / math.log(2) / power
    return round(series * s * 2.0**40) + exponent * 2**40


def log_sq_dists(values) -> np.ndarray:
    values = np.asarray(values)
    return np.array([log_sq_dist(v) for v in values.ravel().tolist()]).reshape(values.shape)


def entropy_sum(log_dist, members) -> int:
    """Sum over members of the logarithm of the squared distance to the nearest other one."""
    among = log_dist[np.ix_(members, members)].copy()
    np.fill_diagonal(among, np.iinfo(np.int64).max)
    return int(among.min(axis=1).sum())


def greedy_entropy(x, m, start=0):
    """Each pick the argmax of the objective of the whole set: picks and radii."""
    dist = sq_dists(x, x)
    log_dist = log_sq_dists(dist)
    off_diagonal = log_dist.copy()
    np.fill_diagonal(off_diagonal, np.iinfo(np.int64).max)
    picks, radii = [start], [math.inf]
    eps = np.zeros(0, np.int64)  # of the members, as logarithms
    while len(picks) < m:
        rest = np.setdiff1d(np.arange(len(x)), picks)
        to_members = off_diagonal[np.ix_(rest, picks)]
        own = to_members.min(axis=1)
        shrunk = own if len(picks) == 1 else np.minimum(to_members, eps).sum(axis=1)
        totals = shrunk + own
        finite = dist[np.ix_(rest, picks)].min(axis=1) > 0
        candidates = rest[finite] if finite.any() else rest
        values = totals[finite] if finite.any() else np.zeros(len(rest))
        pick = int(candidates[np.argmax(values)])
        radii.append(math.sqrt(dist[pick, picks].min()))
        picks.append(pick)
        eps = off_diagonal[np.ix_(picks, picks)].min(axis=1)
    return np.array(picks), np.array(radii)


def entropy_state(x, n_members):
    """The first rows as members, and candidates that have seen all of them, by their definition.

    Returns distances, logarithms of radii, gains, distances to the members, and what lies in their
    balls: (candidate, member, log).
    """
    dist = sq_dists(x, x)
    members = np.arange(n_members)
    among = dist[:n_members, :n_members].copy()
    np.fill_diagonal(among, np.inf)
    log_eps = log_sq_dists(among.min(axis=1))
    nearest = dist[:, :n_members].min(axis=1)
    logs = log_sq_dists(dist[:, :n_members])
    inside = (dist[:, :n_members] > 0) & (logs < log_eps)
    gains = log_sq_dists(nearest) + np.where(inside, logs - log_eps, 0).sum(axis=1)
    gains[nearest == 0] = LAST
    gains[members] = NEVER
    entries = [(r, m, logs[r, m]) for r, m in np.argwhere(inside) if gains[r] > NEVER]
    return dist, log_eps, gains, nearest, entries


def entropy_picks(dist, n_members, rows, rival, capacity, least):
    """Picks by the sum over all members and candidates, computed anew each time.

    Returns them, the members then, with their radii, and the gains and nearest distances.
    """
    members = list(range(n_members))
    while True:
        among = dist[np.ix_(members, members)].copy()
        among[among == 0] = np.inf  # itself; a duplicate has no ball
        sq_eps = among.min(axis=1)
        nearest = dist[:, members].min(axis=1)
        inside = (dist[:, members] > 0) & (dist[:, members] < sq_eps)
        logs = log_sq_dists(np.where(inside, dist[:, members], 1.0))
        radii = log_sq_dists(sq_eps)
        gains = log_sq_dists(nearest) + np.where(inside, logs - radii, 0).sum(axis=1)
        gains[nearest == 0] = LAST
        gains[nearest <= least] = NEVER
        gains[members] = NEVER
        if len(members) - n_members == capacity:
            break
        best = rows[np.argmax(gains[rows])]
        outside = np.setdiff1d(np.arange(len(dist)), rows)
        passed = {(-gains[i], i) for i in outside if gains[i] > NEVER} | {(-rival[0], rival[1])}
        if gains[best] == NEVER or (-gains[best], best) >= min(passed):
            break
        members.append(best)
    return members[n_members:], sq_eps, gains, nearest


def threshold_decay(
    x, m, threshold, decay, decay_when="stalled", initial=(0,), anchors=None, metric="euclidean"
):
    """Algorithm 2 of arXiv 2509.16499, candidate by candidate: picks, radii, thresholds, sweeps.

    `threshold` may be "auto". Ends early when only points at distance 0 are left.
    """
    if metric == "cosine":
        x = unit_rows(x)
        anchors = None if anchors is None else unit_rows(anchors)

    def reported(sq_dist):
        radius = math.sqrt(sq_dist)
        return radius * radius / 2 if metric == "cosine" else radius

    to_pool = sq_dists(x, x)
    nearest = np.full(len(x), np.inf) if anchors is None else sq_dists(x, anchors).min(axis=1)
    free = np.ones(len(x), bool)
    accepted = []

    def accept(i, threshold, sweep):
        accepted.append((i, reported(nearest[i]), threshold, sweep))
        free[i] = False
        np.minimum(nearest, to_pool[i], out=nearest)

    for i in initial:
        accept(i, math.inf, 0)
    if threshold == "auto":
        threshold = reported(nearest.max())
    sweep = 0
    while len(accepted) < m and nearest[free].max() > 0:
        sweep += 1
        before = len(accepted)
        for i in range(len(x)):
            if free[i] and reported(nearest[i]) > threshold and len(accepted) < m:
                accept(i, threshold, sweep)
        if decay_when == "sweep" or len(accepted) == before:
            threshold *= decay
    return tuple(np.array(column) for column in zip(*accepted, strict=True))


def knn(queries, points, k, exclude_self=False, by_inner_product=False):
    """Neighbours by a full sort of (squared distance or minus inner product, index)."""
    keys = -inner_products(queries, points) if by_inner_product else sq_dists(queries, points)
    index = np.empty((len(queries), k), np.int64)
    for q, row in enumerate(keys):
        order = [i for i in range(len(points)) if not (exclude_self and i == q)]
        index[q] = sorted(order, key=lambda i: (row[i], i))[:k]
    return np.take_along_axis(keys, index, axis=1), index
