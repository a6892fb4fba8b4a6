"""Differential entropy from nearest-neighbour distances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsel import checks
from fastsel.equal_rows import first_equal
from fastsel.neighbors import kth_sq_dists
from fastsel.points import Points, Subset, as_points, result_converter
from fastsel.progress import ProgressOption

EULER_GAMMA = 0.57721566490153286061


def kl_entropy(
    features: Any,
    k: Any = 1,
    *,
    indices: Any = None,
    base: float | None = None,
    duplicates: str = "raise",
    floor: float = 1e-10,
    return_distances: bool = False,
    backend: str = "auto",
    progress: ProgressOption = False,
) -> Any:
    """Kozachenko-Leonenko estimate of differential entropy from k-th neighbour distances.

    H = psi(N) - psi(k) + log c_D + (D / N) * sum_i log(eps_i), where eps_i is the distance of row i
    to its k-th nearest other row and c_D the volume of the unit ball. Sums of logarithms
    throughout, so that it is finite at any D. docs/scores.md states the bias, which grows with D.

    Parameters
    ----------
    features : array [N, D]
        float16, bfloat16, float32 or float64; NumPy, torch or DLPack. N must exceed every k.
    k : int or sequence of int
        Which neighbour, in [1, N - 1]. All of a sequence are answered by one search.
    indices : int array [M], optional
        Distinct rows: the entropy of these alone, as that of ``features[indices]``. The features
        are not copied; the rows are gathered a block at a time. N means M then.
    base : float, optional
        Unit of the result: natural logarithm (nats) by default, 2 for bits.
    duplicates : {"raise", "floor", "drop"}
        What to do where eps_i is 0, which makes the estimate -inf. "raise": ValueError. "floor":
        such an eps_i counts as `floor`. "drop": equal rows are taken once, and N is their number.
    floor : float
        For duplicates="floor". The default is the constant in the code of arXiv 2509.16499, which
        adds it to every distance; here it changes no distance but 0.
    return_distances : bool
        Return the eps_i too.
    backend, progress
        As for `greedy_select`.

    Returns
    -------
    entropy : float, or float64 [K] for a sequence of K
        In nats, or in units of log(base).
    distances : float64 [N], or [N, K], only with `return_distances`
        The eps_i as measured, 0 among them, in the order of the rows (with "drop", of those that
        were kept, the first of each equal ones); in the library and on the device of `features`.

    Raises
    ------
    ValueError, TypeError
        An argument is not as described, or there are duplicates and the policy is "raise".
    RuntimeError
        The named backend can not run here.

    Notes
    -----
    Cost that of `knn` with exclude_self and the largest k, in time; memory does not grow with k.
    "drop" adds one pass over the rows. Kozachenko and Leonenko 1987, in the form of arXiv
    2509.16499; for k > 1 Goria, Leonenko, Mergel and Novi Inverardi 2005.

    Examples
    --------
    >>> import numpy as np, fastsel
    >>> x = np.random.default_rng(0).normal(size=(2000, 2))
    >>> bool(abs(fastsel.kl_entropy(x) - np.log(2 * np.pi * np.e)) < 0.1)
    True
    >>> fastsel.kl_entropy(x, [1, 2, 4]).shape
    (3,)
    """
    checks.choice("duplicates", duplicates, ("raise", "floor", "drop"))
    if base is not None and (checks.real("base", base) <= 0 or base == 1):
        raise ValueError(f"base must be positive and not 1, got {base!r}")
    if checks.real("floor", floor) <= 0:
        raise ValueError(f"floor must be positive, got {floor!r}")
    points = as_points("features", features)
    rows = None if indices is None else checks.indices("indices", indices, points.n)
    if duplicates == "drop":
        rows = _distinct(points, rows)
    n = points.n if rows is None else len(rows)
    if n < 2:
        what = "features" if indices is None else "indices"
        raise ValueError(f"{what} must hold at least 2 rows to have neighbours, got {n}")
    ks = checks.integers("k", k, 1, n - 1)
    members = points if rows is None else Subset(points.data, chosen=rows)
    distances = np.sqrt(kth_sq_dists(members, ks, backend, progress))
    entropies = np.array(
        [
            _entropy(distances[:, column], ks[column], points.dim, floor, duplicates == "raise")
            for column in range(len(ks))
        ]
    )
    if base is not None:
        entropies /= math.log(base)
    single = not hasattr(k, "__len__")
    entropy = float(entropies[0]) if single else entropies
    if not return_distances:
        return entropy
    return entropy, result_converter(features)(distances[:, 0].copy() if single else distances)


def _entropy(
    eps: npt.NDArray[np.float64], k: int, dim: int, floor: float, refuse_zeros: bool
) -> float:
    """The estimate in nats, from the distances to the k-th neighbours."""
    n = len(eps)
    zero = eps == 0
    if refuse_zeros and zero.any():
        raise ValueError(
            f"features hold duplicates: {int(zero.sum())} of {n} rows have a neighbour {k} at "
            f"distance 0 (the first is row {int(np.argmax(zero))}), where the entropy is -inf; "
            'choose duplicates="floor" or "drop"'
        )
    log_ball = dim / 2 * math.log(math.pi) - math.lgamma(dim / 2 + 1)
    mean_log = math.fsum(np.log(np.where(zero, floor, eps))) / n
    return _digamma(n) - _digamma(k) + log_ball + dim * mean_log


def _distinct(points: Points, rows: npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64] | None:
    """The first of each equal ones among `rows` (None: all), in their order; None if all are."""
    first = first_equal(points.on_host(), rows)
    kept = np.flatnonzero(first == np.arange(len(first)))
    if len(kept) == len(first):
        return rows
    return kept if rows is None else rows[kept]


def _digamma(n: int) -> float:
    """psi(n) of a positive integer: the (n-1)-th harmonic number minus Euler's constant."""
    return math.fsum(1 / i for i in range(1, n)) - EULER_GAMMA
