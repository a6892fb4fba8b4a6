"""What is common to all sources of images, and folders of them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from training.data import DataError, load_images


def test_digits_are_rescaled_to_the_full_range():
    from sklearn.datasets import load_digits

    digits = load_digits()
    loaded = load_images("digits")
    assert loaded.images.dtype == np.uint8
    assert loaded.images.shape == (1797, 8, 8, 1)
    np.testing.assert_array_equal(loaded.images[..., 0], np.rint(digits.images / 16 * 255))
    assert (loaded.images.min(), loaded.images.max()) == (0, 255)
    assert loaded.labels.dtype == np.int64
    np.testing.assert_array_equal(loaded.labels, digits.target)
    assert loaded.class_names == tuple("0123456789")
    assert loaded.source == "digits"


def test_limit_is_a_random_subset_in_order():
    everything = load_images("digits")
    limited = load_images("digits", limit=200, seed=3)
    again = load_images("digits", limit=200, seed=3)
    other = load_images("digits", limit=200, seed=4)
    np.testing.assert_array_equal(limited.images, again.images)
    assert not np.array_equal(limited.images, other.images)
    rows = {image.tobytes(): i for i, image in enumerate(everything.images)}
    places = [rows[image.tobytes()] for image in limited.images]
    assert places == sorted(set(places))
    np.testing.assert_array_equal(limited.labels, everything.labels[places])
    assert set(limited.labels) == set(range(10))
    assert len(load_images("digits", limit=5000).images) == 1797


# --- folders --------------------------------------------------------------------------------------


def test_folder_of_classes(class_folder):
    root, pixels = class_folder
    loaded = load_images(str(root))
    expected = [pixels[path] for path in sorted(pixels)]
    np.testing.assert_array_equal(loaded.images, expected)
    assert loaded.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert loaded.class_names == ("ant", "bee", "cow")


def test_folder_order_does_not_depend_on_creation(tmp_path, write_png):
    root = tmp_path / "pictures"
    by_name = {f"{n}.png": write_png(root / f"{n}.png", seed=i) for i, n in enumerate("cab")}
    loaded = load_images(str(root))
    np.testing.assert_array_equal(loaded.images, [by_name[n] for n in ("a.png", "b.png", "c.png")])
    assert loaded.labels is None
    assert loaded.class_names == ()


@pytest.mark.parametrize(
    ("paths", "labels", "class_names"),
    [
        (["a.png", "b.png"], None, ()),
        (["all/a.png", "all/b.png"], None, ()),  # one folder is no class
        (["x/a.png", "y/a.png", "y/b.png"], [0, 1, 1], ("x", "y")),
        (["top/x/a.png", "top/y/b.png"], [0, 1], ("x", "y")),
        (["x/1/a.png", "x/2/a.png", "y/1/a.png"], [0, 0, 1], ("x", "y")),
        (["ab/1.png", "abc/1.png"], [0, 1], ("ab", "abc")),  # no shared part of a name
        (["X/a.PNG", "_y/b.png"], [0, 1], ("X", "_y")),
    ],
)
def test_labels_are_the_first_folder_that_differs(tmp_path, write_png, paths, labels, class_names):
    for path in paths:
        write_png(tmp_path / "root" / path)
    loaded = load_images(str(tmp_path / "root"))
    assert (loaded.labels is None) if labels is None else (loaded.labels.tolist() == labels)
    assert loaded.class_names == class_names


def test_limit_keeps_the_classes_it_leaves_empty(class_folder):
    loaded = load_images(str(class_folder[0]), limit=1)
    assert loaded.class_names == ("ant", "bee", "cow")
    assert len(loaded.images) == len(loaded.labels) == 1


def test_limit_reads_only_the_chosen_files(class_folder):
    root, _ = class_folder
    whole = load_images(str(root), limit=4)
    kept = {image.tobytes() for image in whole.images}
    for path in root.rglob("*.png"):
        if np.asarray(Image.open(path)).tobytes() not in kept:
            path.write_bytes(b"ruined")
    np.testing.assert_array_equal(load_images(str(root), limit=4).images, whole.images)
    with pytest.raises(DataError, match="cannot be read"):
        load_images(str(root))


def test_images_beside_class_folders(class_folder, write_png):
    root, _ = class_folder
    write_png(root / "stray.png")
    with pytest.raises(DataError, match=r"stray\.png lies outside the class folders"):
        load_images(str(root))


def test_hidden_files_are_ignored(class_folder):
    root, pixels = class_folder
    (root / "ant" / "._00.png").write_bytes(b"resource fork")
    (root / ".thumbs").mkdir()
    (root / ".thumbs" / "a.png").write_bytes(b"thumb")
    assert len(load_images(str(root)).images) == len(pixels)


def test_links_to_folders_are_not_followed(class_folder, tmp_path, write_png):
    root, pixels = class_folder
    write_png(tmp_path / "outside" / "secret.png")
    (root / "dog").symlink_to(tmp_path / "outside")
    (root / "ant" / "circle").symlink_to(root)
    assert len(load_images(str(root)).images) == len(pixels)


def test_corrupt_image_among_good_ones_is_named(class_folder):
    root, _ = class_folder
    bad = root / "bee" / "02.png"
    bad.write_bytes(bad.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"bee/02\.png cannot be read as an image"):
        load_images(str(root))


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xff\xd8\xff"])
def test_what_is_no_image_is_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png cannot be read as an image"):
        load_images(str(tmp_path))


def test_other_formats_under_the_name_of_one_are_refused(tmp_path):
    """Some of the formats that PIL knows hand the file to another program."""
    Image.new("L", (4, 4)).save(tmp_path / "a.png", format="pcx")
    with pytest.raises(DataError, match=r"a\.png cannot be read as an image"):
        load_images(str(tmp_path))


def test_mixed_sizes_name_two_files_and_the_option(class_folder, write_png):
    root, _ = class_folder
    write_png(root / "cow" / "01.png", size=(8, 5))
    with pytest.raises(DataError) as error:
        load_images(str(root))
    message = str(error.value)
    assert "ant/00.png is 6x6" in message
    assert "cow/01.png is 8x5" in message
    assert "--resolution" in message
    assert load_images(str(root), resolution=4).images.shape == (12, 4, 4, 3)


def test_a_folder_without_images(tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match="holds no images among its 1 files"):
        load_images(str(tmp_path))


@pytest.mark.parametrize("source", ["./nothing", "/no/such/folder", "nothing.zip", "a/b/c.npz", ""])
def test_missing_source(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if source == "":
        with pytest.raises(DataError, match="holds no images"):
            load_images(source)  # the empty path is the current folder
    else:
        with pytest.raises(DataError, match=f"no such file or folder: {source}"):
            load_images(source)


def test_unsupported_file(tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, np.zeros(3))
    with pytest.raises(DataError, match=r"images\.npy is neither a \.zip of images nor an \.npz"):
        load_images(str(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 0}, "--resolution must be at least 1, got 0"),
        ({"limit": 0}, "--limit must be at least 1, got 0"),
        ({"channels": 2}, "--channels must be 1 or 3, got 2"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(DataError, match=message):
        load_images("digits", **options)
