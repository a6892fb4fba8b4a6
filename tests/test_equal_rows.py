from __future__ import annotations

import numpy as np
import pytest
from cases import LARGE_CASES

import fastsel
from fastsel import equal_rows
from fastsel.points import as_points


def plain(x):
    """By NumPy's sort of whole rows."""
    _, first, inverse = np.unique(x, axis=0, return_index=True, return_inverse=True)
    return first[inverse.ravel()]


@pytest.mark.parametrize("case", ["normal", "duplicates", "one-ulp", "lattice", "binary"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_first_equal(case, dtype):
    x = LARGE_CASES[case][:1500].astype(dtype)
    np.testing.assert_array_equal(equal_rows.first_equal(as_points("x", x)), plain(x))
    rows = np.random.default_rng(0).permutation(len(x))[:700]
    np.testing.assert_array_equal(equal_rows.first_equal(as_points("x", x), rows), plain(x[rows]))


@pytest.mark.parametrize("case", ["lattice", "binary"])
def test_shared_hashes_and_small_blocks_change_nothing(case, monkeypatch):
    x = LARGE_CASES[case][:600]
    monkeypatch.setattr(equal_rows, "BLOCK_ELEMENTS", 100)
    np.testing.assert_array_equal(equal_rows.first_equal(as_points("x", x)), plain(x))
    # Only the last words count, so that many rows share a hash.
    monkeypatch.setattr(equal_rows, "_factors", lambda width: np.eye(width, dtype=np.uint64)[-1])
    np.testing.assert_array_equal(equal_rows.first_equal(as_points("x", x)), plain(x))


def test_signed_zeros_and_bfloat16():
    x = np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, -1.0]], np.float32)
    assert equal_rows.first_equal(as_points("x", x)).tolist() == [0, 0, 2]
    ml_dtypes = pytest.importorskip("ml_dtypes")
    points = as_points("x", x.astype(ml_dtypes.bfloat16))
    assert equal_rows.first_equal(points).tolist() == [0, 0, 2]
    assert points.data[1, 0] == 0x8000  # the caller's rows are as they were


@pytest.mark.parametrize("case", ["duplicates", "lattice", "collapsed"])
def test_radius_0_alone_is_as_among_others(case):
    x = LARGE_CASES[case][:1500]
    alone = fastsel.duplicate_groups(x, 0)
    np.testing.assert_array_equal(alone, plain(x))
    np.testing.assert_array_equal(alone, fastsel.duplicate_groups(x, [0, 1e-3])[0])
    np.testing.assert_array_equal(
        fastsel.duplicate_groups(x, [0, 0], metric="sqeuclidean")[1], alone
    )


def test_rows_whose_distance_underflows_are_one_group():
    # They differ, but their distance is 0.
    x = np.array([[0.0, 1.0], [1e-200, 1.0], [1.0, 1.0]])
    assert fastsel.duplicate_groups(x, 0).tolist() == [0, 0, 2]
    assert fastsel.duplicate_groups(x, [0, 0.1])[0].tolist() == [0, 0, 2]
