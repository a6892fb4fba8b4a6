"""The last phase of a generation: what its images are like, in figures and as a picture."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import fastsel
from training.arms import Features
from training.experiment import Experiment, Images
from training.grids import grid_png
from training.labels import sampling_labels
from training.metrics import (
    FeatureTriple,
    LabelTriple,
    class_means,
    class_metrics,
    generation_metrics,
)
from training.select import Pool

#: Samples in the picture of samples and their nearest training images.
PAIRS = 8


def measure(
    experiment: Experiment,
    arm: str,
    generation: int,
    training: Pool,
    samples: Images,
) -> dict[str, Any]:
    """The metrics of a generation; nearest.png shows samples beside what they may be copies of.

    Args:
        training: what its model was trained on, [N].
        samples: the first N images that the model made, uint8 [N, H, W, C].
    """
    config = experiment.config
    rng = np.random.default_rng(config.derive_seed("metrics"))
    count = min(config.metrics_real, len(experiment.images))
    reference = np.sort(rng.choice(len(experiment.images), count, replace=False))
    real = experiment.images[reference]
    features = {
        experiment.extractors[name].name: FeatureTriple(
            experiment.embed(name, training.images),
            experiment.embed(name, samples),
            experiment.embed(name, real),
        )
        for name in config.metrics_extractors
    }
    labels = None
    if experiment.labels is not None and training.labels is not None:
        labels = LabelTriple(
            training.labels,
            sampling_labels(config, training.labels, generation=generation, count=len(samples)),
            experiment.labels[reference],
        )

    chosen = experiment.extractors[config.extractor]
    pair = features.get(chosen.name) or (
        experiment.embed(config.extractor, training.images),
        experiment.embed(config.extractor, samples),
    )

    def compute() -> dict[str, Any]:
        logits = {
            extractor.name: told
            for name in config.metrics_extractors
            if (extractor := experiment.extractors[name]).name == "inception"
            and (told := extractor.logits(features[extractor.name].samples)) is not None
        }
        metrics: dict[str, Any] = generation_metrics(features, logits)
        if labels is not None:
            by_class = class_metrics(features, labels, experiment.n_classes)
            metrics |= {**class_means(by_class), "by_class": by_class}
        return metrics

    started = time.monotonic()
    metrics = experiment.processes.first(compute)
    folder = experiment.run.generation_dir(arm, generation)
    experiment.write(
        folder / "nearest.png", lambda: _nearest_png(training.images, samples, pair[0], pair[1])
    )
    experiment.seconds["metrics"] = time.monotonic() - started
    return metrics


def _nearest_png(
    training: Images, samples: Images, training_features: Features, sample_features: Features
) -> bytes:
    """Above, samples from the nearest to its nearest training image to the farthest, at even ranks.

    Below each, that training image: left the likeliest copies, right the most novel samples.
    """
    distances = fastsel.nearest_distances(sample_features, training_features)
    ranks = np.linspace(0, len(samples) - 1, min(PAIRS, len(samples))).round().astype(np.int64)
    shown = np.argsort(distances, kind="stable")[ranks]
    _, nearest = fastsel.knn(sample_features[shown], training_features, 1)
    return grid_png(np.concatenate([samples[shown], training[nearest[:, 0]]]), columns=len(shown))
