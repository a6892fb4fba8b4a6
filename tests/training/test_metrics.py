from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

import fastsel
from training import metrics
from training.metrics import (
    FeatureTriple,
    LabelTriple,
    class_means,
    class_metrics,
    fidelity_metrics,
    frechet_distance,
    generation_metrics,
    kernel_distance,
    precision_recall,
)


def normal(seed, n, d, *, mean=0.0, scale=1.0):
    points = np.random.default_rng(seed).normal(mean, scale, (n, d))
    return points.astype(np.float32)


# --- the whole ------------------------------------------------------------------------------------


def test_keys_and_values():
    training, samples, real = normal(0, 40, 6), normal(1, 30, 6), normal(2, 50, 6)
    triple = FeatureTriple(training, samples, real)
    result = generation_metrics(
        {"pixel": triple, "efficientnet_lite0": triple, "inception": triple}
    )
    everywhere = ("entropy_train", "entropy_samples", "generalization", "trace_cov")
    everywhere += ("generalization_quantiles",)
    expected = {f"{key}/{name}" for key in everywhere for name in ("pixel", "efficientnet_lite0")}
    expected |= {f"{key}/inception" for key in everywhere}
    for name in ("efficientnet_lite0", "inception"):
        expected |= {f"precision/{name}", f"recall/{name}"}
    expected |= {"fd_efficientnet_lite0", "kd_efficientnet_lite0", "fid", "kid"}
    assert set(result) == expected
    for key, value in result.items():
        values = value if key.startswith("generalization_quantiles/") else [value]
        assert all(type(each) is float for each in values)
    assert json.loads(json.dumps(result)) == result

    assert result["entropy_train/pixel"] == fastsel.kl_entropy(training)
    assert result["entropy_samples/pixel"] == fastsel.kl_entropy(samples)
    assert result["generalization/pixel"] == fastsel.generalization_score(samples, training)
    trace = np.trace(np.cov(training.astype(np.float64), rowvar=False))
    assert result["trace_cov/pixel"] == pytest.approx(trace, rel=1e-12)
    assert result["fd_efficientnet_lite0"] == frechet_distance(samples, real)
    assert result["kd_efficientnet_lite0"] == kernel_distance(samples, real)
    for name in ("efficientnet_lite0", "inception"):
        assert (result[f"precision/{name}"], result[f"recall/{name}"]) == precision_recall(
            samples, real
        )
    assert {key: result[key] for key in ("fid", "kid")} == fidelity_metrics(samples, real)


def test_the_distribution_of_the_generalization_score():
    """Distances 0, 1, ..., 40, so that each twentieth of the samples is 2 further off."""
    training = np.zeros((4, 1), np.float32)
    samples = np.random.default_rng(0).permutation(np.arange(41.0))[:, None].astype(np.float32)
    result = generation_metrics({"pixel": FeatureTriple(training, samples, training)})
    assert result["generalization_quantiles/pixel"] == [2.0 * i for i in range(21)]
    assert result["generalization/pixel"] == 20.0


# --- torch-fidelity's own -------------------------------------------------------------------------


def test_fid_and_kid_are_torch_fidelitys_and_near_ours():
    samples, real = normal(0, 1200, 8, mean=0.1), normal(1, 1500, 8)
    result = fidelity_metrics(samples, real)
    assert set(result) == {"fid", "kid"}
    assert result["fid"] == pytest.approx(frechet_distance(samples, real), rel=1e-4)
    # The mean of subsets of 1,000 tends to the kernel distance of all.
    assert result["kid"] == pytest.approx(kernel_distance(samples, real), rel=0.2)
    assert result == fidelity_metrics(samples, real)


@pytest.mark.parametrize("n", [5, 400])
def test_the_inception_score_counts_classes_that_are_told_surely(n):
    samples, real = normal(0, n, 3), normal(1, 50, 3)
    sure = np.full((n, 4), -50, np.float32)
    sure[np.arange(n), np.arange(n) % 4] = 50
    for logits, expected in ((sure, 4.0), (np.zeros((n, 4), np.float32), 1.0)):
        score = fidelity_metrics(samples, real, logits)["inception_score"]
        # Five images make five parts, each of one image, that cannot differ.
        assert score == pytest.approx(expected if n > 5 else 1.0, rel=0.05)
    result = generation_metrics(
        {name: FeatureTriple(real, real, real) for name in ("inception", "inception_custom")},
        {name: np.zeros((50, 4), np.float32) for name in ("inception", "inception_custom")},
    )
    assert result["inception_score"] == pytest.approx(1)
    assert [key for key in result if "score" in key] == ["inception_score"]


def test_other_weights_are_not_called_fid():
    triple = FeatureTriple(*(normal(seed, 10, 3) for seed in range(3)))
    result = generation_metrics({"inception_custom": triple})
    assert {"fd_inception_custom", "kd_inception_custom"} <= set(result)
    assert not {"fid", "kid"} & set(result)


def test_a_collapsed_generation_has_finite_metrics():
    one = np.ones((12, 5), np.float32)
    triple = FeatureTriple(one, one, normal(0, 12, 5))
    result = generation_metrics({"clip": triple, "inception": triple})
    assert np.isfinite(np.hstack(list(result.values()))).all()
    assert result["entropy_samples/clip"] < -100
    assert result["generalization/clip"] == 0
    assert result["trace_cov/clip"] == 0
    assert result["recall/clip"] == 0


def test_metrics_of_each_class():
    triple = FeatureTriple(normal(0, 30, 6), normal(1, 40, 6), normal(2, 50, 6))
    labels = LabelTriple(
        np.repeat([0, 1, 3], [18, 11, 1]), np.arange(40) % 2, np.repeat([0, 1, 2], [40, 3, 7])
    )
    found = class_metrics({"pixel": triple, "clip": triple}, labels, 4)
    assert found["share_train"] == pytest.approx([18 / 30, 11 / 30, 0, 1 / 30])
    assert "recall/pixel" not in found
    own = [rows[place == 0] for rows, place in zip(triple, labels, strict=True)]
    assert found["entropy_train/clip"][0] == fastsel.kl_entropy(own[0])
    assert found["entropy_samples/clip"][0] == fastsel.kl_entropy(own[1])
    assert found["recall/clip"][0] == precision_recall(own[1], own[2])[1]
    assert [v is None for v in found["entropy_train/clip"]] == [False, False, True, True]
    assert [v is None for v in found["entropy_samples/clip"]] == [False, False, True, True]
    assert [v is None for v in found["recall/clip"]] == [False, True, True, True]
    assert json.loads(json.dumps(found)) == found
    means = class_means(found)
    assert set(means) == {
        "entropy_samples_class/pixel",
        "entropy_samples_class/clip",
        "recall_class/clip",
    }
    assert means["entropy_samples_class/clip"] == np.mean(found["entropy_samples/clip"][:2])
    assert means["recall_class/clip"] == found["recall/clip"][0]


@pytest.mark.parametrize(
    ("place", "features", "message"),
    [
        (0, normal(0, 3, 4), "the training set must have at least 4 images, got 3"),
        (1, normal(0, 3, 4), "the samples set must have at least 4 images, got 3"),
        (1, normal(0, 9, 5), r"clip features of the samples set must be \[N, 4\], got \[9, 5\]"),
        (1, normal(0, 9, 4)[0], r"features of the samples set must be \[N, 4\], got \[4\]"),
        (1, np.full((9, 4), np.nan, np.float32), "clip features of the samples set are not all"),
    ],
)
def test_bad_features(place, features, message):
    triple = [normal(seed, 9, 4) for seed in range(3)]
    triple[place] = features
    with pytest.raises(ValueError, match=message):
        generation_metrics({"clip": FeatureTriple(*triple)})


# --- Fréchet distance -----------------------------------------------------------------------------


def frechet_by_definition(a, b):
    """In float64 by the matrix root, which needs covariances of full rank."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(linalg.sqrtm(cov_a) @ cov_b @ linalg.sqrtm(cov_a)).real
    return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * root)


@pytest.mark.parametrize(("n", "m", "d"), [(50, 70, 8), (300, 40, 16), (25, 25, 24)])
def test_frechet_by_definition(n, m, d):
    a, b = normal(0, n, d), normal(1, m, d, mean=0.3, scale=2)
    assert frechet_distance(a, b) == pytest.approx(frechet_by_definition(a, b), rel=1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(200, 300, 40), (30, 300, 40), (30, 20, 40)])
def test_frechet_as_torch_fidelity(n, m, d):
    fidelity = pytest.importorskip("torch_fidelity.metric_fid")
    a, b = normal(0, n, d), normal(1, m, d, mean=0.2, scale=3)
    statistics = [
        fidelity.fid_features_to_statistics(torch.tensor(x, dtype=torch.float64)) for x in (a, b)
    ]
    expected = fidelity.fid_statistics_to_metric(*statistics, verbose=False)
    # Its eigenvalues of a singular product are off by about 1e-16 of it, and their roots by 1e-8.
    assert frechet_distance(a, b) == pytest.approx(expected[fidelity.KEY_METRIC_FID], rel=1e-6)


@pytest.mark.parametrize(("n", "d"), [(4, 300), (64, 64), (65, 64), (100, 8), (2, 5)])
def test_frechet_of_equal_sets_is_zero(n, d):
    a = normal(0, n, d, mean=5)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-10 * d)
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-10 * d)


@pytest.mark.parametrize(("n", "m"), [(5, 9), (5, 200), (300, 200)])
def test_frechet_is_symmetric_and_sees_a_shift_exactly(n, m):
    a, b = normal(0, n, 30), normal(1, m, 30)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-10)
    shift = np.zeros(30, np.float32)
    shift[3] = 4
    quantised = np.round(a * 64) / 64  # so that the sum is exact
    assert frechet_distance(quantised, quantised + shift) == pytest.approx(16, rel=1e-10)


def test_frechet_of_a_collapsed_set():
    real = normal(0, 50, 20)
    collapsed = np.repeat(real[:1], 10, axis=0)
    centred = real.astype(np.float64) - real.mean(0, dtype=np.float64)
    distance = np.square(real[0] - real.mean(0, dtype=np.float64)).sum()
    expected = distance + np.square(centred).sum() / 49
    assert frechet_distance(collapsed, real) == pytest.approx(expected, rel=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(2, 20), st.integers(2, 20), st.integers(1, 12), st.integers(0, 99), st.floats(-3, 3)
)
def test_frechet_bounds(n, m, d, seed, power):
    a = normal(seed, n, d, scale=10.0**power)
    b = normal(seed + 1, m, d)
    distance = frechet_distance(a, b)
    mean = np.square(a.mean(0, dtype=np.float64) - b.mean(0, dtype=np.float64)).sum()
    spread = sum(x.var(axis=0, ddof=1, dtype=np.float64).sum() for x in (a, b))
    slack = 1e-10 * (mean + spread)
    assert mean - slack <= distance <= mean + spread + slack


# --- kernel distance ------------------------------------------------------------------------------


def kernel_by_definition(a, b):
    """Sums over all pairs of different rows, one by one."""
    a, b = a.astype(np.float64), b.astype(np.float64)

    def kernel(x, y):
        return (x @ y / a.shape[1] + 1) ** 3

    within = [
        np.mean([kernel(x, y) for x, y in itertools.permutations(points, 2)]) for points in (a, b)
    ]
    return sum(within) - 2 * np.mean([kernel(x, y) for x in a for y in b])


@pytest.mark.parametrize(("n", "m", "d"), [(2, 2, 1), (7, 12, 5), (20, 3, 40)])
def test_kernel_distance_by_definition(n, m, d):
    a, b = normal(0, n, d), normal(1, m, d, mean=0.5)
    assert kernel_distance(a, b) == pytest.approx(kernel_by_definition(a, b), rel=1e-9)


def test_kernel_distance_as_torch_fidelity():
    """With one subset of all rows theirs is the same estimator."""
    fidelity = pytest.importorskip("torch_fidelity.metric_kid")
    a, b = normal(0, 100, 30), normal(1, 100, 30, mean=0.2)
    expected = fidelity.kid_features_to_metric(
        *(torch.tensor(x, dtype=torch.float64) for x in (a, b)),
        kid_subsets=1,
        kid_subset_size=100,
        verbose=False,
    )
    assert kernel_distance(a, b) == pytest.approx(expected[fidelity.KEY_METRIC_KID_MEAN], rel=1e-9)


def test_kernel_distance_is_unbiased():
    draws = [
        kernel_distance(normal(2 * seed, 20, 4), normal(2 * seed + 1, 20, 4)) for seed in range(300)
    ]
    error = np.std(draws) / np.sqrt(len(draws))
    assert abs(np.mean(draws)) < 3 * error
    assert min(draws) < 0


# --- precision and recall -------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m", "d"), [(200, 200, 10), (150, 260, 320)])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.3])
def test_precision_recall_as_prdc(n, m, d, scale, capsys):
    prdc = pytest.importorskip("prdc")
    samples, real = normal(0, n, d, scale=scale), normal(1, m, d, mean=0.1)
    # Its distances, by products in the given precision, are sound enough in float64.
    expected = prdc.compute_prdc(
        real_features=real.astype(np.float64), fake_features=samples.astype(np.float64), nearest_k=3
    )
    assert precision_recall(samples, real) == (expected["precision"], expected["recall"])


def test_precision_recall_as_torch_fidelity():
    fidelity = pytest.importorskip("torch_fidelity.metric_prc")
    samples, real = normal(0, 120, 12, scale=0.8), normal(1, 180, 12, mean=0.2)
    expected = fidelity.prc_features_to_metric(
        *(torch.tensor(x, dtype=torch.float64) for x in (samples, real)), verbose=False
    )
    result = precision_recall(samples, real)
    assert result == pytest.approx((expected["precision"], expected["recall"]), abs=1e-6)


def coverage_by_definition(queries, points):
    """In exact integers: for coordinates that are small whole numbers."""
    q, p = queries.astype(np.int64), points.astype(np.int64)
    within = np.square(p[:, None] - p[None]).sum(-1)
    radius = np.sort(within, axis=1)[:, 3]  # place 0 is the point itself, or a duplicate of it
    across = np.square(q[:, None] - p[None]).sum(-1)
    return (across <= radius).any(axis=1)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4), st.sampled_from([0, 1000]))
def test_precision_recall_on_lattices_is_exact(seed, d, span, shift):
    """Ties and duplicates everywhere, also far from the origin, where products cancel."""
    rng = np.random.default_rng(seed)
    samples = (rng.integers(0, span + 1, (rng.integers(4, 30), d)) + shift).astype(np.float32)
    real = (rng.integers(0, span + 1, (rng.integers(4, 30), d)) + shift).astype(np.float32)
    precision, recall = precision_recall(samples, real)
    assert precision == coverage_by_definition(samples, real).mean()
    assert recall == coverage_by_definition(real, samples).mean()


def test_copies_lie_in_the_ball():
    real = normal(0, 60, 50)
    assert precision_recall(real.copy(), real) == (1.0, 1.0)
    # Also where every radius is 0, and where the rounding of a product is larger than the radius.
    four = np.repeat(normal(1, 5, 50, mean=100), 4, axis=0)
    assert precision_recall(four[::4].repeat(4, axis=0), four) == (1.0, 1.0)
    near = np.nextafter(four, np.float32(np.inf))
    assert precision_recall(near, four) == (0.0, 0.0)


def test_copies_lie_in_the_ball_whatever_their_products_round_to():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(100, 320)) * 10.0 ** rng.uniform(-4, 4, (100, 320))
    four = np.repeat(points.astype(np.float32), 4, axis=0)  # so that all radii are 0
    assert precision_recall(four, four) == (1.0, 1.0)


def test_blocks_do_not_change_the_result(monkeypatch):
    samples, real = normal(0, 50, 9), normal(1, 70, 9, mean=0.4)
    whole = precision_recall(samples, real), kernel_distance(samples, real)
    monkeypatch.setattr(metrics, "_BLOCK", 150)
    assert precision_recall(samples, real) == whole[0]
    assert kernel_distance(samples, real) == pytest.approx(whole[1], rel=1e-10)
