"""What Triton makes of the kernels for each architecture of the tile table; needs no GPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton")

from fastsel.kernels.tiles import TILES

ROOT = Path(__file__).resolve().parent.parent

# What a program may have of shared memory, by NVIDIA's CUDA C++ Programming Guide.
SHARED_BYTES = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}

# Bytes of registers that a thread may have to keep in memory: some where products end, once a tile,
# and of 16 warps, which may have no more, some of what each has of its active rows.
SPILLED_BYTES = {"group_min": 160, "survivors": 240, "entropy_pick": 64}

# The instructions of int8 products.
TENSOR_CORES = {
    80: r"mma\.sync\.aligned\.m16n8k32\S*\.s8\.s8",
    90: r"wgmma\.mma_async\S*\.s8\.s8",
    100: r"tcgen05\.mma\S*\.kind::i8",
}

# Of distances, or of their logarithms.
CANONICAL = ("min_update", "pair_min", "pair_sq_dists", "top_k", "sq_dist_matrix")
CANONICAL += ("enter_balls", "renew_gains", "entropy_pick", "enter_picks")


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """All builds: what tests/compile_kernels.py prints, with the assembly."""
    folder = tmp_path_factory.mktemp("kernels")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(folder / "cache")
    environment["PYTHONPATH"] = str(ROOT)
    run = subprocess.run(
        [sys.executable, ROOT / "tests" / "compile_kernels.py", folder],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert run.returncode == 0, run.stderr
    results = json.loads(run.stdout)
    for result in results:
        result["ptx"] = Path(result["path"] + ".ptx").read_text()
    return results


def named(build):
    return f"{build['operation']} for sm_{build['architecture']}, {build['variant']}"


def test_every_entry_of_the_tile_table_is_built(builds):
    made = {(build["architecture"], build["operation"]) for build in builds}
    assert made == {(number, name) for number, tiles in TILES.items() for name in tiles}
    # The launcher asked for what the table says.
    for build in builds:
        tile = TILES[build["architecture"]][build["operation"]]
        assert build["options"]["num_warps"] == tile.warps, named(build)
        assert build["options"].get("num_stages", 1) == tile.stages, named(build)


def test_registers_and_shared_memory_suffice(builds):
    for build in builds:
        assert build["shared"] <= SHARED_BYTES[build["architecture"]], named(build)
        assert build["spilled"] <= SPILLED_BYTES.get(build["operation"], 0), named(build)
        threads = 32 * TILES[build["architecture"]][build["operation"]].warps
        assert threads * build["registers"] <= 1 << 16, named(build)


def test_products_run_on_tensor_cores(builds):
    products = [build for build in builds if build["operation"] in ("group_min", "survivors")]
    assert len(products) == 2 * len(TILES)
    for build in products:
        assert re.search(TENSOR_CORES[build["architecture"]], build["ptx"]), named(build)
        # Codes are copied to shared memory while others are multiplied.
        assert "cp.async" in build["ptx"], named(build)


def test_canonical_distances_round_every_operation(builds):
    canonical = [build for build in builds if build["operation"] in CANONICAL]
    assert len(canonical) >= len(CANONICAL) * len(TILES)
    for build in canonical:
        assert build["options"]["enable_fp_fusion"] is False, named(build)
        assert "fma.rn.f64" not in build["ptx"], named(build)
        # With the rounding spelt out, the assembler may not contract them either.
        assert "mul.rn.f64" in build["ptx"], named(build)
        assert "add.rn.f64" in build["ptx"], named(build)
        assert not re.search(r"\b(mul|add)\.f64", build["ptx"]), named(build)


def test_without_that_option_they_would_not(builds):
    """The test above can fail: elsewhere, where it does no harm, Triton does contract."""
    assert any("fma.rn.f64" in build["ptx"] for build in builds)


def test_keys_are_lowered_by_an_integer_minimum(builds):
    for build in builds:
        assert (".min.s64" in build["ptx"]) == (build["operation"] == "pair_min"), named(build)
