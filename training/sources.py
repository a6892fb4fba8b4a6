"""Where images come from: one listing for each kind of source, read image by image.

A listing says what each image is called and decodes one of them, so that `training.data` handles
limits, colours, sizes and errors once, and only the images that are asked for are read. Nothing
is unpacked to disk, and nothing is unpickled.
"""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from training.decode import SUFFIXES, eight_bits, open_image
from training.hub import hub_problem
from training.idx import IdxError, is_idx, labels_beside, read_idx

_NPZ_IMAGES = ("images", "x", "arr_0", "x_train")
_NPZ_LABELS = ("labels", "y", "y_train")
_HUB_NAME = re.compile(r"(?P<name>[\w-][\w.-]*(/[\w-][\w.-]*)?)(:(?P<split>[\w.+%:\[\]-]+))?")
# A zip states the size of each member; no photograph is larger than this, and a bomb is.
_MAX_MEMBER_BYTES = 256 << 20


class DataError(ValueError):
    """The images cannot be had as asked; the message names the file or option, and the remedy."""


@dataclass(frozen=True, eq=False)
class Listing:
    """A source before anything is decoded.

    Attributes:
        names: what a message calls each image.
        decode: image i, upright and of 8 bits, mode "L" or "RGB"; raises one of
            `training.decode.DECODE_ERRORS`.
        labels: int64 [N], or None.
        class_names: the classes that labels index.
    """

    names: Sequence[str]
    decode: Callable[[int], Image.Image]
    labels: npt.NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()


@contextmanager
def open_listing(source: str) -> Iterator[Listing]:
    """The listing of a source as `training.data.load_images` takes it, open while it is read.

    Raises:
        DataError: the source is missing, unsupported, empty, damaged or dangerous.
        OSError: a file or folder cannot be read.
    """
    path = Path(source).expanduser()
    if source == "digits":
        yield _digits()
    elif path.is_dir():
        yield _folder(path)
    elif path.is_file() and path.suffix.lower() == ".npz":
        yield _npz(path)
    elif path.is_file() and is_idx(path):
        yield _idx(path)
    elif path.is_file() and (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path)):
        try:
            archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise DataError(f"{path} is not a readable zip, or cut short: {error}") from error
        with archive:
            yield _zip(path, archive)
    elif path.is_file():
        raise DataError(
            f"{source} is neither a .zip of images nor an .npz; expected digits, a folder,"
            " a .zip, an .npz, an idx file (...-ubyte, .gz or not) or the name of a Hugging Face"
            " data set"
        )
    elif path.exists():
        raise DataError(f"{source} is neither a file nor a folder")
    elif (match := _HUB_NAME.fullmatch(source)) and path.suffix.lower() not in (".zip", ".npz"):
        yield _hub(match["name"], match["split"] or "train")
    else:
        raise DataError(f"no such file or folder: {source}")


def _digits() -> Listing:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # [N, 8, 8]
    return _array_listing("digits", images, digits.target)


def _array_listing(
    source: str, images: npt.NDArray[np.uint8], labels: npt.NDArray[Any] | None
) -> Listing:
    """The listing of images [N, H, W] or [N, H, W, 3] that lie in memory."""
    names = [f"{source}[{i}]" for i in range(len(images))]

    def decode(i: int) -> Image.Image:
        return Image.fromarray(np.ascontiguousarray(images[i]))

    if labels is None:
        return Listing(names, decode)
    classes, indices = np.unique(labels, return_inverse=True)
    return Listing(names, decode, indices.astype(np.int64), tuple(str(c) for c in classes))


def _labels_of_paths(paths: Sequence[str]) -> tuple[npt.NDArray[np.int64] | None, tuple[str, ...]]:
    """Labels from relative posix paths: the first folder below what they all share."""
    folders = [PurePosixPath(path).parts[:-1] for path in paths]
    # What the first and the last have in common, in order, all have.
    first, last = min(folders), max(folders)
    shared = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    )
    if all(len(parts) == shared for parts in folders):
        return None, ()
    for path, parts in zip(paths, folders, strict=True):
        if len(parts) == shared:
            other = next(p for p, q in zip(paths, folders, strict=True) if len(q) > shared)
            raise DataError(
                f"{path} lies outside the class folders that {other} has;"
                " expected every image in a class folder, or none"
            )
    classes = sorted({parts[shared] for parts in folders})
    index = {name: i for i, name in enumerate(classes)}
    labels = np.array([index[parts[shared]] for parts in folders], dtype=np.int64)
    return labels, tuple(classes)


def _is_image(path: str) -> bool:
    """By its suffix, and not among the hidden files that archivers and file managers leave."""
    parts = PurePosixPath(path)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts.parts)
    return not hidden and parts.suffix.lower() in SUFFIXES


def _folder(root: Path) -> Listing:
    def fail(error: OSError) -> None:
        raise error

    found = []
    # Links to folders are not followed: they can lead outside, or in a circle.
    for folder, _, files in os.walk(root, onerror=fail, followlinks=False):
        found += [(Path(folder) / file).relative_to(root).as_posix() for file in files]
    paths = sorted(filter(_is_image, found))
    if not paths:
        raise DataError(
            f"{root} holds no images among its {len(found)} files;"
            f" expected {', '.join(sorted(SUFFIXES))}"
        )
    labels, class_names = _labels_of_paths(paths)

    def decode(i: int) -> Image.Image:
        return open_image(root / paths[i])

    return Listing([str(root / path) for path in paths], decode, labels, class_names)


def _zip(path: Path, archive: zipfile.ZipFile) -> Listing:
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")  # some Windows archivers write backslashes
        _check_member(path, info, name)
        if not info.is_dir() and _is_image(name):
            if name in members:
                raise DataError(f"{path} holds {name} twice")
            members[name] = info
    if not members:
        raise DataError(
            f"{path} holds no images among its {len(archive.infolist())} entries;"
            f" expected {', '.join(sorted(SUFFIXES))}"
        )
    names = sorted(members)
    labels, class_names = _labels_of_paths(names)

    def decode(i: int) -> Image.Image:
        # Reading stops at the stated size, which was checked, and compares the checksum.
        return open_image(io.BytesIO(archive.read(members[names[i]])))

    return Listing([f"{path}:{name}" for name in names], decode, labels, class_names)


def _check_member(path: Path, info: zipfile.ZipInfo, name: str) -> None:
    """Refuse what no tool that packs images writes: it is damaged, or made to harm."""
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in name.split("/"):
        raise DataError(f"{path} holds an entry whose path leads outside of it: {info.filename!r}")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise DataError(f"{path} holds a symbolic link, which is not followed: {info.filename!r}")
    if info.flag_bits & 0x1:
        raise DataError(f"{path} is encrypted ({info.filename!r}); give it without a password")
    if info.file_size > _MAX_MEMBER_BYTES:
        raise DataError(
            f"{path}:{info.filename} unpacks to {info.file_size:,} bytes;"
            f" expected at most {_MAX_MEMBER_BYTES:,}"
        )


def _npz(path: Path) -> Listing:
    try:
        # np.load would leave a file that it cannot read open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            images = _first_key(arrays, _NPZ_IMAGES)
            labels = _first_key(arrays, _NPZ_LABELS)
            keys = ", ".join(arrays.files) or "none"
    except (ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a readable .npz without pickles: {error}") from error
    if images is None:
        raise DataError(f"{path} has no {' / '.join(_NPZ_IMAGES)}; its arrays: {keys}")
    images = _channels_last(path, images)
    if labels is not None:
        labels = labels.reshape(-1) if labels.shape == (len(images), 1) else labels
        if labels.shape != (len(images),) or labels.dtype.kind not in "iuU":
            raise DataError(
                f"{path}: labels must be integers or strings of shape [{len(images)}],"
                f" got {labels.dtype} {list(labels.shape)}"
            )
    return _array_listing(str(path), images, labels)


def _idx(path: Path) -> Listing:
    """The listing of a file of images, with the labels that lie beside it."""
    labels_path = labels_beside(path)
    try:
        images = read_idx(path)
        labels = None if labels_path is None else read_idx(labels_path)
    except IdxError as error:
        raise DataError(str(error)) from error
    if images.ndim != 3 or 0 in images.shape:
        raise DataError(
            f"{path} must hold images [N, H, W], nothing empty, got {list(images.shape)}; labels"
            " are found beside their images"
        )
    if labels is not None and labels.shape != (len(images),):
        raise DataError(
            f"{labels_path} must hold {len(images)} labels, as many as {path} has images,"
            f" got {list(labels.shape)}"
        )
    return _array_listing(str(path), images, labels)


def _first_key(arrays: Any, keys: Sequence[str]) -> npt.NDArray[Any] | None:
    return next((arrays[key] for key in keys if key in arrays.files), None)


def _channels_last(path: Path, images: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Images [N, H, W] or [N, H, W, 3] from any of the accepted layouts."""
    if images.dtype != np.uint8:
        raise DataError(f"{path}: images must be uint8 in 0..255, got {images.dtype}")
    # [N, H, W, C] wins where both fit: images of 1 or 3 rows hardly exist.
    if images.ndim == 4 and images.shape[3] not in (1, 3) and images.shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if 0 in images.shape or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)):
        raise DataError(
            f"{path}: images must be [N, H, W], [N, H, W, C] or [N, C, H, W] with C 1 or 3 and"
            f" nothing empty, got {list(images.shape)}"
        )
    return images


def _hub(name: str, split: str) -> Listing:
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"no file or folder is called {name}, and to load it as a Hugging Face data set"
            " the package datasets is needed: pip install datasets"
        ) from error
    problem = hub_problem()
    if problem and not datasets.config.HF_HUB_OFFLINE:
        raise DataError(
            f"no file or folder is called {name}, and it cannot be loaded as a Hugging Face data"
            f" set: {problem}. If it is in the local cache, set HF_HUB_OFFLINE=1; else give"
            " a folder, .zip or .npz"
        )
    try:
        table = datasets.load_dataset(name, split=split)
    except Exception as error:  # the hub's and the parsers' own, of many kinds
        raise DataError(
            f"Hugging Face data set {name!r}, split {split!r}, cannot be loaded:"
            f" {type(error).__name__}: {error}"
        ) from error
    return _table(name, table, datasets)


def _table(name: str, table: Any, datasets: Any) -> Listing:
    """The listing of a loaded data set: its first image column, and its first class column."""
    features = table.features
    pictures = [key for key, kind in features.items() if isinstance(kind, datasets.Image)]
    if not pictures:
        raise DataError(
            f"Hugging Face data set {name!r} has no column of images; its columns:"
            f" {', '.join(features)}"
        )
    if len(table) == 0:
        raise DataError(f"Hugging Face data set {name!r} has no rows in this split")
    classes = [key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    names = [f"{name}[{i}]" for i in range(len(table))]

    def decode(i: int) -> Image.Image:
        image = table[i][pictures[0]]
        if not isinstance(image, Image.Image):
            raise ValueError("the row has no image")
        return eight_bits(image)

    if not classes:
        return Listing(names, decode)
    labels = np.asarray(table[classes[0]], dtype=np.int64)
    if labels.min() < 0:  # -1 is the convention for a hidden test label
        return Listing(names, decode)
    return Listing(names, decode, labels, tuple(features[classes[0]].names))
