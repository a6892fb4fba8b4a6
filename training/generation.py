"""One generation of one arm, in four phases: choose a training set, train, sample, measure.

A phase whose result is in the run folder is read, not repeated. Its result is the last file that
the phase writes, so the folder never claims a phase that was cut short.

Of several processes the first alone decides, selects and writes; all train, sample and embed.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from diffusers import UNet2DModel
from tqdm import tqdm

from training.arms import ARMS, Features
from training.budget import UNLIMITED, Budget, BudgetSpent
from training.config import Config
from training.embed import Extractor, extract, load_extractor
from training.grids import grid_png
from training.labels import Labels, sampling_labels
from training.measure import measure
from training.model import load_model, model_bytes, resolve_device, training_threads
from training.plan import samples_needed
from training.processes import ALONE, Processes
from training.run import RunFolder
from training.sample import sample
from training.select import (
    REAL,
    Pool,
    candidates_per_generation,
    fresh_per_generation,
    join,
    pick,
    real_images,
)
from training.train import train

Images = npt.NDArray[np.uint8]

# How much sampling a kill may lose; small runs never get to write a part.
_SECONDS_BETWEEN_PARTS = 300.0


@dataclass
class Experiment:
    """What the generations of a run have in common.

    Attributes:
        images: the data set, uint8 [M, H, W, C], M >= N.
        labels: the class of each image, int64 [M], where the models are told it.
        n_classes: how many classes there are.
        show: show progress bars.
        processes: those that make the run together.
        budget: what the command may spend.
        seconds: of the phases of the generation that is being made.
    """

    config: Config
    run: RunFolder
    images: Images
    extractors: Mapping[str, Extractor]
    labels: Labels | None = None
    n_classes: int = 0
    show: bool = False
    processes: Processes = ALONE
    budget: Budget = UNLIMITED
    seconds: dict[str, float] = field(default_factory=dict)

    def has(self, path: Path) -> bool:
        """Whether a file is there, as the first process sees it."""
        return self.processes.first(path.exists)

    def write(self, path: Path, content: Callable[[], bytes]) -> None:
        """Write a file of the run within the budget, by the first process."""
        self.processes.first(lambda: self.budget.write(path, content()))

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there, by the first process."""
        self.processes.first(lambda: path.unlink(missing_ok=True))

    def check_time(self) -> None:
        """Raise BudgetSpent in every process when the first one's time is over."""
        self.processes.first(self.budget.check_time)

    def embed(self, name: str, images: Images) -> Features:
        """Features of images, float32 [N, D], cached in the run folder."""
        started = time.monotonic()
        features: Features = extract(
            self.extractors[name],
            images,
            cache_dir=self.run.path / "cache",
            processes=self.processes,
            budget=self.budget,
        )
        spent = time.monotonic() - started
        self.seconds["embed"] = self.seconds.get("embed", 0.0) + spent
        return features


def load_extractors(config: Config) -> dict[str, Extractor]:
    """Every extractor that a run needs, loaded up front: a missing weight file is found at once.

    Raises:
        ExtractorError: the weights of one cannot be had.
    """
    weights = dict(config.extractor_weights)
    device = str(resolve_device(config))
    names = dict.fromkeys((config.extractor, *config.metrics_extractors))
    return {name: load_extractor(name, weights=weights.get(name), device=device) for name in names}


def run_generation(experiment: Experiment, arm: str, generation: int) -> dict[str, Any]:
    """Make a generation, or what is missing of it, and return its line of metrics."""
    experiment.seconds.clear()
    experiment.check_time()
    training = _choose(experiment, arm, generation)
    with training_threads(experiment.config, training.images.shape[1]):
        model = _train(experiment, arm, generation, training)
        samples = _sample(experiment, arm, generation, model, training)
    metrics = measure(experiment, arm, generation, training, samples)
    phases = ("select", "train", "sample", "embed", "metrics")
    return {
        "arm": arm,
        "generation": generation,
        **metrics,
        "real_share": float(np.mean(training.generation == REAL)),
        **{f"seconds/{phase}": experiment.seconds.get(phase, 0.0) for phase in phases},
    }


def _choose(experiment: Experiment, arm: str, generation: int) -> Pool:
    """The training set: N real images at first, then the arm's picks from its pool.

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
        lambda: _npz(
            generation=picked.generation,
            index=picked.index,
            position=positions,
            **_labelled("label", picked.labels),
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


def _train(experiment: Experiment, arm: str, generation: int, training: Pool) -> UNet2DModel:
    config = experiment.config
    folder = experiment.run.generation_dir(arm, generation)
    path, checkpoint = folder / "model.safetensors", folder / "checkpoint.safetensors"
    if experiment.has(path):
        model, seconds = load_model(path)
        model.to(resolve_device(config))
    else:
        model, seconds = train(
            config,
            training.images,
            training.labels,
            experiment.n_classes,
            generation=generation,
            checkpoint=checkpoint,
            progress=experiment.show,
            processes=experiment.processes,
            budget=experiment.budget,
        )
        experiment.write(path, lambda: model_bytes(model, seconds=seconds))
    experiment.remove(checkpoint)
    experiment.seconds["train"] = seconds
    return model


def _sample(
    experiment: Experiment, arm: str, generation: int, model: UNet2DModel, training: Pool
) -> Images:
    """The generation's samples, of which the metrics see the first N.

    samples.npz holds ``images``, as many as the next generation may pick from, and for
    class-conditional models the ``labels`` that they were sampled for. A long sampling keeps what
    it has in samples.part.npz meanwhile.
    """
    config = experiment.config
    folder = experiment.run.generation_dir(arm, generation)
    path, part = folder / "samples.npz", folder / "samples.part.npz"
    if experiment.has(path):
        images, seconds = _load_samples(path)
    else:
        count = samples_needed(config, arm, generation)
        labels = None
        if training.labels is not None:
            labels = sampling_labels(config, training.labels, generation=generation, count=count)
        images, seconds = _sample_rest(experiment, generation, model, labels, count, part)
        experiment.write(folder / "samples.png", lambda: grid_png(images))
        experiment.write(
            path, lambda: _npz(images=images, **_labelled("labels", labels), seconds=seconds)
        )
    experiment.remove(part)
    experiment.seconds["sample"] = seconds
    return images[: config.n]


def _sample_rest(
    experiment: Experiment,
    generation: int,
    model: UNet2DModel,
    labels: Labels | None,
    count: int,
    part: Path,
) -> tuple[Images, float]:
    """All samples of a generation from the part that is there, and the seconds that they took."""
    config, processes = experiment.config, experiment.processes
    batches: list[Images] = []
    before = 0.0
    if experiment.has(part):
        images, before = _load_samples(part)
        batches.append(images)
    first = sum(map(len, batches))
    started = written = time.monotonic()

    def seconds() -> float:
        return before + time.monotonic() - started

    def keep() -> None:
        experiment.write(part, lambda: _npz(images=np.concatenate(batches), seconds=seconds()))

    def due() -> bool:
        return time.monotonic() - written > _SECONDS_BETWEEN_PARTS

    with tqdm(
        total=count,
        initial=first,
        desc="sampling",
        unit="image",
        leave=False,
        disable=None if experiment.show else True,
    ) as bar:
        for batch in sample(
            config,
            model,
            labels,
            generation=generation,
            first=first,
            count=count,
            processes=processes,
        ):
            batches.append(batch)
            bar.update(len(batch))
            if sum(map(len, batches)) == count:
                break
            try:
                experiment.check_time()
            except BudgetSpent:
                keep()
                raise
            if processes.first(due):
                keep()
                written = time.monotonic()
    return np.concatenate(batches), seconds()


def _load_samples(path: Path) -> tuple[Images, float]:
    with np.load(path) as saved:
        return saved["images"], float(saved["seconds"])


def _labelled(name: str, labels: Labels | None) -> dict[str, Labels]:
    """Labels as an array of a file; no array where there are none."""
    return {} if labels is None else {name: labels}


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()
