"""The idx files of MNIST and Fashion-MNIST, as they are or gzipped."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

_SUFFIXES = ("-ubyte", "-ubyte.gz", ".idx", ".idx.gz")
_UNSIGNED_BYTES = 0x08
# The largest such set has under a million images of 28x28; what unpacks to more is no such file.
_MAX_BYTES = 1 << 30


class IdxError(ValueError):
    """The file is damaged, or no idx file of unsigned bytes; the message names it."""


def is_idx(path: Path) -> bool:
    """Whether a file is named as idx files are: train-images-idx3-ubyte.gz, images.idx."""
    return path.name.lower().endswith(_SUFFIXES)


def labels_beside(path: Path) -> Path | None:
    """The file of labels that belongs to a file of images, where it lies beside it."""
    name = path.name.replace("images", "labels").replace("idx3", "idx1")
    found = path.with_name(name)
    return found if name != path.name and found.is_file() else None


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """The array of an idx file: two zero bytes, the type, the number of axes, their sizes, data.

    Raises:
        IdxError: the file is damaged, or holds anything but unsigned bytes.
        OSError: it cannot be read.
    """
    open_file = gzip.open if path.suffix.lower() == ".gz" else Path.open
    try:
        with open_file(path, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise IdxError(f"{path} is not a readable gzip, or cut short: {error}") from error
    if len(content) > _MAX_BYTES:
        raise IdxError(f"{path} unpacks to more than {_MAX_BYTES:,} bytes")
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTES:
        raise IdxError(
            f"{path} is not an idx file of unsigned bytes: it begins with {content[:4].hex(' ')},"
            " expected 00 00 08"
        )
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:start], ">u4", len(content[4:start]) // 4).tolist())
    if len(shape) != content[3] or len(content) - start != math.prod(shape):
        raise IdxError(
            f"{path} is cut short or damaged: it states {list(shape)},"
            f" and has {max(0, len(content) - start):,} bytes of data"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
