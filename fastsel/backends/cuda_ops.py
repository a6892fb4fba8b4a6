"""The operations of torch_ops.py by the CUDA core: csrc/cuda/ has them, one a file.

They are put on the current stream of the tensors' device, and nothing waits for them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from types import ModuleType

import torch
from torch import Tensor

from fastsel.backends.torch_codes import Codes
from fastsel.backends.torch_entropy_ops import Balls, Runs
from fastsel.points import Points

DTYPES = {
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float32: "float32",
    torch.float64: "float64",
}


@cache
def core() -> ModuleType | str:
    """The native module, or why there is none."""
    try:
        return importlib.import_module("fastsel._core_cuda")
    except ImportError as error:
        record = resources.files("fastsel").joinpath("_core_cuda.build.txt")
        built = record.read_text().strip() if record.is_file() else "no build was run"
        return f"the CUDA core is not there ({built}): {error}"


def _native() -> ModuleType:
    found = core()
    assert isinstance(found, ModuleType)  # resolve() has asked unusable_because()
    return found


@contextmanager
def _stream(tensor: Tensor) -> Iterator[int]:
    """The caller's stream, by its handle, while the tensor's device is the current one."""
    with torch.cuda.device(tensor.device):
        yield torch.cuda.current_stream().cuda_stream


def min_update(points: Points, centre: Tensor, sq_dist: Tensor) -> None:
    """Lower sq_dist, float64 [N], to the canonical squared distance to `centre`, float64 [D]."""
    with _stream(sq_dist) as stream:
        _native().min_update(
            _matrix(points),
            _address(centre, torch.float64, points.dim),
            _address(sq_dist, torch.float64, points.n),
            stream,
        )


def tile(like: Tensor) -> int:
    """The entry of the core's table of tiles (csrc/cuda/tiles.h) for the tensor's device."""
    return _newest(like.device)


@cache
def _newest(device: torch.device) -> int:
    major, _ = torch.cuda.get_device_capability(device)
    known = [capability for capability, _ in _native().tiles]
    return max(i for i, capability in enumerate(known) if capability <= max(known[0], 10 * major))


def rows_together(like: Tensor, n_points: int) -> int:
    """How many queries, one after the other, `group_min` and `survivors` take at a time."""
    rows: int = _native().tiles[tile(like)][1]
    return rows


def group_min(
    queries: Codes,
    query_rows: Tensor,
    points: Codes,
    point_rows: Tensor,
    group: int,
    out: Tensor,
    first: Tensor | None = None,
) -> None:
    """At least the radius from each listed query to the nearest of every `group` listed points."""
    groups = -(-len(point_rows) // group)
    with _stream(out) as stream:
        _native().group_min(
            *_listed(queries, query_rows),
            *_listed(points, point_rows),
            group,
            _first(first, len(query_rows)),
            tile(out),
            _address(out, torch.float32, len(query_rows), groups),
            stream,
        )


def survivors(
    queries: Codes,
    query_rows: Tensor,
    points: Codes,
    point_rows: Tensor,
    reach: Tensor,
    pairs: Tensor,
    n_pairs: Tensor,
    overflow: Tensor,
    first: Tensor | None = None,
) -> None:
    """List at least those pairs of a query and a point whose radius is below the query's reach."""
    n = len(query_rows)
    with _stream(pairs) as stream:
        _native().survivors(
            *_listed(queries, query_rows),
            *_listed(points, point_rows),
            _address(reach, torch.float32, n),
            _first(first, n),
            tile(pairs),
            _pairs(pairs, n_pairs),
            _address(overflow, torch.uint8, n),
            stream,
        )


def pair_min(
    points: Points,
    rows: Tensor,
    centres: Points,
    cols: Tensor,
    pairs: Tensor,
    n_pairs: Tensor,
    keys: Tensor,
) -> None:
    """Lower keys[rows[r]], for every listed pair (r, c), to the distance to centre cols[c]."""
    with _stream(keys) as stream:
        _native().pair_min(
            _matrix(points),
            _address(rows, torch.int64, len(rows)),
            _matrix(centres),
            _address(cols, torch.int64, len(cols)),
            _pairs(pairs, n_pairs),
            _address(keys, torch.float64, points.n),
            stream,
        )


def pair_sq_dists(
    queries: Points,
    points: Points,
    pairs: Tensor,
    n_pairs: Tensor,
    out: Tensor,
    by_inner_product: bool = False,
) -> None:
    """Write the canonical squared distance of every listed pair (query, point) to out [pairs]."""
    with _stream(out) as stream:
        _native().pair_sq_dists(
            _matrix(queries),
            _matrix(points),
            _pairs(pairs, n_pairs),
            by_inner_product,
            _address(out, torch.float64, len(pairs)),
            stream,
        )


def by_row(pairs: Tensor, n_pairs: Tensor, next: Tensor, cols: Tensor | None = None) -> None:
    """Bring the columns of listed pairs together by their rows."""
    with _stream(next) as stream:
        _native().by_row(
            _pairs(pairs, n_pairs),
            _address(next, torch.int64, len(next)),
            0 if cols is None else _address(cols, torch.int32, len(pairs)),
            stream,
        )


def top_k(
    queries: Points,
    rows: Tensor,
    points: Points,
    first: Tensor,
    cols: Tensor,
    exclude_self: bool,
    by_inner_product: bool,
    keys: Tensor,
    index: Tensor,
) -> None:
    """Of the points that are listed for every query, the k first by (key, index)."""
    n, k = keys.shape
    with _stream(keys) as stream:
        _native().top_k(
            _matrix(queries),
            _address(rows, torch.int64, n),
            n,
            _matrix(points),
            _address(first, torch.int64, n + 1),
            _address(cols, torch.int32, len(cols)),
            exclude_self,
            by_inner_product,
            k,
            _address(keys, torch.float64, n, k),
            _address(index, torch.int64, n, k),
            stream,
        )


def sq_dist_matrix(points: Points, rows: Tensor, out: Tensor) -> None:
    """Write the canonical squared distances among the listed rows, int64 [A], to out [A, A]."""
    n = len(rows)
    with _stream(out) as stream:
        _native().sq_dist_matrix(
            _matrix(points),
            _address(rows, torch.int64, n),
            n,
            _address(out, torch.float64, n, n),
            stream,
        )


def pick(
    matrix: Tensor,
    rows: Tensor,
    keys: Tensor,
    n_active: Tensor,
    rival_key: Tensor,
    rival_row: Tensor,
    least: float,
    picks: Tensor,
    sq_radii: Tensor,
    n_picks: Tensor,
) -> None:
    """Greedy picks among the first n_active of `rows`, ascending, whose keys are up to date."""
    with _stream(keys) as stream:
        _native().pick(
            _active(matrix, rows, keys, n_active),
            _address(rival_key, torch.float64, 1),
            _address(rival_row, torch.int64, 1),
            least,
            _picks(picks, sq_radii, n_picks),
            stream,
        )


def accept(
    matrix: Tensor,
    rows: Tensor,
    keys: Tensor,
    n_active: Tensor,
    limits: Tensor,
    picks: Tensor,
    sweeps: Tensor,
    sq_radii: Tensor,
    n_picks: Tensor,
) -> None:
    """Sweeps over the first n_active of `rows`, one for each of some falling limits."""
    with _stream(keys) as stream:
        _native().accept(
            _active(matrix, rows, keys, n_active),
            _address(limits, torch.float64, len(limits)),
            len(limits),
            _picks(picks, sq_radii, n_picks),
            _address(sweeps, torch.int64, len(picks)),
            stream,
        )


def enter_balls(
    points: Points,
    members: Tensor,
    first: int,
    rows: Tensor,
    pairs: Tensor,
    n_pairs: Tensor,
    seen: Tensor,
    log_eps: Tensor,
    gains: Tensor,
    balls: Balls,
) -> None:
    """Enter candidate rows[r] into the ball of member first + m, for every listed pair (m, r)."""
    n = len(members)
    with _stream(gains) as stream:
        _native().enter_balls(
            _matrix(points),
            (_address(members, torch.int64, n), _address(log_eps, torch.int64, n), first),
            _address(rows, torch.int64, len(rows)),
            _pairs(pairs, n_pairs),
            _address(seen, torch.int64, points.n),
            _address(gains, torch.int64, points.n),
            _balls(balls),
            stream,
        )


def renew_gains(rows: Tensor, before: Tensor, sq_dist: Tensor, least: float, gains: Tensor) -> None:
    """Gains of some rows account for their distances, which were `before`."""
    n = len(rows)
    with _stream(gains) as stream:
        _native().renew_gains(
            _address(rows, torch.int64, n),
            _address(before, torch.float64, n),
            n,
            _address(sq_dist, torch.float64, len(gains)),
            least,
            _address(gains, torch.int64, len(gains)),
            stream,
        )


def entropy_pick(
    matrix: Tensor,
    rows: Tensor,
    place: Tensor,
    of_row: Runs,
    of_member: Runs,
    rival_gain: Tensor,
    rival_row: Tensor,
    least: float,
    gains: Tensor,
    sq_dist: Tensor,
    log_eps: Tensor,
    members: Tensor,
    sq_eps: Tensor,
    sq_radii: Tensor,
    places: Tensor,
    counts: Tensor,
) -> None:
    """Greedy picks by gain among `rows`, ascending, which have seen every member."""
    a, n, m, capacity = len(rows), len(gains), len(of_member.first) - 1, len(members)
    with _stream(gains) as stream:
        _native().entropy_pick(
            (
                _address(matrix, torch.float64, a, a),
                _address(rows, torch.int64, a),
                a,
                _address(place, torch.int32, n),
                _runs(of_row, a),
                _runs(of_member, m),
                m,
            ),
            _address(rival_gain, torch.int64, 1),
            _address(rival_row, torch.int64, 1),
            least,
            (
                _address(gains, torch.int64, n),
                _address(sq_dist, torch.float64, n),
                _address(log_eps, torch.int64, m + capacity),
            ),
            (
                _address(members, torch.int64, capacity),
                _address(sq_eps, torch.float64, capacity),
                _address(sq_radii, torch.float64, capacity),
                _address(places, torch.int64, capacity),
                _address(counts, torch.int64, 2),
                capacity,
            ),
            stream,
        )


def enter_picks(
    matrix: Tensor,
    rows: Tensor,
    gains: Tensor,
    places: Tensor,
    sq_eps: Tensor,
    first: int,
    balls: Balls,
) -> None:
    """Enter rows into the balls of picks among them, members first, first + 1, ..."""
    a, picked = len(rows), len(places)
    with _stream(gains) as stream:
        _native().enter_picks(
            _address(matrix, torch.float64, a, a),
            _address(rows, torch.int64, a),
            a,
            _address(gains, torch.int64, len(gains)),
            _address(places, torch.int64, picked),
            _address(sq_eps, torch.float64, picked),
            picked,
            first,
            _balls(balls),
            stream,
        )


def _address(tensor: Tensor, dtype: torch.dtype, *shape: int) -> int:
    if tensor.dtype != dtype or tensor.shape != shape or not tensor.is_contiguous():
        raise ValueError(
            f"a contiguous tensor of {dtype} {list(shape)} was expected, "
            f"got {tensor.dtype} {list(tensor.shape)}"
        )
    return tensor.data_ptr()


def _matrix(points: Points) -> tuple[int, str, int, int, int]:
    data: Tensor = points.data
    norms = 0 if points.norms is None else _address(points.norms, torch.float64, points.n)
    return _address(data, data.dtype, *data.shape), DTYPES[data.dtype], points.n, points.dim, norms


def _listed(codes: Codes, rows: Tensor) -> tuple[tuple[int, ...], int, int]:
    n, depth = codes.values.shape
    floats = (codes.scales, codes.sq_norms, codes.errors)
    addresses = (_address(values, torch.float32, n) for values in floats)
    coded = (_address(codes.values, torch.int8, n, depth), *addresses, n, depth)
    return coded, _address(rows, torch.int64, len(rows)), len(rows)


def _first(first: Tensor | None, n: int) -> int:
    return 0 if first is None else _address(first, torch.int64, n)


def _pairs(pairs: Tensor, n_pairs: Tensor) -> tuple[int, int, int]:
    n = len(pairs)
    return _address(pairs, torch.int32, n, 2), n, _address(n_pairs, torch.int64, 1)


def _balls(balls: Balls) -> tuple[int, int, int, int, int]:
    n = len(balls.logs)
    return (
        _address(balls.rows, torch.int32, n),
        _address(balls.members, torch.int32, n),
        _address(balls.logs, torch.int64, n),
        _address(balls.size, torch.int64, 1),
        n,
    )


def _runs(runs: Runs, n: int) -> tuple[int, int, int]:
    entries = len(runs.logs)
    return (
        _address(runs.first, torch.int64, n + 1),
        _address(runs.others, torch.int32, entries),
        _address(runs.logs, torch.int64, entries),
    )


def _active(
    matrix: Tensor, rows: Tensor, keys: Tensor, n_active: Tensor
) -> tuple[int, int, int, int, int]:
    n = len(rows)
    return (
        _address(matrix, torch.float64, n, n),
        n,
        _address(rows, torch.int64, n),
        _address(keys, torch.float64, len(keys)),
        _address(n_active, torch.int64, 1),
    )


def _picks(picks: Tensor, sq_radii: Tensor, n_picks: Tensor) -> tuple[int, int, int, int]:
    n = len(picks)
    return (
        _address(picks, torch.int64, n),
        _address(sq_radii, torch.float64, n),
        _address(n_picks, torch.int64, 1),
        n,
    )
