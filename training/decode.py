"""From an image file to 8-bit pixels of one size: all that depends on how an image is stored."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

#: The names' endings by which a folder's or zip's images are told from its other files.
SUFFIXES = frozenset(
    (
        *(".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
        *(".tif", ".tiff", ".webp"),
    )
)
#: What reading raises for a file that is not the image it says it is.
DECODE_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, IndexError, KeyError, TypeError, MemoryError),
    *(struct.error, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)

# Not all that PIL can open: some formats start other programs.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_GREY_MODES = frozenset(("1", "L", "LA"))
_ALPHA_MODES = frozenset(("LA", "PA", "RGBA", "RGBa"))


def open_image(file: Path | io.BytesIO) -> Image.Image:
    """Read an image file's first frame as `eight_bits`.

    Raises:
        Exception: one of `DECODE_ERRORS`.
    """
    with warnings.catch_warnings():
        # PIL only warns from its limit of pixels on, and refuses from twice the limit.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(file, formats=_FORMATS) as image:
            image.load()
            return eight_bits(image)


def eight_bits(image: Image.Image) -> Image.Image:
    """An upright grey ("L") or colour ("RGB") image, whatever the mode.

    The orientation tag is applied, alpha laid over white, 16-bit grey rounded to 8 bits (65535 is
    255).

    Raises:
        ValueError: pixels of a range that is unknown (floats), or beyond 16 bits.
    """
    image = ImageOps.exif_transpose(image)  # a copy
    if image.mode == "F":
        raise ValueError("its pixels are floats, of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # I;16, I;16B, and I, as which some versions open 16 bits
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise ValueError(f"its pixels span {wide.min()}..{wide.max()}; expected 0..65535")
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    mode = "L" if image.mode in _GREY_MODES else "RGB"
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        # A plain conversion would uncover the arbitrary colours of transparent pixels.
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert(mode)


def resize_and_crop(image: Image.Image, resolution: int) -> Image.Image:
    """Resize the shorter side to ``resolution`` and cut the longer one around the centre.

    Bilinear and antialiased, pixel for pixel what torchvision's Resize and CenterCrop make of a
    PIL image, which is what diffusers' unconditional example does.
    """
    width, height = image.size
    short = min(width, height)
    if short != resolution:
        width, height = width * resolution // short, height * resolution // short
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - resolution) / 2), round((height - resolution) / 2)
    return image.crop((left, top, left + resolution, top + resolution))
