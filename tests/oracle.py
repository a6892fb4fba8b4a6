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


def knn(queries, points, k, exclude_self=False):
    """Neighbours by a full sort of (squared distance, index)."""
    dist = sq_dists(queries, points)
    index = np.empty((len(queries), k), np.int64)
    for q, row in enumerate(dist):
        order = [i for i in range(len(points)) if not (exclude_self and i == q)]
        index[q] = sorted(order, key=lambda i: (row[i], i))[:k]
    return np.take_along_axis(dist, index, axis=1), index
