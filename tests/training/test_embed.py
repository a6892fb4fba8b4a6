"""From images to features, and the cache between."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training import backbones
from training.embed import EXTRACTORS, Extractor, ExtractorError, extract, load_extractor


@pytest.fixture(autouse=True)
def one_thread():
    """The same bits from run to run, and no fight with other processes for the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noise(rng, *shape):
    return rng.integers(0, 256, shape).astype(np.uint8)


def test_pixels_are_floats_that_do_not_wrap(rng):
    images = noise(rng, 5, 4, 3, 3)
    features = load_extractor("pixel")(images)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, images.reshape(5, -1).astype(np.float64))
    black_to_white = load_extractor("pixel")(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1))
    assert (black_to_white[0] - black_to_white[1]).item() == -255.0


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 4, 4), np.uint8),
        np.zeros((2, 4, 4, 4), np.uint8),
        np.zeros((2, 4, 4, 3), np.float32),
        np.zeros((0, 4, 4, 3), np.uint8),
    ],
)
def test_bad_images(images, tmp_path):
    extractor = load_extractor("pixel")
    with pytest.raises(ValueError, match="images must"):
        extractor(images)
    with pytest.raises(ValueError, match="images must"):
        extract(extractor, images, cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet"}, "extractor must be one of pixel, efficientnet_lite0, .*'resnet'"),
        ({"name": "pixel", "weights": "a.pth"}, "pixel has no weights"),
        ({"name": "pixel", "batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ExtractorError, match=message):
        load_extractor(**arguments)


# --- cache ----------------------------------------------------------------------------------------


@pytest.fixture
def counted():
    """A small network as an extractor, and the sizes of the batches that it saw."""
    torch.manual_seed(0)
    seen = []
    network = torch.nn.Linear(3, 4)

    def forward(images):
        seen.append(len(images))
        return network(images.float().mean((2, 3)))

    backbone = backbones.Backbone("net", network, forward, "mean of channels")
    return Extractor("net", backbone, device="cpu", batch_size=2), seen


def test_cache_is_used(counted, tmp_path, rng):
    extractor, seen = counted
    images = noise(rng, 5, 4, 4, 3)
    first = extract(extractor, images, cache_dir=tmp_path / "deep" / "cache")
    assert seen == [2, 2, 1]
    again = extract(extractor, images.copy(), cache_dir=tmp_path / "deep" / "cache")
    assert seen == [2, 2, 1]
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, extract(extractor, images))
    assert len(seen) == 6
    (file,) = (tmp_path / "deep" / "cache").iterdir()  # no temporary file beside it
    assert file.name.startswith("net-")


def test_cache_tells_contents_apart(counted, tmp_path, rng):
    extractor, _ = counted
    images = noise(rng, 4, 4, 4, 3)
    changed = images.copy()
    changed[3, 3, 3, 2] ^= 1
    for variant in (images, changed, images[:3], images.reshape(4, 2, 8, 3), images[::-1]):
        np.testing.assert_array_equal(
            extract(extractor, variant, cache_dir=tmp_path), extractor(variant)
        )
    assert len(list(tmp_path.iterdir())) == 5


def test_cache_tells_weights_and_recipes_apart(counted, tmp_path, rng):
    first, _ = counted
    backbone = first._backbone
    images = noise(rng, 2, 4, 4, 3)
    torch.manual_seed(1)
    other = torch.nn.Linear(3, 4)
    variants = [
        backbones.Backbone("net", other, backbone.forward, backbone.recipe),
        backbones.Backbone("net", backbone.network, backbone.forward, "another"),
        backbone,
    ]
    for variant in variants:
        extract(Extractor("net", variant, device="cpu", batch_size=2), images, cache_dir=tmp_path)
    extract(Extractor("net", backbone, device="cpu", batch_size=1), images, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-10],
        lambda content: content[: len(content) // 2],
        lambda content: content[:150] + bytes([content[150] ^ 1]) + content[151:],
        lambda content: b"\x93NUMPY" + content,
    ],
)
def test_damaged_cache_is_made_again(counted, tmp_path, rng, damage):
    extractor, seen = counted
    images = noise(rng, 5, 4, 4, 3)
    expected = extract(extractor, images, cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    sound = file.read_bytes()
    file.write_bytes(damage(sound))
    seen.clear()
    np.testing.assert_array_equal(extract(extractor, images, cache_dir=tmp_path), expected)
    assert seen
    assert file.read_bytes() == sound


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4), np.float32), np.zeros((5, 4)), np.zeros(5, np.float32)]
)
def test_cache_of_another_shape_is_made_again(counted, tmp_path, rng, wrong):
    extractor, _ = counted
    images = noise(rng, 5, 4, 4, 3)
    expected = extract(extractor, images, cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    np.savez(file, features=wrong)
    np.testing.assert_array_equal(extract(extractor, images, cache_dir=tmp_path), expected)


def test_pixels_are_not_cached(tmp_path, rng):
    extract(load_extractor("pixel"), noise(rng, 2, 4, 4, 3), cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_names_of_extractors():
    assert EXTRACTORS == ("pixel", "efficientnet_lite0", "clip", "dinov2", "inception", "vgg16")
