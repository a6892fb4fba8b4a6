"""The idx files of MNIST and Fashion-MNIST."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from training.data import DataError, load_images


def idx_bytes(array, *, kind=8):
    sizes = b"".join(struct.pack(">I", size) for size in array.shape)
    return bytes([0, 0, kind, array.ndim]) + sizes + array.tobytes()


@pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".gz", gzip.compress)])
def test_idx_images_find_their_labels(tmp_path, rng, suffix, pack):
    images = rng.integers(0, 256, (5, 6, 4), dtype=np.uint8)
    labels = np.array([7, 0, 7, 3, 0], np.uint8)
    path = tmp_path / f"train-images-idx3-ubyte{suffix}"
    path.write_bytes(pack(idx_bytes(images)))
    assert load_images(str(path)).labels is None
    (tmp_path / f"train-labels-idx1-ubyte{suffix}").write_bytes(pack(idx_bytes(labels)))
    loaded = load_images(str(path))
    np.testing.assert_array_equal(loaded.images[..., 0], images)
    assert loaded.labels.tolist() == [2, 0, 2, 1, 0]
    assert loaded.class_names == ("0", "3", "7")
    assert load_images(str(path), resolution=4).images.shape == (5, 4, 4, 1)


IDX = idx_bytes(np.zeros((2, 4, 4), np.uint8))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a-ubyte", IDX[:-1], "cut short or damaged: it states \\[2, 4, 4\\], and has 31 bytes"),
        ("a-ubyte", IDX + b"x", "and has 33 bytes"),
        ("a-ubyte", IDX[:9], "cut short or damaged"),
        ("a-ubyte", b"", "not an idx file"),
        ("a-ubyte", idx_bytes(np.zeros((2, 4, 4), np.uint8), kind=13), "begins with 00 00 0d 03"),
        ("a-ubyte", idx_bytes(np.zeros(4, np.uint8)), "must hold images \\[N, H, W\\]"),
        ("a-ubyte", idx_bytes(np.zeros((0, 4, 4), np.uint8)), "nothing empty"),
        ("a-ubyte.gz", IDX, "not a readable gzip"),
        ("a-ubyte.gz", gzip.compress(IDX)[:-9], "not a readable gzip"),
    ],
)
def test_bad_idx(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        load_images(str(tmp_path / name))
    assert name in str(error.value)


def test_idx_labels_of_another_number_are_refused(tmp_path):
    (tmp_path / "images.idx").write_bytes(IDX)
    (tmp_path / "labels.idx").write_bytes(idx_bytes(np.zeros(3, np.uint8)))
    with pytest.raises(DataError, match="must hold 2 labels"):
        load_images(str(tmp_path / "images.idx"))
