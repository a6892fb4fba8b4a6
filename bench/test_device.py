"""`pytest bench/ --device cuda`: selections and neighbours of CUDA tensors, by CUDA events.

Groups hold ours, on each backend, beside the loops and libraries that run on the same device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastsel
from bench import check, ours
from bench.data import Features

torch = pytest.importorskip("torch", reason="torch is not installed")

from bench import device  # noqa: E402

K = 10
SAMPLE = 64
TOLERANCE = 1e-3  # of a distance, for peers in float32
CHECKED = 100

Call = Callable[[Any, int], Any]


def select_with(backend: str) -> Call:
    return lambda points, m: fastsel.greedy_select(points, m, start=0, backend=backend)


def search_with(backend: str) -> Call:
    return lambda points, k: fastsel.knn(points, points, k, backend=backend)[0]


BACKENDS = ("cuda", "triton", "torch")
SELECTIONS: dict[str, Call] = {
    **{f"fastsel-{name}": select_with(name) for name in BACKENDS},
    "cdist-loop": device.cdist_loop,
    "cached-norm-loop": device.cached_norm_loop,
}
SEARCHES: dict[str, Call] = {
    **{f"fastsel-{name}": search_with(name) for name in BACKENDS},
    "cdist-topk": device.cdist_search,
    "faiss-gpu": device.faiss_search,
    "cuvs": device.cuvs_search,
}


def points_on(name: str, pool: Features, contender: str) -> Any:
    """The pool on the device; skips where the contender can not run there."""
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    backend = contender.removeprefix("fastsel-")
    if backend != contender and not fastsel.backends()[backend].usable:
        pytest.skip(fastsel.backends()[backend].detail)
    return torch.from_numpy(pool).to(name)


def note(benchmark: Any, call: str, contender: str, size: list[int]) -> None:
    """Say what was measured, for `python -m bench.gpu_model --measured`."""
    device_name = torch.cuda.get_device_name()
    benchmark.extra_info.update(device=device_name, call=call, contender=contender, size=size)


@pytest.mark.benchmark(timer=device.Clock())
@pytest.mark.parametrize("share", [8, 2])
@pytest.mark.parametrize("contender", SELECTIONS)
def test_greedy_select(
    benchmark: Any, device_name: str, pool: Features, contender: str, share: int
) -> None:
    points, select = points_on(device_name, pool, contender), SELECTIONS[contender]
    n, dim = pool.shape
    m = n // share
    benchmark.group = f"greedy_select on {torch.cuda.get_device_name()}: {m:,} of {n:,} x {dim}"
    note(benchmark, "greedy_select", contender, [n, dim, m])
    exact = ours.select(pool, CHECKED)
    picks = select(points, CHECKED).cpu().numpy()
    if contender.startswith("fastsel"):
        np.testing.assert_array_equal(picks, exact)
    else:
        verdict = check.verify(pool, picks, exact)
        assert verdict.good, verdict
    benchmark.pedantic(select, (points, m), rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(timer=device.Clock())
@pytest.mark.parametrize("contender", SEARCHES)
def test_knn(benchmark: Any, device_name: str, pool: Features, contender: str) -> None:
    points, search = points_on(device_name, pool, contender), SEARCHES[contender]
    n, dim = pool.shape
    benchmark.group = f"knn on {torch.cuda.get_device_name()}: {K} of {n:,} x {dim}"
    note(benchmark, "knn", contender, [n, dim, K])
    sample = np.linspace(0, n - 1, SAMPLE).astype(np.int64)
    exact = fastsel.knn(pool[sample], pool, K + 1)[0]
    found = search(points, K + 1).cpu().numpy()[sample]
    tolerance = 0 if contender.startswith("fastsel") else TOLERANCE
    np.testing.assert_allclose(found[:, 1:], exact[:, 1:], rtol=tolerance)
    benchmark.pedantic(search, (points, K + 1), rounds=3, warmup_rounds=1)
