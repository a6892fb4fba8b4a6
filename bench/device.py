"""What runs on a GPU beside fastsel: the loops on tensors that stay there, and other libraries."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor


class Clock:
    """Seconds by CUDA events: those at which the device reaches this point of the stream."""

    def __init__(self) -> None:
        self._begin: Any = None

    def __call__(self) -> float:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        event.synchronize()
        if self._begin is None:
            self._begin = event
        return float(self._begin.elapsed_time(event)) * 1e-3


def cdist_loop(points: Tensor, m: int) -> Tensor:
    """The loop of bench.loops.released_loop: it waits for every pick."""
    nearest = points.new_full((len(points),), torch.inf)
    picks = [0]
    while len(picks) < m:
        distances = torch.cdist(points, points[picks[-1]][None])[:, 0]
        nearest = torch.minimum(nearest, distances)
        picks.append(int(torch.argmax(nearest)))
    return torch.tensor(picks)


def cached_norm_loop(points: Tensor, m: int) -> Tensor:
    """The loop of bench.loops.best_loop_torch; nothing in it waits for the device."""
    sq_norms = torch.einsum("ij,ij->i", points, points)
    low = torch.full_like(sq_norms, torch.inf)
    work = torch.empty_like(low)
    picks = torch.zeros(m, dtype=torch.int64, device=points.device)
    for i in range(1, m):
        newest = picks[i - 1 : i]
        torch.mv(points, points.index_select(0, newest)[0] * -2, out=work)
        work += sq_norms.index_select(0, newest)
        torch.minimum(low, work, out=low)
        low.index_fill_(0, newest, -torch.inf)
        torch.add(low, sq_norms, out=work)
        picks[i : i + 1] = torch.argmax(work, dim=0, keepdim=True)
    return picks


def cdist_search(points: Tensor, k: int) -> Tensor:
    """Distances to the k nearest, self first, from blocks of torch.cdist and topk."""
    step = max(1, (1 << 28) // len(points))
    blocks = [torch.cdist(block, points).topk(k, largest=False)[0] for block in points.split(step)]
    return torch.cat(blocks)


def faiss_search(points: Tensor, k: int) -> Tensor:
    """The same by faiss's flat index on the GPU."""
    faiss = pytest.importorskip("faiss", reason="faiss-gpu is not installed")
    if not hasattr(faiss, "GpuIndexFlatL2"):
        pytest.skip("faiss is installed without its part for GPUs")
    pytest.importorskip("faiss.contrib.torch_utils")  # lets the index take tensors
    index = faiss.GpuIndexFlatL2(faiss.StandardGpuResources(), points.shape[1])
    index.add(points)
    sq_distances: Tensor = index.search(points, k)[0]
    return sq_distances.clamp(min=0).sqrt()


def cuvs_search(points: Tensor, k: int) -> Tensor:
    """The same by the brute-force index of RAPIDS cuVS."""
    brute_force = pytest.importorskip("cuvs.neighbors.brute_force", reason="cuVS is not installed")
    index = brute_force.build(points, metric="sqeuclidean")
    sq_distances, _ = brute_force.search(index, points, k)
    return torch.as_tensor(sq_distances, device=points.device).clamp(min=0).sqrt()
