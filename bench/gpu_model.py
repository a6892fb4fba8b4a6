"""Predict what the CUDA backend takes on a GPU, and write docs/gpu.md.

    python -m bench.gpu_model            # the page, from the JSON files beside it
    python -m bench.gpu_model --count    # count anew what a selection does (minutes), then the page
    python -m bench.gpu_model --measured FILE    # take up measured times, then the page

Nothing here is measured on a GPU. The times follow from

- docs/gpu-work.json: the rounds of selections, counted on the processor by --count. Which rows are
  refreshed and picked does not depend on the backend;
- docs/gpu-resources.json: registers and shared memory of each kernel (bench/gpu_resources.py);
- the figures of the GPUs, and the assumptions, that are constants below.

What `pytest bench/ --device cuda --benchmark-json FILE` measures on a GPU goes into
docs/gpu-measured.json by `--measured FILE`, and the page has it beside its predictions.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench import gpu_resources
from bench.gpu_resources import Tile

DOCS = Path(__file__).resolve().parent.parent / "docs"
WORK, MEASURED, PAGE = (DOCS / name for name in ("gpu-work.json", "gpu-measured.json", "gpu.md"))

SIZES = (65_536, 262_144)
DIMS = (384, 768)
SHARES = (2, 8)  # of the points, one in so many is picked
NEIGHBOURS = 10


@dataclass(frozen=True)
class Gpu:
    """Peak figures of a GPU, without sparsity."""

    name: str
    device: str  # what torch calls it, in part
    architecture: str
    processors: int
    clock: float  # Hz, boost
    lanes: int  # of a processor: float32 operations a cycle
    int8: float  # operations a second on tensor cores
    float32: float  # operations a second, a multiply-add being two
    float64: float  # likewise, not on tensor cores
    memory: float  # bytes a second
    shared: int  # bytes of a processor that its blocks share
    mma_share: float  # of the tensor cores' peak that mma.sync reaches with int8, by itself
    l2: float  # bytes a cycle that all processors together get from the L2 cache

    @property
    def tile(self) -> Tile:
        """How the products cut their work on it."""
        known = {f"sm_{tile.capability}": tile for tile in gpu_resources.TILES}
        return known[self.architecture.rstrip("a")]


A100 = Gpu(
    name="A100 SXM 80 GB",
    device="A100-SXM4-80GB",
    architecture="sm_80",
    processors=108,
    clock=1.41e9,
    lanes=64,
    int8=624e12,
    float32=19.5e12,
    float64=9.7e12,
    memory=2.039e12,
    shared=164 << 10,
    mma_share=607.6 / 624,
    l2=2007.9,
)
H100 = Gpu(
    name="H100 SXM",
    device="H100 80GB HBM3",
    architecture="sm_90a",
    processors=132,
    clock=1.98e9,
    lanes=128,
    int8=1979e12,
    float32=67e12,
    float64=34e12,
    memory=3.35e12,
    shared=228 << 10,
    mma_share=977.9 / 1513,  # measured on a H800 PCIe, whose peak is that
    l2=3942.4,
)
GPUS = (A100, H100)

# Assumptions. Shares are of the peak.
MEMORY_SHARE = 0.85  # of a stream through memory
GATHER_SHARE = 0.5  # of rows that lie anywhere
LOOP_SHARE = 0.77  # of what bounds the steps of a product
SHARED_BYTES = 128  # a cycle, of a processor's shared memory
FLOAT64_SHARE = 0.7
GEMM_SHARE = 0.8  # of float32, by cuBLAS
EPILOGUE = 8  # instructions for each pair that follow its product
LAUNCH = 4e-6  # seconds for the host to launch a kernel
SYNC = 10e-6  # seconds from the end of a kernel until the host goes on
LISTED = 1.5  # pairs of a search that pass the filter, for each neighbour
INSERTION = 60  # instructions of a warp to take a neighbour in
ROUND_LAUNCHES = 110  # kernels of a round: some 85 operations, of which torch's sorts launch more
FILTER_LAUNCHES = 30  # more of them where distances among active rows are filtered
SORT_PASSES = 8  # over keys and indices, of a radix sort of float64

# Cycles of a pick, one after the other.
L2_LATENCY = 270
L2_BYTES_OF_ONE = 64  # a cycle, that one processor gets from the L2 cache
REDUCE = 25  # of 32-bit numbers over a warp
REDUCTIONS = 6
BARRIER = 40
SHARED_ROUND_TRIP = 60
PICK_ARITHMETIC = 60
BALL_READS = 6  # from a pick's row to the gains in a ball that shrinks, one after the other
LOG_OPERATIONS = 36  # float64, of a logarithm
LOG_CYCLES = 2 * LOG_OPERATIONS * 8  # of two, in a row

# Of greedy entropy, for each refreshed row, as `record` counts them on the processor at N = 65,536,
# d = 384 and M = 8,192 of the synthetic features: pairs listed for balls.
BALL_PAIRS = 10

STEP = 64  # bytes of a code in a step of a product
MATRIX_TILE = 32
BLOCK_THREADS = {"sq_dist_matrix": 256, "pick": 512, "accept": 512}
BLOCK_THREADS |= {"min_update": 256, "pair_min": 256, "pair_sq_dists": 256}
BLOCK_THREADS |= {"by_row": 256, "top_k": 256}
BLOCK_THREADS |= {"enter_balls": 256, "renew_gains": 256, "enter_picks": 256, "entropy_pick": 512}
REGISTERS = 65_536
MAX_THREADS = 2048
MAX_BLOCKS = 32
RESERVED_SHARED = 1024  # of every block, by the system
SEARCH_ROWS = 1 << 14  # fastsel/backends/device/neighbours.py
FILTERED_ACTIVE = 1024  # fastsel/backends/device/pool.py
BLOCK_POINTS = 512  # that a block takes: csrc/cuda/survivors.cu, backends/device/survivors.py


# Rows of a tile for which the pairs of a refresh are counted.
HEIGHTS = (64, 128, 256)


class Round(NamedTuple):
    """One round of a selection."""

    refreshed: int
    centres: int  # that there were
    room: int  # rows of the matrix
    picked: int
    canonical: int  # pairs that passed the filter of the refresh
    # Pairs of its rows and centres, by HEIGHTS of tiles that start at the first centre which one of
    # their rows has not seen.
    pairs: tuple[int, int, int]
    near: int  # pairs of active rows and those that would lower their keys


class Cost(NamedTuple):
    """What a kernel moves and computes, and the seconds that it takes."""

    bytes: float
    operations: float
    seconds: float


def threads_of(gpu: Gpu, kernel: str) -> int:
    """Of a block."""
    return BLOCK_THREADS.get(kernel.split()[0], gpu.tile.threads)


def blocks_per_processor(gpu: Gpu, kernel: str, report: dict[str, Any]) -> int:
    """How many blocks of a kernel are on a processor at a time."""
    threads = threads_of(gpu, kernel)
    registers = -(-report["registers"] // 8) * 8
    return min(
        MAX_BLOCKS,
        MAX_THREADS // threads,
        REGISTERS // (registers * threads),
        gpu.shared // (report["shared"] + RESERVED_SHARED),
    )


def step_cycles(gpu: Gpu, tile: Tile) -> dict[str, float]:
    """What a step of a tile takes of a processor, by each thing that may bound it."""
    moved = (tile.rows + tile.cols) * STEP
    read = (tile.warp_rows + tile.warp_cols) * STEP * tile.threads // 32
    operations = 2.0 * tile.rows * tile.cols * STEP
    rate = gpu.int8 * gpu.mma_share / (gpu.processors * gpu.clock)
    l2 = moved / (gpu.l2 / gpu.processors)
    # With one block on a processor nothing is done while its warps wait for each other.
    waits = BARRIER + SHARED_ROUND_TRIP if tile.blocks == 1 else 0
    return {
        "tensor cores": operations / rate + waits,
        "shared memory": (read + moved) / SHARED_BYTES,
        "L2": l2,
        # The copies of a block are on their way for all of its steps but one.
        "latency": (L2_LATENCY + l2) / ((tile.stages - 1) * tile.blocks),
    }


def product(gpu: Gpu, rows: int, pairs: float, dim: int, cut: Tile | None = None) -> Cost:
    """An int8 product with its epilogue: `group_min` and `survivors`.

    A step takes what bounds it; steps and epilogue take turns. Blocks have some tiles each and
    start with a copy that nothing hides where they are alone; the last ones may find half of the
    GPU idle.
    """
    tile = gpu.tile if cut is None else cut
    depth = -(-dim // STEP) * STEP
    # Tiles begin anywhere: half of the last one is empty.
    row_tiles = -(-rows // tile.rows)
    tiles = pairs / (tile.rows * tile.cols) + row_tiles / 2
    step = max(step_cycles(gpu, tile).values()) / LOOP_SHARE
    cycles = depth / STEP * step + tile.rows * tile.cols * EPILOGUE / gpu.lanes
    in_block = BLOCK_POINTS / tile.cols
    starts = tiles / in_block * (2 * L2_LATENCY if tile.blocks == 1 else 0)
    last = in_block * cycles * tile.blocks / 2
    seconds = ((tiles * cycles + starts) / gpu.processors + last) / gpu.clock
    moved = tiles * (tile.rows + tile.cols) * depth
    return Cost(moved, 2.0 * tiles * tile.rows * tile.cols * depth, seconds)


def sq_dist_matrix(gpu: Gpu, rows: int, dim: int) -> Cost:
    """Three float64 operations for each component of each pair of the upper triangle of tiles."""
    tiles = -(-rows // MATRIX_TILE)
    pairs = tiles * (tiles + 1) / 2 * MATRIX_TILE**2
    operations = 3.0 * pairs * dim
    # The peak counts a multiply-add as two.
    seconds = operations / (gpu.float64 / 2 * FLOAT64_SHARE)
    return Cost(8.0 * rows * rows, operations, seconds)


def pick(gpu: Gpu, rows: int, picks: int) -> Cost:
    """A chain: a row of the matrix from the L2 cache, then the largest key of the block."""
    cycles = (
        L2_LATENCY
        + 8 * rows / L2_BYTES_OF_ONE
        + REDUCTIONS * REDUCE
        + BARRIER
        + SHARED_ROUND_TRIP
        + PICK_ARITHMETIC
    )
    return Cost(8.0 * rows * picks, 2.0 * rows * picks, picks * cycles / gpu.clock)


def entropy_pick(gpu: Gpu, rows: int, picks: int) -> Cost:
    """The same for gains, of 64 bits, and then the balls that a pick shrinks."""
    chain = pick(gpu, rows, picks)
    more = (
        BALL_READS * L2_LATENCY
        + REDUCTIONS * REDUCE
        + BARRIER
        + LOG_CYCLES  # of rows whose distance falls, which most warps have one of
    )
    operations = chain.operations + 2.0 * LOG_OPERATIONS * picks * BLOCK_THREADS["entropy_pick"]
    return Cost(chain.bytes, operations, chain.seconds + picks * more / gpu.clock)


def enter_balls(gpu: Gpu, rows: int, dim: int) -> Cost:
    """Listed pairs, and a logarithm for each."""
    count = BALL_PAIRS * rows
    listed = pairs(gpu, count, dim)
    return listed._replace(operations=listed.operations + LOG_OPERATIONS * count)


def renew_gains(gpu: Gpu, rows: int) -> Cost:
    """Two distances and a gain of each row, wherever they lie, and two logarithms."""
    moved = rows * (2.0 * 8 + 3 * 32)
    return Cost(moved, 2.0 * LOG_OPERATIONS * rows, moved / (gpu.memory * GATHER_SHARE))


def enter_picks(gpu: Gpu, rows: int, picks: int) -> Cost:
    """A row of the matrix for each pick."""
    moved = 8.0 * rows * picks
    return Cost(moved, 2.0 * rows * picks, moved / (gpu.memory * MEMORY_SHARE))


def pairs(gpu: Gpu, count: int, dim: int) -> Cost:
    """Listed pairs: two float32 rows each, wherever they lie, and three float64 operations."""
    moved = count * 2.0 * dim * 4
    operations = 3.0 * count * dim
    seconds = moved / (gpu.memory * GATHER_SHARE)
    return Cost(moved, operations, max(seconds, operations / (gpu.float64 / 2 * FLOAT64_SHARE)))


def by_row(gpu: Gpu, listed: int) -> Cost:
    """Two passes over a list of pairs, with an atomic addition each."""
    moved = listed * (2.0 * 8 + 2 * 16 + 4)
    return Cost(moved, 2.0 * listed, moved / (gpu.memory * GATHER_SHARE))


def top_k(gpu: Gpu, queries: int, listed: int, dim: int) -> Cost:
    """Each listed pair: a float32 row, three float64 operations, and its place among the first."""
    moved = (listed + queries) * dim * 4.0
    operations = 3.0 * listed * dim
    rows = moved / (gpu.memory * GATHER_SHARE)
    arithmetic = operations / (gpu.float64 / 2 * FLOAT64_SHARE)
    places = listed * INSERTION * 32 / (gpu.processors * gpu.lanes * gpu.clock)
    return Cost(moved, operations, max(rows, arithmetic) + places)


def min_update(gpu: Gpu, n: int, dim: int) -> Cost:
    """A stream through all float32 rows."""
    moved = n * (dim * 4.0 + 16)
    return Cost(moved, 3.0 * n * dim, moved / (gpu.memory * MEMORY_SHARE))


def sort(gpu: Gpu, n: int) -> Cost:
    """A radix sort of n keys with their indices, by torch."""
    moved = 2.0 * SORT_PASSES * n * 16
    return Cost(moved, 0.0, moved / (gpu.memory * MEMORY_SHARE))


def infinities(gpu: Gpu, rows: int) -> Cost:
    """A matrix that is filled with one number."""
    moved = 8.0 * rows * rows
    return Cost(moved, 0.0, moved / (gpu.memory * MEMORY_SHARE))


def added(*costs: Cost) -> Cost:
    """One after the other."""
    return Cost(*map(sum, zip(*costs, strict=True)))


def round_costs(gpu: Gpu, one: Round, n: int, dim: int) -> dict[str, Cost]:
    """The kernels of a round of greedy selection."""
    looked = one.pairs[HEIGHTS.index(gpu.tile.rows)]
    refresh = product(gpu, one.refreshed, looked, dim)
    costs = {
        "sort": sort(gpu, n),
        "group_min": refresh,
        "survivors": refresh,
        "pair_min": pairs(gpu, one.canonical, dim),
        "sq_dist_matrix": sq_dist_matrix(gpu, one.room, dim),
        "pair_sq_dists": Cost(0.0, 0.0, 0.0),
        "pick": pick(gpu, one.room, one.picked),
    }
    if one.room >= FILTERED_ACTIVE:
        costs["survivors"] = added(refresh, product(gpu, one.room, one.room**2, dim))
        costs["sq_dist_matrix"] = Cost(0.0, 0.0, 0.0)
        costs["pair_sq_dists"] = added(infinities(gpu, one.room), pairs(gpu, one.near, dim))
    return costs


def greedy(gpu: Gpu, rounds: list[Round], n: int, dim: int) -> float:
    """Seconds of a selection: in each round the kernels or their launches, and one wait."""
    total = encode(gpu, n, dim)
    for one in rounds:
        kernels = sum(cost.seconds for cost in round_costs(gpu, one, n, dim).values())
        launches = ROUND_LAUNCHES + (FILTER_LAUNCHES if one.room >= FILTERED_ACTIVE else 0)
        total += max(kernels, launches * LAUNCH) + SYNC
    return total


def encode(gpu: Gpu, n: int, dim: int) -> float:
    """Seconds to make the codes, in plain torch: a dozen passes over the rows in float64."""
    return 12 * n * dim * 8 * 2 / (gpu.memory * MEMORY_SHARE) + 100 * LAUNCH


def released_loop(gpu: Gpu, n: int, dim: int, m: int) -> float:
    """Seconds of the loop with torch.cdist, in its favour: it reads the rows once for each pick.

    torch.cdist at one centre makes temporaries of the size of the rows, which are not counted. The
    host waits for every pick: a launch, the pass over the rows, and a wait.
    """
    return m * (n * (dim + 4) * 4.0 / (gpu.memory * MEMORY_SHARE) + LAUNCH + SYNC)


def cached_loop(gpu: Gpu, n: int, dim: int, m: int) -> float:
    """Seconds of the best plain loop: a matrix-vector product, six kernels, and no wait."""
    return m * max(n * (dim + 12) * 4.0 / (gpu.memory * MEMORY_SHARE), 6 * LAUNCH)


def knn(gpu: Gpu, n: int, dim: int) -> float:
    """Seconds of neighbours of a set among itself: two products and the canonical distances."""
    seconds = encode(gpu, n, dim)
    for first in range(0, n, SEARCH_ROWS):
        rows = min(SEARCH_ROWS, n - first)
        listed = int(LISTED * (NEIGHBOURS + 1) * rows)  # a row finds itself too
        kernels = [
            product(gpu, rows, rows * n, dim),
            product(gpu, rows, rows * n, dim),
            by_row(gpu, listed),
            top_k(gpu, rows, listed, dim),
        ]
        seconds += sum(cost.seconds for cost in kernels) + 20 * LAUNCH + SYNC
    return seconds


def flat_knn(gpu: Gpu, n: int, dim: int) -> float:
    """Seconds of a brute-force search: a float32 product by cuBLAS, written and read once."""
    compute = 2.0 * n * n * dim / (gpu.float32 * GEMM_SHARE)
    return compute + 2.0 * n * n * 4 / (gpu.memory * MEMORY_SHARE)


def looked_at(seen: npt.NDArray[np.int64], centres: int, height: int) -> int:
    """Pairs of a refresh: rows in the order of what they have seen, `height` of them to a tile."""
    starts = np.sort(seen)[np.arange(len(seen)) // height * height]
    return int((centres - starts).sum())


def count_near(rows: npt.NDArray[np.float64], keys: npt.NDArray[np.float64]) -> int:
    """Pairs of rows and others, or themselves, whose squared distance is below the first's key."""
    sq_norms = (rows * rows).sum(axis=1)
    sq_dists = sq_norms[:, None] + sq_norms - 2 * rows @ rows.T
    return int((sq_dists < keys[:, None]).sum())


def count_rounds(n: int, dim: int, m: int) -> list[Round]:
    """The rounds of a selection from synthetic features, on the processor.

    As on a device: the leaders are exactly so many, and a refresh drops no row before the last
    centre.
    """
    from bench.data import clustered
    from fastsel import schedule
    from fastsel.backends import cpu
    from fastsel.points import as_points
    from fastsel.progress import Progress

    rounds: list[Round] = []

    class ExactLeaders(cpu.State):
        def leaders(self, size: int) -> tuple[npt.NDArray[np.int64], tuple[float, int]]:
            return schedule.leaders(self.keys, size)

    class Counting(cpu.Pool):
        def refresh(self, rows: Any, keys: Any, seen: Any, rival: Any) -> tuple[int, int, int]:
            count = self._count
            one, two, four = (looked_at(seen[rows], count, height) for height in HEIGHTS)
            work = super().refresh(rows, keys, seen, schedule.NO_RIVAL)
            room = min(schedule.MAX_ACTIVE, max(schedule.FEWEST_ACTIVE, count // 2), len(rows))
            if len(rows) > 1:  # not the first pick
                rounds.append(Round(len(rows), count, room, 0, work[2], (one, two, four), 0))
            return work

        def pick(self, rows: Any, keys: Any, *args: Any) -> tuple[int, int, int]:
            near = count_near(points.rows(rows), keys[rows])
            work = super().pick(rows, keys, *args)
            rounds[-1] = rounds[-1]._replace(picked=work[0], near=near)
            return work

    backend: Any = SimpleNamespace(
        Pool=Counting, State=ExactLeaders, adopt=cpu.adopt, min_update=cpu.min_update
    )
    points = as_points("features", clustered(n, dim))
    selection = schedule.Greedy(backend, points, m)
    selection.add_prefix(np.zeros(1, np.int64))
    selection.run(-1.0, Progress(False, "", m))
    return rounds


def rounds_of(work: dict[str, Any], n: int, dim: int, m: int) -> list[Round]:
    """Those until m points are picked: a smaller selection is the beginning of a larger one."""
    rounds = []
    left = m - 1
    for values in work[f"{n}x{dim}"]:
        if left <= 0:
            break
        one = Round(*values[:5], tuple(values[5]), values[6])
        rounds.append(one._replace(picked=min(one.picked, left)))
        left -= one.picked
    assert left <= 0
    return rounds


def take_up(known: list[dict[str, Any]], report: dict[str, Any]) -> list[dict[str, Any]]:
    """Measured times: those known, with those of a report of pytest-benchmark for their like."""
    found = {}
    for one in [*known, *map(_measurement, report["benchmarks"])]:
        found[one["device"], one["call"], one["contender"], tuple(one["size"])] = one
    return list(found.values())


def _measurement(benchmark: dict[str, Any]) -> dict[str, Any]:
    said = {key: benchmark["extra_info"][key] for key in ("device", "call", "contender", "size")}
    return {**said, "seconds": benchmark["stats"]["median"]}


def table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Lines of Markdown."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def milliseconds(seconds: float) -> str:
    """Three figures."""
    value = seconds * 1e3
    return f"{value:.3g} ms" if value < 1000 else f"{seconds:.3g} s"


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_model", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--count", action="store_true", help="count the rounds anew")
    parser.add_argument("--measured", type=Path, help="what pytest-benchmark wrote on a GPU")
    options = parser.parse_args(arguments)
    if options.count:
        work = json.loads(WORK.read_text()) if WORK.exists() else {}
        for n in SIZES:
            for dim in DIMS:
                work[f"{n}x{dim}"] = count_rounds(n, dim, n // 2)
                WORK.write_text(json.dumps(work) + "\n")
    if options.measured:
        known = json.loads(MEASURED.read_text())
        taken = take_up(known, json.loads(options.measured.read_text()))
        MEASURED.write_text(json.dumps(taken, indent=1) + "\n")
    from bench.gpu_page import page

    PAGE.write_text(
        page(
            json.loads(WORK.read_text()),
            json.loads(gpu_resources.TABLE.read_text()),
            json.loads(MEASURED.read_text()),
        )
    )
    print(f"wrote {PAGE.relative_to(DOCS.parent)}")


if __name__ == "__main__":
    main()
