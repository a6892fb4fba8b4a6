"""Scores of generated points beside training or real ones, from distances."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastsel import checks
from fastsel.neighbors import DISTANCES, knn, kth_sq_dists, nearest_distances
from fastsel.pairs import PairFilter, Tile, sq_dists
from fastsel.points import Points, as_points
from fastsel.progress import Progress, ProgressOption


class PRDC(NamedTuple):
    """Precision, recall, density and coverage, as `prdc` describes them."""

    precision: float
    recall: float
    density: float
    coverage: float


def generalization_score(
    generated: Any,
    training: Any,
    *,
    metric: str = "euclidean",
    return_distances: bool = False,
    backend: str = "auto",
    progress: ProgressOption = False,
) -> Any:
    """Mean distance of generated points to their nearest training point.

    Small when a model copies its training set. The score of arXiv 2509.16499.

    Parameters
    ----------
    generated : array [Q, D]
    training : array [N, D]
    metric : {"euclidean", "sqeuclidean", "cosine"}
    return_distances : bool
        Return the distances that the score is the mean of, for their distribution.
    backend, progress
        As for `knn`, which tells the errors and the cost too.

    Returns
    -------
    score : float
    distances : float64 [Q], only with `return_distances`
        In the library and on the device of `generated`.

    Examples
    --------
    >>> import numpy as np, fastsel
    >>> generated, training = np.array([[1.0], [7.0]]), np.array([[0.0], [5.0]])
    >>> fastsel.generalization_score(generated, training, return_distances=True)
    (1.5, array([1., 2.]))
    """
    _check_pair(generated, training, metric)
    nearest = nearest_distances(
        generated, training, metric=metric, backend=backend, progress=progress
    )
    score = math.fsum(checks.to_numpy(nearest)) / len(nearest)
    return (score, nearest) if return_distances else score


def memorization_ratio(
    generated: Any,
    training: Any,
    *,
    threshold: float = 1 / 3,
    metric: str = "euclidean",
    backend: str = "auto",
    progress: ProgressOption = False,
) -> float:
    """Share of generated points that lie far nearer to one training point than to any other.

    A point counts as memorized where its nearest training distance is below `threshold` times the
    second-nearest: the test, and its third, of Yoon, Choi, Kwon and Ryu, "Diffusion Probabilistic
    Models Generalize when They Fail to Memorize" (2023), taken up in arXiv 2310.02664.

    Parameters
    ----------
    generated : array [Q, D]
    training : array [N, D]
        At least 2 rows. Copies of a point that is there twice do not count, for both distances are
        the same: keep one of each first (`duplicate_groups`).
    threshold : float
        In (0, 1].
    metric, backend, progress
        As for `knn`, which tells the errors and the cost too.

    Returns
    -------
    ratio : float
        In [0, 1].

    Examples
    --------
    >>> import numpy as np, fastsel
    >>> fastsel.memorization_ratio(np.array([[1.0], [2.0]]), np.array([[0.0], [5.0]]))
    0.5
    """
    if not 0 < checks.real("threshold", threshold) <= 1:
        raise ValueError(f"threshold must be in (0, 1], got {threshold!r}")
    n_training = _check_pair(generated, training, metric)
    if n_training < 2:
        raise ValueError(f"training must hold at least 2 rows, got {n_training}")
    distances, _ = knn(generated, training, 2, metric=metric, backend=backend, progress=progress)
    nearest, second = checks.to_numpy(distances).T
    return float(np.mean(nearest < threshold * second))


def prdc(
    real: Any,
    generated: Any,
    k: int = 5,
    *,
    backend: str = "auto",
    progress: ProgressOption = False,
) -> PRDC:
    """Precision, recall, density and coverage of generated points beside real ones.

    The ball of a point is what lies nearer to it than its k-th nearest other in its own set, in
    Euclidean distance. Precision: the share of generated points in a real point's ball. Recall: the
    share of real points in a generated point's ball. Density: how many real balls a generated point
    lies in, on average, divided by k. Coverage: the share of real points with a generated point in
    their ball. Precision and recall are those of Kynkäänniemi et al., arXiv 1904.06991, density and
    coverage of Naeem et al., arXiv 2002.09797, all with the open balls of the latter's `prdc`
    package: the border does not belong to a ball, and a ball of radius 0 holds nothing.

    Parameters
    ----------
    real : array [N, D]
    generated : array [M, D]
    k : int
        In [1, min(N, M) - 1]; 5 is the choice of arXiv 2002.09797.
    backend, progress
        As for `knn`.

    Returns
    -------
    scores : PRDC
        A named tuple of four floats. Exact: every pair that a bound can not decide is decided by
        its canonical distance.

    Raises
    ------
    ValueError, TypeError
        An argument is not as described; the message names it.
    RuntimeError
        The named backend can not run here.

    Notes
    -----
    Cost two searches as by `knn` and one float32 product of N M D multiply-adds. No distance matrix
    is kept; the product takes some 100 MB at any N and M.

    Examples
    --------
    >>> import numpy as np, fastsel
    >>> real, generated = np.random.default_rng(0).normal(size=(2, 200, 4))
    >>> fastsel.prdc(real, real + 10).precision
    0.0
    >>> fastsel.prdc(real, generated).recall > 0.8
    True
    """
    real_points = checks.points("real", real, "euclidean")
    generated_points = checks.points("generated", generated, "euclidean", dim=real_points.dim)
    fewest = min(real_points.n, generated_points.n)
    if fewest < 2:
        raise ValueError(f"real and generated must hold at least 2 rows each, got {fewest}")
    checks.integer("k", k, 1, fewest - 1)
    real_radii = kth_sq_dists(real_points, [k], backend, progress)[:, 0]
    generated_radii = kth_sq_dists(generated_points, [k], backend, progress)[:, 0]

    pairs = PairFilter(real_points, generated_points)
    real_reach = pairs.scaled(real_radii)
    generated_reach = pairs.scaled(generated_radii)
    balls_around = np.zeros(generated_points.n, np.int64)  # real balls that a generated point is in
    covered = np.zeros(real_points.n, bool)
    recalled = np.zeros(real_points.n, bool)
    report = Progress(progress, "balls", real_points.n * generated_points.n)
    done = 0
    tiles = pairs.tiles(
        real_points, np.arange(real_points.n), generated_points, np.arange(generated_points.n)
    )
    for tile in tiles:
        height, width = tile.lower.shape
        x, y = slice(tile.first, tile.first + height), slice(tile.second, tile.second + width)
        i, j = np.nonzero(tile.lower < real_reach[x, None])
        inside = _inside(
            tile, i, j, real_reach[x][i], real_radii[x][i], real_points, generated_points
        )
        balls_around[y] += np.bincount(j[inside], minlength=width)
        covered[tile.first + i[inside]] = True

        i, j = np.nonzero(tile.lower < generated_reach[y])
        new = ~recalled[tile.first + i]
        i, j = i[new], j[new]
        inside = _inside(
            tile, i, j, generated_reach[y][j], generated_radii[y][j], real_points, generated_points
        )
        recalled[tile.first + i[inside]] = True
        done += tile.lower.size
        report.update(done)
    return PRDC(
        precision=float(np.mean(balls_around > 0)),
        recall=float(np.mean(recalled)),
        density=float(balls_around.sum() / (k * generated_points.n)),
        coverage=float(np.mean(covered)),
    )


def _inside(
    tile: Tile,
    i: npt.NDArray[np.intp],
    j: npt.NDArray[np.intp],
    reach: npt.NDArray[np.float32],
    sq_radius: npt.NDArray[np.float64],
    x: Points,
    y: Points,
) -> npt.NDArray[np.bool_]:
    """Which pairs (i, j) of a tile lie within radii, given scaled (`reach`) and as they are."""
    inside = tile.upper(i, j) < reach
    unsure = np.flatnonzero(~inside)
    sq_dist = sq_dists(x, tile.first + i[unsure], y, tile.second + j[unsure])
    inside[unsure] = sq_dist < sq_radius[unsure]
    return inside


def _check_pair(generated: Any, training: Any, metric: str) -> int:
    """Check two sets, by the names of the public arguments; returns the rows of `training`."""
    checks.choice("metric", metric, DISTANCES)
    generated_points = as_points("generated", generated)
    training_points = as_points("training", training)
    if training_points.dim != generated_points.dim:
        raise ValueError(
            f"training must have {generated_points.dim} columns, got {training_points.dim}"
        )
    return training_points.n
