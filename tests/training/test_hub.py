"""Data sets and weights of the Hugging Face hub, with a network and without one."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training import hub, sources
from training.data import DataError, load_images


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


def test_hub_problem(no_network, monkeypatch):
    from huggingface_hub import constants

    assert "cannot be reached" in hub.hub_problem()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.hub_problem() == "HF_HUB_OFFLINE is set"


def test_hub_file_prefers_the_cache_then_the_first_that_exists(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    cached, remote, asked = set(), {"b"}, []

    def download(repo, name, *, local_files_only=False):
        asked.append((name, local_files_only))
        if name in cached or (not local_files_only and name in remote):
            return f"/{repo}/{name}"
        raise (LocalEntryNotFoundError if local_files_only else EntryNotFoundError)(name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(hub, "hub_problem", lambda: None)
    assert hub.hub_file("r", ["a", "b"]) == Path("/r/b")
    assert asked == [("a", True), ("b", True), ("a", False), ("b", False)]
    cached.add("b")
    asked.clear()
    assert hub.hub_file("r", ["a", "b"]) == Path("/r/b")
    assert asked == [("a", True), ("b", True)]
    with pytest.raises(OSError, match="r has none of the files c, d"):
        hub.hub_file("r", ["c", "d"])
    monkeypatch.setattr(hub, "hub_problem", lambda: "no route")
    with pytest.raises(OSError, match="no route, and the local cache does not hold r"):
        hub.hub_file("r", ["c"])
