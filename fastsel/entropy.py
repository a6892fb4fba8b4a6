"""Differential entropy and scores made of nearest-neighbour distances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastsel import checks
from fastsel.neighbors import knn, nearest_distances
from fastsel.points import Points, as_points, widen
from fastsel.progress import ProgressOption

EULER_GAMMA = 0.57721566490153286061


def kl_entropy(
    features: Any,
    k: int = 1,
    *,
    base: float | None = None,
    duplicates: str = "raise",
    floor: float = 1e-10,
    backend: str = "auto",
    progress: ProgressOption = False,
) -> float:
    """Kozachenko-Leonenko estimate of differential entropy from k-th neighbour distances.

    H = psi(N) - psi(k) + log c_D + (D / N) * sum_i log(eps_i), where eps_i is the distance of row i
    to its k-th nearest other row and c_D the volume of the unit ball. Sums of logarithms
    throughout, so that it is finite at any D.

    Parameters
    ----------
    features : array [N, D]
        float16, bfloat16, float32 or float64; NumPy, torch or DLPack. N must exceed k.
    k : int
        Which neighbour, in [1, N - 1].
    base : float, optional
        Unit of the result: natural logarithm (nats) by default, 2 for bits.
    duplicates : {"raise", "floor", "drop"}
        What to do where eps_i is 0, which makes the estimate -inf. "raise": ValueError. "floor":
        such an eps_i counts as `floor`. "drop": equal rows are taken once, and N is their number.
    floor : float
        For duplicates="floor". The default is the constant in the code of arXiv 2509.16499, which
        adds it to every distance; here it changes no distance but 0.
    backend, progress
        As for `greedy_select`.

    Returns
    -------
    entropy : float
        In nats, or in units of log(base).

    Raises
    ------
    ValueError, TypeError
        An argument is not as described, or there are duplicates and the policy is "raise".
    RuntimeError
        The named backend can not run here.

    Notes
    -----
    Cost that of `knn` with exclude_self. Kozachenko and Leonenko 1987, in the form of arXiv
    2509.16499.

    Examples
    --------
    >>> import numpy as np, fastsel
    >>> x = np.random.default_rng(0).normal(size=(2000, 2))
    >>> bool(abs(fastsel.kl_entropy(x) - np.log(2 * np.pi * np.e)) < 0.1)
    True
    """
    checks.choice("duplicates", duplicates, ("raise", "floor", "drop"))
    if base is not None and (checks.real("base", base) <= 0 or base == 1):
        raise ValueError(f"base must be positive and not 1, got {base!r}")
    if checks.real("floor", floor) <= 0:
        raise ValueError(f"floor must be positive, got {floor!r}")
    points = as_points("features", features)
    rows: Any = features
    n = points.n
    if duplicates == "drop":
        rows = _distinct_rows(points)
        n = len(rows)
    if n < 2:
        raise ValueError(f"features must hold at least 2 rows to have neighbours, got {n}")
    k = checks.integer("k", k, 1, n - 1)
    distances, _ = knn(rows, rows, k, exclude_self=True, backend=backend, progress=progress)
    eps = np.asarray(distances.cpu() if hasattr(distances, "cpu") else distances)[:, -1]
    zero = eps == 0
    if zero.any():
        if duplicates == "raise":
            raise ValueError(
                f"features hold duplicates: {int(zero.sum())} of {n} rows have a neighbour {k} at "
                f"distance 0 (the first is row {int(np.argmax(zero))}), where the entropy is -inf; "
                'choose duplicates="floor" or "drop"'
            )
        eps = np.where(zero, floor, eps)
    log_ball = points.dim / 2 * math.log(math.pi) - math.lgamma(points.dim / 2 + 1)
    mean_log = math.fsum(np.log(eps)) / n
    entropy = _digamma(n) - _digamma(k) + log_ball + points.dim * mean_log
    return entropy if base is None else entropy / math.log(base)


def generalization_score(
    generated: Any,
    training: Any,
    *,
    metric: str = "euclidean",
    backend: str = "auto",
    progress: ProgressOption = False,
) -> float:
    """Mean distance of generated points to their nearest training point.

    Small when a model copies its training set. The score of arXiv 2509.16499.

    Parameters
    ----------
    generated : array [Q, D]
    training : array [N, D]
    metric, backend, progress
        As for `knn`, which tells the errors and the cost too.

    Returns
    -------
    score : float

    Examples
    --------
    >>> import numpy as np, fastsel
    >>> fastsel.generalization_score(np.array([[1.0], [7.0]]), np.array([[0.0], [5.0]]))
    1.5
    """
    checks.choice("metric", metric, ("euclidean", "sqeuclidean", "cosine"))
    generated_points = as_points("generated", generated)
    training_points = as_points("training", training)
    if training_points.dim != generated_points.dim:
        raise ValueError(
            f"training must have {generated_points.dim} columns, got {training_points.dim}"
        )
    nearest = nearest_distances(
        generated, training, metric=metric, backend=backend, progress=progress
    )
    nearest = np.asarray(nearest.cpu() if hasattr(nearest, "cpu") else nearest)
    return math.fsum(nearest) / len(nearest)


def _distinct_rows(points: Points) -> Any:
    """The rows without repetitions, float64 [n, D]."""
    # Adding 0 makes -0.0 and 0.0, which are equal, the same bits.
    return np.unique(widen(points.data) + 0.0, axis=0)


def _digamma(n: int) -> float:
    """psi(n) of a positive integer: the (n-1)-th harmonic number minus Euler's constant."""
    return math.fsum(1 / i for i in range(1, n)) - EULER_GAMMA
