"""What the kernels of greedy entropy share: canonical logarithms, and lists of entries.

Gains are whole numbers: sums by atomic additions do not depend on the order of programs.
"""

from __future__ import annotations

import struct

import triton
import triton.language as tl

from fastsel import canonical, gains

NEVER = tl.constexpr(gains.NEVER)
LAST = tl.constexpr(gains.LAST)
LOG_OF_ZERO = tl.constexpr(canonical.LOG_OF_ZERO)

# Numbers that float32 does not hold are written as bits: a float among a kernel's constants may be
# taken for one.
SQRT_HALF = tl.constexpr(0x3FE6A09E667F3BCD)
SERIES = tl.constexpr(struct.unpack("11q", struct.pack("11d", *canonical.LOG_SERIES)))


@triton.jit
def log_sq_dist(value):
    """The logarithm of log_sq_dists in fastsel/canonical.py, int64, in units of 2^-40."""
    subnormal = value < 2.2250738585072014e-308
    scaled = value * tl.where(subnormal, 1152921504606846976.0, 1.0)  # 2^60
    bits = scaled.to(tl.int64, bitcast=True)
    exponent = (bits >> 52) - tl.where(subnormal, 1082, 1022)
    bits = (bits & 0x000FFFFFFFFFFC00) | 0x3FE0000000000000  # 43 bits of [1/2, 1)
    low = bits < SQRT_HALF  # numbers that are not negative order like their bits
    exponent = exponent - low.to(tl.int64)
    bits = bits + (low.to(tl.int64) << 52)  # times 2
    fraction = bits.to(tl.float64, bitcast=True)
    s = (fraction - 1.0) / (fraction + 1.0)
    square = s * s
    series = tl.full(s.shape, SERIES[0], tl.int64).to(tl.float64, bitcast=True)
    for i in tl.static_range(1, 11):
        coefficient = tl.full(s.shape, SERIES[i], tl.int64).to(tl.float64, bitcast=True)
        series = series * square + coefficient
    # Added and subtracted, rounds to the nearest integer.
    rounder = tl.full(s.shape, 0x4338000000000000, tl.int64).to(tl.float64, bitcast=True)
    units = ((series * s * 1099511627776.0 + rounder) - rounder).to(tl.int64)
    return tl.where(value > 0.0, units + (exponent << 40), LOG_OF_ZERO)


@triton.jit
def rise_of(log, before, now):
    """By how much a candidate at `log` gains as the logarithm of a ball's radius falls."""
    return tl.minimum(log - now, 0) - tl.minimum(log - before, 0)


@triton.jit
def append(rows, members, logs, count, row, member, log, inside, SIZE: tl.constexpr):
    """Append entries, [SIZE], where `inside`; there is room."""
    slot = tl.atomic_add(count + tl.zeros((SIZE,), tl.int32), 1, mask=inside, sem="relaxed")
    tl.store(rows + slot, row.to(tl.int32), mask=inside)
    tl.store(members + slot, member.to(tl.int32), mask=inside)
    tl.store(logs + slot, log, mask=inside)
