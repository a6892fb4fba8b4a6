"""The last phase of a generation: what its images are like, in figures and as a picture."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from training.labels import sampling_labels
from training.metrics import (
    FeatureTriple,
    LabelTriple,
    class_means,
    class_metrics,
    generation_metrics,
)
from training.select import Pool

if TYPE_CHECKING:
    from training.generation import Experiment


def measure(
    experiment: Experiment,
    arm: str,
    generation: int,
    training: Pool,
    samples: npt.NDArray[np.uint8],
) -> dict[str, Any]:
    """The metrics of a generation.

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

    def compute() -> dict[str, Any]:
        metrics: dict[str, Any] = generation_metrics(features)
        if labels is not None:
            by_class = class_metrics(features, labels, experiment.n_classes)
            metrics |= {**class_means(by_class), "by_class": by_class}
        return metrics

    started = time.monotonic()
    metrics = experiment.processes.first(compute)
    experiment.seconds["metrics"] = time.monotonic() - started
    return metrics
