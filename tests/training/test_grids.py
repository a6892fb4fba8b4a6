from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from training.grids import grid_png


def decode(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def random_images(n: int, h: int, w: int, c: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, h, w, c), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_picture_is_at_its_place_pixel_for_pixel(channels: int) -> None:
    images = random_images(7, 3, 5, channels)
    sheet = decode(grid_png(images, columns=3, scale=4))
    sheet = sheet.reshape(*sheet.shape[:2], channels)
    assert sheet.shape == (3 * (12 + 2) + 2, 3 * (20 + 2) + 2, channels)
    for i, image in enumerate(images):
        y, x = 2 + (i // 3) * 14, 2 + (i % 3) * 22
        tile = sheet[y : y + 12, x : x + 20]
        assert np.array_equal(tile, np.kron(image, np.ones((4, 4, 1), np.uint8)))
    # What no picture covers is background: the margins and the two places left in the last row.
    assert (sheet[:2] == 255).all()
    assert (sheet[2 + 2 * 14 :, 2 + 22 :] == 255).all()


def test_default_scale_makes_tiny_pictures_legible_and_leaves_large_ones() -> None:
    assert decode(grid_png(random_images(1, 8, 8, 1))).shape == (36, 36)
    assert decode(grid_png(random_images(1, 20, 40, 1))).shape == (44, 84)
    assert decode(grid_png(random_images(1, 64, 64, 3))).shape == (68, 68, 3)


def test_only_the_first_max_images_are_shown() -> None:
    images = random_images(100, 4, 4, 1)
    assert grid_png(images, max_images=10) == grid_png(images[:10], max_images=None)
    assert decode(grid_png(images)).shape == decode(grid_png(images[:64])).shape


def test_fewer_pictures_than_columns_leave_no_empty_columns() -> None:
    assert decode(grid_png(random_images(2, 4, 4, 1), columns=8, scale=1)).shape == (8, 14)


def test_images_are_not_changed() -> None:
    images = random_images(3, 4, 4, 3)
    images.flags.writeable = False
    grid_png(images)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((0, 4, 4, 1), r"none of them 0, got \(0, 4, 4, 1\)"),
        ((2, 4, 4), r"got \(2, 4, 4\)"),
        ((2, 4, 4, 2), r"C = 1 or 3"),
    ],
)
def test_shapes_that_are_no_images_are_named(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid_png(np.zeros(shape, np.uint8))


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(TypeError, match="uint8, got float32"):
        grid_png(np.zeros((1, 4, 4, 1), np.float32))


@pytest.mark.parametrize("name", ["columns", "scale", "max_images"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        grid_png(random_images(1, 4, 4, 1), **{name: 0})
