"""The pool of candidates for the next training set, and how an arm is asked to pick from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.arms import ARMS, Choice, Features, Indices
from training.config import Config
from training.labels import Labels, apportion

REAL = 0


@dataclass(frozen=True)
class Pool:
    """Candidates with their provenance.

    Attributes:
        images: uint8 [P, H, W, C].
        generation: int64 [P], whose model made the image; 0 for real images.
        index: int64 [P], its place among the samples of that generation or in the data set.
        labels: int64 [P], its class: the data's, or the one that it was sampled for; None where
            models are not told.
    """

    images: npt.NDArray[np.uint8]
    generation: Indices
    index: Indices
    labels: Labels | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, positions: Indices) -> Pool:
        """The members at positions, in that order."""
        return Pool(
            self.images[positions],
            self.generation[positions],
            self.index[positions],
            None if self.labels is None else self.labels[positions],
        )


def join(pools: Sequence[Pool]) -> Pool:
    """One pool after the other; all of them have labels, or none has."""
    labels = [pool.labels for pool in pools if pool.labels is not None]
    return Pool(
        np.concatenate([pool.images for pool in pools]),
        np.concatenate([pool.generation for pool in pools]),
        np.concatenate([pool.index for pool in pools]),
        np.concatenate(labels) if labels else None,
    )


def candidates_per_generation(config: Config, arm: str) -> int:
    """How many samples of each generation an arm may pick from."""
    return config.n * config.pool_factor if ARMS[arm].larger_pool else config.n


def fresh_per_generation(config: Config, arm: str) -> int:
    """How many real images that were never used go into each later training set of an arm."""
    if config.paradigm == "fresh" or ARMS[arm].adds_fresh:
        return round(config.fresh_fraction * config.n)
    return 0


def images_needed(config: Config) -> int:
    """How many different real images a run trains on."""
    fresh = max(fresh_per_generation(config, arm) for arm in config.arms)
    return config.n + (config.generations - 1) * fresh


def real_images(config: Config, n_images: int, generation: int, count: int) -> Indices:
    """Which real images a generation trains on whatever its arm picks, int64, ascending.

    The first generation has ``config.n`` of them, whatever ``count``; each later one ``count``
    that no earlier one had.
    """
    rng = np.random.default_rng(config.derive_seed("real set"))
    first = np.sort(rng.choice(n_images, config.n, replace=False)).astype(np.int64)
    if generation == 1:
        return first
    unused = np.setdiff1d(np.arange(n_images), first)
    rng = np.random.default_rng(config.derive_seed("fresh"))
    start = (generation - 2) * count
    return np.sort(rng.permutation(unused)[start : start + count]).astype(np.int64)


def pick(
    config: Config,
    arm: str,
    features: Features,
    *,
    generation: int,
    real: npt.NDArray[np.bool_] | None = None,
    real_share: float | npt.NDArray[np.float64] = 0.0,
    labels: Labels | None = None,
) -> Indices:
    """Positions of the pool members that an arm trains the generation on.

    Within classes (``--select-within class``) an arm picks from each class by itself; the numbers
    are those of :func:`training.labels.apportion`.

    Args:
        features: float32 [P, D], a row for each member, P at least N less the fresh images.
        real: bool [P], which members are real images; default none.
        real_share: of the picks of the arm ``greedy`` in this generation, for ``real-fraction``;
            within classes one for each, [K].
        labels: int64 [P], below K, the class of each member; needed within classes.

    Returns:
        int64, distinct, in the order of picking, within classes class by class: N less the fresh
        images of the generation.
    """
    n = config.n - fresh_per_generation(config, arm)
    real = np.zeros(len(features), bool) if real is None else real
    select = ARMS[arm].pick
    if config.select_within == "all":
        seed = config.derive_seed("selection", generation)
        return select(Choice(config, n, features, real, seed, float(real_share)))
    assert labels is not None
    shares = np.atleast_1d(real_share)
    counts = np.bincount(labels, minlength=len(shares))
    shares = np.broadcast_to(shares, counts.shape)
    picks = []
    for label, quota in enumerate(apportion(counts, n).tolist()):
        members = np.flatnonzero(labels == label)
        if quota < len(members):
            seed = config.derive_seed("selection", generation, label)
            share = float(shares[label])
            choice = Choice(config, quota, features[members], real[members], seed, share)
            members = members[select(choice)] if quota else members[:0]
        picks.append(members)
    return np.concatenate(picks)
