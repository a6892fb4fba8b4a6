"""Compiles every kernel for GPUs that need not be there, as its launcher asks for it.

    python tests/compile_kernels.py FOLDER

Not in the interpreter, so it is a program of its own, which tests/test_kernels_compiled.py runs.
The launchers are called with tensors in host memory; where they would run a kernel, it is compiled
instead, for each architecture of the tile table. Prints a JSON list, an object for each build. The
assembly (.ptx) and the machine code (.cubin) go to FOLDER.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction, mangle_type

from fastsel.backends.torch_codes import Codes
from fastsel.backends.torch_entropy_ops import Balls, Runs
from fastsel.kernels.tiles import TILES
from fastsel.points import Points

N, DIM = 64, 20
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"

CANONICAL = ("min_update", "pair_min", "pair_sq_dists", "top_k", "sq_dist_matrix", "enter_balls")
BY_PRODUCT = ("pair_sq_dists", "top_k")
CHAINS = ("pick", "accept", "entropy_pick")

OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")


def arguments_of(operation, dtype=torch.float32, cosine=False, inner=False, k=10, active=N):
    """What an operation is called with; the numbers do not matter."""
    floats = torch.ones(N, dtype=torch.float64)
    rows = torch.arange(N)
    one = torch.ones(1, dtype=torch.int64)
    points = Points(torch.ones((N, DIM), dtype=dtype), floats if cosine else None)
    singles = torch.ones(N)
    bytes_of_rows = singles.to(torch.uint8)
    codes = Codes(torch.ones((N, N), dtype=torch.int8), singles, singles, singles, 1.0)
    pairs = torch.zeros((N, 2), dtype=torch.int32)
    found = torch.ones((N - 1, k), dtype=torch.float64), torch.ones((N - 1, k), dtype=torch.int64)
    matrix = torch.ones((active, active), dtype=torch.float64)
    state = (matrix, torch.arange(active), floats, one)
    numbers = rows.int()
    balls = Balls(numbers, numbers, rows, one)
    round = (matrix, torch.arange(active), numbers, Runs(rows, numbers, rows))
    return {
        "min_update": (points, floats, floats),
        "pair_min": (points, rows, points, rows, pairs, one, floats),
        "pair_sq_dists": (points, points, pairs, one, floats, inner),
        "by_row": (pairs, one, rows, singles.int()),
        "top_k": (points, rows[1:], points, rows, pairs[:, 0], True, inner, *found),
        "sq_dist_matrix": (points, rows, matrix),
        "group_min": (codes, rows, codes, rows, N, torch.ones((N, 1)), rows),
        "survivors": (codes, rows, codes, rows, singles, pairs, one, bytes_of_rows, rows),
        "pick": (*state, floats[:1], one, 0.0, rows, floats, one),
        "accept": (*state, floats, rows, rows, floats, one),
        "enter_balls": (points, rows, 0, rows, pairs, one, rows, rows, rows, balls),
        "renew_gains": (rows, floats, floats, 0.0, rows),
        "entropy_pick": (
            *round,
            Runs(rows, numbers, rows),
            one,
            one,
            0.0,
            rows,
            floats,
            rows,
            rows,
            floats,
            floats,
            rows,
            rows,
        ),
        "enter_picks": (matrix, torch.arange(active), rows, rows, floats, 0, balls),
    }[operation]


def source_of(kernel, arguments, options):
    """What Triton compiles when the kernel is launched like that."""
    values = dict(zip(kernel.arg_names, arguments, strict=False)) | options
    signature, constants, attributes = {}, {}, {}
    for i, parameter in enumerate(kernel.params):
        value = values[parameter.name]
        if parameter.is_constexpr:
            signature[parameter.name] = "constexpr"
            constants[(i,)] = value
            continue
        signature[parameter.name] = mangle_type(value)
        # What torch allocates is aligned.
        aligned = isinstance(value, torch.Tensor) or value % 16 == 0
        if aligned and not parameter.do_not_specialize:
            attributes[(i,)] = [["tt.divisibility", 16]]
    return ASTSource(kernel, signature, constants, attributes)


@contextmanager
def compiled_instead(target, builds):
    """While inside, a launch compiles, and appends (kernel, binary) to builds."""
    run = JITFunction.run

    def compile_instead(kernel, *arguments, grid, warmup, **options):
        asked = {name: options[name] for name in OPTIONS if name in options}
        source = source_of(kernel, arguments, options)
        builds.append((asked, triton.compile(source, target=target, options=asked)))

    JITFunction.run = compile_instead
    try:
        yield
    finally:
        JITFunction.run = run


def build(folder, operation, architecture, variant="float32", **options):
    """Compile one operation; returns what there is to know about the result."""
    module = importlib.import_module(f"fastsel.kernels.{operation}")
    module.tile = lambda name, like: TILES[architecture][name]
    builds = []
    with compiled_instead(GPUTarget("cuda", architecture, 32), builds):
        getattr(module, operation)(*arguments_of(operation, **options))
    ((asked, binary),) = builds
    name = folder / f"{operation}-{architecture}-{variant}"
    name.with_suffix(".ptx").write_text(binary.asm["ptx"])
    name.with_suffix(".cubin").write_bytes(binary.asm["cubin"])
    usage = subprocess.run(
        [CUOBJDUMP, "-res-usage", name.with_suffix(".cubin")],
        capture_output=True,
        text=True,
        check=True,
    )
    resources = dict(
        item.split(":")
        for line in (usage.stdout + usage.stderr).splitlines()
        if "REG:" in line
        for item in line.split()
    )
    return {
        "operation": operation,
        "architecture": architecture,
        "variant": variant,
        "options": asked,
        "registers": int(resources["REG"]),
        "spilled": int(resources["STACK"]) + int(resources["LOCAL"]),
        "shared": binary.metadata.shared,
        "path": str(name),
    }


def main() -> None:
    folder = Path(sys.argv[1])
    results = []
    for architecture, tiles in TILES.items():
        for operation in tiles:
            options = {"active": 2048} if operation in CHAINS else {}
            results.append(build(folder, operation, architecture, **options))
    for operation in CANONICAL:
        for dtype in ("float16", "bfloat16", "float64"):
            options = {"dtype": getattr(torch, dtype)}
            results.append(build(folder, operation, 90, dtype, **options))
        results.append(build(folder, operation, 90, "cosine", cosine=True))
    for operation in BY_PRODUCT:
        results.append(build(folder, operation, 90, "inner", inner=True))
    results.append(build(folder, "top_k", 90, "64 neighbours", k=64))
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
