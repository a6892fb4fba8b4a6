"""Equal rows, found by a hash of their bits and then compared.

The hash is multilinear, a sum of words times random odd numbers modulo 2^64: rows that differ share
it with a probability of about 2^-32, and then cost time but change no result.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastsel.points import Points

Indices = npt.NDArray[np.int64]
Words = npt.NDArray[np.unsignedinteger]

BLOCK_ELEMENTS = 1 << 20  # of the rows that are in hand at a time


def first_equal(points: Points, rows: Indices | None = None) -> Indices:
    """Of every row the position of the first row that equals it, int64 [N].

    With `rows`, of those rows, and positions in `rows`. -0.0 equals 0.0. Norms do not matter.

    Cost O(N D + N log N) time; memory 40 bytes for each row.
    """
    index = np.arange(points.n) if rows is None else rows
    hashes = _hashes(points, index)
    # Of equal hashes, the lowest position comes first.
    order = np.argsort(hashes, kind="stable")
    begins = np.ones(len(order), bool)
    begins[1:] = hashes[order[1:]] != hashes[order[:-1]]
    leader = order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))]
    first = np.empty(len(order), np.int64)
    first[order] = leader

    followers = np.flatnonzero(first != np.arange(len(first)))
    step = _step(points)
    unequal = np.concatenate(
        [
            part[(_words(points, index[part]) != _words(points, index[first[part]])).any(axis=1)]
            for part in (followers[at : at + step] for at in range(0, len(followers), step))
        ]
        or [np.zeros(0, np.int64)]
    )
    # Rows that share a hash by chance, one at a time: there are hardly ever any.
    seen: dict[bytes, int] = {}
    for position in unequal.tolist():
        key = _words(points, index[position : position + 1]).tobytes()
        first[position] = seen.setdefault(key, position)
    return first


def _hashes(points: Points, index: Indices) -> npt.NDArray[np.uint64]:
    width = _words(points, index[:1]).shape[1]
    factors = _factors(width)
    step = _step(points)
    result = np.empty(len(index), np.uint64)
    for at in range(0, len(index), step):
        part = slice(at, at + step)
        result[part] = _words(points, index[part]).astype(np.uint64) @ factors
    return result


def _factors(width: int) -> npt.NDArray[np.uint64]:
    rng = np.random.default_rng(0)
    return np.asarray(rng.integers(0, 1 << 64, width, dtype=np.uint64) | np.uint64(1))


def _step(points: Points) -> int:
    return max(1, BLOCK_ELEMENTS // points.dim)


def _words(points: Points, index: Indices) -> Words:
    """The bits of some rows as words of at most 32 bits, [len, words], -0.0 as 0.0."""
    data = points.data[index]
    if data.dtype == np.uint16:
        data[data == 0x8000] = 0  # bfloat16
    else:
        data += data.dtype.type(0)
    words: Words = data.view(np.uint16 if data.itemsize == 2 else np.uint32)
    return words
