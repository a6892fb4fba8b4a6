"""nvcc compiles the kernels, with the registers, memory and instructions that were planned for."""

from __future__ import annotations

import json
import subprocess

import pytest

from bench import gpu_resources

NVCC = gpu_resources.find_nvcc()
pytestmark = pytest.mark.skipif(NVCC is None, reason="nvcc was not found")

STORED = json.loads(gpu_resources.TABLE.read_text())

# Registers of an SM, and bytes of shared memory that its blocks may have together and each,
# without asking for more (CUDA C++ Programming Guide, table of compute capabilities).
REGISTERS = 65_536
SHARED = {"sm_80": 164 << 10, "sm_90a": 228 << 10, "sm_100": 228 << 10}
SHARED_OF_A_BLOCK = 48 << 10
SHARED_IF_ASKED = {"sm_80": 163 << 10, "sm_90a": 227 << 10, "sm_100": 227 << 10}

PRODUCTS = ("group_min", "survivors")


@pytest.fixture(scope="module")
def report():
    return gpu_resources.report(NVCC)


def test_the_table_is_that_of_the_compiler(report):
    stored = STORED["architectures"]
    assert {a: set(kernels) for a, kernels in report.items()} == {
        a: set(kernels) for a, kernels in stored.items()
    }
    for architecture, kernels in report.items():
        for name, found in kernels.items():
            known = stored[architecture][name]
            assert found["spilled"] == known["spilled"] == 0, (architecture, name)
            assert found["shared"] == known["shared"], (architecture, name)
            if gpu_resources.release(NVCC) == STORED["nvcc"]:
                assert found["registers"] == known["registers"], (architecture, name)


def test_every_tile_fits_as_often_as_the_table_says(report):
    # In order, as a GPU takes the last entry that is not newer than it is.
    assert [tile.capability for tile in gpu_resources.TILES] == [80, 90, 100]
    for architecture, kernels in report.items():
        for operation in PRODUCTS:
            for tile in gpu_resources.TILES:
                found = kernels[f"{operation} sm_{tile.capability}"]
                assert tile.blocks * tile.threads * found["registers"] <= REGISTERS
                assert tile.blocks * (found["shared"] + 1024) <= SHARED[architecture]
                assert found["shared"] <= SHARED_IF_ASKED[architecture]
                # The steps, at least.
                assert found["shared"] >= tile.stages * (tile.rows + tile.cols) * 64


def test_a_block_of_picks_fits(report):
    for architecture, kernels in report.items():
        for name, found in kernels.items():
            if not name.startswith(PRODUCTS):
                assert found["shared"] <= SHARED_OF_A_BLOCK, (architecture, name)
        for name in ("pick", "accept", "entropy_pick"):
            assert 512 * kernels[name]["registers"] <= REGISTERS


def test_the_instructions_are_those_meant(tmp_path):
    # No source asks for the architecture: the others' code says the same.
    text = {}
    for source in gpu_resources.SOURCES:
        target = tmp_path / f"{source.stem}.ptx"
        command = [NVCC, *gpu_resources.FLAGS, "-arch=compute_80", "-ptx"]
        subprocess.run([*command, str(source), "-o", str(target)], check=True)
        text[source.stem] = target.read_text()
    for name in PRODUCTS:
        assert "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32" in text[name]
        assert "ldmatrix.sync.aligned.m8n8.x4" in text[name]
        assert "cp.async.cg.shared.global" in text[name]
    canonical = ("min_update", "pair_min", "pair_sq_dists", "top_k", "sq_dist_matrix")
    for name in (*canonical, "enter_balls"):
        for operation in ("sub.rn.f64", "mul.rn.f64", "add.rn.f64", "div.rn.f64"):
            assert operation in text[name], name
    for name in ("pick", "accept", "entropy_pick"):
        assert "redux.sync" in text[name]
    for name, ptx in text.items():
        assert "fma.rn" not in ptx, f"{name}: a product and a sum in one rounding"
        assert ".local" not in ptx, f"{name}: an array outside of registers"
