"""Who else finds exact nearest neighbours on the processor."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data import Features
from bench.peers import missing

Distances = npt.NDArray[Any]
Search = Callable[[Features, int], Distances]

CHUNK = 1024  # queries of a matrix of distances in torch


@dataclass(frozen=True)
class Peer:
    """One way to search.

    prepare(points) gives search(queries, k), whose result is the distances to the k nearest points,
    [Q, k], ascending. Every search finds the indices too. Fewer queries than `block` would cost a
    peer more time each: it takes so many together.
    """

    name: str
    what: str
    module: str  # that it needs
    block: int
    prepare: Callable[[Features], Search]

    def missing(self) -> str | None:
        """Why the peer is skipped, or None."""
        return missing(self.module)


def faiss_prepare(points: Features) -> Search:
    """faiss, an exact index of squared Euclidean distances."""
    with warnings.catch_warnings():
        # SWIG's types lack a module attribute, which newer Pythons remark on at import.
        warnings.filterwarnings("ignore", "builtin type [Ss]wig", DeprecationWarning)
        import faiss

    index = faiss.IndexFlatL2(points.shape[1])
    index.add(points)

    def search(queries: Features, k: int) -> Distances:
        sq_distances = index.search(queries, k)[0]
        return np.asarray(np.sqrt(np.maximum(sq_distances, 0)))

    return search


def sklearn_prepare(points: Features) -> Search:
    """scikit-learn by brute force, which fuses the search with the product in tiles."""
    from sklearn.neighbors import NearestNeighbors

    neighbours = NearestNeighbors(algorithm="brute").fit(points)
    return lambda queries, k: np.asarray(neighbours.kneighbors(queries, k)[0])


def torch_prepare(points: Features) -> Search:
    """torch.cdist and topk, over chunks of the queries."""
    import torch

    base = torch.from_numpy(points)

    def search(queries: Features, k: int) -> Distances:
        parts = [
            torch.cdist(part, base).topk(k, largest=False)[0]
            for part in torch.from_numpy(queries).split(CHUNK)
        ]
        return np.asarray(torch.cat(parts))

    return search


def keops_prepare(points: Features) -> Search:
    """KeOps: a compiled loop over pairs that keeps the k least."""
    import pykeops
    from pykeops.numpy import LazyTensor

    pykeops.set_verbose(False)
    base = LazyTensor(points[None])

    def search(queries: Features, k: int) -> Distances:
        sq_dist = ((LazyTensor(queries[:, None]) - base) ** 2).sum(-1)
        return np.sqrt(sq_dist.Kmin_argKmin(k, dim=1)[0])

    return search


PEERS = (
    Peer("faiss", "IndexFlatL2", "faiss", 4096, faiss_prepare),
    Peer("scikit-learn", 'NearestNeighbors(algorithm="brute")', "sklearn", 1024, sklearn_prepare),
    Peer(
        "torch",
        f"torch.cdist and topk over chunks of {CHUNK:,} queries",
        "torch",
        CHUNK,
        torch_prepare,
    ),
    Peer("pykeops", "LazyTensor.Kmin_argKmin on the processor", "pykeops", 64, keops_prepare),
)
