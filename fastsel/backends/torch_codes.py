"""The int8 codes of points that the filter of the device backends works on, in tensors.

An operation on codes answers in radii: distances times the scale of the codes, float32, as
csrc/cpu/filter.h has them.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fastsel.backends.torch_canonical import blocks, wide_rows
from fastsel.filter import MIN_SAMPLE_ROWS, SAMPLE_ELEMENTS, largest_code
from fastsel.points import Points

# Bytes of a row of codes are a multiple of this, so that kernels take whole steps.
CODE_UNIT = 64

Role = Literal["both", "query", "point"]


class Codes(NamedTuple):
    """How rows look to the filter; csrc/cpu/filter.h tells what these mean."""

    values: Tensor  # int8 [N, W], zeros beyond the columns of the points
    scales: Tensor  # float32 [N]
    sq_norms: Tensor  # float32 [N]
    errors: Tensor  # float32 [N]
    scale: float  # a power of two


def frame(*parts: Points, centred: bool = True) -> tuple[Tensor, float]:
    """A shift, float64 [D], and a scale, as those of fastsel/filter.py."""
    first = parts[0]
    step = -(-first.n // max(MIN_SAMPLE_ROWS, SAMPLE_ELEMENTS // first.dim))
    shift = wide_rows(first, slice(None, None, step)).mean(dim=0)
    if not centred:
        shift = torch.zeros_like(shift)
    largest = torch.zeros((), dtype=torch.float64, device=shift.device)
    for points in parts:
        for block in blocks(points.n, points.dim):
            sq_norms = (wide_rows(points, block) - shift).square().sum(dim=1)
            largest = torch.maximum(largest, sq_norms.max())
    norm = math.sqrt(largest.item())
    return shift, math.ldexp(1.0, -max(-500, math.frexp(norm)[1]) if norm > 0 else 0)


def encode(points: Points, shift: Tensor, scale: float, role: Role = "both") -> Codes:
    """Codes of the points, as csrc/cpu/encode.cpp makes them.

    In a search by inner product queries and points have a `role`, and the shift is 0. A query is
    brought to a norm in [1/2, 1) by a power of two, which changes no order. A point, of norm up to
    1, gets one more component, sqrt(1 - |c|^2), which is 0 for queries and has no error. Then
    |x - c|^2 = |x|^2 + 1 - 2 x.c: the nearest points have the largest products, and the filter of
    csrc/cpu/filter.h is one for these, with its proof.
    """
    n, dim = points.n, points.dim
    limit = largest_code(dim)
    width = -(-dim // CODE_UNIT) * CODE_UNIT
    values = torch.zeros((n, width), dtype=torch.int8, device=shift.device)
    scales, sq_norms, errors = torch.empty((3, n), dtype=torch.float32, device=shift.device)
    for block in blocks(n, dim):
        image = (wide_rows(points, block) - shift) * scale
        if role == "query":
            image *= _to_unit_norm(image.square().sum(dim=1).sqrt(), scale)[:, None]
        top = image.abs().amax(dim=1)
        # Rows too small for a float32 scale are coded as zeros.
        unit = torch.where(top > 2.0**-100, round_up(top / limit), 0.0)
        wide_unit = unit.double()
        inverse = torch.where(unit > 0, 1.0 / wide_unit, 0.0)
        code = (image * inverse[:, None]).round()
        off = (image - code * wide_unit[:, None]).square().sum(dim=1).sqrt()
        norm = image.square().sum(dim=1).sqrt()
        values[block, :dim] = code.to(torch.int8)
        scales[block] = unit
        sq_norm = code.square().sum(dim=1) * wide_unit.square()
        if role == "point":
            sq_norm += 1.0 - norm.square()
        sq_norms[block] = (sq_norm * (1.0 - 2.0**-20)).float()
        # The shift's subtraction may take an image of norm 1 off by 2^-40; squares may underflow.
        errors[block] = round_up(off * (1.0 + 2.0**-20) + norm * 2.0**-40 + 2.0**-50)
    return Codes(values, scales, sq_norms, errors, scale)


def _to_unit_norm(norms: Tensor, scale: float) -> Tensor:
    """Powers of two that bring the norms into [1/2, 1), and the scale to 2^500 at most."""
    exponents = norms.frexp().exponent.clamp(min=math.frexp(scale)[1] - 501).long()
    return ((1023 - exponents) << 52).view(torch.float64)


def round_up(values: Tensor) -> Tensor:
    """The float32 numbers next to float64 ones, not below them."""
    nearest = values.float()
    above = torch.nextafter(nearest, torch.full_like(nearest, math.inf))
    return torch.where(nearest.double() < values, above, nearest)
