"""Canonical distances and their logarithms (fastsel/canonical.py) of tensors, on any device.

Torch rounds every operation: it has no way to contract a product and a sum.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fastsel.canonical import LANES, LOG_OF_ZERO, LOG_SERIES, LOG_UNITS, SQRT_HALF
from fastsel.points import Points, take_roots

# Rows times columns of float64 temporaries.
BLOCK_ELEMENTS = 1 << 22


def wide_rows(points: Points, rows: Tensor | slice) -> Tensor:
    """Those rows, float64 [len, D], exactly (normalised, for the cosine metric)."""
    wide: Tensor = points.data[rows].double()
    if points.norms is None:
        return wide
    norms: Tensor = points.norms[rows, None]
    return wide / norms


def sq_dists(x: Tensor, y: Tensor) -> Tensor:
    """Canonical squared distances (fastsel/canonical.py) of broadcast rows; [..., D] each -> [...].

    float64. Torch rounds every operation: it has no way to contract a product and a sum.
    """
    return _sum_terms(x, y, _sq_differences)


def inner_products(x: Tensor, y: Tensor) -> Tensor:
    """Canonical inner products of broadcast rows, likewise."""
    return _sum_terms(x, y, torch.mul)


def _sq_differences(x: Tensor, y: Tensor) -> Tensor:
    diff = x - y
    return diff * diff


def _sum_terms(x: Tensor, y: Tensor, term: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    shape = (x[..., 0] - y[..., 0]).shape
    lanes = x.new_zeros((*shape, LANES))
    for start in range(0, x.shape[-1], LANES):
        terms = term(x[..., start : start + LANES], y[..., start : start + LANES])
        lanes[..., : terms.shape[-1]] += terms
    half = lanes[..., :4] + lanes[..., 4:]
    quarter = half[..., :2] + half[..., 2:]
    return quarter[..., 0] + quarter[..., 1]


def log_sq_dists(sq_dist: Tensor) -> Tensor:
    """Canonical logarithms (fastsel/canonical.py) of finite squared distances, int64."""
    fraction, exponent = torch.frexp(sq_dist)
    fraction = torch.floor(fraction * 2.0**43) * 2.0**-43
    low = fraction < SQRT_HALF
    fraction = torch.where(low, fraction * 2.0, fraction)
    s = (fraction - 1.0) / (fraction + 1.0)
    square = s * s
    series = torch.full_like(s, LOG_SERIES[0])
    for coefficient in LOG_SERIES[1:]:
        series = series * square + coefficient
    units = torch.round(series * s * LOG_UNITS).long()
    units += (exponent.long() - low.long()) * LOG_UNITS
    return torch.where(sq_dist > 0, units, LOG_OF_ZERO)


def norms(data: Tensor) -> Tensor:
    """Canonical Euclidean norm of every row, float64 [N]."""
    squares = torch.empty(len(data), dtype=torch.float64, device=data.device)
    for block in blocks(len(data), data.shape[1]):
        rows = data[block].double()
        squares[block] = sq_dists(rows, torch.zeros_like(rows[:1]))
    take_roots(squares)
    return squares


def blocks(n: int, width: int) -> list[slice]:
    """Slices of n rows, small enough for temporaries of that width."""
    step = max(1, BLOCK_ELEMENTS // max(1, width))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def listed(pairs: Tensor, n_pairs: Tensor, dim: int) -> list[Tensor]:
    """The pairs that are there, int64 [*, 2], in blocks."""
    there = pairs[: int(n_pairs.item())].long()
    return [there[block] for block in blocks(len(there), dim)]
