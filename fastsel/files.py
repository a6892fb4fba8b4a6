"""Feature matrices and results in files: .npy, .npz, .safetensors and .parquet. Never a pickle."""

from __future__ import annotations

import importlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_SAFETENSORS_TYPES = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}


def load(path: Path, key: str | None = None) -> Array:
    """The array in a file; of .npy and .safetensors memory-mapped, so that no copy is in memory.

    key: the array of an .npz, the tensor of a .safetensors file, or the column of lists of a
    .parquet table. Where there is only one it may be left out, and without it the columns of
    numbers of a table are taken side by side. bfloat16 comes back as float32, in memory.

    Raises OSError where the file can not be read, ValueError where it is not what its suffix says
    or has no such key, ImportError where a package is missing.
    """
    loaders: dict[str, Callable[[Path, str | None], Array]] = {
        ".npy": _load_npy,
        ".npz": _load_npz,
        ".safetensors": _load_safetensors,
        ".parquet": _load_parquet,
    }
    if path.suffix not in loaders:
        raise ValueError(f"{path}: the suffix must be one of {', '.join(loaders)}")
    try:
        return loaders[path.suffix](path, key)
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: {error}") from error


def load_indices(path: Path) -> Array:
    """The integers in a file of any of those formats, as `save` writes them; errors as of `load`.

    Of a .parquet table the only column of integers.
    """
    if path.suffix != ".parquet":
        return load(path)
    pyarrow, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    try:
        table = parquet.read_table(path)
        integers = [f.name for f in table.schema if pyarrow.types.is_integer(f.type)]
        return _values(table[_choose(integers, None)])
    except (ValueError, pyarrow.ArrowException) as error:
        raise ValueError(f"{path}: {error}") from error


def check_output(path: Path, *others: Path | None) -> None:
    """Raise, before any work, what `save` would raise, or if `path` is one of the other files."""
    for other in others:
        if other is not None and path.resolve() == other.resolve():
            raise ValueError(f"{path}: an output must not be an input or another output too")
    if path.suffix not in (".npy", ".parquet"):
        raise ValueError(f"{path}: the suffix of an output must be .npy or .parquet")
    if path.suffix == ".parquet":
        _pyarrow("pyarrow")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}")


def save(path: Path, name: str, array: Array) -> None:
    """Write an array to .npy, or to .parquet as a column of that name, a list for each row.

    Whole or not at all: a file that is there stays until the new one is complete.
    """
    check_output(path)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        part = Path(file.name)
        try:
            if path.suffix == ".npy":
                np.save(file, array, allow_pickle=False)
            else:
                _write_parquet(file, name, array)
            file.flush()
            os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            part.chmod(0o666 & ~mask)  # as any other new file; a temporary one is private
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _load_npy(path: Path, key: str | None) -> Array:
    if key is not None:
        raise ValueError(f"a .npy file holds one array without a name, got key {key!r}")
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _load_npz(path: Path, key: str | None) -> Array:
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("not an .npz archive, or cut off")
    with np.load(path, allow_pickle=False) as archive:
        return np.asarray(archive[_choose(archive.files, key)])


def _load_safetensors(path: Path, key: str | None) -> Array:
    # Read here rather than by the safetensors package, whose NumPy interface copies every tensor.
    # The format: an 8-byte little-endian length, so many bytes of JSON, then the tensors.
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError("the header is longer than the file")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("the header is not a JSON object")
    header.pop("__metadata__", None)
    entry = header[_choose(list(header), key)]
    try:
        kind, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError) as error:
        raise ValueError("the header lacks dtype, shape or data_offsets") from error
    if kind not in _SAFETENSORS_TYPES:
        raise ValueError(f"dtype must be one of {', '.join(_SAFETENSORS_TYPES)}, got {kind}")
    dtype = np.dtype(_SAFETENSORS_TYPES[kind])
    offset = 8 + length + begin
    if begin < 0 or end - begin != dtype.itemsize * int(np.prod(shape)) or 8 + length + end > size:
        raise ValueError("the header does not fit the data")
    if begin == end:
        return np.empty(shape, dtype)
    # Writers align tensors to their type; where one did not, a copy is aligned.
    array = np.require(np.memmap(path, dtype, "r", offset, shape), requirements="A")
    if kind == "BF16":
        return np.asarray((array.astype(np.uint32) << np.uint32(16)).view(np.float32))
    return np.asarray(array)


def _load_parquet(path: Path, key: str | None) -> Array:
    pyarrow, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path, memory_map=True) as file:
            schema = file.schema_arrow
            lists = [field.name for field in schema if _is_list(pyarrow, field.type)]
            if key is None and not lists:
                names = [f.name for f in schema if pyarrow.types.is_floating(f.type)]
                if not names:
                    raise ValueError("no column holds floats or lists of them")
                blocks = (
                    np.stack([_values(batch[name]) for name in names], axis=1)
                    for batch in file.iter_batches(columns=names)
                )
            else:
                name = _choose(lists, key)
                blocks = (_matrix(batch[name]) for batch in file.iter_batches(columns=[name]))
            return _joined(blocks, file.metadata.num_rows)
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error


def _is_list(pyarrow: Any, kind: Any) -> bool:
    types = pyarrow.types
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(is_list and types.is_floating(kind.value_type))


def _joined(blocks: Iterator[Array], n: int) -> Array:
    """Blocks of n rows in all as one array, beside which one block is in memory at a time."""
    result = np.empty((0, 0), np.float32)
    done = 0
    for block in blocks:
        if not done:
            result = np.empty((n, block.shape[1]), block.dtype)
        if block.shape[1] != result.shape[1]:
            raise ValueError("the lists are not all of one length")
        result[done : done + len(block)] = block
        done += len(block)
    return result


def _values(column: Any) -> Array:
    if column.null_count:
        raise ValueError("there are missing values")
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _matrix(column: Any) -> Array:
    """A column of lists of one length as a matrix."""
    values = _values(column.flatten())
    if column.null_count or len(values) % max(1, len(column)):
        raise ValueError("the lists are not all of one length")
    lengths = np.asarray(column.value_lengths())
    if len(np.unique(lengths)) > 1:
        raise ValueError("the lists are not all of one length")
    return values.reshape(len(column), -1)


def _write_parquet(file: IO[bytes], name: str, array: Array) -> None:
    pyarrow, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    column = pyarrow.array(array.reshape(-1))
    if array.ndim == 2:
        column = pyarrow.FixedSizeListArray.from_arrays(column, array.shape[1])
    parquet.write_table(pyarrow.table({name: column}), file)


def _choose(names: list[str], key: str | None) -> str:
    if key is None and len(names) == 1:
        return names[0]
    if key not in names:
        wanted = "name one of them" if key is None else f"there is no {key!r}"
        raise ValueError(f"it holds {', '.join(map(repr, names)) or 'nothing'}; {wanted} (--key)")
    return key


def _pyarrow(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f".parquet files need pyarrow, which does not load ({error}): "
            "pip install 'fastsel[files]'"
        ) from error
