"""The arms: ways to choose the next training set, a function and a line in ``ARMS`` each.

Torch and scikit-learn are imported where they are used, so that the options can name the arms
without waiting for them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

import fastsel

if TYPE_CHECKING:
    from training.config import Config

_THRESHOLD_SAMPLE = 512
_KMEANS_ROUNDS = 20

Features = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Choice:
    """What an arm chooses from, and how much.

    Attributes:
        config: the run's options.
        n: how many members to choose, at most P.
        features: float32 [P, D], a row for each member of the pool; [P, 0] for arms that read none.
        real: bool [P], which members are real images.
        seed: of all that is random.
        real_share: of the training set that the arm ``greedy`` chose in this generation; only
            ``real-fraction`` gets it.
    """

    config: Config
    n: int
    features: Features
    real: npt.NDArray[np.bool_]
    seed: int
    real_share: float = 0.0


@dataclass(frozen=True)
class Arm:
    """How one arm works.

    Attributes:
        pick: positions of ``choice.n`` distinct members, int64, in the order of picking.
        reads_features: whether the pool is embedded for it.
        larger_pool: whether models make ``--pool-factor`` times N images for it, or N.
        adds_fresh: whether ``--fresh-fraction`` of its training set is unseen real images in every
            paradigm.
    """

    pick: Callable[[Choice], Indices]
    reads_features: bool = True
    larger_pool: bool = True
    adds_fresh: bool = False


def _random(choice: Choice) -> Indices:
    """Members drawn evenly, in pool order: all of them where there are no more."""
    rng = np.random.default_rng(choice.seed)
    drawn = rng.choice(len(choice.features), choice.n, replace=False)
    return np.sort(drawn).astype(np.int64)


def _greedy(choice: Choice) -> Indices:
    """Farthest-point selection from a random first member (the paper's Algorithm 1)."""
    picks: Indices = fastsel.greedy_select(choice.features, choice.n, random_state=choice.seed)
    return picks


def _greedy_entropy(choice: Choice) -> Indices:
    """From a random first member, the one that adds most to the entropy of the set, each time."""
    picks: Indices = fastsel.greedy_select(
        choice.features, choice.n, objective="entropy", random_state=choice.seed
    )
    return picks


def _threshold(choice: Choice) -> Indices:
    """Threshold decay filter from a random first member (the paper's Algorithm 2)."""
    config, features, n, seed = choice.config, choice.features, choice.n, choice.seed
    threshold = config.threshold
    if threshold is None:
        threshold = auto_threshold(features, seed=seed)
    distinct: Indices = fastsel.threshold_decay_select(
        features,
        n,
        threshold=threshold,
        decay=config.decay,
        decay_when=config.decay_when,
        on_shortfall="return",
        random_state=seed,
    )
    # No threshold accepts a copy, but a pool that collapsed to fewer than N different images must
    # not end a long run: copies follow in pool order.
    copies = np.setdiff1d(np.arange(len(features)), distinct)
    return np.concatenate([distinct, copies[: n - len(distinct)]])


def auto_threshold(features: Features, *, seed: int) -> float:
    """The first threshold where the user gave none: the median distance between pool members.

    Measured over at most 512 members drawn with the seed. It follows the scale of the features,
    and is high enough that only far-apart members pass at first: from there the decay does the
    selecting, whereas a threshold that starts too low takes the pool as it comes.
    """
    import torch

    rng = np.random.default_rng(seed)
    count = min(len(features), _THRESHOLD_SAMPLE)
    drawn = features[np.sort(rng.choice(len(features), count, replace=False))]
    distances = torch.pdist(torch.from_numpy(drawn).double())
    return max(float(distances.median()), float(np.finfo(np.float32).tiny))


def _dedup(choice: Choice) -> Indices:
    """Groups of near-duplicates give one random member each, and a second one only when all have.

    A group is what is connected by steps of at most the radius: DBSCAN without a least size.
    Cost O(P^2 D) where the features have many columns.
    """
    from sklearn.cluster import DBSCAN

    features = choice.features.astype(np.float64)
    radius = choice.config.dedup_radius
    if radius is None:
        nearest = np.asarray(fastsel.nearest_distances(choice.features))
        radius = max(0.5 * float(np.median(nearest)), float(np.finfo(np.float64).tiny))
    # Not "brute", whose expanded distances are off where points nearly coincide.
    model = DBSCAN(eps=radius, min_samples=1, algorithm="ball_tree", n_jobs=-1)
    groups = model.fit_predict(features)
    order = np.random.default_rng(choice.seed).permutation(len(groups))
    by_group = order[np.argsort(groups[order], kind="stable")]
    _, first, count = np.unique(groups[by_group], return_index=True, return_counts=True)
    turn = np.empty(len(groups), np.int64)  # of each member within its group
    turn[by_group] = np.arange(len(groups)) - np.repeat(first, count)
    return order[np.argsort(turn[order], kind="stable")][: choice.n].astype(np.int64)


def _kmeans(choice: Choice) -> Indices:
    """The members nearest to the centres of N clusters (scikit-learn's k-means, 20 rounds).

    A cluster without members, as copies make them, gives way to a random other member.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    seed = choice.seed % 2**32  # the most that scikit-learn takes
    model = KMeans(choice.n, init="random", n_init=1, max_iter=_KMEANS_ROUNDS, random_state=seed)
    # On one thread, because several add up centres in the order in which they finish.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = model.fit_predict(choice.features)
    centres = model.cluster_centers_[clusters].astype(np.float64)
    sq_dist = np.square(choice.features - centres).sum(axis=1)
    nearest_first = np.lexsort((sq_dist, clusters))
    medoids = nearest_first[np.unique(clusters[nearest_first], return_index=True)[1]]
    others = np.setdiff1d(np.arange(len(clusters)), medoids)
    filling = np.random.default_rng(choice.seed).permutation(others)[: choice.n - len(medoids)]
    return np.concatenate([medoids, filling]).astype(np.int64)


def _real_fraction(choice: Choice) -> Indices:
    """Random members, with as many real ones as greedy chose: what its share alone explains."""
    rng = np.random.default_rng(choice.seed)
    real, made = np.flatnonzero(choice.real), np.flatnonzero(~choice.real)
    # A subsampled pool may hold too few of either.
    count = int(np.clip(round(choice.real_share * choice.n), choice.n - len(made), len(real)))
    drawn = [
        rng.choice(real, count, replace=False),
        rng.choice(made, choice.n - count, replace=False),
    ]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


#: Every arm by the name that ``--arms`` takes.
ARMS: Mapping[str, Arm] = {
    "none": Arm(_random, reads_features=False, larger_pool=False),
    "random-2N": Arm(_random, reads_features=False),
    "greedy": Arm(_greedy),
    "greedy-entropy": Arm(_greedy_entropy),
    "threshold": Arm(_threshold),
    "dedup": Arm(_dedup),
    "kmeans": Arm(_kmeans),
    "real-fraction": Arm(_real_fraction, reads_features=False),
    "fresh": Arm(_random, reads_features=False, larger_pool=False, adds_fresh=True),
}
