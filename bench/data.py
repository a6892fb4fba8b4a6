"""Features to benchmark on: read from a file, or made like those of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float32]

# Fitted to features of natural images (50,000 x 320 from a convolutional network): eigenvalue j of
# the covariance falls like j^-1.1, the distance to the mean varies by a quarter, and the mean
# itself is off the origin by more than a typical row is off the mean.
EIGENVALUE_EXPONENT = 1.1
RADIUS_SPREAD = 0.25
MEAN_OFFSET = 1.4

N_CLUSTERS = 100
BETWEEN_CLUSTERS = 0.4  # their share of the variance
SIZE_EXPONENT = 0.7  # cluster c holds a share like (c + 1)^-0.7


def clustered(n: int, dim: int, seed: int = 0) -> Features:
    """Synthetic features, float32 [n, dim]: clusters of varied size over a power-law spectrum.

    The same bits for the same arguments on one machine; a matrix product makes the rotation, so
    that other machines may round differently.
    """
    rng = np.random.default_rng(seed)
    scales = np.arange(1, dim + 1) ** (-EIGENVALUE_EXPONENT / 2)
    scales /= np.sqrt(np.sum(scales**2))
    sizes = np.arange(1, N_CLUSTERS + 1) ** -SIZE_EXPONENT
    labels = rng.choice(N_CLUSTERS, size=n, p=sizes / sizes.sum())
    centres = rng.standard_normal((N_CLUSTERS, dim)) * scales * np.sqrt(BETWEEN_CLUSTERS)
    radii = np.exp(RADIUS_SPREAD * rng.standard_normal(n)) * np.sqrt(1 - BETWEEN_CLUSTERS)
    rotation = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    mean = rng.standard_normal(dim) * MEAN_OFFSET / np.sqrt(dim)
    features = np.empty((n, dim), np.float32)
    step = 4096  # keeps the float64 temporaries small
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        within = rng.standard_normal((rows.stop - start, dim)) * scales
        features[rows] = (centres[labels[rows]] + within * radii[rows, None]) @ rotation + mean
    return features


def load(path: Path) -> Features:
    """The matrix in a .npy file, of any float type, as float32 [N, D]."""
    array = np.load(path)
    if array.ndim != 2 or array.dtype.kind != "f":
        raise SystemExit(
            f"--features must hold a float matrix [N, D], got {array.dtype} {array.shape} in {path}"
        )
    return np.ascontiguousarray(array, dtype=np.float32)


def thinned(features: Features, n: int) -> Features:
    """At most n rows, evenly spaced."""
    if n >= len(features):
        return features
    return np.ascontiguousarray(features[np.linspace(0, len(features) - 1, n).astype(np.int64)])
