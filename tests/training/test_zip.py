"""Zips of images, the damaged and the dangerous among them."""

from __future__ import annotations

import shutil
import stat
import struct
import zipfile

import numpy as np
import pytest

from training import sources
from training.data import DataError, load_images


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
