"""Images in: scikit-learn's digits, a folder, a zip, an .npz, idx, or the Hugging Face hub.

`training.sources` knows the kinds of source, `training.decode` the kinds of image; here is what
is common to all: which images to read, of which size, and in how many channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from training.decode import DECODE_ERRORS, resize_and_crop
from training.sources import DataError, Listing, open_listing

__all__ = ["DataError", "ImageSet", "Images", "Labels", "load_images"]

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

# Fewer images than this load faster than a bar can be read.
_PROGRESS_FROM = 2_000


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with their labels.

    Attributes:
        images: uint8 [N, H, W, C], C 1 or 3.
        labels: int64 [N], indices into ``class_names``; None where the source has no classes.
        class_names: every class of the source, also those that a limit left without an image.
        source: what was given to `load_images`.
    """

    images: Images
    labels: Labels | None
    class_names: tuple[str, ...]
    source: str


def load_images(
    source: str,
    *,
    resolution: int | None = None,
    channels: int | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> ImageSet:
    """Load images and labels, in the order of their sorted file names or of their rows.

    A folder or zip gives a label to each image by the first folder on its path, below what all
    paths share; with no such folder there are no labels. An image's orientation tag is applied,
    alpha is laid over white, 16-bit greys are rounded to 8 bits, and of an animation the first
    frame counts. Links to folders are not followed.

    Args:
        source: "digits" (scikit-learn's, 1,797 images of 8x8, 0..16 scaled to 0..255), a folder,
            a .zip of images, an .npz (images under images, x, arr_0 or x_train: uint8 [N, H, W],
            [N, H, W, C] or, where only this fits, [N, C, H, W]; labels under labels, y or
            y_train), an idx file of images, gzipped or not (labels from the file beside it whose
            name has "labels" for "images" and "idx1" for "idx3"), or the name of a Hugging Face
            data set, "name" or "owner/name", with ":split" (default train).
        resolution: the shorter side is resized to it (bilinear, antialiased) and the longer side
            cut to it around the centre, as in diffusers' unconditional example. None: the size of
            the images, which must then agree.
        channels: 1 or 3; None: 1 if all the images read are stored as greys, else 3.
        limit: read only this many, drawn at random with ``seed`` and kept in order.
        seed: of the draw.

    Raises:
        DataError: the source is missing, unsupported, empty or damaged, or the sizes differ.
        OSError: a file or folder cannot be read.

    Example:
        >>> from training.data import load_images
        >>> load_images("digits", limit=100).images.shape
        (100, 8, 8, 1)
    """
    for name, value in (("resolution", resolution), ("limit", limit)):
        if value is not None and value < 1:
            raise DataError(f"--{name} must be at least 1, got {value}")
    if channels not in (None, 1, 3):
        raise DataError(f"--channels must be 1 or 3, got {channels}")
    with open_listing(source) as listing:
        total = len(listing.names)
        chosen = np.arange(total)
        if limit is not None and limit < total:
            draw = np.random.default_rng(seed).choice(total, limit, replace=False)
            chosen = np.sort(draw)
        images = _read(listing, chosen, resolution, channels)
    labels = None if listing.labels is None else listing.labels[chosen]
    return ImageSet(images, labels, listing.class_names, source)


def _read(
    listing: Listing, chosen: npt.NDArray[np.int64], resolution: int | None, channels: int | None
) -> Images:
    """Decode the chosen images: uint8 [N, H, W, C]."""
    mode = {None: None, 1: "L", 3: "RGB"}[channels]
    read: list[Image.Image] = []
    quiet = True if len(chosen) < _PROGRESS_FROM else None  # None: on a terminal only
    for i in tqdm(chosen, desc="images", unit="", leave=False, disable=quiet):
        name = listing.names[i]
        try:
            image = listing.decode(int(i))
        except DECODE_ERRORS as error:
            raise DataError(f"{name} cannot be read as an image: {error}") from error
        image = image if mode is None else image.convert(mode)
        if resolution is not None:
            image = resize_and_crop(image, resolution)
        elif read and image.size != read[0].size:
            raise DataError(
                f"images differ in size: {listing.names[chosen[0]]} is"
                f" {read[0].width}x{read[0].height}, {name} is {image.width}x{image.height};"
                " give --resolution to resize and crop them"
            )
        read.append(image)
    if mode is None:
        mode = "L" if all(image.mode == "L" for image in read) else "RGB"
    pixels = np.stack([np.asarray(image.convert(mode)) for image in read])
    return pixels[..., None] if pixels.ndim == 3 else pixels
