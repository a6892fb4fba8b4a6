"""Choosing the next training set: the pool of candidates, and the arms that pick from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

import fastsel
from training.config import Config

REAL = 0
_THRESHOLD_SAMPLE = 512

Features = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """Candidates with their provenance.

    Attributes:
        images: uint8 [P, H, W, C].
        generation: int64 [P], whose model made the image; 0 for real images.
        index: int64 [P], its place among the samples of that generation or in the data set.
    """

    images: npt.NDArray[np.uint8]
    generation: Indices
    index: Indices

    def __len__(self) -> int:
        return len(self.images)

    def take(self, positions: Indices) -> Pool:
        """The members at positions, in that order."""
        return Pool(self.images[positions], self.generation[positions], self.index[positions])


def join(pools: Sequence[Pool]) -> Pool:
    """One pool after the other."""
    return Pool(
        np.concatenate([pool.images for pool in pools]),
        np.concatenate([pool.generation for pool in pools]),
        np.concatenate([pool.index for pool in pools]),
    )


def candidates_per_generation(config: Config, arm: str) -> int:
    """How many samples of each generation an arm may pick from."""
    return config.n if arm == "none" else config.n * config.pool_factor


def auto_threshold(features: Features, *, seed: int) -> float:
    """The first threshold where the user gave none: the median distance between pool members.

    Measured over at most 512 members drawn with the seed. It follows the scale of the features,
    and is high enough that only far-apart members pass at first: from there the decay does the
    selecting, whereas a threshold that starts too low takes the pool as it comes.
    """
    rng = np.random.default_rng(seed)
    count = min(len(features), _THRESHOLD_SAMPLE)
    drawn = features[np.sort(rng.choice(len(features), count, replace=False))]
    distances = torch.pdist(torch.from_numpy(drawn).double())
    return max(float(distances.median()), float(np.finfo(np.float32).tiny))


def _none(config: Config, features: Features, seed: int) -> Indices:
    """N members drawn evenly at random, in pool order: all of them where there are no more."""
    drawn = np.random.default_rng(seed).choice(len(features), config.n, replace=False)
    return np.sort(drawn).astype(np.int64)


def _greedy(config: Config, features: Features, seed: int) -> Indices:
    """Farthest-point selection from a random first member (the paper's Algorithm 1)."""
    picks: Indices = fastsel.greedy_select(features, config.n, random_state=seed)
    return picks


def _threshold(config: Config, features: Features, seed: int) -> Indices:
    """Threshold decay filter from a random first member (the paper's Algorithm 2)."""
    threshold = config.threshold
    if threshold is None:
        threshold = auto_threshold(features, seed=seed)
    distinct: Indices = fastsel.threshold_decay_select(
        features,
        config.n,
        threshold=threshold,
        decay=config.decay,
        decay_when=config.decay_when,
        on_shortfall="return",
        random_state=seed,
    )
    # No threshold accepts a copy, but a pool that collapsed to fewer than N different images must
    # not end a long run: copies follow in pool order.
    copies = np.setdiff1d(np.arange(len(features)), distinct)
    return np.concatenate([distinct, copies[: config.n - len(distinct)]])


_ARMS: Mapping[str, Callable[[Config, Features, int], Indices]] = {
    "none": _none,
    "greedy": _greedy,
    "threshold": _threshold,
}


def pick(config: Config, arm: str, features: Features, *, generation: int) -> Indices:
    """Positions of the N pool members that an arm trains the generation on.

    Args:
        features: float32 [P, D], P >= N, a row for each member. The arm ``none`` reads only P.

    Returns:
        int64 [N], distinct, in the order of picking.
    """
    return _ARMS[arm](config, features, config.derive_seed("selection", generation))
