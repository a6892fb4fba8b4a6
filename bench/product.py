"""Rates of the matrix product: the libraries' best in float32, and ours, fused with its filter."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable

import numpy as np

from bench import timing
from bench.data import Features
from fastsel.backends import cpu
from fastsel.points import as_points

ROWS, COLUMNS = 4096, 8192

Call = Callable[[], object]


def rates(dim: int, repeats: int = 7) -> dict[str, float]:
    """GFLOP/s of each product of inner size `dim`, in turns; the best of the repeats.

    The best, not the median: it says what the machine can do, the hardest measure for us.
    """
    rng = np.random.default_rng(0)
    a = rng.standard_normal((ROWS, dim), np.float32)
    b = rng.standard_normal((COLUMNS, dim), np.float32)
    calls = sgemms(a, b)
    flops = dict.fromkeys(calls, 2.0 * ROWS * COLUMNS * dim)
    if not cpu.unusable_because():
        calls["fastsel"], flops["fastsel"] = fused_product(dim)
    for call in calls.values():
        call()
    seconds = timing.interleaved(calls, repeats)
    return {name: flops[name] / min(seconds[name]) / 1e9 for name in calls}


def best_sgemm(found: dict[str, float]) -> float:
    """The best rate that is not ours."""
    return max(rate for name, rate in found.items() if name != "fastsel")


def sgemms(a: Features, b: Features) -> dict[str, Call]:
    """The libraries' a @ b.T, into memory that is already there."""
    out = np.empty((len(a), len(b)), np.float32)
    calls: dict[str, Call] = {"NumPy": lambda: np.matmul(a, b.T, out=out)}
    if importlib.util.find_spec("torch") is not None:
        import torch

        x, y, z = torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(out)
        calls["torch"] = lambda: torch.mm(x, y.T, out=z)
    return calls


def fused_product(dim: int) -> tuple[Call, float]:
    """Our product of inner size `dim`, and how many operations a plain product of its size takes.

    The core's entry is square, packs its input and writes its matrix, so this understates the
    product inside refresh, which writes nothing.
    """
    n = math.isqrt(ROWS * COLUMNS)
    points = as_points("points", np.random.default_rng(0).standard_normal((n, dim), np.float32))
    (coded,) = cpu.encode(points)
    rows = np.arange(n)
    threads = cpu.threads()
    return lambda: cpu._native().filter_matrix(coded, rows, threads), 2.0 * n * n * dim
