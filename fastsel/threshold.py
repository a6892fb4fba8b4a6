"""Threshold decay selection, over a backend's primitives.

Keys are canonical squared distances to the selected set; a selected point's key is -1, under every
distance, so that it is never chosen again. argmax takes the lowest index among equal keys.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt

from fastsel.points import Points
from fastsel.progress import Progress

SELECTED = -1.0


class Selection:
    """Points selected so far and every point's squared distance to them."""

    def __init__(self, backend: ModuleType, points: Points, capacity: int) -> None:
        self.backend = backend
        self.points = points
        self.capacity = capacity
        self.picks: list[int] = []
        self.sq_radii: list[float] = []
        self.keys = np.full(points.n, np.inf)

    def is_full(self) -> bool:
        """Whether as many points are selected as were asked for."""
        return len(self.picks) == self.capacity

    def apply_anchors(self, anchors: Points) -> None:
        """Count vectors from outside the pool as selected, without picking any."""
        for centre in range(anchors.n):
            self.backend.min_update(self.points, anchors, centre, self.keys)

    def add(self, index: int) -> None:
        """Select the point of that index."""
        self.picks.append(index)
        self.sq_radii.append(float(self.keys[index]))
        if not self.is_full():
            self.backend.min_update(self.points, self.points, index, self.keys)
        # A later centre at distance 0 must not lift the mark: minimum(-1, 0) keeps it.
        self.keys[index] = SELECTED

    def result(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The picks, int64 [M], and each one's distance to those before it, float64 [M]."""
        return np.array(self.picks, np.int64), np.sqrt(np.array(self.sq_radii))


def threshold_decay(
    selection: Selection, threshold: float, decay: float, progress: Progress
) -> None:
    """Sweep the pool in order, accepting every point farther than a threshold that decays.

    A sweep leaves no point above its threshold, so the next one at the same threshold accepts
    nothing: to let the threshold fall after every sweep, or only after one that accepted nothing,
    comes to the same picks. Sweeps that can accept nothing are skipped.

    Raises ValueError when only duplicates of selected points are left.
    """
    while not selection.is_full():
        farthest = float(np.sqrt(max(0.0, selection.keys.max())))
        if farthest == 0.0:
            raise ValueError(
                f"n_samples={selection.capacity} can not be reached: after "
                f"{len(selection.picks)} picks every other point equals a selected one, "
                "and no threshold accepts a distance of 0"
            )
        while threshold >= farthest:
            threshold *= decay
        _sweep(selection, threshold, progress)


def _sweep(selection: Selection, threshold: float, progress: Progress) -> None:
    cursor = 0
    while not selection.is_full():
        # Keys only fall, so a point passed over stays under the threshold for this sweep.
        ahead = np.sqrt(np.maximum(selection.keys[cursor:], 0.0)) > threshold
        step = int(np.argmax(ahead))
        if not ahead[step]:
            return
        selection.add(cursor + step)
        progress.update(len(selection.picks))
        cursor += step + 1
        if cursor == selection.points.n:
            return
