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


def threshold_decay(x, m, threshold, decay, decay_when, start=0):
    """Algorithm 2 of arXiv 2509.16499, candidate by candidate."""
    dist = sq_dists(x, x)
    picks, radii = [start], [math.inf]
    while len(picks) < m:
        accepted = False
        for i in range(len(x)):
            if i in picks:
                continue
            radius = math.sqrt(dist[i, picks].min())
            if radius > threshold:
                picks.append(i)
                radii.append(radius)
                accepted = True
                if len(picks) == m:
                    return np.array(picks), np.array(radii)
        if decay_when == "sweep" or not accepted:
            threshold *= decay
    return np.array(picks), np.array(radii)


def knn(queries, points, k, exclude_self=False):
    """Neighbours by a full sort of (squared distance, index)."""
    dist = sq_dists(queries, points)
    index = np.empty((len(queries), k), np.int64)
    for q, row in enumerate(dist):
        order = [i for i in range(len(points)) if not (exclude_self and i == q)]
        index[q] = sorted(order, key=lambda i: (row[i], i))[:k]
    return np.take_along_axis(dist, index, axis=1), index
