"""The text of docs/gpu.md."""

from __future__ import annotations

from typing import Any

from bench import gpu_model as model
from bench.gpu_model import GPUS, Cost, Gpu, Round, Tile, milliseconds, table

# A round in the middle of a large selection, for the table of kernels.
TYPICAL = Round(
    refreshed=8192,
    centres=16_384,
    room=2048,
    picked=300,
    canonical=16_384,
    pairs=(8192 * 4096,) * 3,
    near=8192,
)
TYPICAL_SIZE = (65_536, 384)
ENTROPY_PICKED = 70  # in a round of greedy entropy there, as counted on the processor

CHAINS = ("pick", "accept", "entropy_pick")  # of one block

HEAD = """# On a GPU

The `cuda` backend keeps points, keys and picks in the memory of the GPU and gives the picks of the
other backends, to the bit. `triton` is the same in another language (`kernels/`), and `torch` the
same in plain torch. Points that lie on a GPU are worked on where they are:

```python
picks = fastsel.greedy_select(features.cuda(), 32_768)  # a tensor, on the same device
```

**Every time on this page is a prediction, made without a GPU, unless it says "measured".** The
formulas are in `bench/gpu_model.py`; `python -m bench.gpu_model` writes this page.

## How it works

The schedule is that of [architecture.md](architecture.md), with the differences that a GPU asks
for:

- **The same filter.** int8 codes, exact int32 sums, one proof (`csrc/cpu/filter.h`). On tensor
  cores int8 has twice the rate of float16 and half its bytes, and half precision would need a proof
  of its own.
- **The product is made twice.** `group_min` takes from it how near each row is at most to a centre;
  `survivors`, which then knows how far to look, lists the pairs that may be nearer. Two passes over
  registers are cheaper than one that writes a matrix of distances.
- **From the first centre that is new.** A refresh takes its rows in the order of what they have
  seen, so that a tile holds rows of a kind, and begins with the first centre that is new to one of
  them. What the others see again changes nothing: their keys account for it. Blocks without work
  leave at once. Shapes stay fixed, and one wait a round is enough.
- **Exact where it counts.** `pair_min`, `pair_sq_dists`, `top_k`, `sq_dist_matrix` and
  `min_update` compute canonical distances in float64: eight neighbouring threads hold the eight
  sums, and three exchanges add them in the canonical order. No fused multiply-add.
- **Only what may matter among active rows.** Where they are many, `survivors` lists the pairs that
  may lower a key, `pair_sq_dists` computes those, and the rest of the matrix is infinite, which
  lowers no key either. Where they are few, `sq_dist_matrix` computes all.
- **Neighbours without a sort.** `by_row` brings the list of `survivors` together by rows: a
  counting sort. In `top_k` a warp takes the list of a query, four pairs at a time, and keeps the
  first k by (distance, index) in registers, up to 64; a new one finds its place by two votes of the
  warp. More than 64 are sorted. Results are written on the device, where the caller wants them.
- **Inner products are distances** of points with one more component, so that the filter's kernels
  serve both.
- **A chain of picks in one launch.** `pick` and `accept` are one block: keys in registers, one
  barrier a pick, the order by the bits of the key.
- **Nothing waits, but once a round**, when the host reads how many points were picked, or once for
  16,384 queries of a search. Everything is on the caller's stream, and memory comes from torch's
  allocator.

mma.sync and cp.async work on every GPU since the A100 (compute capability 8.0). wgmma and TMA would
bring the H100's product nearer to its peak. By the tables below it is not the first thing to do: in
small rounds the host's launches take longest, then the chain of picks. A round's operations of
torch, some 85, in a few kernels of their own or in a CUDA graph would be the next step.

`objective="entropy"` has a chain of picks too, `entropy_pick`: a block with two barriers a pick,
and a third where a pick shrinks the ball of another of its round. A ball that shrinks is a run of
entries for a warp, and gains are whole numbers, so that atomic additions may come in any order.
The entries, 16 bytes each, are sorted twice a round, by member and by active row, with the sort of
torch; the host waits four times. It is proved like the rest. The model below has
its kernels, and no time of a whole selection.

## Without a GPU, how is it known to be right?

- The kernels, as they ship, are compiled by g++ with `tests/cuda/emulation.h` in place of CUDA and
  run on the processor: threads as fibers, shared memory filled with NaN, copies that arrive only
  when they are waited for, and mma as its manual states it. They are compared with the reference,
  under AddressSanitizer and UndefinedBehaviorSanitizer too, and with the threads and blocks in
  several random orders, which must not change a bit.
- Whole selections and searches run on them, against the reference.
- nvcc compiles them for sm_80, sm_90a and sm_100; registers, spills (none) and shared memory are
  compared with a table, and the PTX is searched for the instructions that were meant.

What that can not show: speed, and whatever a GPU does otherwise than its manual says. Tests marked
`gpu` run where there is one.
"""

FORMULAS = f"""## The model

A step of a product, 64 bytes of the codes of a tile, takes what is longest: the tensor cores, at
the rate that mma.sync reaches; the L2 cache; shared memory, at {model.SHARED_BYTES} bytes a cycle;
or the latency of a copy, shared among the steps that are on their way. A loop reaches
{model.LOOP_SHARE:.0%} of that. Where a processor has one block, a step waits for a barrier too.
{model.EPILOGUE} instructions a pair follow, and at the end half of a block's time. A pick is a
chain of
{model.L2_LATENCY} cycles (L2 latency) + 8 bytes x rows / {model.L2_BYTES_OF_ONE} bytes a cycle +
{model.REDUCTIONS} x {model.REDUCE} (reductions of a warp) + {model.BARRIER} (barrier) +
{model.SHARED_ROUND_TRIP} (shared memory) + {model.PICK_ARITHMETIC}; one by entropy takes
{model.BALL_READS} more reads one after the other, the reductions and the barrier twice, and
{model.LOG_CYCLES} cycles for two logarithms. float64 kernels run at
{model.FLOAT64_SHARE:.0%} of the peak, streams through memory at {model.MEMORY_SHARE:.0%}, scattered
rows at {model.GATHER_SHARE:.0%}. A round takes its kernels' time, or that of
{model.ROUND_LAUNCHES} launches of {model.LAUNCH * 1e6:.0f} us
({model.ROUND_LAUNCHES + model.FILTER_LAUNCHES} where active rows are filtered) if that is longer,
and a wait of {model.SYNC * 1e6:.0f} us. These are assumptions; the first measurement will correct
them.

How many rounds there are, and how many rows and pairs each one has, is counted and not assumed: on
the processor, on the synthetic features of `bench/data.py` (`--count`).

The others, in their favour: the released loop reads the points once for each pick, launches one
kernel and waits once (torch.cdist in fact makes temporaries of the size of the points); the loop
with cached norms is bound by the same read, or by six launches; a brute-force search is a float32
product at {model.GEMM_SHARE:.0%} of the peak, whose result is written and read once. A search that
computes in TF32 or float16 is faster than that, and not exact.

Figures of the GPUs: NVIDIA's datasheets of the A100 and the H100 and their architecture whitepapers
(peaks without sparsity; the clock of the H100 is the one that its float64 peak implies). What
mma.sync reaches with int8 and what the L2 cache gives are measurements of arXiv 2402.13499, tables
VII and V: 607.6 of 624 TOPS and {model.A100.l2} bytes a cycle on an A100; 977.9 of 1,513 TOPS and
{model.H100.l2} bytes a cycle on a H800 PCIe, whose processors are those of a H100.
"""


def page(work: dict[str, Any], resources: dict[str, Any], measured: list[dict[str, Any]]) -> str:
    """The whole page, from the three JSON files."""
    lines = [HEAD, "## Predicted times", ""]
    lines += _greedy(work, measured)
    lines += _shares(work)
    lines += _knn(measured)
    lines += _tiles(work)
    lines += _kernels(resources)
    lines += _measured(measured)
    lines.append(FORMULAS)
    return "\n".join(lines).rstrip() + "\n"


def _greedy(work: dict[str, Any], measured: list[dict[str, Any]]) -> list[str]:
    rows = []
    for gpu in GPUS:
        for n in model.SIZES:
            for dim in model.DIMS:
                for share in model.SHARES:
                    rows.append(_greedy_row(work, measured, gpu, n, dim, n // share))
    head = ["GPU", "N", "d", "M", "rounds", "fastsel", "released loop", "cached norms", "ratio"]
    return [
        "`greedy_select`, float32 features; the ratio is that of the released loop to fastsel.",
        "",
        *table([*head, "measured"], rows),
    ]


def _greedy_row(
    work: dict[str, Any], measured: list[dict[str, Any]], gpu: Gpu, n: int, dim: int, m: int
) -> list[str]:
    rounds = model.rounds_of(work, n, dim, m)
    ours = model.greedy(gpu, rounds, n, dim)
    released = model.released_loop(gpu, n, dim, m)
    return [
        gpu.name,
        f"{n:,}",
        str(dim),
        f"{m:,}",
        str(len(rounds)),
        milliseconds(ours),
        milliseconds(released),
        milliseconds(model.cached_loop(gpu, n, dim, m)),
        f"{released / ours:.0f}",
        _found(measured, gpu, "greedy_select", n, dim, m),
    ]


def _shares(work: dict[str, Any]) -> list[str]:
    """Where the time of a selection goes."""
    rows = []
    kernels = list(model.round_costs(GPUS[0], TYPICAL, *TYPICAL_SIZE))
    for gpu in GPUS:
        for n in model.SIZES:
            dim = model.DIMS[0]
            seconds = dict.fromkeys(kernels, 0.0)
            pairs = 0
            for one in model.rounds_of(work, n, dim, n // 2):
                pairs += one.pairs[model.HEIGHTS.index(gpu.tile.rows)]
                for name, cost in model.round_costs(gpu, one, n, dim).items():
                    seconds[name] += cost.seconds
            times = [milliseconds(value) for value in seconds.values()]
            rows.append([gpu.name, f"{n:,}", *times, f"{pairs / (n * (n // 2)):.2f}"])
    names = [f"`{name}`" for name in kernels]
    return [
        f"Where it goes, at d = {model.DIMS[0]} and M = N/2; and the pairs that `group_min` and "
        "`survivors` each look at,\nfor each pair of a point and a pick.",
        "",
        *table(["GPU", "N", *names, "pairs"], rows),
    ]


def _knn(measured: list[dict[str, Any]]) -> list[str]:
    rows = []
    for gpu in GPUS:
        for n in model.SIZES:
            for dim in model.DIMS:
                ours, flat = model.knn(gpu, n, dim), model.flat_knn(gpu, n, dim)
                times = [milliseconds(ours), milliseconds(flat), f"{flat / ours:.1f}"]
                there = _found(measured, gpu, "knn", n, dim, model.NEIGHBOURS)
                rows.append([gpu.name, f"{n:,}", str(dim), *times, there])
    return [
        f"`knn` of {model.NEIGHBOURS} neighbours of every point, beside brute force in float32 "
        "(faiss flat, cuVS).",
        "",
        *table(["GPU", "N", "d", "fastsel", "brute force", "ratio", "measured"], rows),
    ]


# Other ways to cut the products, for comparison: rows, columns, those of a warp, stages, blocks.
OTHER_TILES = (
    (128, 128, 64, 32, 2, 2),
    (128, 128, 64, 64, 3, 2),
    (256, 128, 64, 64, 3, 1),
    (64, 256, 64, 64, 3, 2),
)


def _tiles(work: dict[str, Any]) -> list[str]:
    rows = []
    for gpu in GPUS:
        for cut in (gpu.tile, *(Tile(0, *sizes) for sizes in OTHER_TILES)):
            steps = model.step_cycles(gpu, cut)
            per_tile = 128 * 128 / (cut.rows * cut.cols)
            times = [both_products(gpu, cut, work, n) for n in model.SIZES]
            name = f"{cut.rows} x {cut.cols}, {cut.warp_rows} x {cut.warp_cols}"
            rows.append(
                [
                    gpu.name,
                    f"**{name}**" if cut.capability else name,
                    str(cut.stages),
                    str(cut.blocks),
                    *[f"{cycles * per_tile:.0f}" for cycles in steps.values()],
                    *map(milliseconds, times),
                ]
            )
    head = ["GPU", "tile, part of a warp", "stages", "blocks", *model.step_cycles(GPUS[0], cut)]
    sizes = " and ".join(f"{n:,}" for n in model.SIZES)
    return [
        "## Tiles",
        "",
        "How the products are cut (`csrc/cuda/tiles.h`), in bold, beside other ways. Cycles of a\n"
        "processor for a step of 128 x 128 pairs, by what may bound it; then `group_min` and\n"
        f"`survivors` together, in selections of d = {model.DIMS[0]}, M = N/2, N = {sizes}.\n"
        "By this reckoning more stages bring nothing, as latency does not bound a step. The L2\n"
        "cache, which does on an A100, would be asked less if a block kept the codes of its rows\n"
        "in shared memory for all steps; it has room for those of d = 384.",
        "",
        *table([*head, *(f"N = {n:,}" for n in model.SIZES)], rows),
    ]


def both_products(gpu: Gpu, cut: Tile, work: dict[str, Any], n: int) -> float:
    """Seconds of `group_min` and `survivors` in a selection of half of the points."""
    dim = model.DIMS[0]
    height = model.HEIGHTS.index(cut.rows)
    rounds = model.rounds_of(work, n, dim, n // 2)
    costs = (model.product(gpu, one.refreshed, one.pairs[height], dim, cut) for one in rounds)
    return 2 * sum(cost.seconds for cost in costs)


def _kernels(resources: dict[str, Any]) -> list[str]:
    n, dim = TYPICAL_SIZE
    rows = []
    for gpu in GPUS:
        costs = model.round_costs(gpu, TYPICAL, n, dim)
        costs["sq_dist_matrix"] = model.sq_dist_matrix(gpu, model.FILTERED_ACTIVE, dim)
        costs["min_update"] = model.min_update(gpu, n, dim)
        listed = int(model.LISTED * (model.NEIGHBOURS + 1) * model.SEARCH_ROWS)
        costs["by_row"] = model.by_row(gpu, listed)
        costs["top_k"] = model.top_k(gpu, model.SEARCH_ROWS, listed, dim)
        costs["accept"] = model.pick(gpu, TYPICAL.room, TYPICAL.picked)
        costs["enter_balls"] = model.enter_balls(gpu, TYPICAL.refreshed, dim)
        costs["renew_gains"] = model.renew_gains(gpu, TYPICAL.refreshed)
        costs["entropy_pick"] = model.entropy_pick(gpu, TYPICAL.room, ENTROPY_PICKED)
        costs["enter_picks"] = model.enter_picks(gpu, TYPICAL.room, ENTROPY_PICKED)
        del costs["sort"]
        for name, cost in costs.items():
            rows.append(_kernel_row(gpu, name, cost, resources["architectures"][gpu.architecture]))
    head = ["GPU", "kernel", "registers", "shared", "blocks an SM", "occupancy"]
    return [
        "## Kernels",
        "",
        f"In a round of N = {n:,}, d = {dim}: {TYPICAL.refreshed:,} rows against "
        f"{TYPICAL.centres:,} centres, a quarter of them new,\n{TYPICAL.room:,} active, "
        f"{TYPICAL.picked} picks; `by_row` and `top_k` of {model.SEARCH_ROWS:,} queries for "
        f"{model.NEIGHBOURS} neighbours.\nRegisters and shared memory as nvcc {resources['nvcc']} "
        "reports them (`python -m\nbench.gpu_resources`); bytes of a product are those from the L2 "
        "cache. `sq_dist_matrix`,\nwhich serves fewer active rows, is that of "
        f"{model.FILTERED_ACTIVE:,}. Of greedy entropy: {model.BALL_PAIRS} pairs a row for balls, "
        f"and\n{ENTROPY_PICKED} picks a round.",
        "",
        *table([*head, "bytes", "operations", "predicted"], rows),
    ]


def _kernel_row(gpu: Gpu, name: str, cost: Cost, report: dict[str, Any]) -> list[str]:
    names = (name, f"{name} float32", f"{name} sm_{gpu.tile.capability}")
    key = next(known for known in names if known in report)
    blocks = model.blocks_per_processor(gpu, key, report[key])
    resident = blocks * model.threads_of(gpu, key)
    one_block = name in CHAINS
    return [
        gpu.name,
        f"`{name}`",
        str(report[key]["registers"]),
        f"{report[key]['shared']:,}",
        "1 in all" if one_block else str(blocks),
        "" if one_block else f"{resident / model.MAX_THREADS:.0%}",
        f"{cost.bytes / 1e6:,.0f} MB",
        f"{cost.operations:.1e}",
        milliseconds(cost.seconds),
    ]


def _found(measured: list[dict[str, Any]], gpu: Gpu, call: str, n: int, dim: int, m: int) -> str:
    """Our measured time of that call, where there is one."""
    for one in measured:
        ours = gpu.device in one["device"] and one["contender"] == "fastsel-cuda"
        if ours and one["call"] == call and one["size"] == [n, dim, m]:
            return milliseconds(one["seconds"])
    return "not yet"


def _measured(measured: list[dict[str, Any]]) -> list[str]:
    how = [
        "By",
        "",
        "```",
        "pytest bench/ --device cuda --n-points 65536 --dim 384 --benchmark-json times.json",
        "python -m bench.gpu_model --measured times.json",
        "```",
        "",
        "which checks the picks first. Medians of three runs, by CUDA events.",
        "",
    ]
    if not measured:
        return ["## Measured", "", "Nothing yet: no GPU was at hand.", "", *how]
    rows = [
        [
            one["device"],
            one["call"],
            ", ".join(f"{x:,}" for x in one["size"]),
            one["contender"],
            milliseconds(one["seconds"]),
        ]
        for one in measured
    ]
    head = ["GPU", "call", "N, d, M or k", "contender", "measured"]
    return ["## Measured", "", *how, *table(head, rows)]
