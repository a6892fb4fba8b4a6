"""Proof that a selection is right, on pools too large for the oracle."""

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


def certify_threshold_decay(x, picks, radii, thresholds, sweeps, decay, decay_when):
    """Raise AssertionError unless these are of threshold decay from the automatic threshold.

    Every sweep is made again: up to each pick, and to the end of the sweep, nothing else is farther
    than the threshold.
    """
    x = np.asarray(x, np.float64)
    nearest = sq_dists(x, x[picks[0]])
    nearest[picks[0]] = 0.0
    threshold, sweep, step = np.sqrt(nearest.max()), 0, 1
    while step < len(picks):
        sweep += 1
        cursor, before = 0, step
        while step < len(picks) and (np.sqrt(nearest[cursor:]) > threshold).any():
            pick = cursor + int(np.argmax(np.sqrt(nearest[cursor:]) > threshold))
            assert picks[step] == pick, f"pick {step} is not the next one beyond the threshold"
            assert radii[step] == np.sqrt(nearest[pick]), f"radius of pick {step}"
            assert thresholds[step] == threshold, f"threshold of pick {step}"
            assert sweeps[step] == sweep, f"sweep of pick {step}"
            np.minimum(nearest, sq_dists(x, x[pick]), out=nearest)
            cursor, step = pick + 1, step + 1
        if decay_when == "sweep" or step == before:
            threshold *= decay
