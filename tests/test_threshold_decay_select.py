from __future__ import annotations

import numpy as np
import oracle
import pytest
from cases import CASES, case_params

import fastsel


def _distinct(x):
    return len(np.unique(np.asarray(x, np.float64) + 0.0, axis=0))


@pytest.mark.parametrize("decay_when", ["stalled", "sweep"])
@pytest.mark.parametrize("case", case_params(max_n=200))
def test_equals_the_oracle(case, decay_when, backend):
    x = CASES[case]
    m = min(_distinct(x), (len(x) + 1) // 2)
    scale = float(np.sqrt(oracle.sq_dists(x[:1], x).max())) or 1.0
    for threshold in (0.9 * scale, 0.05 * scale, 3 * scale):
        picks, radii = fastsel.threshold_decay_select(
            x,
            m,
            threshold=threshold,
            decay=0.7,
            decay_when=decay_when,
            return_distances=True,
            backend=backend,
        )
        expected_picks, expected_radii = oracle.threshold_decay(x, m, threshold, 0.7, decay_when)
        np.testing.assert_array_equal(picks, expected_picks)
        np.testing.assert_array_equal(radii, expected_radii)


def test_cosine_threshold_is_in_units_of_the_metric(backend):
    x = CASES["normal-65x8"]
    picks, radii = fastsel.threshold_decay_select(
        x, 20, threshold=0.5, metric="cosine", return_distances=True, backend=backend
    )
    expected, expected_radii = oracle.threshold_decay(oracle.unit_rows(x), 20, 1.0, 0.95, "stalled")
    np.testing.assert_array_equal(picks, expected)
    np.testing.assert_array_equal(radii, expected_radii**2 / 2)


def test_only_duplicates_left_is_an_error(backend):
    x = np.repeat(CASES["normal-2x8"], 3, axis=0)
    assert len(fastsel.threshold_decay_select(x, 2, threshold=1.0, backend=backend)) == 2
    with pytest.raises(ValueError, match=r"n_samples=3 can not be reached: after 2 picks"):
        fastsel.threshold_decay_select(x, 3, threshold=1.0, backend=backend)


def test_start_and_random_state():
    x = CASES["normal-65x8"]
    picks = fastsel.threshold_decay_select(x, 20, threshold=2.0, start=9)
    expected, _ = oracle.threshold_decay(x, 20, 2.0, 0.95, "stalled", start=9)
    np.testing.assert_array_equal(picks, expected)
    start = int(np.random.default_rng(5).integers(len(x)))
    assert fastsel.threshold_decay_select(x, 20, threshold=2.0, random_state=5)[0] == start
