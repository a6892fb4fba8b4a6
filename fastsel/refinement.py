"""Refinement of a selection by exchanges that raise its entropy.

The objective is that of fastsel/greedy_entropy.py, F = sum over the members of log eps, eps a
member's distance to the nearest other. An exchange puts a candidate x in the place of a member z:

    F' - F = removal(z) + log eps(x without z) + corrections,

removal(z) = -log eps(z) + sum of log eps2(y) - log eps(y) over the members y whose nearest is z,
eps2 their distance to the second nearest. Corrections concern only the members nearer to x than
their second nearest: the distance to x bounds what they have. So one row of distances, from x to
the members, gives the best member to drop for x.

Logarithms are whole numbers (fastsel/canonical.py): an exchange is made if and only if it raises F.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsel import canonical, checks
from fastsel.backends import resolve
from fastsel.neighbors import search
from fastsel.points import Points, result_converter, to_host
from fastsel.progress import Progress, ProgressOption

METRICS = ("euclidean", "cosine")

# The logarithm of an infinite distance, above that of any other: of two members, each has no second
# nearest. Far from the limits of int64.
LOG_OF_INF = 4096 * canonical.LOG_UNITS


@dataclass
class Record:
    """What a refinement did."""

    passes: int = 0  # over the candidates; the last one may be cut short by the budget
    swaps: int = 0
    evaluated: int = 0  # candidates whose distances to all members were computed
    skipped: int = 0  # candidates that a bound showed to be of no use


def refine(
    features: Any,
    indices: Any,
    *,
    max_swaps: int | None = None,
    max_seconds: float | None = None,
    metric: str = "euclidean",
    return_gain: bool = False,
    backend: str = "auto",
    progress: ProgressOption = False,
    record: dict[str, Any] | None = None,
) -> Any:
    """Raise the entropy of a selection by exchanging members for points outside.

    Passes over the points outside, farthest from the members first. Each takes the place of the
    member that raises the Kozachenko-Leonenko sum of the selection the most, if any does. Ends
    after a pass without an exchange, when no single one can raise the sum any more, or when the
    budget is spent. Every exchange raises the sum, decided in exact arithmetic, so that the result
    does not depend on backend or threads, unless `max_seconds` cuts it short.

    Parameters
    ----------
    features : array [N, D]
        float16, bfloat16, float32 or float64; NumPy, torch or DLPack. Never changed.
    indices : int array [M], M >= 2
        Distinct rows: the selection to start from, as `greedy_select` returns it.
    max_swaps : int, optional
        Exchanges to make at most.
    max_seconds : float, optional
        Begin no further candidate after this time.
    metric : {"euclidean", "cosine"}
    return_gain : bool
        Return by how much the entropy rose, too.
    backend : str
        "auto" or a name in `fastsel.backends()`.
    progress : bool or callable
        True shows progress through a pass on standard error; a callable gets (done, total).
    record : dict, optional
        Filled with what was done, as `fastsel.refinement.Record` describes it.

    Returns
    -------
    indices : int64 [M]
        The refined selection, in the library and on the device of `features`. A new member stands
        in the place of the one that it replaced.
    gain : float, only with `return_gain`
        Rise of `fastsel.kl_entropy` with k = 1, in nats; inf where it resolved duplicates, nan
        where some are left. With the cosine metric, that of the rows divided by their norms.

    Raises
    ------
    ValueError, TypeError
        An argument is not as described; the message names it.
    RuntimeError
        The named backend can not run here.

    Notes
    -----
    A candidate costs M canonical distances, O(M D), and a pass visits at most N - M of them; the
    first few passes make most of the exchanges. Memory: a copy of the members, and 100 bytes for
    each point. For features on a GPU all distances are computed there; the exchanges, a chain of
    small decisions, are chosen in host memory from one row of distances each.

    Examples
    --------
    >>> import numpy as np, fastsel
    >>> x = np.array([[0.0], [1.0], [2.0], [10.0]])
    >>> fastsel.refine(x, [0, 1])
    array([0, 3])
    """
    checks.choice("metric", metric, METRICS)
    points = checks.points("features", features, metric)
    members = checks.indices("indices", indices, points.n)
    if len(members) < 2:
        raise ValueError(f"indices must hold at least 2 rows, got {len(members)}")
    if max_swaps is not None:
        checks.integer("max_swaps", max_swaps, 0, 2**63 - 1)
    if max_seconds is not None and checks.real("max_seconds", max_seconds) < 0:
        raise ValueError(f"max_seconds must not be negative, got {max_seconds!r}")
    if record is not None and not isinstance(record, dict):
        raise TypeError(f"record must be a dict, got {type(record).__name__}")
    module = resolve(backend, points)

    refinement = Refinement(module, points, members)
    before, degenerate = refinement.total(), refinement.has_duplicates()
    refinement.run(max_swaps, max_seconds, progress)
    if record is not None:
        record.update(asdict(refinement.record))
    picks = result_converter(features)(refinement.members)
    if not return_gain:
        return picks
    # Binary logarithms of squared distances, in units, to nats of the estimate.
    rise = (refinement.total() - before) / canonical.LOG_UNITS * np.log(2.0) / 2
    gain = float(rise * points.dim / len(members))
    if refinement.has_duplicates():
        gain = np.nan
    elif degenerate:
        gain = np.inf
    return picks, gain


class Refinement:
    """A selection whose members know their two nearest others."""

    def __init__(self, backend: ModuleType, points: Points, members: npt.NDArray[np.int64]) -> None:
        self.members = members.copy()
        self.record = Record()
        self._backend = backend
        self._points = backend.adopt(points)
        self._rows = self._points.part(members)
        m = len(members)
        self._nearest = np.full((m, 2), -1)  # positions among the members
        self._sq_eps = np.full((m, 2), np.inf)
        k = min(2, m - 1)
        self._sq_eps[:, :k], self._nearest[:, :k] = self._nearest_members(self._rows, k, True)
        self._update_removals()

    def _nearest_members(
        self, points: Points, k: int, exclude_self: bool
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Squared distances and positions of the k members nearest to each of some points."""
        found = search(points, self._rows, k, exclude_self, self._backend.NAME, False)
        return to_host(found[0]), to_host(found[1])

    def _sq_dists(self, points: Points, row: int) -> npt.NDArray[np.float64]:
        """Squared distances of all members to a row of some points."""
        sq_dist = self._rows.empty((len(self.members),), "float64")
        sq_dist[:] = np.inf
        self._backend.min_update(self._rows, points, row, sq_dist)
        return np.asarray(to_host(sq_dist))

    def total(self) -> int:
        """The objective, in units of fastsel.canonical."""
        return sum(_logs(self._sq_eps[:, 0]).tolist())

    def has_duplicates(self) -> bool:
        """Whether members are equal, so that the entropy is minus infinity."""
        return bool((self._sq_eps[:, 0] == 0).any())

    def run(
        self, max_swaps: int | None, max_seconds: float | None, progress: ProgressOption
    ) -> None:
        """Exchange until a pass changes nothing or the budget is spent."""
        deadline = np.inf if max_seconds is None else time.monotonic() + max_seconds
        room = np.inf if max_swaps is None else max_swaps
        changed = True
        while changed and self.record.swaps < room and time.monotonic() < deadline:
            changed = self._pass(room, deadline, progress)

    def _pass(self, room: float, deadline: float, progress: ProgressOption) -> bool:
        """Visit every candidate; whether any came in."""
        outside = np.setdiff1d(np.arange(self._points.n), self.members)
        self.record.passes += 1
        if not len(outside):
            return False
        candidates = self._points.part(outside)
        sq_dist, _ = self._nearest_members(candidates, 2, False)
        bounds = _logs(sq_dist[:, 1])
        # Farthest first, the lowest index first among equals. Duplicates can not help.
        order = np.argsort(-bounds, kind="stable")
        order = order[sq_dist[order, 0] > 0]
        report = Progress(progress, f"refinement, pass {self.record.passes}", len(order))
        swaps = self.record.swaps
        for visited, candidate in enumerate(order):
            if self.record.swaps >= room or time.monotonic() >= deadline:
                break
            # A distance to the members can rise by an exchange, so that a bound from before one may
            # be too low: it costs this pass a chance, and the next pass has bounds of its own.
            if bounds[candidate] + self._best_removal <= 0:
                self.record.skipped += 1
            else:
                self._consider(int(outside[candidate]))
            report.update(visited + 1)
        report.update(len(order))
        return self.record.swaps > swaps

    def _consider(self, candidate: int) -> None:
        """Let the candidate take the place of a member, if that raises the objective."""
        self.record.evaluated += 1
        position, gain = self._best_exchange(self._sq_dists(self._points, candidate))
        if gain > 0:
            self._exchange(position, candidate)
            self.record.swaps += 1

    def _best_exchange(self, sq_dist: npt.NDArray[np.float64]) -> tuple[int, int]:
        """The member to drop for a candidate at these distances, and the rise of the objective."""
        first = int(np.argmin(sq_dist))
        others = np.delete(sq_dist, first)
        own, own_without_first = _logs(np.array([sq_dist[first], others.min()]))
        if sq_dist[first] == 0:
            return first, 0
        near = np.flatnonzero(sq_dist < self._sq_eps[:, 1])
        to_candidate = _logs(sq_dist[near])
        eps, eps2 = self._logs[near, 0], self._logs[near, 1]
        with_it, with_it2 = np.minimum(eps, to_candidate), np.minimum(eps2, to_candidate)
        gains = self._removals.copy()
        # The member that is dropped no longer pays for the candidate's coming.
        gains[near] += eps - with_it
        np.add.at(gains, self._nearest[near, 0], (with_it2 - with_it) - (eps2 - eps))
        gains += own + (with_it - eps).sum()
        gains[first] += own_without_first - own
        best = int(np.argmax(gains))
        return best, int(gains[best])

    def _exchange(self, position: int, candidate: int) -> None:
        self.members[position] = candidate
        self._rows.data[position] = self._points.data[candidate]
        if self._rows.norms is not None and self._points.norms is not None:
            self._rows.norms[position] = self._points.norms[candidate]
        # Members that lose one of their two nearest, and the new one, look at all others again.
        lost = np.flatnonzero((self._nearest == position).any(axis=1))
        stale = np.union1d(lost, [position])
        sq_dist = self._sq_dists(self._rows, position)
        for member in np.setdiff1d(np.flatnonzero(sq_dist < self._sq_eps[:, 1]), stale):
            here = 0 if sq_dist[member] < self._sq_eps[member, 0] else 1
            self._sq_eps[member, here:] = [sq_dist[member], *self._sq_eps[member, here:-1]]
            self._nearest[member, here:] = [position, *self._nearest[member, here:-1]]
        for member in stale:
            sq_dist = self._sq_dists(self._rows, int(member))
            sq_dist[member] = np.inf
            two = np.argsort(sq_dist, kind="stable")[:2]
            self._sq_eps[member], self._nearest[member] = sq_dist[two], two
        self._update_removals()

    def _update_removals(self) -> None:
        """What the objective gains when a member goes and none comes, for every member."""
        self._logs = _logs(self._sq_eps)
        self._removals = -self._logs[:, 0]
        np.add.at(self._removals, self._nearest[:, 0], self._logs[:, 1] - self._logs[:, 0])
        self._best_removal = int(self._removals.max())


def _logs(sq_dist: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Logarithms of squared distances that may be infinite."""
    finite = np.isfinite(sq_dist)
    return np.where(finite, canonical.log_sq_dists(np.where(finite, sq_dist, 1.0)), LOG_OF_INF)
