"""From image files of every kind to 8-bit pixels of one size."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from training.data import DataError, load_images
from training.decode import eight_bits, resize_and_crop


def load_one(path, **options):
    """The only image of a folder that holds a copy of ``path``."""
    return load_images(str(path.parent), **options).images[0]


def test_channels_follow_the_images(tmp_path, write_png):
    grey = write_png(tmp_path / "0.png", mode="L")
    loaded = load_images(str(tmp_path))
    np.testing.assert_array_equal(loaded.images, grey[None, ..., None])
    three = load_images(str(tmp_path), channels=3).images
    np.testing.assert_array_equal(three, np.repeat(grey[None, ..., None], 3, axis=3))
    colour = write_png(tmp_path / "1.png", mode="RGB", seed=1)
    mixed = load_images(str(tmp_path)).images
    np.testing.assert_array_equal(mixed[0], np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_array_equal(mixed[1], colour)
    one = load_images(str(tmp_path), channels=1).images
    assert one.shape == (2, 6, 6, 1)
    luma = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(one[1, ..., 0] - luma).max() <= 1


def test_alpha_is_laid_over_white(tmp_path):
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        load_images(str(tmp_path)).images[0, 0], [[10, 20, 30], [255] * 3]
    )
    Image.fromarray(pixels[..., [0, 3]]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_images(str(tmp_path)).images[0, 0], [[10], [255]])


def test_palette(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    image.putpalette([1, 2, 3, 4, 5, 6])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_one(tmp_path / "a.png")[0], [[1, 2, 3], [4, 5, 6]])
    image.save(tmp_path / "a.png", transparency=1)
    np.testing.assert_array_equal(load_one(tmp_path / "a.png")[0], [[1, 2, 3], [255] * 3])


def test_sixteen_bits_are_rounded(tmp_path):
    wide = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]], dtype=np.uint16)
    Image.fromarray(wide).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_one(tmp_path / "a.png")[0, :, 0], np.rint(wide[0] / 257))
    assert load_one(tmp_path / "a.png")[0, :, 0].tolist() == [0, 0, 1, 1, 128, 254, 255, 255]


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"]
)
def test_every_mode_becomes_eight_bits(mode):
    shown = eight_bits(Image.new(mode, (3, 2)))
    assert shown.mode == ("L" if mode in ("1", "L", "LA") else "RGB")
    assert shown.size == (3, 2)


@pytest.mark.parametrize("pixels", [np.zeros((2, 2), np.float32), np.full((2, 2), 70000, np.int32)])
def test_pixels_of_unknown_range_are_refused(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match=r"a\.tiff cannot be read as an image: its pixels"):
        load_images(str(tmp_path))


def test_orientation_tag_is_applied(tmp_path):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright = load_one(tmp_path / "a.jpg")
    assert upright.shape == (32, 16, 3)
    assert upright[:16].min() > 200
    assert upright[16:].max() < 50


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (load_one(tmp_path / "a.gif") == 10).all()


def test_decompression_bomb_is_an_error(tmp_path, write_png, monkeypatch):
    write_png(tmp_path / "a.png", size=(20, 20))
    for limit in (399, 150):  # from its limit PIL warns, from twice the limit it refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataError, match=r"a\.png cannot be read as an image: .*exceeds limit"):
            load_images(str(tmp_path))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    assert load_one(tmp_path / "a.png").shape == (20, 20, 3)


@pytest.mark.parametrize(
    "size", [(40, 30), (30, 41), (33, 33), (16, 16), (7, 19), (100, 9), (17, 16)]
)
@pytest.mark.parametrize("resolution", [8, 16, 25])
def test_resize_and_crop_equals_torchvision(rng, size, resolution):
    transforms = pytest.importorskip("torchvision.transforms")
    image = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3)).astype(np.uint8))
    bilinear = transforms.InterpolationMode.BILINEAR
    resized = transforms.Resize(resolution, interpolation=bilinear)(image)
    expected = transforms.CenterCrop(resolution)(resized)
    np.testing.assert_array_equal(resize_and_crop(image, resolution), expected)


def test_images_that_need_not_be_resized_are_untouched():
    loaded = load_images("digits", resolution=8, limit=20)
    np.testing.assert_array_equal(loaded.images, load_images("digits", limit=20).images)
    assert load_images("digits", resolution=16, limit=20).images.shape == (20, 16, 16, 1)
