"""Threshold decay selection on lazy keys, written once over a backend's primitives.

The plain algorithm compares every candidate with all accepted points, in every sweep. Here a
candidate keeps, from sweep to sweep, its key (fastsel/schedule.py): its squared distance to the
points it has seen, an upper bound of that to all. A key at or under the threshold rejects it with
no work, and where all keys are, the sweep is skipped. The rest is taken in blocks: refreshed with
what they have not seen, each until it falls to the threshold, and those left are compared with each
other and accepted in their order. Sweeps that have few candidates are made several at a time.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np
import numpy.typing as npt

from fastsel.points import Points
from fastsel.progress import Progress
from fastsel.schedule import Selection
from fastsel.sketch import Trial

# Candidates refreshed at a time: many, for the speed of the product, but hardly more than are asked
# for, since a selection ends within a sweep.
MIN_REFRESHED = 512
MAX_REFRESHED = 8192

# Sweeps that are made together where each has few candidates, and the least number of these.
MAX_SWEEPS = 256
MIN_TOGETHER = 32


@dataclass
class Record:
    """What a selection did, so that its speed can be explained."""

    sweeps: int = 0  # of the plain algorithm, to the last acceptance
    accepting: int = 0  # those that accepted something
    rounds: int = 0
    refreshed: int = 0  # rows brought up to date, over all rounds
    compared: int = 0  # rows compared with each other, over all rounds
    refresh_pairs: int = 0  # pairs that the filter looked at in refreshes
    passed_pairs: int = 0  # those of them that passed the sketch, where there is one
    accept_pairs: int = 0  # pairs that the filter looked at among compared rows
    canonical_pairs: int = 0  # those whose canonical distance was computed
    scan_seconds: float = 0.0
    refresh_seconds: float = 0.0
    accept_seconds: float = 0.0

    # What sketches would cost by a sample of the data, as fastsel.sketch.Trial; the least is taken.
    trials: list[Trial] = field(default_factory=list)


class ThresholdDecay(Selection):
    """The Threshold Decay Filter: sweeps in order, under a threshold that decays between them."""

    def __init__(
        self,
        backend: ModuleType,
        points: Points,
        capacity: int,
        metric: str,
        memory_limit: int | None = None,
    ) -> None:
        super().__init__(backend, points, capacity, memory_limit)
        self.record = Record(trials=self._pool.trials)
        self._metric = metric
        self._sweeps: list[tuple[float, int, int]] = []  # threshold, number, picks

    def farthest(self) -> float:
        """The largest distance of a point to the selected set."""
        while self.state.largest() > 0 and self.state.leader_saw() < self.count:
            self._refresh(*self.state.leaders(MAX_REFRESHED))
        return self._bound()

    def _bound(self) -> float:
        """A distance to the selected set that no point exceeds; 0 where it is."""
        return distance(self.state.largest(), self._metric)

    def run(self, threshold: float, decay: float, decay_when: str, progress: Progress) -> None:
        """Sweep until the capacity is reached, or until no threshold accepts any point."""
        self._sweeps = [(math.inf, 0, self.count)]
        number = 1
        while self.count < self.capacity:
            bound = self._bound()
            # The plain algorithm, by either rule, accepts nothing in such a sweep.
            while threshold >= bound:
                lower = threshold * decay
                if bound == 0 or lower == threshold:
                    return
                threshold = lower
                number += 1
            thresholds = self._next_thresholds(threshold, decay)
            for passed, picks in zip(thresholds, self._sweep(thresholds, progress), strict=True):
                if picks:
                    self._sweeps.append((passed, number, int(picks)))
                    self.record.sweeps = number
                    self.record.accepting += 1
                # No point is left above the threshold: another sweep at it accepts nothing.
                number += 2 if picks and decay_when == "stalled" else 1
            threshold = thresholds[-1] * decay

    def _next_thresholds(self, threshold: float, decay: float) -> list[float]:
        """Those of this sweep and of the next ones, as long as few points concern them all."""
        thresholds = [threshold]
        size = min(MAX_REFRESHED, max(MIN_TOGETHER, 2 * self.count))
        if self.state.count_above(largest_key(threshold, self._metric)) < size:
            rows, rival = self.state.leaders(size)
            self._refresh(rows, rival)
            # Above the cut are points of these rows only, and at most max_active of them.
            cut = max(0.0, float(rival[0]))
            if len(rows) > self.max_active:
                cut = max(cut, self.state.largest_but(rows, self.max_active))
            nearest = distance(cut, self._metric)
            while len(thresholds) < MAX_SWEEPS and nearest <= (lower := thresholds[-1] * decay):
                thresholds.append(lower)
        return thresholds

    def _sweep(self, thresholds: list[float], progress: Progress) -> npt.NDArray[np.int64]:
        """Accept points in a sweep for each threshold; returns how many each accepted."""
        begin = time.perf_counter()
        limits = np.array([largest_key(threshold, self._metric) for threshold in thresholds])
        picks = np.zeros(len(limits), np.int64)
        # Keys only fall: what is not above the last limit now will not be in these sweeps.
        rows = self.state.above(limits[-1])
        self.record.scan_seconds += time.perf_counter() - begin
        while len(rows) and self.count < self.capacity:
            size = min(MAX_REFRESHED, max(MIN_REFRESHED, 2 * (self.capacity - self.count)))
            # Several sweeps need all their candidates at once: _next_thresholds lets few in.
            block = rows[:size] if len(limits) == 1 else rows
            self._refresh(block, (limits[-1], -1))  # a rival that larger keys beat, and no others
            fresh = self.state.above(limits[-1], block)
            picks += self._accept(fresh[: self.max_active], limits)
            rows = self.state.join(fresh[self.max_active :], rows[len(block) :])
            progress.update(self.count)
        return picks

    def _refresh(self, rows: npt.NDArray[np.int64], rival: tuple[float, int]) -> None:
        """Bring rows up to date, each as long as it beats the rival."""
        begin = time.perf_counter()
        state = self.state
        rows = state.stale(rows, self.count)
        filtered, passed, evaluated = self._pool.refresh(rows, state.keys, state.seen, rival)
        self._pool.settle()
        self.record.rounds += 1
        self.record.refreshed += len(rows)
        self.record.refresh_pairs += int(filtered)
        self.record.passed_pairs += passed
        self.record.canonical_pairs += evaluated
        self.record.refresh_seconds += time.perf_counter() - begin

    def _accept(
        self, rows: npt.NDArray[np.int64], limits: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.int64]:
        """Select from up-to-date rows; returns how many at each limit."""
        begin = time.perf_counter()
        state = self.state
        free = slice(self.count, self.count + len(rows))
        sweeps = np.empty(len(state.picks[free]), np.int64)
        accepted, filtered, evaluated = self._pool.accept(
            rows, state.keys, limits, state.picks[free], sweeps, state.sq_radii[free]
        )
        self._commit(accepted)
        self.record.compared += len(rows)
        self.record.accept_pairs += filtered
        self.record.canonical_pairs += evaluated
        self.record.accept_seconds += time.perf_counter() - begin
        return np.bincount(sweeps[:accepted], minlength=len(limits))

    def thresholds(self) -> npt.NDArray[np.float64]:
        """The threshold at which each pick was accepted, float64 [M]; inf before the sweeps."""
        return np.repeat([sweep[0] for sweep in self._sweeps], [sweep[2] for sweep in self._sweeps])

    def sweeps(self) -> npt.NDArray[np.int64]:
        """The sweep in which each pick was accepted, int64 [M], from 1; 0 before the sweeps."""
        return np.repeat([sweep[1] for sweep in self._sweeps], [sweep[2] for sweep in self._sweeps])


def distance(key: float, metric: str) -> float:
    """A key in the units of the metric, as radii are reported; 0 for a selected point's."""
    radius = math.sqrt(max(0.0, key))
    return radius * radius / 2 if metric == "cosine" else radius


def largest_key(threshold: float, metric: str) -> float:
    """The largest squared distance that the threshold rejects: `distance` rounds, this does not."""
    key = 2 * threshold if metric == "cosine" else threshold * threshold
    while distance(key, metric) > threshold:
        key = math.nextafter(key, 0.0)
    while distance(above := math.nextafter(key, math.inf), metric) <= threshold:
        key = above
    return key
