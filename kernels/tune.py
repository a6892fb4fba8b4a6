"""Times other tiles of the products on the GPU at hand: python -m fastsel.kernels.tune

Prints, for each operation, the seconds of every tile that compiles, and the line for
fastsel/kernels/tiles.py that the fastest makes. Nothing is kept.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator

import torch
import triton
from triton.testing import do_bench

from fastsel import kernels
from fastsel.backends.torch_codes import CODE_UNIT, Codes
from fastsel.kernels.launch import INTERPRETED
from fastsel.kernels.tiles import TILES, Tile, newest

Time = Callable[[Callable[[], object]], float]  # milliseconds of a call


def candidates() -> Iterator[Tile]:
    """Tiles that a product may be cut into."""
    for rows, cols, warps, stages in itertools.product((64, 128, 256), (64, 128), (4, 8), (3, 4)):
        if 32 <= rows * cols // (32 * warps) <= 128:  # sums of a thread
            yield Tile(rows, cols, CODE_UNIT, warps, stages)


def calls(n: int, dim: int, device: str) -> dict[str, Callable[[], object]]:
    """A call of each operation, n rows against n, of codes that nothing survives."""
    generator = torch.Generator(device).manual_seed(0)
    width = -(-dim // CODE_UNIT) * CODE_UNIT
    values = torch.randint(
        -127, 128, (n, width), dtype=torch.int8, device=device, generator=generator
    )
    ones = torch.ones(n, device=device)
    codes = Codes(values, ones, ones, ones, 1.0)
    rows = torch.arange(n, device=device)
    out = torch.empty((n, 1), device=device)
    pairs = torch.empty((1, 2), dtype=torch.int32, device=device)
    count = torch.zeros(1, dtype=torch.int64, device=device)
    overflow = torch.zeros(n, dtype=torch.uint8, device=device)
    return {
        "group_min": lambda: kernels.group_min(codes, rows, codes, rows, n, out),
        "survivors": lambda: kernels.survivors(
            codes, rows, codes, rows, -ones, pairs, count, overflow
        ),
    }


def tune(operation: str, call: Callable[[], object], tiles: dict[str, Tile], time: Time) -> None:
    """Print how long the call takes with each tile; the table is left as it was."""
    before = tiles[operation]
    seconds: dict[Tile, float] = {}
    try:
        for tile in candidates():
            tiles[operation] = tile
            try:
                seconds[tile] = time(call) / 1000
            except triton.runtime.errors.OutOfResources as error:
                print(f"{operation} {tile}: {error}")
                continue
            print(f"{operation} {tile}: {seconds[tile]:.6f} s")
    finally:
        tiles[operation] = before
    best = min(seconds, key=seconds.__getitem__)
    print(f'fastest: "{operation}": {best},')


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m fastsel.kernels.tune", description=__doc__)
    parser.add_argument("--n", type=int, default=16_384, help="rows (default: 16384)")
    parser.add_argument("--dim", type=int, default=384, help="columns (default: 384)")
    options = parser.parse_args()
    if INTERPRETED or not torch.cuda.is_available():
        parser.exit(1, "a CUDA device is needed, and TRITON_INTERPRET must not be set\n")
    capability = newest(torch.device("cuda"))
    print(f"{torch.cuda.get_device_name()}: entry {capability} of the tile table")
    for operation, call in calls(options.n, options.dim, "cuda").items():
        tune(operation, call, TILES[capability], do_bench)


if __name__ == "__main__":
    main()
