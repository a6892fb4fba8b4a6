"""Classes of images that class-conditional models make: how many of which are sampled."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.config import Config

Labels = npt.NDArray[np.int64]


def sampling_labels(config: Config, training: Labels, *, generation: int, count: int) -> Labels:
    """The classes to sample the images of a generation for, int64 [count].

    They are those of the training set, shuffled, over and over: so every N samples have as many of
    each class as the N training images, and only selection changes the shares of the classes.
    Label i does not depend on ``count``, nor on how many were sampled before an interruption.

    Args:
        training: int64 [N], the labels of the model's training set.
    """
    passes = []
    for number in range(-(-count // len(training))):
        rng = np.random.default_rng(config.derive_seed("labels", generation, number))
        passes.append(rng.permutation(training))
    return np.concatenate(passes)[:count]
