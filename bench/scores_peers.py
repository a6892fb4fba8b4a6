"""How else one would compute entropy, scores and groups of duplicates."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastsel
from bench.data import Features
from bench.knn_peers import sklearn_prepare, torch_prepare
from bench.peers import missing

K = 5  # of precision, recall, density and coverage
DUPLICATES = 20  # every twentieth row is there twice
NEAR = 0.02  # the share of the rows whose nearest other lies within the radius


@dataclass(frozen=True)
class Peer:
    """Another way to a score, for at most so many rows of a pool: some take very long.

    compute takes what the score's `inputs` give. same(value, ours): why it is not ours, or None.
    """

    name: str
    what: str
    module: str  # that it needs
    compute: Callable[..., Any]
    same: Callable[[Any, Any], str | None]
    most: int = 1 << 62

    def missing(self) -> str | None:
        """Why the peer is skipped, or None."""
        return missing(self.module)


@dataclass(frozen=True)
class Score:
    """A score of fastsel and its peers, and what they are given of a pool."""

    name: str
    inputs: Callable[[Features], tuple[Any, ...]]
    ours: Callable[..., Any]
    peers: tuple[Peer, ...]


def close(relative: float, absolute: float = 0) -> Callable[[Any, Any], str | None]:
    """That a number, or each of several, is ours to within that much."""

    def same(value: Any, ours: Any) -> str | None:
        if np.allclose(value, ours, rtol=relative, atol=absolute):
            return None
        return f"it gives {value:.5g}, not {ours:.5g}" if np.isscalar(value) else "other values"

    return same


def another_norm(value: float, ours: float) -> str | None:
    """That an entropy by balls of another norm is a number: it is not the same estimate."""
    return None if math.isfinite(value) else f"it gives {value}"


def same_groups(value: Any, ours: Any) -> str | None:
    """That two labellings of the rows are one partition."""
    pairs = np.unique(np.stack([value, ours]), axis=1).shape[1]
    found, expected = len(np.unique(value)), len(np.unique(ours))
    if pairs == found == expected:
        return None
    return f"other groups: {found} instead of {expected}"


def halves(pool: Features) -> tuple[Features, Features]:
    """Generated and training points: the odd and the even rows."""
    return np.ascontiguousarray(pool[1::2]), np.ascontiguousarray(pool[::2])


def alone(pool: Features) -> tuple[Features]:
    """The pool itself."""
    return (pool,)


def repeated(pool: Features) -> tuple[Features]:
    """The pool with some rows replaced by copies of those before them."""
    copied = pool.copy()
    rows = np.arange(1, len(pool), DUPLICATES)
    copied[rows] = pool[rows - 1]
    return (copied,)


def with_radius(pool: Features) -> tuple[Features, float]:
    """The pool and a distance that few rows have their nearest other within.

    Halfway between two of these distances, so that no rounding decides.
    """
    nearest = np.sort(fastsel.nearest_distances(pool))
    at = round(NEAR * len(nearest))
    # Both rows of a pair may have the same one.
    above = nearest[np.searchsorted(nearest, nearest[at], side="right")]
    return pool, float((nearest[at] + above) / 2)


def entropy_of(nearest: Any, pool: Features) -> float:
    """The formula of `kl_entropy`, k = 1, over distances of someone else."""
    n, dim = pool.shape
    log_ball = dim / 2 * math.log(math.pi) - math.lgamma(dim / 2 + 1)
    harmonic = math.fsum(1 / i for i in range(1, n))
    return float(harmonic + log_ball + dim * np.mean(np.log(nearest.astype(np.float64))))


def sklearn_entropy(pool: Features) -> float:
    """scikit-learn's neighbours in the same formula."""
    return entropy_of(sklearn_prepare(pool)(pool, 2)[:, 1], pool)


def npeet_entropy(pool: Features) -> float:
    """NPEET: balls of the maximum norm, by a k-d tree."""
    import npeet_plus

    return float(npeet_plus.entropy(pool.astype(np.float64), k=1, base=math.e))


def infomeasure_entropy(pool: Features) -> float:
    """infomeasure: Euclidean balls, by a k-d tree."""
    import infomeasure

    with np.errstate(divide="ignore"):
        value = infomeasure.entropy(
            pool.astype(np.float64), approach="kl", k=1, minkowski_p=2, noise_level=0, base="e"
        )
    return float(value)


def torch_generalization(generated: Features, training: Features) -> float:
    """torch.cdist and a minimum, over chunks."""
    return float(torch_prepare(training)(generated, 1).mean())


def sklearn_generalization(generated: Features, training: Features) -> float:
    """scikit-learn's fused search of the nearest."""
    from sklearn.metrics import pairwise_distances_argmin_min

    return float(pairwise_distances_argmin_min(generated, training)[1].mean())


def torch_memorization(generated: Features, training: Features) -> float:
    """torch.cdist and the two least, over chunks."""
    nearest, second = torch_prepare(training)(generated, 2).T
    return float(np.mean(nearest < second / 3))


def sklearn_memorization(generated: Features, training: Features) -> float:
    """scikit-learn's two nearest."""
    nearest, second = sklearn_prepare(training)(generated, 2).T
    return float(np.mean(nearest < second / 3))


def package_prdc(generated: Features, training: Features) -> list[float]:
    """The prdc package, which keeps three matrices of distances."""
    import prdc

    with contextlib.redirect_stdout(io.StringIO()):
        scores = prdc.compute_prdc(training, generated, K)
    return [float(scores[name]) for name in fastsel.PRDC._fields]


def sklearn_groups(pool: Features, radius: float) -> Any:
    """scikit-learn's graph of near pairs and SciPy's connected components."""
    from scipy.sparse.csgraph import connected_components
    from sklearn.neighbors import NearestNeighbors

    neighbours = NearestNeighbors(radius=radius, algorithm="brute").fit(pool)
    graph = neighbours.radius_neighbors_graph()
    return connected_components(graph, directed=False)[1]


def unique_groups(pool: Features) -> Any:
    """NumPy's sort of whole rows."""
    return np.unique(pool, axis=0, return_inverse=True)[1].ravel()


SCORES = (
    Score(
        "kl_entropy, k = 1",
        alone,
        fastsel.kl_entropy,
        (
            Peer(
                "scikit-learn",
                "brute neighbours, the same formula",
                "sklearn",
                sklearn_entropy,
                close(0, 0.1),
            ),
            Peer("NPEET", "maximum norm", "npeet_plus", npeet_entropy, another_norm, 2048),
            Peer(
                "infomeasure",
                "Euclidean norm",
                "infomeasure",
                infomeasure_entropy,
                close(0, 0.1),
                2048,
            ),
        ),
    ),
    Score(
        "generalization_score",
        halves,
        fastsel.generalization_score,
        (
            Peer(
                "scikit-learn",
                "pairwise_distances_argmin_min",
                "sklearn",
                sklearn_generalization,
                close(1e-5),
            ),
            Peer("torch", "cdist, min, in chunks", "torch", torch_generalization, close(1e-5)),
        ),
    ),
    Score(
        "memorization_ratio",
        halves,
        fastsel.memorization_ratio,
        (
            Peer("scikit-learn", "kneighbors", "sklearn", sklearn_memorization, close(1e-2)),
            Peer("torch", "cdist, topk, in chunks", "torch", torch_memorization, close(1e-2)),
        ),
    ),
    Score(
        f"prdc, k = {K}",
        halves,
        lambda generated, training: list(fastsel.prdc(training, generated, K)),
        (Peer("prdc", "compute_prdc, three matrices", "prdc", package_prdc, close(1e-3)),),
    ),
    Score(
        "duplicate_groups, a radius",
        with_radius,
        fastsel.duplicate_groups,
        (
            Peer(
                "scikit-learn, SciPy",
                "radius_neighbors_graph, connected_components",
                "sklearn",
                sklearn_groups,
                same_groups,
            ),
        ),
    ),
    Score(
        "duplicate_groups, equal rows",
        repeated,
        lambda pool: fastsel.duplicate_groups(pool, 0),
        (Peer("NumPy", "unique of rows", "numpy", unique_groups, same_groups),),
    ),
)
