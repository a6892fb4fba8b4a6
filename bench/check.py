"""Are the picks right? Asked before anything is timed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.data import Features
from bench.loops import Picks
from fastsel.backends import resolve
from fastsel.points import as_points

# A float32 loop may take a point that is nearer than the farthest by this share of the distance:
# its rounding grows with the norms, not with the distances. Each one's worst is in the report.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Verdict:
    """How a list of picks compares with exact greedy selection.

    same: how many of the first picks are those of fastsel. shortfall: the largest share by which a
    pick is nearer to those before it than the farthest point is, in canonical distances.
    """

    checked: int
    same: int
    shortfall: float

    @property
    def good(self) -> bool:
        """Whether the picks are exact but for float32 rounding."""
        return self.shortfall <= TOLERANCE


def verify(features: Features, picks: Picks, ours: Picks) -> Verdict:
    """Compare a contender's first picks with ours and with the definition of greedy selection."""
    expected = ours[: len(picks)]
    same = len(picks) if np.array_equal(picks, expected) else int(np.argmax(picks != expected))
    return Verdict(len(picks), same, shortfall(features, picks))


def shortfall(features: Features, picks: Picks) -> float:
    """0 where every pick is a farthest point; inf where one comes twice."""
    if len(np.unique(picks)) < len(picks):
        return float("inf")
    backend = resolve("auto")
    points = as_points("features", features)
    keys = np.full(points.n, np.inf)
    worst = 0.0
    for step, pick in enumerate(picks):
        if step:
            worst = max(worst, 1 - float(np.sqrt(keys[pick] / keys.max())))
        backend.min_update(points, points, int(pick), keys)
    return worst
