"""Images and labels in an .npz."""

from __future__ import annotations

import numpy as np
import pytest

from training.data import DataError, load_images


@pytest.mark.parametrize(
    ("shape", "loaded"),
    [
        ((5, 8, 9), (5, 8, 9, 1)),
        ((5, 8, 9, 1), (5, 8, 9, 1)),
        ((5, 8, 9, 3), (5, 8, 9, 3)),
        ((5, 1, 8, 9), (5, 8, 9, 1)),
        ((5, 3, 8, 9), (5, 8, 9, 3)),
        ((5, 3, 9, 3), (5, 3, 9, 3)),  # both fit: channels last
    ],
)
@pytest.mark.parametrize("key", ["images", "x", "x_train"])
def test_npz_layouts(tmp_path, rng, shape, loaded, key):
    images = rng.integers(0, 256, shape).astype(np.uint8)
    np.savez(tmp_path / "a.npz", **{key: images})
    result = load_images(str(tmp_path / "a.npz")).images
    if len(shape) == 4 and shape[1:] != loaded[1:]:
        images = images.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(result, images.reshape(loaded))


def test_npz_of_a_bare_array_has_no_labels(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", np.zeros((2, 4, 4), np.uint8))
    loaded = load_images(str(tmp_path / "a.npz"))
    assert loaded.labels is None
    assert loaded.images.shape == (2, 4, 4, 1)


@pytest.mark.parametrize(
    ("labels", "expected", "class_names"),
    [
        ([3, 7, 3], [0, 1, 0], ("3", "7")),
        ([[0], [1], [1]], [0, 1, 1], ("0", "1")),
        (["dog", "cat", "dog"], [1, 0, 1], ("cat", "dog")),
    ],
)
@pytest.mark.parametrize("key", ["labels", "y", "y_train"])
def test_npz_labels(tmp_path, labels, expected, class_names, key):
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 4, 4), np.uint8), **{key: np.array(labels)})
    loaded = load_images(str(tmp_path / "a.npz"))
    assert loaded.labels.dtype == np.int64
    assert loaded.labels.tolist() == expected
    assert loaded.class_names == class_names


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((2, 4, 4), np.float32)}, r"images must be uint8 in 0\.\.255, got float32"),
        ({"x": np.zeros((2, 16), np.uint8)}, r"images must be \[N, H, W\].*got \[2, 16\]"),
        ({"x": np.zeros((2, 4, 4, 4), np.uint8)}, r"got \[2, 4, 4, 4\]"),
        ({"x": np.zeros((0, 4, 4), np.uint8)}, r"nothing empty, got \[0, 4, 4\]"),
        ({"pictures": np.zeros((2, 4, 4), np.uint8)}, "its arrays: pictures"),
        ({"x": np.zeros((2, 4, 4), np.uint8), "y": np.zeros(3, int)}, r"of shape \[2\]"),
        ({"x": np.zeros((2, 4, 4), np.uint8), "y": np.zeros(2)}, "integers or strings"),
        ({"x": np.array([object()])}, r"not a readable \.npz without pickles"),
    ],
)
def test_bad_npz(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message) as error:
        load_images(str(tmp_path / "a.npz"))
    assert "a.npz" in str(error.value)


def test_npz_cut_short(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((9, 4, 4), np.uint8))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"a\.npz is not a readable \.npz"):
        load_images(str(path))
