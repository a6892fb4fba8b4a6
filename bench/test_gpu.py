"""Selections and searches on a GPU, ours and plain ones: pytest bench/test_gpu.py --device cuda.

Times are those between two events of the stream, medians of some rounds. With --record they go
into docs/gpu-measured.json, and docs/gpu.md puts them beside its predictions; that page's sizes are
--n-points 65536 or 262144 with --dim 384 or 768.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastsel
from bench import gpu_model, loops
from bench.data import Features

torch = pytest.importorskip("torch", reason="torch is not installed")

ROUNDS = 5
BACKENDS = ("cuda", "triton")
# Plain loops in float32 part from the exact picks after some; with these, they have to agree.
CHECKED = 20

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture
def points(request: pytest.FixtureRequest, pool: Features) -> Any:
    if request.config.getoption("--device") != "cuda":
        pytest.skip("needs --device cuda")
    return torch.from_numpy(pool).cuda()


@pytest.fixture
def report(request: pytest.FixtureRequest, capsys: Any) -> Iterator[Callable[..., None]]:
    """Prints times as ratios and, with --record, keeps ours."""

    def show(call: str, size: list[int], seconds: dict[str, float]) -> None:
        fastest = min(value for name, value in seconds.items() if name.startswith("fastsel"))
        with capsys.disabled():
            print(f"\n{call} {size} on {torch.cuda.get_device_name()}")
            for name, value in seconds.items():
                print(f"  {name:16} {value:10.4f} s  {value / fastest:8.2f}")
        if request.config.getoption("--record") and "fastsel cuda" in seconds:
            keep(call, size, seconds["fastsel cuda"])

    return show


def keep(call: str, size: list[int], seconds: float) -> None:
    """Put a time into the record of measured ones, in place of an older one."""
    device = torch.cuda.get_device_name()
    known = [gpu.name for gpu in gpu_model.GPUS if gpu.device in device]
    entry = {"gpu": known[0] if known else device, "call": call, "size": size}
    others = [
        one
        for one in json.loads(gpu_model.MEASURED.read_text())
        if {key: one[key] for key in entry} != entry
    ]
    command = " ".join(["python -m pytest", *sys.argv[1:]])
    others.append({**entry, "seconds": seconds, "device": device, "command": command})
    gpu_model.MEASURED.write_text(json.dumps(others, indent=1) + "\n")
    gpu_model.main([])


def seconds_of(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The median time of some calls on the current stream, after one that does not count."""
    call()
    times = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(times)


def usable() -> list[str]:
    names = [name for name in BACKENDS if fastsel.backends()[name].usable]
    assert names, fastsel.backends()
    return names


@pytest.mark.parametrize("share", [8, 2])
def test_greedy_select(points: Any, pool: Features, report: Any, share: int) -> None:
    n, dim = points.shape
    m = n // share
    expected = fastsel.greedy_select(pool, m, start=0, backend="cpu")
    seconds = {}
    for name in usable():

        def ours(name: str = name) -> Any:
            return fastsel.greedy_select(points, m, start=0, backend=name)

        np.testing.assert_array_equal(ours().cpu(), expected)
        seconds[f"fastsel {name}"] = seconds_of(ours)
    for name, loop in (
        ("released loop", loops.released_loop),
        ("cached norms", loops.best_loop_torch),
    ):
        np.testing.assert_array_equal(loop(points, CHECKED), expected[:CHECKED])
        seconds[name] = seconds_of(lambda loop=loop: loop(points, m), rounds=1)
    report("greedy_select", [n, dim, m], seconds)


def test_knn(points: Any, pool: Features, report: Any) -> None:
    n, dim = points.shape
    expected = fastsel.knn(pool, pool, 1, exclude_self=True, backend="cpu")
    seconds = {}
    for name in usable():

        def ours(name: str = name) -> Any:
            return fastsel.knn(points, points, 1, exclude_self=True, backend=name)

        for one, other in zip(ours(), expected, strict=True):
            np.testing.assert_array_equal(one.cpu(), other)
        seconds[f"fastsel {name}"] = seconds_of(ours)
    seconds |= {name: seconds_of(search) for name, search in flat_searches(points)}
    report("knn", [n, dim, 1], seconds)


def flat_searches(points: Any) -> Iterator[tuple[str, Callable[[], object]]]:
    """Brute-force searches that are installed, for the two nearest: the first is the point."""
    try:
        import faiss
        import faiss.contrib.torch_utils

        index = faiss.GpuIndexFlatL2(faiss.StandardGpuResources(), points.shape[1])
        index.add(points)
        yield "faiss-gpu flat", lambda: index.search(points, 2)
    except (ImportError, AttributeError):
        print("faiss-gpu is not installed")
    try:
        from cuvs.neighbors import brute_force

        built = brute_force.build(points)
        yield "cuVS brute force", lambda: brute_force.search(built, points, 2)
    except ImportError:
        print("cuVS is not installed")
