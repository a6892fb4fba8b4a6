"""Distances where subtracting norms would lose them: the data of the accuracy table."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

import fastsel
from bench import accuracy

N, DIM = 160, 40
K = 10


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", accuracy.data(N, DIM))
def test_distances_are_the_reference_to_the_last_bit(name, dtype, backend):
    x = accuracy.data(N, DIM)[name].astype(dtype)
    expected, index = oracle.knn(x, x, K, exclude_self=True)
    distances, indices = fastsel.knn(x, x, K, exclude_self=True, backend=backend)
    np.testing.assert_array_equal(indices, index)
    np.testing.assert_array_equal(distances, np.sqrt(expected))
    np.testing.assert_array_equal(fastsel.nearest_distances(x, backend=backend), distances[:, 0])


@pytest.mark.parametrize("name", accuracy.data(N, DIM))
def test_distances_are_those_of_extended_precision_but_for_the_last_bits(name):
    x = accuracy.data(N, DIM)[name]
    truth = accuracy.reference(x)
    found = accuracy.kth_distances(None, x)
    # A sum of 40 squares in 8 lanes: 5 additions each, then 3, a product, a root.
    assert accuracy.worst(found[:, 0], truth[:, 0]) < 10 * 2.0**-53
    assert accuracy.worst(found[:, 1], truth[:, 1]) < 10 * 2.0**-53


def test_the_table_tells_a_wrong_distance():
    x = accuracy.data(N, DIM)["exact duplicates"]
    truth = accuracy.reference(x)[:, 0]
    assert not truth.any()
    found = np.zeros(N)
    assert accuracy.worst(found, truth) == 0
    found[3] = 1e-9
    assert accuracy.worst(found, truth) == np.inf
    assert accuracy.worst(np.array([1.5]), np.array([1], np.longdouble)) == 0.5
