"""Feature matrices that break selection code: shapes, ties, duplicates, scales, translations."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


def _normal(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def _duplicates(n, d):
    x = _normal(n, d, 1)
    x[n // 2 :] = x[: n - n // 2]
    return x


def _one_ulp(n, d):
    x = _duplicates(n, d).astype(np.float32)
    x[n // 2 :, 0] = np.nextafter(x[n // 2 :, 0], np.float32(np.inf))
    return x


def _lattice(n, d):
    side = 2 if d > 4 else 5
    return np.random.default_rng(2).integers(0, side, size=(n, d)).astype(float)


def _scales(n, d):
    return _normal(n, d, 3) * np.logspace(-4, 4, n)[:, None]


def _collapsed(n, d):
    rng = np.random.default_rng(4)
    return rng.normal(size=(5, d))[rng.integers(0, 5, n)] + 1e-5 * rng.normal(size=(n, d))


SIZES = (1, 2, 63, 64, 65)

CASES = {
    **{f"normal-{n}x{d}": _normal(n, d) for n in SIZES for d in (1, 7, 8, 33)},
    "normal-1000x20": _normal(1000, 20),
    "normal-63x320": _normal(63, 320),
    "all-equal": np.full((65, 9), 0.1),
    "zeros": np.zeros((10, 3)),
    "duplicates": _duplicates(65, 17),
    "one-ulp": _one_ulp(64, 17),
    "lattice-3d": _lattice(200, 3),
    "lattice-16d": _lattice(150, 16),
    "scales": _scales(100, 11),
    "translated": _normal(100, 24) + 1e6,
    "collapsed": _collapsed(120, 40),
    "signed-zeros": np.where(_normal(40, 5) > 0, 0.0, -0.0),
}

# Large enough for many rounds, groups and blocks of every kernel.
LARGE_CASES = {
    "normal": _normal(5000, 33),
    "low-dimensional": _normal(5000, 2),
    "duplicates": _duplicates(5000, 9),
    "one-ulp": _one_ulp(5000, 17),
    "lattice": np.random.default_rng(5).integers(0, 12, size=(5000, 3)).astype(float),
    "binary": np.random.default_rng(6).integers(0, 2, size=(5000, 24)).astype(float),
    "scales": _scales(5000, 11),
    "translated": _normal(5000, 24) + 1e6,
    "collapsed": _collapsed(5000, 40),
}


def case_params(min_n=1, max_n=10**9):
    return [name for name, x in CASES.items() if min_n <= len(x) <= max_n]


# Rows of any values, small matrices of them.
ADVERSARIAL_ROWS = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
)
