from __future__ import annotations

import numpy as np
import oracle
import pytest
from cases import CASES, LARGE_CASES, case_params

import fastsel
from fastsel import duplicates, pairs


def plain_groups(x, radius, metric="euclidean"):
    """Components by SciPy, from the whole matrix of canonical distances."""
    graph = pytest.importorskip("scipy.sparse.csgraph", reason="scipy is not installed")
    dist = (
        oracle.sq_dists(x, x) if metric != "cosine" else oracle.sq_dists(*[oracle.unit_rows(x)] * 2)
    )
    dist = {"euclidean": np.sqrt(dist), "sqeuclidean": dist, "cosine": dist / 2}[metric]
    component = graph.connected_components(dist <= radius, directed=False)[1]
    return np.unique(component, return_index=True)[1][component]


def radii_of(x):
    """Radii at which few, some and all rows are linked; distances themselves among them."""
    dist = np.sqrt(oracle.sq_dists(x, x)[np.triu_indices(len(x), 1)])
    return [0.0, *np.quantile(dist, [0.01, 0.1], method="nearest"), dist.max()]


@pytest.mark.parametrize("case", case_params(min_n=2, max_n=200))
def test_groups_equal_the_oracle(case, backend):
    x = CASES[case]
    radii = radii_of(x)
    groups = fastsel.duplicate_groups(x, radii[::-1], backend=backend)
    for row, radius in zip(groups, radii[::-1], strict=True):
        np.testing.assert_array_equal(row, plain_groups(x, radius))
    np.testing.assert_array_equal(groups[1], fastsel.duplicate_groups(x, radii[-2]))


@pytest.mark.parametrize("metric", ["sqeuclidean", "cosine"])
def test_other_metrics(metric):
    x = CASES["normal-65x8"]
    for radius in (0.1, 0.3, 4.0):
        np.testing.assert_array_equal(
            fastsel.duplicate_groups(x, radius, metric=metric), plain_groups(x, radius, metric)
        )


@pytest.mark.parametrize("case", ["duplicates", "one-ulp", "lattice", "collapsed", "normal"])
def test_tiles_and_batches_do_not_change_groups(case, monkeypatch):
    x = LARGE_CASES[case][:2500].astype(np.float32)
    radii = [0, 1e-6, 1e-4, 1, 4]
    expected = fastsel.duplicate_groups(x, radii)
    monkeypatch.setattr(pairs, "TILE_ROWS", 301)
    monkeypatch.setattr(pairs, "TILE_PAIRS", 301 * 97)
    monkeypatch.setattr(duplicates, "BATCH", 50)
    np.testing.assert_array_equal(fastsel.duplicate_groups(x, radii), expected)
    for groups, radius in zip(expected[::2], radii[::2], strict=True):
        np.testing.assert_array_equal(groups, plain_groups(x, radius))


def test_a_chain_is_one_group_and_shuffling_renames_it():
    x = np.random.default_rng(0).permutation(np.arange(3000.0))[:, None]
    assert (fastsel.duplicate_groups(x, 1) == 0).all()
    assert (fastsel.duplicate_groups(x, 0.5) == np.arange(3000)).all()


def test_a_single_row_and_tensors():
    assert fastsel.duplicate_groups(np.ones((1, 2)), [0, 9]).tolist() == [[0], [0]]
    torch = pytest.importorskip("torch")
    groups = fastsel.duplicate_groups(torch.zeros(3, 2), 0)
    assert isinstance(groups, torch.Tensor)
    assert groups.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("radius", "error", "message"),
    [
        (-1, ValueError, "radius must not be negative, got -1"),
        ([], ValueError, "radius must hold at least one number"),
        ([1, float("nan")], ValueError, "radius must be finite, got nan"),
        ("1", TypeError, "radius must be a real number, got '1'"),
    ],
)
def test_bad_radii(radius, error, message):
    with pytest.raises(error, match=message):
        fastsel.duplicate_groups(np.ones((2, 2)), radius)
