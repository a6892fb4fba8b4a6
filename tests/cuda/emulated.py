"""The CUDA core with its kernels on the processor, and its operations over NumPy arrays."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastsel.filter import largest_code
from fastsel.points import Points

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
FLAGS = ["-std=c++17", "-O1", "-g1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"]
FLAGS += ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
SANITIZERS += ["-fno-omit-frame-pointer"]


def compile_core(sanitize: bool) -> Path:
    """The path of the module, built unless a build of the same sources is there."""
    import pybind11

    sources = [*sorted(ROOT.glob("csrc/cuda/*.cu")), ROOT / "csrc/bindings_cuda.cpp"]
    sources += [HERE / "faults.cu"]
    read = [*sources, *ROOT.glob("csrc/cuda/*.h"), ROOT / "csrc/matrix.h", HERE / "emulation.h"]
    extra = SANITIZERS if sanitize else []
    flags = [*FLAGS, *extra, '-DFASTSEL_ARCHITECTURES="emulated"']
    flags += ["-DFASTSEL_MODULE=_core_cuda", f"-I{ROOT / 'csrc'}", f"-I{HERE}"]
    flags += [f"-isystem{pybind11.get_include()}", f"-isystem{sysconfig.get_paths()['include']}"]
    digest = hashlib.sha256(repr((flags, sys.version)).encode())
    for path in sorted(read):
        digest.update(path.read_bytes())
    folder = ROOT / "build" / "emulated" / digest.hexdigest()[:16]
    module = folder / "_core_cuda.so"
    if module.exists():
        return module
    folder.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CXX", "g++")

    def compile_one(source: Path) -> str:
        target = folder / f"{source.stem}.{os.getpid()}.o"
        command = [compiler, *flags, "-x", "c++", "-c", str(source), "-o", str(target)]
        subprocess.run(command, check=True)
        return str(target)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    unfinished = folder / f"{os.getpid()}.so"
    subprocess.run([compiler, *extra, "-shared", *objects, "-o", str(unfinished)], check=True)
    unfinished.rename(module)
    return module


@cache
def core():
    """The module; that of an environment with FASTSEL_TEST_SANITIZE is built for sanitizers."""
    path = compile_core("FASTSEL_TEST_SANITIZE" in os.environ)
    loader = importlib.machinery.ExtensionFileLoader("_core_cuda", str(path))
    spec = importlib.util.spec_from_loader("_core_cuda", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@cache
def library():
    """The same, for its functions that are not Python's."""
    core()
    return ctypes.CDLL(str(core().__file__))


def order(seed: int) -> None:
    """Draw the order of threads and blocks from the seed; 0: one and the same."""
    library().emulation_order(ctypes.c_uint64(seed))


class Codes(NamedTuple):
    """As csrc/matrix.h has them."""

    values: np.ndarray
    scales: np.ndarray
    sq_norms: np.ndarray
    errors: np.ndarray
    shift: np.ndarray
    scale: float


def up(values) -> np.ndarray:
    """float32, rounded up."""
    nearest = values.astype(np.float32)
    return np.where(nearest < values, np.nextafter(nearest, np.float32(np.inf)), nearest)


def encode(points: Points, shift=None, scale=None) -> Codes:
    """Codes of all rows as csrc/cpu/encode.cpp defines them, 64 columns to a unit."""
    rows = points.rows(slice(None))
    if shift is None:
        shift = rows.mean(axis=0)
        largest = np.linalg.norm(rows - shift, axis=1).max()
        scale = 2.0 ** -(np.frexp(largest)[1] if largest else 0)
    image = (rows - shift) * scale
    limit = largest_code(points.dim)
    unit = up(np.abs(image).max(axis=1) / limit)
    whole = np.rint(np.divide(image, unit[:, None], where=unit[:, None] > 0, out=image * 0))
    values = np.zeros((points.n, -(-points.dim // 64) * 64), np.int8)
    values[:, : points.dim] = whole
    wide = unit.astype(np.float64)
    sq_norms = ((whole**2).sum(axis=1) * wide * wide * (1 - 2.0**-20)).astype(np.float32)
    off = np.linalg.norm(image - whole * wide[:, None], axis=1) * (1 + 2.0**-20)
    off += np.linalg.norm(image, axis=1) * 2.0**-40 + 2.0**-50
    return Codes(aligned(values), unit, sq_norms, up(off), shift, scale)


def aligned(values: np.ndarray) -> np.ndarray:
    """A copy that begins at a multiple of 16 bytes and ends where its memory does."""
    memory = np.empty(values.nbytes + 16, np.uint8)
    begin = -memory.ctypes.data % 16
    copy = memory[begin : begin + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def address(array: np.ndarray, dtype) -> int:
    """Where an array of that type lies."""
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    return array.ctypes.data


def matrix_argument(points: Points):
    """What the bindings take for points."""
    name = "bfloat16" if points.data.dtype == np.uint16 else points.data.dtype.name
    norms = 0 if points.norms is None else address(points.norms, np.float64)
    return points.data.ctypes.data, name, points.n, points.dim, norms


def codes_argument(codes: Codes):
    """What the bindings take for codes."""
    floats = [address(array, np.float32) for array in codes[1:4]]
    return (address(codes.values, np.int8), *floats, *codes.values.shape)


class List(NamedTuple):
    """A list of pairs that grows."""

    pairs: np.ndarray  # int32 [capacity, 2]
    count: np.ndarray  # int64 [1]

    @classmethod
    def empty(cls, capacity: int) -> List:
        return cls(np.full((capacity, 2), -1, np.int32), np.zeros(1, np.int64))

    @classmethod
    def of(cls, pairs) -> List:
        return cls(np.array(pairs, np.int32), np.array([len(pairs)]))

    def listed(self) -> np.ndarray:
        return self.pairs[: self.count[0]]

    def argument(self):
        """What the bindings take for it."""
        places = address(self.pairs, np.int32), len(self.pairs), address(self.count, np.int64)
        return places


def min_update(points, centres, centre, sq_dist):
    row = np.ascontiguousarray(centres.rows(slice(centre, centre + 1))[0])
    core().min_update(
        matrix_argument(points), address(row, np.float64), address(sq_dist, np.float64), 0
    )


def group_min(q_codes, q_rows, p_codes, p_rows, group, out, first=None, tile=0):
    core().group_min(
        *_product(q_codes, q_rows),
        *_product(p_codes, p_rows),
        group,
        _first(first),
        tile,
        address(out, np.float32),
        0,
    )


def survivors(q_codes, q_rows, p_codes, p_rows, reach, pairs, overflow, first=None, tile=0):
    core().survivors(
        *_product(q_codes, q_rows),
        *_product(p_codes, p_rows),
        address(reach, np.float32),
        _first(first),
        tile,
        pairs.argument(),
        address(overflow, np.uint8),
        0,
    )


def _first(first):
    return 0 if first is None else address(first, np.int64)


def _product(codes, rows):
    return codes_argument(codes), address(rows, np.int64), len(rows)


def pair_min(points, rows, centres, cols, pairs, keys):
    core().pair_min(
        matrix_argument(points),
        address(rows, np.int64),
        matrix_argument(centres),
        address(cols, np.int64),
        pairs.argument(),
        address(keys, np.float64),
        0,
    )


def pair_sq_dists(queries, points, pairs, out, by_inner_product=False):
    core().pair_sq_dists(
        matrix_argument(queries),
        matrix_argument(points),
        pairs.argument(),
        by_inner_product,
        address(out, np.float64),
        0,
    )


def by_row(pairs, next, cols=None):
    there = 0 if cols is None else address(cols, np.int32)
    core().by_row(pairs.argument(), address(next, np.int64), there, 0)


def top_k(queries, rows, points, first, cols, exclude_self, by_inner_product, keys, index):
    assert keys.shape == index.shape == (len(rows), keys.shape[1])
    assert len(first) == len(rows) + 1
    core().top_k(
        matrix_argument(queries),
        address(rows, np.int64),
        len(rows),
        matrix_argument(points),
        address(first, np.int64),
        address(cols, np.int32),
        exclude_self,
        by_inner_product,
        keys.shape[1],
        address(keys, np.float64),
        address(index, np.int64),
        0,
    )


def sq_dist_matrix(points, rows, out):
    core().sq_dist_matrix(
        matrix_argument(points), address(rows, np.int64), len(rows), address(out, np.float64), 0
    )


def _active(matrix, rows, keys, n_active):
    assert matrix.shape == (len(rows), len(rows))
    return (
        address(matrix, np.float64),
        len(rows),
        address(rows, np.int64),
        address(keys, np.float64),
        address(n_active, np.int64),
    )


def _picks(picks, sq_radii, n_picks):
    assert picks.shape == sq_radii.shape
    return (
        address(picks, np.int64),
        address(sq_radii, np.float64),
        address(n_picks, np.int64),
        len(picks),
    )


def pick(matrix, rows, keys, n_active, rival, least, picks, sq_radii, n_picks):
    key, row = np.array([rival[0]]), np.array([rival[1]])
    core().pick(
        _active(matrix, rows, keys, n_active),
        address(key, np.float64),
        address(row, np.int64),
        least,
        _picks(picks, sq_radii, n_picks),
        0,
    )


def accept(matrix, rows, keys, n_active, limits, picks, sweeps, sq_radii, n_picks):
    core().accept(
        _active(matrix, rows, keys, n_active),
        address(limits, np.float64),
        len(limits),
        _picks(picks, sq_radii, n_picks),
        address(sweeps, np.int64),
        0,
    )


class Balls(NamedTuple):
    """A list of entries that grows: a candidate that lies in the ball of a member."""

    rows: np.ndarray  # int32 [capacity]
    members: np.ndarray  # int32 [capacity]
    logs: np.ndarray  # int64 [capacity]
    count: np.ndarray  # int64 [1]

    @classmethod
    def empty(cls, capacity: int) -> Balls:
        numbers = np.full((2, capacity), -7, np.int32)
        return cls(*numbers, np.full(capacity, -7), np.zeros(1, np.int64))

    def listed(self):
        count = self.count[0]
        assert (self.logs[count:] == -7).all()
        return sorted(zip(*(part[:count].tolist() for part in self[:3]), strict=True))

    def argument(self):
        """What the bindings take for it."""
        places = [address(part, np.int32) for part in self[:2]]
        places += [address(part, np.int64) for part in self[2:]]
        return (*places, len(self.logs))


class Runs(NamedTuple):
    """Entries (candidate or its place, member, log) by one of their sides."""

    first: np.ndarray
    others: np.ndarray
    logs: np.ndarray

    @classmethod
    def of(cls, entries, side: int, n: int) -> Runs:
        entries = sorted(entries, key=lambda entry: entry[side])
        first = np.searchsorted([entry[side] for entry in entries], np.arange(n + 1))
        others = np.array([entry[1 - side] for entry in entries], np.int32)
        return cls(first, others, np.array([entry[2] for entry in entries], np.int64))

    def argument(self):
        """What the bindings take for it."""
        others = address(self.others, np.int32)
        return address(self.first, np.int64), others, address(self.logs, np.int64)


def enter_balls(points, members, first, rows, pairs, seen, log_eps, gains, balls):
    core().enter_balls(
        matrix_argument(points),
        (address(members, np.int64), address(log_eps, np.int64), first),
        address(rows, np.int64),
        pairs.argument(),
        address(seen, np.int64),
        address(gains, np.int64),
        balls.argument(),
        0,
    )


def renew_gains(rows, before, sq_dist, least, gains):
    core().renew_gains(
        address(rows, np.int64),
        address(before, np.float64),
        len(rows),
        address(sq_dist, np.float64),
        least,
        address(gains, np.int64),
        0,
    )


def entropy_pick(matrix, rows, place, of_row, of_member, rival, least, known, picks):
    """known: gains, sq_dist and log_eps; picks: members, sq_eps, sq_radii, places and counts."""
    gain, row = np.array([rival[0]]), np.array([rival[1]])
    types = (np.int64, np.float64, np.int64), (np.int64, np.float64, np.float64, np.int64, np.int64)
    given, out = (
        tuple(address(part, dtype) for part, dtype in zip(parts, dtypes, strict=True))
        for parts, dtypes in zip((known, picks), types, strict=True)
    )
    core().entropy_pick(
        (
            address(matrix, np.float64),
            address(rows, np.int64),
            len(rows),
            address(place, np.int32),
            of_row.argument(),
            of_member.argument(),
            len(of_member.first) - 1,
        ),
        address(gain, np.int64),
        address(row, np.int64),
        least,
        given,
        (*out, len(picks[0])),
        0,
    )


def enter_picks(matrix, rows, gains, places, sq_eps, first, balls):
    core().enter_picks(
        address(matrix, np.float64),
        address(rows, np.int64),
        len(rows),
        address(gains, np.int64),
        address(places, np.int64),
        address(sq_eps, np.float64),
        len(places),
        first,
        balls.argument(),
        0,
    )
