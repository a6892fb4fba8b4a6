"""Image grids: many small pictures on one sheet, as PNG bytes."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

# Below this many pixels a side a picture is too small to judge by eye on a screen.
_LEGIBLE_SIDE = 32
_MARGIN = 2
_BACKGROUND = 255


def grid_png(
    images: npt.NDArray[np.uint8],
    *,
    columns: int = 8,
    scale: int | None = None,
    max_images: int | None = 64,
) -> bytes:
    """Lay images out row by row on one white sheet and return it as a PNG.

    Args:
        images: uint8 [N, H, W, C] with C = 1 (grey) or 3 (RGB), N >= 1.
        columns: pictures in a row; a sheet of fewer pictures is only as wide as they need.
        scale: whole number of sheet pixels to a picture pixel, by nearest neighbour, so that the
            pixels of a tiny picture stay sharp. None picks the smallest one that makes the shorter
            side at least 32.
        max_images: how many of the first images are shown; None shows all.

    Returns:
        The bytes of a PNG, grey or RGB as the images are; the same images always give the same
        picture.

    Raises:
        TypeError: images are not uint8.
        ValueError: images are empty or of another shape, or a number is below 1.
    """
    if images.dtype != np.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}")
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise ValueError(
            f"images must be [N, H, W, C] with C = 1 or 3 and none of them 0, got {images.shape}"
        )
    for name, value in (("columns", columns), ("scale", scale), ("max_images", max_images)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")

    shown = images[:max_images]
    n, height, width, channels = shown.shape
    if scale is None:
        scale = -(-_LEGIBLE_SIDE // min(height, width))
    columns = min(columns, n)
    rows = -(-n // columns)
    tile_height, tile_width = height * scale, width * scale
    step_y, step_x = tile_height + _MARGIN, tile_width + _MARGIN

    sheet = np.full(
        (rows * step_y + _MARGIN, columns * step_x + _MARGIN, channels), _BACKGROUND, dtype=np.uint8
    )
    for i, image in enumerate(shown):
        y = _MARGIN + (i // columns) * step_y
        x = _MARGIN + (i % columns) * step_x
        tile = image.repeat(scale, axis=0).repeat(scale, axis=1)
        sheet[y : y + tile_height, x : x + tile_width] = tile

    buffer = io.BytesIO()
    Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
