"""A search for nearest neighbours that is measured: its sides, its reference, its contenders."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fastsel
from bench import ours, timing
from bench.data import Features, thinned
from bench.knn_peers import PEERS, Search

SAMPLE = 32  # queries whose distances are checked
CHECKED = 64  # queries of a search that is checked, the sample among them
# Of |x|^2 + |y|^2, by which a peer may err in a squared distance: what float32 leaves of it.
TOLERANCE = 1e-5
OURS_TOLERANCE = 1e-14  # of a distance: float64, whatever the order of its sum
QUERY_SHARE = 5  # every fifth row is a query for the others

Truth = tuple[Any, Any, Any]


@dataclass(frozen=True)
class Case:
    """A search: k neighbours, of the points themselves or of other queries."""

    name: str
    k: int
    alone: bool = True
    queries: int | None = None  # at most so many


def split(pool: Features) -> tuple[Features, Features]:
    """Queries and other points."""
    is_query = np.arange(len(pool)) % QUERY_SHARE == QUERY_SHARE - 1
    return pool[is_query], pool[~is_query]


def sides(pool: Features, case: Case) -> tuple[Features, Features]:
    """Queries and points of a case."""
    if case.alone:
        return pool, pool
    queries, points = split(pool)
    return queries[: case.queries], points


def reference(queries: Features, points: Features | None) -> Truth:
    """Some of the queries: which, their distances to all points sorted, and the points' order.

    Without `points`, to the other queries. In float64, from differences.
    """
    base = queries if points is None else points
    wide = base.astype(np.float64)
    rows = np.linspace(0, len(queries) - 1, min(SAMPLE, len(queries))).astype(np.int64)
    order, distances = [], []
    for row in rows:
        sq_dist = np.square(wide - queries[row].astype(np.float64)).sum(axis=1)
        if points is None:
            sq_dist[row] = -1
        nearest = np.argsort(sq_dist, kind="stable")[int(points is None) :]
        order.append(nearest)
        distances.append(np.sqrt(sq_dist[nearest]))
    return rows, np.array(distances), np.array(order)


def ours_search(queries: Features, points: Features, case: Case) -> tuple[Any, Any]:
    """The call that is timed."""
    if case.alone:
        distances, indices = fastsel.knn(points, points, case.k, exclude_self=True)
    else:
        distances, indices = fastsel.knn(queries, points, case.k)
    return distances, indices


def require_exact(found: tuple[Any, Any], truth: Truth, case: Case) -> None:
    """Our neighbours of the sample must be the reference's."""
    rows, expected, order = truth
    kept = rows < len(found[0])
    rows, expected, order = rows[kept], expected[kept, : case.k], order[kept, : case.k]
    distances, indices = found[0][rows], found[1][rows]
    # Equal distances may come in another order than in the reference, whose last bits differ.
    apart = (indices != order) & (distances != expected)
    if apart.any() or (np.abs(distances - expected) > OURS_TOLERANCE * expected).any():
        raise RuntimeError(f"fastsel's neighbours are wrong ({case.name}): not measured")


def examine(
    search: Search,
    queries: Features,
    points: Features,
    truth: Truth,
    case: Case,
) -> tuple[str | None, float]:
    """Why a peer is left out, or None; and its largest relative error on the sample."""
    rows, expected, order = truth
    kept = rows < len(queries)
    rows, expected, order = rows[kept], expected[kept, : case.k], order[kept, : case.k]
    # More rows than the sample: some searches are others for few queries.
    chosen = np.concatenate([rows, np.setdiff1d(np.arange(min(CHECKED, len(queries))), rows)])
    found = search(queries[chosen], case.k + case.alone)[: len(rows), int(case.alone) :]
    sq_norms = np.square(points.astype(np.float64)).sum(axis=1)
    scale = np.square(queries[rows].astype(np.float64)).sum(axis=1)[:, None] + sq_norms[order]
    off = float((np.abs(np.square(found.astype(np.float64)) - expected**2) / scale).max())
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(found == expected, 0, np.abs(found - expected) / expected)
    worst = float(min(error.max(), np.finfo(np.float64).max))
    wrong = f"wrong distances: squares are off by {off:.1g} of norms"
    return None if off <= TOLERANCE else wrong, worst


class Contender:
    """One who searches, with its own copy of a pool: what a process of its own runs."""

    def __init__(self, who: str) -> None:
        self._peer = None if who == ours.NAME else next(p for p in PEERS if p.name == who)
        self._path: Path | None = None

    def open(self, path: Path, n: int, case: Case) -> None:
        """Take a case on the first n rows of a pool in a .npy file."""
        if path != self._path:
            self._path, self._pool = path, np.load(path)
        self._case = case
        self._queries, self._points = sides(self._pool[:n], case)
        if self._peer is not None:
            self._search = self._peer.prepare(self._points)

    def check(self, truth: Truth) -> tuple[str | None, float]:
        """As `examine`; of ours only that it is exact."""
        if self._peer is None:
            found = ours_search(self._queries, self._points, self._case)
            require_exact(found, truth, self._case)
            return None, 0.0
        return examine(self._search, self._queries, self._points, truth, self._case)

    def affordable(self, cap: float) -> int:
        """How many queries are answered within the cap, by a trial: whole blocks, at least one."""
        if self._peer is None:
            return len(self._queries)
        block = min(self._peer.block, len(self._queries))
        blocks = max(1, int(cap / self.run(block)))
        return min(len(self._queries), blocks * block)

    def prepare(self) -> float:
        """Seconds of setting up."""
        if self._peer is None:
            return 0.0
        return timing.timed(partial(self._peer.prepare, self._points), settle=0)

    def run(self, count: int) -> float:
        """Seconds of a search for so many of the queries, evenly spaced; of ours for all."""
        if self._peer is None:
            return timing.timed(partial(ours_search, self._queries, self._points, self._case))
        chosen = thinned(self._queries, count)
        return timing.timed(partial(self._search, chosen, self._case.k + self._case.alone))
