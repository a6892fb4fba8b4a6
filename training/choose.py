"""The first phase of a generation: which images its model is trained on."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from training.arms import ARMS
from training.experiment import Experiment, labelled, npz
from training.grids import grid_png
from training.select import (
    REAL,
    Pool,
    candidates_per_generation,
    fresh_per_generation,
    join,
    pick,
    real_images,
)


def choose(experiment: Experiment, arm: str, generation: int) -> Pool:
    """The training set of a generation: N real images at first, then the arm's picks from its pool.

    picks.npz holds, in the order of picking, each image's provenance (``generation``, 0 for real,
    and ``index``), its ``position`` in the pool and, for class-conditional models, its ``label``.
    Training sees the picks in pool order, so that arms that pick the same images train the same
    model.
    """
    folder = experiment.run.generation_dir(arm, generation)
    fresh = _real_pool(experiment, generation, fresh_per_generation(experiment.config, arm))
    pool = fresh if generation == 1 else join([fresh, _candidates(experiment, arm, generation)])
    path = folder / "picks.npz"
    if experiment.has(path):
        with np.load(path) as saved:
            experiment.seconds["select"] = float(saved["seconds"])
            return pool.take(np.sort(saved["position"]))
    positions = np.arange(len(fresh))
    if generation > 1:
        others = pool.take(np.arange(len(fresh), len(pool)))
        picks = _pick(experiment, arm, generation, others)
        positions = np.concatenate([positions, len(fresh) + picks])
    training = pool.take(np.sort(positions))
    picked = pool.take(positions)
    experiment.write(folder / "training.png", lambda: grid_png(training.images))
    experiment.write(
        path,
        lambda: npz(
            generation=picked.generation,
            index=picked.index,
            position=positions,
            **labelled("label", picked.labels),
            seconds=experiment.seconds.get("select", 0.0),
        ),
    )
    return training


def _pick(experiment: Experiment, arm: str, generation: int, pool: Pool) -> npt.NDArray[np.int64]:
    config = experiment.config
    # By generation, not the pool at once: what was embedded for an earlier pool is in the cache.
    features = np.empty((len(pool), 0), np.float32)
    if ARMS[arm].reads_features:
        parts = [pool.images[pool.generation == g] for g in np.unique(pool.generation)]
        features = np.concatenate([experiment.embed(config.extractor, part) for part in parts])
    real_share: float | npt.NDArray[np.float64] = 0.0
    if arm == "real-fraction":
        real_share = _real_share_of_greedy(experiment, generation)
    started = time.monotonic()
    positions = experiment.processes.first(
        lambda: pick(
            config,
            arm,
            features,
            generation=generation,
            real=pool.generation == REAL,
            real_share=real_share,
            labels=pool.labels,
        )
    )
    experiment.seconds["select"] = time.monotonic() - started
    return positions


def _real_share_of_greedy(
    experiment: Experiment, generation: int
) -> float | npt.NDArray[np.float64]:
    """The share of real images among the picks of greedy, or [K] of those in each class."""
    with np.load(experiment.run.generation_dir("greedy", generation) / "picks.npz") as saved:
        real = saved["generation"] == REAL
        if experiment.config.select_within == "all":
            return float(np.mean(real))
        counts, reals = (
            np.bincount(saved["label"], weights, experiment.n_classes) for weights in (None, real)
        )
    return reals / np.maximum(counts, 1)


def _real_pool(experiment: Experiment, generation: int, count: int) -> Pool:
    """The real images that a generation is given: the first one's N, or ``count`` fresh ones."""
    index = real_images(experiment.config, len(experiment.images), generation, count)
    labels = None if experiment.labels is None else experiment.labels[index]
    return Pool(experiment.images[index], np.full(len(index), REAL), index, labels)


def _candidates(experiment: Experiment, arm: str, generation: int) -> Pool:
    """What an arm may train a later generation on, in order of generation and index."""
    config = experiment.config
    count = candidates_per_generation(config, arm)
    accumulate = config.paradigm.startswith("accumulate")
    pools = [_real_pool(experiment, 1, 0)] if accumulate else []
    for earlier in range(1 if accumulate else generation - 1, generation):
        path = experiment.run.generation_dir(arm, earlier) / "samples.npz"
        with np.load(path) as saved:
            images = saved["images"][:count]
            labels = saved["labels"][:count] if "labels" in saved else None
        pools.append(Pool(images, np.full(count, earlier), np.arange(count), labels))
    pool = join(pools)
    if config.paradigm != "accumulate-subsample":
        return pool
    rng = np.random.default_rng(config.derive_seed("subsample", generation))
    return pool.take(np.sort(rng.choice(len(pool), count, replace=False)))
