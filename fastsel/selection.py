"""Public selection functions: checks first, then the schedule over a backend."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsel import checks, greedy_entropy, schedule
from fastsel.backends import resolve
from fastsel.checks import RandomState
from fastsel.points import Points, result_converter
from fastsel.progress import Progress, ProgressOption
from fastsel.threshold import ThresholdDecay

METRICS = ("euclidean", "cosine")
OBJECTIVES = ("maxmin", "entropy")


def greedy_select(
    features: Any,
    n_samples: int | float,
    *,
    start: int | None = None,
    initial: Any = None,
    anchors: Any = None,
    metric: str = "euclidean",
    objective: str = "maxmin",
    min_distance: float | None = None,
    return_distances: bool = False,
    random_state: RandomState = None,
    backend: str = "auto",
    memory_limit: int | None = None,
    progress: ProgressOption = False,
    record: dict[str, Any] | None = None,
) -> Any:
    """Choose a diverse subset by exact greedy (farthest-point, k-center) selection.

    The first pick is `start`; each next pick is the point farthest from all picked before, or, with
    objective="entropy", the one that adds most to the entropy of the selected set: the one of
    lowest index where several are equal. Exact: the picks are those of the plain loop in canonical
    distances (fastsel/canonical.py), on every backend.

    Parameters
    ----------
    features : array [N, D]
        float16, bfloat16, float32 or float64; NumPy, torch or DLPack. Never changed.
    n_samples : int or float
        How many to choose, in [1, N], or the fraction of N, in (0, 1].
    start : int, optional
        Index of the first pick. Default: drawn from `random_state`, or 0 when that is None; with
        `anchors`, the point farthest from them.
    initial : int array [P], optional
        Indices already chosen. They count toward `n_samples` and are the prefix of the result.
    anchors : array [A, D], optional
        Vectors outside the pool to stay away from. They are not in the result and do not count.
    metric : {"euclidean", "cosine"}
        The cosine distance is 1 - cos(x, y), which is half the squared distance of unit vectors.
    objective : {"maxmin", "entropy"}
        "maxmin": each pick is the farthest point. "entropy": each pick is the one of largest gain
        in the sum of log eps over the selected set, eps the distance to the nearest other member
        (anchors count as others), which is the Kozachenko-Leonenko estimate of its entropy up to
        constants. The gain counts what the pick takes from members whose nearest neighbour it
        becomes; duplicates of members come last. Logarithms are rounded to 2^-40: see
        fastsel/greedy_entropy.py. At most 2,097,152 samples, and no `memory_limit`.
    min_distance : float, optional
        Stop as soon as no point is farther than this from the selected set; fewer come back. With
        objective="entropy", nearer points are passed over.
    return_distances : bool
        Return the radii too.
    random_state : int or numpy.random.Generator, optional
        Draws the default start.
    backend : str
        "auto" or a name in `fastsel.backends()`. "auto" leaves CUDA tensors on their device.
    memory_limit : int, optional
        Bytes that may be used beyond `features`. A ValueError says how many it takes at least.
    progress : bool or callable
        True shows progress on standard error; a callable gets (done, total).
    record : dict, optional
        Filled with what was done: rounds, rows and pairs looked at, and seconds by phase, as
        `fastsel.schedule.Record` describes them.

    Returns
    -------
    indices : int64 [M]
        In the order of picking, in the library and on the device of `features`.
    radii : float64 [M], only with `return_distances`
        Each pick's distance to those before it (and the anchors); inf for a first one without any.
        Non-increasing after `start` and `initial`, with objective="maxmin".

    Raises
    ------
    ValueError, TypeError
        An argument is not as described; the message names it.
    RuntimeError
        The named backend can not run here.

    Notes
    -----
    Cost O(N M D) time at most. Memory beyond `features`: at most 1.5 D + 88 bytes for each point,
    as much for each pick, and some 45 MB for the work in hand. The method is Algorithm 1 of arXiv
    2509.16499 (Gonzalez 1985); its radius is at most twice the best possible k-center radius.
    objective="entropy" takes 72 bytes more for each point, and 80 for each ball of a member that
    a point lies in, on a device as on the processor.

    Examples
    --------
    >>> import numpy as np, fastsel
    >>> x = np.array([[0.0], [1.0], [5.0], [9.0]])
    >>> fastsel.greedy_select(x, 3, return_distances=True)
    (array([0, 3, 2]), array([inf,  9.,  4.]))
    """
    checks.choice("metric", metric, METRICS)
    checks.choice("objective", objective, OBJECTIVES)
    points = checks.points("features", features, metric)
    capacity = checks.count("n_samples", n_samples, points.n)
    if min_distance is not None and checks.real("min_distance", min_distance) < 0:
        raise ValueError(f"min_distance must not be negative, got {min_distance!r}")
    prefix, anchor_points = _selected_before(
        points, capacity, start, initial, anchors, metric, random_state
    )
    _check_limits(memory_limit, record)
    if objective == "entropy" and memory_limit is not None:
        raise ValueError(
            "memory_limit does not go with objective='entropy', whose memory depends on the "
            f"features; got {memory_limit}"
        )
    if objective == "entropy" and capacity > greedy_entropy.MAX_SAMPLES:
        raise ValueError(
            f"n_samples must be at most {greedy_entropy.MAX_SAMPLES} with objective='entropy', "
            f"got {capacity}"
        )
    module = resolve(backend, points)
    report = Progress(progress, "greedy selection", capacity)

    if min_distance is None:
        min_distance = -1.0
    elif metric == "cosine":
        min_distance = math.sqrt(2 * min_distance)
    selection: schedule.Greedy | greedy_entropy.GreedyEntropy
    if objective == "entropy":
        selection = greedy_entropy.GreedyEntropy(module, points, capacity, min_distance)
        if anchor_points is not None:
            selection.apply_anchors(anchor_points)
        selection.begin(prefix)
        selection.run(report)
    else:
        selection = schedule.Greedy(module, points, capacity, memory_limit)
        if anchor_points is not None:
            selection.apply_anchors(anchor_points)
        selection.add_prefix(prefix)
        selection.run(min_distance, report)
    if record is not None:
        record.update(selection.record.as_dict())
    return _answer(*selection.result(), metric, return_distances, features)


def threshold_decay_select(
    features: Any,
    n_samples: int | float,
    *,
    threshold: float | str = "auto",
    decay: float = 0.95,
    decay_when: str = "stalled",
    on_shortfall: str = "raise",
    start: int | None = None,
    initial: Any = None,
    anchors: Any = None,
    metric: str = "euclidean",
    return_distances: bool = False,
    return_thresholds: bool = False,
    return_sweeps: bool = False,
    random_state: RandomState = None,
    backend: str = "auto",
    memory_limit: int | None = None,
    progress: ProgressOption = False,
    record: dict[str, Any] | None = None,
) -> Any:
    """Choose a diverse subset by the Threshold Decay Filter.

    Sweeps over the pool in order and accepts every point whose distance to the accepted ones
    exceeds the threshold, which is multiplied by `decay` between sweeps, until n_samples are
    accepted. Approaches greedy selection as `decay` approaches 1. Exact: the picks are those of
    the loop over candidates in canonical distances (fastsel/canonical.py), on every backend.

    Parameters
    ----------
    features, n_samples, metric, return_distances, random_state, backend, memory_limit, progress
        As for `greedy_select`.
    threshold : float or "auto"
        The first threshold, positive, in units of the metric. "auto": the distance of the point
        farthest from what is selected before the first sweep (`start`, `initial` and `anchors`).
        No higher one can accept anything, so that every point is accepted by the decay and none
        for a threshold that began too low; docs/threshold.md compares others. The paper's code
        uses 60 for DINOv2 features and 2000 for pixels in 0..255.
    decay : float
        In (0, 1).
    decay_when : {"stalled", "sweep"}
        "stalled": after a sweep that accepted nothing, the paper's Algorithm 2. "sweep": after
        every sweep, the paper's released code. Both give the same picks, radii and thresholds: a
        sweep leaves no point above its threshold, so the next one at that threshold accepts
        nothing. They differ in the numbers of the sweeps.
    on_shortfall : {"raise", "return"}
        What to do when fewer than n_samples points are distinct: no threshold accepts a distance
        of 0. "return" gives the distinct ones.
    start : int, optional
        Index of the first pick. Default: drawn from `random_state`, or 0 when that is None; with
        `anchors`, none: the sweeps choose it.
    initial : int array [P], optional
        Indices already chosen. They count toward `n_samples` and are the prefix of the result.
    anchors : array [A, D], optional
        Vectors outside the pool that count as accepted. They are not in the result.
    return_distances, return_thresholds, return_sweeps : bool
        Return the radii, the thresholds and the numbers of the sweeps too, in this order.
    record : dict, optional
        Filled with what was done: sweeps, rows and pairs looked at, and seconds by phase, as
        `fastsel.threshold.Record` describes them.

    Returns
    -------
    indices : int64 [M]
        In the order of acceptance, in the library and on the device of `features`.
    radii : float64 [M], only with `return_distances`
        Each one's distance to those accepted before it (and the anchors); inf for a first one
        without any.
    thresholds : float64 [M], only with `return_thresholds`
        That which each one's radius exceeded; inf for `start` and `initial`.
    sweeps : int64 [M], only with `return_sweeps`
        The number of the sweep that accepted it, from 1; 0 for `start` and `initial`. Sweeps are
        counted as the plain algorithm makes them under `decay_when`, those that accept nothing
        included, even though they are skipped here: with "sweep" the threshold of number s is
        `threshold` multiplied by `decay` s - 1 times, with "stalled" each sweep that accepted
        something is followed by one at the same threshold that does not.

    Raises
    ------
    ValueError, TypeError
        An argument is not as described, or fewer than n_samples points are distinct and
        `on_shortfall` is "raise".
    RuntimeError
        The named backend can not run here.

    Notes
    -----
    Cost O(N M D) time at most, and memory as for `greedy_select`. With a `decay` close to 1 the
    time is about that of greedy selection. The method is Algorithm 2 of arXiv 2509.16499.

    Examples
    --------
    >>> import numpy as np, fastsel
    >>> x = np.array([[0.0], [1.0], [5.0], [9.0]])
    >>> fastsel.threshold_decay_select(x, 3)
    array([0, 3, 2])
    >>> fastsel.threshold_decay_select(x, 3, threshold=4.5)
    array([0, 2, 3])
    """
    checks.choice("metric", metric, METRICS)
    checks.choice("decay_when", decay_when, ("stalled", "sweep"))
    checks.choice("on_shortfall", on_shortfall, ("raise", "return"))
    points = checks.points("features", features, metric)
    capacity = checks.count("n_samples", n_samples, points.n)
    if isinstance(threshold, str):
        if threshold != "auto":
            raise ValueError(f"threshold must be 'auto' or a real number, got {threshold!r}")
    elif checks.real("threshold", threshold) <= 0:
        raise ValueError(f"threshold must be positive, got {threshold!r}")
    if not 0 < checks.real("decay", decay) < 1:
        raise ValueError(f"decay must be in (0, 1), got {decay!r}")
    prefix, anchor_points = _selected_before(
        points, capacity, start, initial, anchors, metric, random_state
    )
    _check_limits(memory_limit, record)
    module = resolve(backend, points)
    report = Progress(progress, "threshold decay selection", capacity)

    selection = ThresholdDecay(module, points, capacity, metric, memory_limit)
    if anchor_points is not None:
        selection.apply_anchors(anchor_points)
    selection.add_prefix(prefix)
    first = selection.farthest() if isinstance(threshold, str) else float(threshold)
    selection.run(first, float(decay), decay_when, report)
    if record is not None:
        record.update(asdict(selection.record))
    if selection.count < capacity and on_shortfall == "raise":
        raise ValueError(
            f"n_samples={capacity} can not be reached: after {selection.count} picks every other "
            "point equals a selected one, and no threshold accepts a distance of 0; "
            "on_shortfall='return' gives those picks"
        )
    picks = _answer(*selection.result(), metric, return_distances, features)
    if not (return_thresholds or return_sweeps):
        return picks
    convert = result_converter(features)
    answer = picks if return_distances else (picks,)
    if return_thresholds:
        answer += (convert(selection.thresholds()),)
    if return_sweeps:
        answer += (convert(selection.sweeps()),)
    return answer


def _selected_before(
    points: Points,
    capacity: int,
    start: int | None,
    initial: Any,
    anchors: Any,
    metric: str,
    random_state: RandomState,
) -> tuple[npt.NDArray[np.int64], Points | None]:
    """What counts as selected before the first pick: rows of the pool, and the anchors."""
    prefix = checks.indices("initial", [] if initial is None else initial, points.n)
    if len(prefix) and start is not None:
        raise ValueError("start and initial exclude each other: initial holds the first picks")
    if len(prefix) > capacity:
        raise ValueError(
            f"initial must hold at most n_samples={capacity} indices, got {len(prefix)}"
        )
    anchor_points = None
    if anchors is not None:
        anchor_points = checks.points("anchors", anchors, metric, dim=points.dim)
    if not len(prefix) and not (anchors is not None and start is None):
        prefix = np.array([_start(start, random_state, points.n)])
    return prefix, anchor_points


def _check_limits(memory_limit: int | None, record: dict[str, Any] | None) -> None:
    if memory_limit is not None:
        checks.integer("memory_limit", memory_limit, 1, 2**63 - 1)
    if record is not None and not isinstance(record, dict):
        raise TypeError(f"record must be a dict, got {type(record).__name__}")


def _start(start: int | None, random_state: RandomState, n: int) -> int:
    if start is not None:
        return checks.integer("start", start, 0, n - 1)
    if random_state is None:
        return 0
    return int(checks.generator("random_state", random_state).integers(n))


def _answer(
    picks: npt.NDArray[np.int64],
    radii: npt.NDArray[np.float64],
    metric: str,
    return_distances: bool,
    features: Any,
) -> Any:
    convert = result_converter(features)
    if not return_distances:
        return convert(picks)
    # For unit vectors the cosine distance is half the squared Euclidean one.
    return convert(picks), convert(radii * radii / 2 if metric == "cosine" else radii)
