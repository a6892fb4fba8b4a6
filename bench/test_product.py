"""The product alone: that of our filter, fused with its epilogue, and the libraries' sgemm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench import product
from fastsel.backends import cpu


@pytest.mark.parametrize("dim", [320, 768])
@pytest.mark.parametrize("library", ["fastsel", "NumPy", "torch"])
def test_product(benchmark: Any, library: str, dim: int) -> None:
    benchmark.group = f"product: {product.ROWS} x {product.COLUMNS} x {dim}"
    flops = 2.0 * product.ROWS * product.COLUMNS * dim
    if library == "fastsel":
        if reasons := cpu.unusable_because():
            pytest.skip("; ".join(reasons))
        call, flops = product.fused_product(dim)
    else:
        rng = np.random.default_rng(0)
        a = rng.standard_normal((product.ROWS, dim), np.float32)
        b = rng.standard_normal((product.COLUMNS, dim), np.float32)
        calls = product.sgemms(a, b)
        if library not in calls:
            pytest.skip(f"{library} is not installed")
        call = calls[library]
    benchmark.pedantic(call, rounds=5, warmup_rounds=1)
    benchmark.extra_info["gflops"] = flops / benchmark.stats.stats.min / 1e9
