"""What is measured of a generation, from the features of its images.

Keys carry the extractor's name, because a figure means nothing without it. Only what torch-fidelity
makes of the features of Inception's standard weights is called FID, KID and Inception Score.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import fastsel
from training.labels import Labels

Features = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

#: Neighbours that span the manifolds of precision and recall.
NEIGHBOURS = 3

#: The quantiles that tell the distribution of the generalization score.
QUANTILES = tuple(i / 20 for i in range(21))

# torch-fidelity's defaults.
_KID_SUBSET = 1000
_SCORE_PARTS = 10

_BLOCK = 1 << 22  # entries of a distance or kernel matrix at a time


class FeatureTriple(NamedTuple):
    """Features of a generation by one extractor, each [*, D]."""

    training: Features
    samples: Features
    real: Features


def generation_metrics(
    features: Mapping[str, FeatureTriple], logits: Mapping[str, Features] | None = None
) -> dict[str, float | list[float]]:
    """The metrics of one generation.

    For each extractor, in its units: entropy_train/ and entropy_samples/ (Kozachenko-Leonenko, in
    nats; where an image has a duplicate, the distance 0 counts as 1e-10), generalization/ (of the
    samples, from the training set), generalization_quantiles/ (the `QUANTILES` of the distances
    that it is the mean of) and trace_cov/ (of the training set). For each but "pixel", whose
    distances say little of how images look: fd_ and kd_ (Fréchet and kernel distance of samples and
    real images), precision/ and recall/. For "inception" torch-fidelity's fid and kid in place of
    fd_inception and kd_inception, and with logits inception_score: the key must be the `name` of
    the extractor, which tells whether its weights are the standard ones.

    Args:
        features: by the name of the extractor.
        logits: of the samples, [N, C], by the name of the extractor; only those of "inception" are
            used.

    Raises:
        ValueError: a set that has fewer images than precision and recall need, 4, or other
            columns than the real images; or features that are not finite.

    Example:
        >>> import numpy as np
        >>> from training.metrics import FeatureTriple, generation_metrics
        >>> points = np.random.default_rng(0).normal(size=(3, 50, 8)).astype(np.float32)
        >>> sorted(generation_metrics({"clip": FeatureTriple(*points)}))[:3]
        ['entropy_samples/clip', 'entropy_train/clip', 'fd_clip']
    """
    metrics: dict[str, float | list[float]] = {}
    for name, triple in features.items():
        _check(name, triple)
        training, samples, real = triple
        metrics[f"entropy_train/{name}"] = fastsel.kl_entropy(training, duplicates="floor")
        metrics[f"entropy_samples/{name}"] = fastsel.kl_entropy(samples, duplicates="floor")
        score, distances = fastsel.generalization_score(samples, training, return_distances=True)
        metrics[f"generalization/{name}"] = score
        metrics[f"generalization_quantiles/{name}"] = np.quantile(distances, QUANTILES).tolist()
        trace = training.var(axis=0, ddof=1, dtype=np.float64).sum()
        metrics[f"trace_cov/{name}"] = float(trace)
        if name == "pixel":
            continue
        if name == "inception":
            metrics |= fidelity_metrics(samples, real, (logits or {}).get(name))
        else:
            metrics[f"fd_{name}"] = frechet_distance(samples, real)
            metrics[f"kd_{name}"] = kernel_distance(samples, real)
        metrics[f"precision/{name}"], metrics[f"recall/{name}"] = precision_recall(samples, real)
    return metrics


def fidelity_metrics(
    samples: Features, real: Features, logits: Features | None = None
) -> dict[str, float]:
    """torch-fidelity's own FID and KID, and with logits its Inception Score, with its defaults.

    KID is the mean over 100 subsets of 1,000 images, or of all where there are fewer; the Inception
    Score over ten parts. Both are drawn with its own seed, so that they are the same every time.

    Args:
        samples: standard Inception features [N, 2048].
        real: the same of the real images, [M, 2048].
        logits: of the samples, without the bias, [N, 1008].
    """
    import torch
    from torch_fidelity import metric_fid, metric_isc, metric_kid

    sets = [torch.from_numpy(np.ascontiguousarray(rows)) for rows in (samples, real)]
    moments = [metric_fid.fid_features_to_statistics(rows) for rows in sets]
    fid = metric_fid.fid_statistics_to_metric(*moments, verbose=False)
    size = min(_KID_SUBSET, len(samples), len(real))
    kid = metric_kid.kid_features_to_metric(*sets, kid_subset_size=size, verbose=False)
    found = {
        "fid": fid[metric_fid.KEY_METRIC_FID],
        "kid": kid[metric_kid.KEY_METRIC_KID_MEAN],
    }
    if logits is not None:
        parts = min(_SCORE_PARTS, len(logits))
        score = metric_isc.isc_features_to_metric(torch.from_numpy(logits), splits=parts)
        found["inception_score"] = score[metric_isc.KEY_METRIC_ISC_MEAN]
    return {key: float(value) for key, value in found.items()}


class LabelTriple(NamedTuple):
    """The class of every row of a :class:`FeatureTriple`, each int64 [*], below K."""

    training: Labels
    samples: Labels
    real: Labels


def class_metrics(
    features: Mapping[str, FeatureTriple], labels: LabelTriple, n_classes: int
) -> dict[str, list[float | None]]:
    """Metrics of each class by itself, a list of K values each.

    share_train: the share of the class in the training set. For each extractor entropy_train/ and
    entropy_samples/ among the images of the class, and but for "pixel" recall/: the share of the
    real images of the class that lie among its samples. As :func:`generation_metrics` defines
    them; None for a class that has too few images, 2 for an entropy and 4 for recall.
    """
    share = np.bincount(labels.training, minlength=n_classes) / len(labels.training)
    found: dict[str, list[float | None]] = {"share_train": share.tolist()}
    for name, triple in features.items():
        for c in range(n_classes):
            training, samples, real = (
                rows[own == c] for rows, own in zip(triple, labels, strict=True)
            )
            for kind, rows in (("entropy_train", training), ("entropy_samples", samples)):
                value = fastsel.kl_entropy(rows, duplicates="floor") if len(rows) > 1 else None
                found.setdefault(f"{kind}/{name}", []).append(value)
            if name != "pixel":
                enough = min(len(samples), len(real)) > NEIGHBOURS
                recall = float(_covered(real, samples).mean()) if enough else None
                found.setdefault(f"recall/{name}", []).append(recall)
    return found


def class_means(by_class: Mapping[str, list[float | None]]) -> dict[str, float]:
    """Means over the classes that have a value: entropy_samples_class/ and recall_class/."""
    means = {}
    for key, values in by_class.items():
        name, _, extractor = key.partition("/")
        known = [value for value in values if value is not None]
        if name in ("entropy_samples", "recall") and known:
            means[f"{name}_class/{extractor}"] = float(np.mean(known))
    return means


def frechet_distance(a: Features, b: Features) -> float:
    """Squared Fréchet distance of the normal distributions with the moments of two sets.

    |mean difference|^2 + tr(A + B - 2 (A B)^(1/2)), A and B the sample covariances: FID on
    Inception's features (Heusel et al., arXiv 1706.08500).

    With A = P^T P and B = Q^T Q the trace of the root is the sum of the singular values of P Q^T.
    So no root is taken of a product that is singular, as it is with fewer rows than columns, and
    whose eigenvalues rounding makes negative or complex; symmetric and >= 0 up to rounding.

    Args:
        a: [N, D], N at least 2.
        b: [M, D], M at least 2.

    Cost O((N + M) min(N, M, D) D) time, O((N + M) D) memory.
    """
    mean_a, factor_a = _moments(a)
    mean_b, factor_b = _moments(b)
    root = np.linalg.svd(factor_a @ factor_b.T, compute_uv=False).sum()
    traces = np.square(factor_a).sum() + np.square(factor_b).sum()
    return max(0.0, float(np.square(mean_a - mean_b).sum() + traces - 2 * root))


def _moments(features: Features) -> tuple[Doubles, Doubles]:
    """Mean [D], and a factor F [min(N, D), D] of the covariance F^T F."""
    wide = features.astype(np.float64)
    mean = wide.mean(axis=0)
    wide -= mean
    wide /= np.sqrt(len(wide) - 1)
    if len(wide) > wide.shape[1]:
        wide = np.asarray(np.linalg.qr(wide, mode="r"))
    return mean, wide


def kernel_distance(a: Features, b: Features) -> float:
    """Unbiased squared MMD with the kernel (x.y / D + 1)^3; may be slightly negative.

    KID on Inception's features (Binkowski et al., arXiv 1801.01401). Of all rows at once, where
    common code averages over random subsets of them; this is what that average tends to.

    Args:
        a: [N, D], N at least 2.
        b: [M, D], M at least 2.

    Cost O((N + M)^2 D) time; no kernel matrix is kept.
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    n, m = len(x), len(y)
    within_x = _kernel_sum(x, x) - _kernel(np.square(x).sum(axis=1), x).sum()
    within_y = _kernel_sum(y, y) - _kernel(np.square(y).sum(axis=1), y).sum()
    between = _kernel_sum(x, y)
    return float(within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * between / (n * m))


def _kernel(products: Doubles, x: Doubles) -> Doubles:
    kernel: Doubles = (products / x.shape[1] + 1) ** 3
    return kernel


def _kernel_sum(x: Doubles, y: Doubles) -> float:
    return float(sum(_kernel(x[rows] @ y.T, x).sum() for rows in _blocks(len(x), len(y))))


def precision_recall(samples: Features, real: Features) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al., arXiv 1904.06991), k = 3.

    Precision is the share of samples that lie in the ball of some real image, whose radius is the
    distance to its third nearest other; recall the same the other way round. The border belongs
    to the ball, so that a copy always lies in it. Exact, ties and duplicates included.

    Args:
        samples: [N, D], N at least 4.
        real: [M, D], M at least 4.

    Cost O((N + M)^2 D) time; no distance matrix is kept.
    """
    return float(_covered(samples, real).mean()), float(_covered(real, samples).mean())


def _covered(queries: Features, points: Features) -> npt.NDArray[np.bool_]:
    """Which queries [Q] lie in the ball of some point."""
    sq_dist, _ = fastsel.knn(points, points, NEIGHBOURS, exclude_self=True, metric="sqeuclidean")
    sq_radius = sq_dist[:, -1]
    x, y = queries.astype(np.float64), points.astype(np.float64)
    sq_x, sq_y = np.square(x).sum(axis=1), np.square(y).sum(axis=1)
    # A product of D terms is off by at most (D + 1) u |x| |y|, u the unit roundoff, in any order
    # of summation, and so are the norms and, by their size, the distances that knn gives. All of
    # it together is below 4 (D + 8) u (|x|^2 + |y|^2); doubled, to be clear of the higher terms.
    bound = 8 * (x.shape[1] + 8) * 2.0**-53
    covered = np.zeros(len(x), dtype=bool)
    for rows in _blocks(len(x), len(y)):
        sums = sq_x[rows, None] + sq_y
        slack = sq_radius - (sums - 2 * (x[rows] @ y.T))  # [B, M], >= 0 inside
        margin = bound * sums
        covered[rows] = (slack > margin).any(axis=1)
        unsure = np.abs(slack) <= margin
        for i in np.flatnonzero(unsure.any(axis=1) & ~covered[rows]):
            row = rows.start + i
            candidates = np.flatnonzero(unsure[i])
            covered[row] = any(
                _sq_dist(queries[row], points[j]) <= sq_radius[j]
                for j in candidates[np.argsort(-slack[i, candidates])]
            )
    return covered


def _sq_dist(x: Features, y: Features) -> float:
    """The distance of one pair, to the bit as `fastsel.knn` gives it."""
    return float(fastsel.knn(x[None], y[None], 1, metric="sqeuclidean")[0][0, 0])


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of the rows of a matrix, each of about `_BLOCK` entries."""
    step = max(1, _BLOCK // columns)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _check(name: str, triple: FeatureTriple) -> None:
    columns = triple.real.shape[-1]
    for kind, features in triple._asdict().items():
        if features.ndim != 2 or features.shape[1] != columns:
            raise ValueError(
                f"{name} features of the {kind} set must be [N, {columns}],"
                f" got {list(features.shape)}"
            )
        if len(features) <= NEIGHBOURS:
            raise ValueError(
                f"the {kind} set must have at least {NEIGHBOURS + 1} images, got {len(features)}"
            )
        if not np.isfinite(features).all():
            raise ValueError(f"{name} features of the {kind} set are not all finite")
