"""The page of predictions is what the model says, and the model behaves."""

from __future__ import annotations

import json

import pytest

from bench import gpu_model as model
from bench import gpu_page, gpu_resources

WORK = json.loads(model.WORK.read_text())
TABLE = json.loads(gpu_resources.TABLE.read_text())


def test_the_page_is_up_to_date():
    measured = json.loads(model.MEASURED.read_text())
    assert model.PAGE.read_text() == gpu_page.page(WORK, TABLE, measured)


def test_a_measured_time_is_put_beside_its_prediction():
    said = {"device": f"NVIDIA {model.H100.device}", "call": "knn", "size": [65_536, 384, 10]}

    def report(contender, seconds):
        entry = {"extra_info": {**said, "contender": contender}, "stats": {"median": seconds}}
        return {"benchmarks": [entry]}

    found = model.take_up([], report("fastsel-cuda", 0.0456))
    found = model.take_up(found, report("cuvs", 0.2))
    found = model.take_up(found, report("fastsel-cuda", 0.0123))  # in place of the first
    assert [one["seconds"] for one in found] == [0.0123, 0.2]
    page = gpu_page.page(WORK, TABLE, found)
    beside, listed = (line for line in page.splitlines() if line.endswith("| 12.3 ms |"))
    assert beside.startswith("| H100 SXM | 65,536 | 384 |")
    assert listed.startswith("| NVIDIA H100 80GB HBM3 | knn | 65,536, 384, 10 | fastsel-cuda |")


def test_rounds_end_with_the_last_pick():
    for n in model.SIZES:
        for dim in model.DIMS:
            for share in model.SHARES:
                rounds = model.rounds_of(WORK, n, dim, n // share)
                assert sum(one.picked for one in rounds) == n // share - 1
    assert len(model.rounds_of(WORK, 65_536, 384, 2)) < 5


@pytest.mark.parametrize("gpu", model.GPUS, ids=lambda gpu: gpu.name)
def test_more_work_takes_longer(gpu):
    n_pairs = 8192 * 8192
    shallow, deep = (model.product(gpu, 8192, n_pairs, dim) for dim in (64, 65))
    assert shallow.seconds < deep.seconds
    assert model.product(gpu, 8192, n_pairs // 2, 64).seconds < shallow.seconds
    assert model.pick(gpu, 64, 10).seconds < model.pick(gpu, 2048, 10).seconds
    assert model.sq_dist_matrix(gpu, 2048, 8).operations == 3 * 8 * 2048 * (2048 + 32) / 2
    # At its peak, a product of so many operations can not take less.
    cost = model.product(gpu, 8192, 8192 * 65_536, 384)
    assert cost.operations > 2 * 8192 * 65_536 * 384
    assert cost.seconds > cost.operations / (gpu.int8 * gpu.mma_share)


@pytest.mark.parametrize("gpu", model.GPUS, ids=lambda gpu: gpu.name)
def test_the_table_has_the_best_of_the_tiles_of_the_page(gpu):
    for n in model.SIZES:
        ours, *others = (
            gpu_page.both_products(gpu, tile, WORK, n)
            for tile in (gpu.tile, *(model.Tile(0, *sizes) for sizes in gpu_page.OTHER_TILES))
        )
        assert ours < min(others)


def test_what_bounds_a_step_follows_from_its_tile():
    tile = model.Tile(80, 128, 128, 64, 32, 2, 2)
    steps = model.step_cycles(model.A100, tile)
    # 2 x 128 rows of 64 bytes; 8 warps read 64 + 32 of them each.
    assert steps["L2"] == pytest.approx(16_384 / (2007.9 / 108))
    assert steps["shared memory"] == (8 * 96 * 64 + 16_384) / 128
    assert steps["latency"] == pytest.approx((model.L2_LATENCY + steps["L2"]) / 2)
    one = model.step_cycles(model.A100, tile._replace(blocks=1))
    assert one["tensor cores"] > steps["tensor cores"]
    more = model.step_cycles(model.A100, tile._replace(stages=3))
    assert more["latency"] == steps["latency"] / 2


def test_the_table_of_tiles_is_read_from_its_source():
    source = (
        "constexpr Tile kTiles[] = {\n  {80, 1, 2, 3, 4, 5, 6},\n {90, 7, 8, 9, 10, 11, 12},\n};"
    )
    tiles = gpu_resources.read_tiles(source)
    assert tiles == [(80, 1, 2, 3, 4, 5, 6), (90, 7, 8, 9, 10, 11, 12)]
    assert model.A100.tile.capability == 80
    assert model.H100.tile.capability == 90


def test_occupancy_is_bound_by_what_runs_out_first():
    blocks = model.blocks_per_processor
    assert blocks(model.A100, "group_min sm_80", {"registers": 128, "shared": 39_424}) == 2
    assert blocks(model.A100, "group_min sm_80", {"registers": 32, "shared": 80_000}) == 2
    assert blocks(model.A100, "pair_min float32", {"registers": 20, "shared": 0}) == 8
    assert blocks(model.A100, "pick", {"registers": 20, "shared": 0}) == 4


def test_rounds_are_counted_from_a_selection():
    rounds = model.count_rounds(600, 8, 300)
    assert sum(one.picked for one in rounds) == 299
    assert all(one.refreshed >= one.picked and one.centres >= 1 for one in rounds)
    for one in rounds:
        assert list(one.pairs) == sorted(one.pairs)  # higher tiles look at more
        assert one.pairs[-1] <= one.refreshed * one.centres
    assert sum(one.pairs[0] for one in rounds) < sum(one.refreshed * one.centres for one in rounds)


def test_a_tile_begins_with_what_one_of_its_rows_has_not_seen():
    seen = model.np.array([5, 0, 9, 2, 5])
    assert model.looked_at(seen, 10, 1) == 5 + 10 + 1 + 8 + 5
    assert model.looked_at(seen, 10, 2) == 2 * 10 + 2 * 5 + 1
    assert model.looked_at(seen, 10, 8) == 5 * 10


# Of torch's operations, those that run nothing on a device.
FREE = ("view", "slice", "select", "alias", "empty", "detach", "unsqueeze", "expand", "unbind")
FREE += ("split", "_local_scalar")


@pytest.mark.parametrize(
    ("filtered_from", "assumed"),
    [(1000, model.ROUND_LAUNCHES), (1, model.ROUND_LAUNCHES + model.FILTER_LAUNCHES)],
)
def test_a_round_launches_as_much_as_is_assumed(filtered_from, assumed, monkeypatch):
    torch = pytest.importorskip("torch")
    from torch.utils._python_dispatch import TorchDispatchMode

    from fastsel import schedule
    from fastsel.backends import resolve, torch_ops
    from fastsel.backends.device import pool
    from fastsel.points import Points

    launched = []

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            if not any(name in str(operation) for name in FREE):
                launched.append(str(operation))
            return operation(*args, **(kwargs or {}))

    monkeypatch.setattr(pool, "FILTERED_ACTIVE", filtered_from)
    x = torch.from_numpy(model.np.random.default_rng(0).normal(size=(2000, 16)))
    selection = schedule.Greedy(resolve("torch"), Points(x), 100)
    selection.add_prefix(model.np.array([0]))
    kernels = ("group_min", "survivors", "pair_min", "sq_dist_matrix", "pair_sq_dists", "pick")
    for name in kernels:
        monkeypatch.setattr(torch_ops, name, lambda *args: None)
    with Counting():
        selection._round(-1.0)
    # A sort on a device is several kernels.
    several = 3 * sum("sort" in name for name in launched)
    assert 0.8 * assumed <= len(launched) + len(kernels) + several <= assumed
