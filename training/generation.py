"""One generation of one arm, in four phases: choose a training set, train, sample, measure.

A phase whose result is in the run folder is read, not repeated. Its result is the last file that
the phase writes, so the folder never claims a phase that was cut short.

Of several processes the first alone decides, selects and writes; all train, sample and embed.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import UNet2DModel
from tqdm import tqdm

from training.budget import BudgetSpent
from training.choose import choose
from training.device import resolve_device, training_threads
from training.experiment import Experiment, Images, labelled, npz
from training.grids import grid_png
from training.labels import Labels, sampling_labels
from training.measure import measure
from training.model import load_model, model_bytes
from training.plan import samples_needed
from training.sample import sample
from training.select import REAL, Pool
from training.train import train

# How much sampling a kill may lose; small runs never get to write a part.
_SECONDS_BETWEEN_PARTS = 300.0
# The size of a batch that was found to fit, so that a resumed run goes on with equal ones.
_BATCH_FILE = "sampling-batch.txt"


def run_generation(experiment: Experiment, arm: str, generation: int) -> dict[str, Any]:
    """Make a generation, or what is missing of it, and return its line of metrics."""
    experiment.seconds.clear()
    experiment.check_time()
    training = choose(experiment, arm, generation)
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
            path, lambda: npz(images=images, **labelled("labels", labels), seconds=seconds)
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
        experiment.write(part, lambda: npz(images=np.concatenate(batches), seconds=seconds()))

    def halved(batch: int) -> None:
        experiment.write(experiment.run.path / _BATCH_FILE, lambda: f"{batch}\n".encode())

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
            batch=_batch(experiment),
            halved=halved if config.sampling_batch_size is None else None,
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


def _batch(experiment: Experiment) -> int | None:
    """How many images at once were found to fit, earlier in this run."""
    path = experiment.run.path / _BATCH_FILE
    found: int | None = experiment.processes.first(
        lambda: int(path.read_text()) if path.exists() else None
    )
    return found


def _load_samples(path: Path) -> tuple[Images, float]:
    with np.load(path) as saved:
        return saved["images"], float(saved["seconds"])
