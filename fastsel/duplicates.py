"""Groups of duplicates: rows linked by distances within a radius."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastsel import checks
from fastsel.backends import resolve
from fastsel.equal_rows import first_equal
from fastsel.neighbors import DISTANCES, search, to_metric
from fastsel.pairs import BLOCK_ELEMENTS, SMALLEST, PairFilter, Tile, sq_dists
from fastsel.points import Points, result_converter, to_host
from fastsel.progress import Progress, ProgressOption

Indices = npt.NDArray[np.int64]

# Pairs whose canonical distances are taken before it is asked again which ones still matter.
BATCH = 4096


def duplicate_groups(
    features: Any,
    radius: Any,
    *,
    metric: str = "euclidean",
    backend: str = "auto",
    progress: ProgressOption = False,
) -> Any:
    """Groups of rows that are linked by distances of at most a radius, exactly.

    The connected components of the graph that joins every two rows at a distance of at most
    `radius`: a chain of near ones is one group, however far its ends are apart. Radius 0 groups
    equal rows.

    Parameters
    ----------
    features : array [N, D]
        float16, bfloat16, float32 or float64; NumPy, torch or DLPack.
    radius : float or sequence of float
        Not negative, in units of the metric. All of a sequence are answered together.
    metric : {"euclidean", "sqeuclidean", "cosine"}
    backend, progress
        As for `knn`.

    Returns
    -------
    groups : int64 [N], or [R, N] for a sequence of R
        Of every row the lowest index in its group, in the library and on the device of `features`.
        ``np.unique(groups)`` are the rows to keep for one of each.

    Raises
    ------
    ValueError, TypeError
        An argument is not as described; the message names it.
    RuntimeError
        The named backend can not run here.

    Notes
    -----
    Cost of radius 0 alone: one pass over the rows, and a sort of N numbers. Of others, that of
    `nearest_distances`; then, among the M rows whose nearest other lies within the
    largest radius, a float32 product of M^2 D / 2 multiply-adds. Memory beyond that of the search
    is some 100 MB and 8 R M bytes, however many pairs are within the radius: pairs that are linked
    already are passed over.

    Examples
    --------
    >>> import numpy as np, fastsel
    >>> x = np.array([[0.0], [5.0], [0.0], [1.0]])
    >>> fastsel.duplicate_groups(x, [0, 1])
    array([[0, 1, 0, 3],
           [0, 1, 0, 0]])
    """
    checks.choice("metric", metric, DISTANCES)
    points = checks.points("features", features, metric)
    single = np.ndim(radius) == 0
    radii = [checks.real("radius", item) for item in ([radius] if single else radius)]
    if not radii:
        raise ValueError(f"radius must hold at least one number, got {radius!r}")
    if min(radii) < 0:
        raise ValueError(f"radius must not be negative, got {min(radii)!r}")
    resolve(backend)  # whatever way is taken
    levels, which = np.unique(np.array(radii), return_inverse=True)
    groups = np.tile(np.arange(points.n), (len(levels), 1))
    if levels[-1] == 0 and metric != "cosine" and _distances_tell_apart(points.on_host()):
        groups[0] = first_equal(points.on_host())
    elif points.n > 1:
        sq_dist, nearest = map(to_host, search(points, points, 1, True, backend, progress))
        distances = to_metric(sq_dist[:, 0], metric)
        # Of a pair within the radius, both have their nearest within it.
        rows = np.flatnonzero(distances <= levels[-1])
        if len(rows):
            components = _Components(points.on_host(), rows, levels, metric)
            components.link(
                np.arange(len(rows)),
                np.searchsorted(rows, nearest[rows, 0]),
                np.searchsorted(levels, distances[rows]),
            )
            components.link_all(progress)
            groups[:, rows] = rows[components.labels]
    convert = result_converter(features)
    return convert(groups[0] if single else groups[which])


def _distances_tell_apart(points: Points) -> bool:
    """Whether no two different rows are at distance 0, for the square of their difference is 0."""
    if points.data.dtype != np.float64:
        return True
    step = max(1, BLOCK_ELEMENTS // points.dim)
    return all(
        bool(((block == 0) | (np.abs(block) >= SMALLEST)).all())
        for block in (points.data[start : start + step] for start in range(0, points.n, step))
    )


class _Components:
    """Connected components of some rows, at every level of an ascending list of radii.

    labels: int64 [levels, M], of every row the lowest position in its component.
    """

    def __init__(
        self, points: Points, rows: Indices, levels: npt.NDArray[np.float64], metric: str
    ) -> None:
        self._points = points
        self._rows = rows
        self._levels = levels
        self._metric = metric
        self._rng = np.random.default_rng(0)
        self._pairs = PairFilter(points)
        sq_levels = {
            "euclidean": np.square(levels),
            "sqeuclidean": levels,
            "cosine": 2 * levels,
        }[metric]
        self._reach = self._pairs.scaled(sq_levels)
        self.labels = np.tile(np.arange(len(rows)), (len(levels), 1))

    def link(self, a: Indices, b: Indices, level: Indices) -> None:
        """Join positions a[p] and b[p] from level[p] on; not where that is beyond the last."""
        for first in range(len(self._levels)):
            here = level == first
            for labels in self.labels[first:]:
                _merge(labels, a[here], b[here])

    def link_all(self, progress: ProgressOption) -> None:
        """Join every pair within a radius."""
        m = len(self._rows)
        report = Progress(progress, "pairs of near rows", m)
        tiles = self._pairs.tiles(
            self._points, self._rows, self._points, self._rows, upper_triangle=True
        )
        for tile in tiles:
            self._link_tile(tile)
            report.update(min(tile.second + tile.lower.shape[1], m))

    def _link_tile(self, tile: Tile) -> None:
        i, j = np.nonzero(tile.lower <= self._reach[-1])
        a, b = tile.first + i, tile.second + j
        # The first level that a pair may belong to, and the first that it does for certain.
        level = np.searchsorted(self._reach, tile.lower[i, j])
        keep = self._apart(a, b, level)
        i, j, a, b, level = i[keep], j[keep], a[keep], b[keep], level[keep]
        self.link(a, b, np.searchsorted(self._reach, tile.upper(i, j)))
        # In random order, so that a batch has pairs of all rows: what they link, later ones of the
        # same rows need not. The result does not depend on the order.
        left = self._rng.permutation(np.flatnonzero(self._apart(a, b, level)))
        while len(left):
            batch, left = left[:BATCH], left[BATCH:]
            sq_dist = sq_dists(
                self._points, self._rows[a[batch]], self._points, self._rows[b[batch]]
            )
            distances = to_metric(sq_dist, self._metric)
            self.link(a[batch], b[batch], np.searchsorted(self._levels, distances))
            left = left[self._apart(a[left], b[left], level[left])]

    def _apart(self, a: Indices, b: Indices, level: Indices) -> npt.NDArray[np.bool_]:
        """Which pairs are in different components at a level, and so may be at higher ones."""
        return np.asarray(self.labels[level, a] != self.labels[level, b])


def _merge(labels: Indices, a: Indices, b: Indices) -> None:
    """Make one component of those of a[p] and b[p], for every p, in place.

    Hooks the root of the higher label under the lower one, then shortens all paths, until every
    pair has one label: labels only fall, so that it ends, and the lowest position is the label.
    """
    while True:
        low, high = np.minimum(labels[a], labels[b]), np.maximum(labels[a], labels[b])
        apart = low < high
        if not apart.any():
            return
        a, b = a[apart], b[apart]
        np.minimum.at(labels, high[apart], low[apart])
        while not np.array_equal(shorter := labels[labels], labels):
            labels[:] = shorter
