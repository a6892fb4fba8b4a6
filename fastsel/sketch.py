"""A basis for the sketches that spare most pairs the whole inner product, where it pays.

csrc/cpu/encode.cpp says what a sketch is and why it never lengthens a distance. Its columns are the
leading principal directions of a sample, so that it keeps most of a distance where the spectrum of
the data falls, as it does for features of images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]

UNIT = 32  # kSketchUnit of csrc/cpu/kernels.h
DEPTHS = (32, 64, 96, 128)  # in whole units; the last component is the norm of the rest
POWER_STEPS = 2
QUERIES = 64
MAX_ROWS = 4096

# Below this many multiply-adds of the whole filter, a basis costs more than it can save.
MIN_WORK = 1 << 36

# What a trial counts, in cycles of a processor that multiplies 64 pairs of int8 in each: those of a
# pair that meets a filter, of one that passes the sketch, and of each component it then loads.
PAIR_CYCLES = 1.0
PASSED_CYCLES = 50.0
LOADED_CYCLES = 1 / 12


@dataclass
class Trial:
    """What a sketch of some depth would cost for a pair, by a sample of the data."""

    depth: int  # 0: no sketch
    passed: float  # the share of pairs that pass it
    cycles: float


def depths(dim: int) -> list[int]:
    """The depths worth trying for rows of `dim` columns."""
    return [depth for depth in DEPTHS if 2 * depth <= dim]


def choose(
    core: Any, sample: npt.NDArray[np.float64], n: int, capacity: int, threads: int
) -> tuple[Rows | None, list[Trial]]:
    """A basis, float32 [D, depth], for selecting `capacity` of n points, or None; and the trials.

    core: the native module. Its products, unlike NumPy's, leave no threads spinning behind on the
    processors that the selection needs next.
    sample: float64 [S, D], some of the points, shifted and scaled to norms of at most 1.
    """
    dim = sample.shape[1]
    if not depths(dim) or n * capacity * dim < MIN_WORK:
        return None, []
    narrow = sample.astype(np.float32)
    rows = narrow[:: -(-len(narrow) // min(capacity, MAX_ROWS))]
    if len(rows) < QUERIES:
        return None, []
    directions = np.random.default_rng(0).standard_normal((dim, depths(dim)[-1]), np.float32)
    core.principal(narrow, directions, POWER_STEPS, threads)
    trials = _trials(lambda a, b: core.project(a, b, threads), rows, directions)
    best = min(trials, key=lambda trial: trial.cycles)
    if best.depth == 0:
        return None, trials
    basis = np.zeros((dim, best.depth), np.float32)
    # A little shorter than 1, so that rounding to float32 does not lengthen anything.
    basis[:, :-1] = directions[:, : best.depth - 1] * (1 - 2.0**-16)
    return (basis if never_lengthens(basis) else None), trials


def never_lengthens(basis: Rows) -> bool:
    """Whether the spectral norm is at most 1: no row of the Gram matrix adds up to more."""
    wide = basis.astype(np.float64)
    gram = np.einsum("ki,kj->ij", wide, wide)
    return bool(np.abs(gram).sum(axis=1).max() <= 1 - 2.0**-24)


def _trials(product: Callable[[Rows, Rows], Rows], rows: Rows, directions: Rows) -> list[Trial]:
    """How many pairs of the rows are within a row's distance to its nearest, by each sketch.

    Of the farther half of some rows: those are looked at, as they lead in a selection.
    """
    dim = rows.shape[1]
    rows = np.ascontiguousarray(rows[: len(rows) // UNIT * UNIT])
    queries = np.linspace(0, len(rows) - 1, QUERIES).astype(np.int64)
    sq_norms = np.einsum("ij,ij->i", rows, rows)

    def sq_dists(rows: Rows) -> Rows:
        """Squared distances of queries and rows, inf to themselves, given what rows lack."""
        result = product(rows[queries], np.ascontiguousarray(rows.T))
        result *= -2
        result += sq_norms
        result += sq_norms[queries, None]
        result[np.arange(QUERIES), queries] = np.inf
        return result

    radii = np.sqrt(np.maximum(sq_dists(rows).min(axis=1), 0))
    far = radii >= np.median(radii)
    trials = [Trial(0, 1.0, dim / 64 + PAIR_CYCLES)]
    projected = product(rows, directions)
    for depth in depths(dim):
        sketches = projected[:, :depth].copy()
        rest = sq_norms - np.einsum("ij,ij->i", sketches[:, :-1], sketches[:, :-1])
        sketches[:, -1] = np.sqrt(np.maximum(rest, 0))
        # What rounding to codes adds to the reach of a pair.
        rounding = 0.6 * np.sqrt(depth) * np.median(np.abs(sketches).max(axis=1)) / 127
        passing = sq_dists(sketches)[far] < np.square(radii[far] + rounding)[:, None]
        passed = float(passing.mean())
        cycles = depth / 64 + PAIR_CYCLES + passed * (PASSED_CYCLES + LOADED_CYCLES * dim)
        trials.append(Trial(depth, passed, cycles))
    return trials
