"""Classes of images: how many of which are sampled, and how many are selected."""

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


def apportion(counts: Labels, n: int) -> Labels:
    """Parts of n in proportion to counts, int64 [K], by the largest remainders.

    They sum up to n; each is the proportional part rounded down or up, and so at most its count.
    Of equal remainders the lowest class is rounded up first.

    Args:
        counts: int64 [K], members of each class, of a sum of at least n and above 0.

    Example:
        >>> import numpy as np
        >>> from training.labels import apportion
        >>> apportion(np.array([50, 30, 20, 0]), 13)
        array([6, 4, 3, 0])
    """
    exact = counts * n
    parts, remainders = np.divmod(exact, counts.sum())
    missing = n - parts.sum()
    parts[np.argsort(-remainders, kind="stable")[:missing]] += 1
    return parts
