from __future__ import annotations

import gzip
import shutil
import stat
import struct
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from training import sources
from training.data import DataError, load_images
from training.decode import eight_bits, resize_and_crop


def load_one(path, **options):
    """The only image of a folder that holds a copy of ``path``."""
    return load_images(str(path.parent), **options).images[0]


# --- digits ---------------------------------------------------------------------------------------


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


# --- kinds of images ------------------------------------------------------------------------------


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


# --- zips -----------------------------------------------------------------------------------------


def test_zip_equals_its_folder(class_folder, tmp_path):
    root, _ = class_folder
    path = shutil.make_archive(str(tmp_path / "archive"), "zip", root)
    before = sorted(tmp_path.rglob("*"))
    zipped, folder = load_images(path), load_images(str(root))
    np.testing.assert_array_equal(zipped.images, folder.images)
    np.testing.assert_array_equal(zipped.labels, folder.labels)
    assert zipped.class_names == folder.class_names
    assert sorted(tmp_path.rglob("*")) == before  # nothing was unpacked
    limited = load_images(path, limit=5)
    np.testing.assert_array_equal(limited.images, load_images(str(root), limit=5).images)


def test_zip_order_is_by_name(write_zip, png):
    path = write_zip([("b/1.png", png), ("a/2.png", png), ("a/1.png", png), ("a/", b"")])
    assert load_images(str(path)).labels.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "name",
    ["/etc/a.png", "../a.png", "x/../../a.png", "C:/a.png", "c:a.png", "..\\a.png", "\\a.png"],
)
def test_zip_with_a_path_that_leads_outside(write_zip, png, name):
    path = write_zip([("ok.png", png), (name, png)])
    with pytest.raises(DataError, match="holds an entry whose path leads outside of it") as error:
        load_images(str(path))
    assert repr(name) in str(error.value)
    assert str(path) in str(error.value)


def test_zip_with_a_symbolic_link(write_zip, png):
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = write_zip([("ok.png", png), (link, "/etc/passwd")])
    with pytest.raises(DataError, match=r"symbolic link, which is not followed: 'link\.png'"):
        load_images(str(path))


def test_zip_bomb_is_refused_by_its_stated_size(write_zip, png, monkeypatch):
    monkeypatch.setattr(sources, "_MAX_MEMBER_BYTES", 10_000)
    path = write_zip([("ok.png", png), ("bomb.png", bytes(10_001))])
    assert path.stat().st_size < 2_000
    with pytest.raises(DataError, match=r"bomb\.png unpacks to 10,001 bytes; expected at most"):
        load_images(str(path))


def test_zip_whose_stated_size_is_a_lie(write_zip, png):
    path = write_zip([("bomb.png", bytes(100_000))])
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = content.index(signature) + offset
        content[at : at + 4] = struct.pack("<I", len(png))
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bomb\.png cannot be read as an image: Bad CRC"):
        load_images(str(path))


def test_corrupt_image_in_a_zip_is_named(write_zip, png):
    path = write_zip([("a/ok.png", png), ("b/bad.png", png[:-25])])
    with pytest.raises(DataError, match=r"pictures\.zip:b/bad\.png cannot be read as an image"):
        load_images(str(path))


def test_damaged_zip_entry_is_named(write_zip, png):
    path = write_zip([("a.png", png), ("b.png", png)])
    content = bytearray(path.read_bytes())
    content[45] ^= 0xFF  # within the first entry's data
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"pictures\.zip:a\.png cannot be read as an image"):
        load_images(str(path))


def test_encrypted_zip(write_zip, png):
    path = write_zip([("a.png", png)])
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"is encrypted \('a\.png'\)"):
        load_images(str(path))


def test_zip_cut_short(write_zip, png):
    path = write_zip([("a.png", png)])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"pictures\.zip is not a readable zip, or cut short"):
        load_images(str(path))


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_zip_with_the_same_name_twice(write_zip, png):
    path = write_zip([("a.png", png), ("a.png", png)])
    with pytest.raises(DataError, match=r"holds a\.png twice"):
        load_images(str(path))


def test_zip_without_images(write_zip, png):
    path = write_zip([("readme.txt", b"hello"), ("__MACOSX/._a.png", png)])
    with pytest.raises(DataError, match="holds no images among its 2 entries"):
        load_images(str(path))


def test_zip_is_known_by_its_content(write_zip, png):
    path = write_zip([("a.png", png)], name="pictures.bin")
    assert load_images(str(path)).images.shape == (1, 6, 6, 1)


# --- idx ------------------------------------------------------------------------------------------


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


# --- npz ------------------------------------------------------------------------------------------


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


# --- Hugging Face data sets -----------------------------------------------------------------------


@pytest.fixture
def local_hub(monkeypatch):
    """Serve a data set from memory under the name owner/shapes."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(sources, "hub_problem", lambda: None)
    asked = []

    def serve(columns, features):
        table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))

        def load_dataset(name, *, split):
            asked.append((name, split))
            if name != "owner/shapes":
                raise FileNotFoundError(f"no data set {name}")
            return table

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return asked

    return serve, datasets


def test_hub_data_set(local_hub, rng):
    serve, datasets = local_hub
    pixels = rng.integers(0, 256, (6, 5, 5, 3)).astype(np.uint8)
    asked = serve(
        {"id": range(6), "img": [Image.fromarray(p) for p in pixels], "kind": [1, 0, 1, 1, 0, 2]},
        {
            "id": datasets.Value("int64"),
            "img": datasets.Image(),
            "kind": datasets.ClassLabel(names=["round", "square", "star"]),
        },
    )
    loaded = load_images("owner/shapes")
    np.testing.assert_array_equal(loaded.images, pixels)
    assert loaded.labels.tolist() == [1, 0, 1, 1, 0, 2]
    assert loaded.class_names == ("round", "square", "star")
    limited = load_images("owner/shapes:test", limit=2, seed=1)
    assert len(limited.images) == len(limited.labels) == 2
    assert asked == [("owner/shapes", "train"), ("owner/shapes", "test")]


@pytest.mark.parametrize("labels", [None, [-1, -1]])
def test_hub_data_set_without_labels(local_hub, labels):
    serve, datasets = local_hub
    columns = {"image": [Image.new("L", (4, 4), value) for value in (3, 5)]}
    features = {"image": datasets.Image()}
    if labels:
        columns["label"], features["label"] = labels, datasets.ClassLabel(num_classes=3)
    serve(columns, features)
    loaded = load_images("owner/shapes")
    assert loaded.labels is None
    assert loaded.images[:, 0, 0, 0].tolist() == [3, 5]


def test_hub_data_set_with_a_missing_image(local_hub):
    serve, datasets = local_hub
    serve({"image": [Image.new("L", (4, 4)), None]}, {"image": datasets.Image()})
    with pytest.raises(DataError, match=r"owner/shapes\[1\] cannot be read as an image"):
        load_images("owner/shapes")


def test_hub_data_set_without_images(local_hub):
    serve, datasets = local_hub
    serve({"text": ["a"]}, {"text": datasets.Value("string")})
    with pytest.raises(DataError, match="has no column of images; its columns: text"):
        load_images("owner/shapes")
    serve({"image": []}, {"image": datasets.Image()})
    with pytest.raises(DataError, match="has no rows"):
        load_images("owner/shapes")


def test_hub_data_set_that_is_not_there(local_hub):
    local_hub[0]({"text": ["a"]}, {"text": local_hub[1].Value("string")})
    with pytest.raises(DataError, match="'owner/other', split 'train', cannot be loaded: FileNot"):
        load_images("owner/other")


def test_hub_without_a_network(monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(sources, "hub_problem", lambda: "the hub cannot be reached (no route)")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(DataError) as error:
        load_images("owner/shapes")
    for part in ("no file or folder is called owner/shapes", "no route", "HF_HUB_OFFLINE=1"):
        assert part in str(error.value)


def test_hub_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install datasets"):
        load_images("owner/shapes")
