"""Proof that a greedy selection is right without the plain loop over all pairs of its argmax."""

from __future__ import annotations

import numpy as np

from fastsel.canonical import sq_dists


def certify_greedy(x, picks, radii, checks=200, seed=0):
    """Raise AssertionError unless picks and radii are those of exact greedy selection.

    Each radius is recomputed from its prefix, radii do not rise, no unselected point is farther
    than the last radius, and at `checks` random picks the argmax over all points is recomputed.
    """
    x = np.asarray(x, np.float64)
    assert len(np.unique(picks)) == len(picks)
    assert radii[0] == np.inf
    assert (np.diff(radii) <= 0).all()
    rng = np.random.default_rng(seed)
    checked = set(rng.choice(np.arange(1, len(picks)), min(checks, len(picks) - 1), replace=False))
    nearest = np.full(len(x), np.inf)
    for step, pick in enumerate(picks):
        assert np.sqrt(nearest[pick]) == radii[step], f"radius of pick {step}"
        if step in checked:
            assert np.argmax(nearest) == pick, f"pick {step} is not the farthest point"
        np.minimum(nearest, sq_dists(x, x[pick]), out=nearest)
        nearest[pick] = -1.0
    assert np.sqrt(max(nearest.max(), 0.0)) <= radii[-1], "an unselected point is farther"
