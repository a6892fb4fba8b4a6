from __future__ import annotations

import io
import socket
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from made_runs import MakeRun, Page, build_run
from PIL import Image

from training.report import write_report


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def write_png():
    """Write noise of a size (width, height) and mode as a PNG, and return its pixels."""

    def write(path, size=(6, 6), mode="RGB", seed=0):
        shape = (size[1], size[0], len(mode)) if len(mode) > 1 else (size[1], size[0])
        pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return pixels

    return write


@pytest.fixture
def class_folder(tmp_path, write_png):
    """A folder with three classes of four images, and the pixels by relative path."""
    root = tmp_path / "pictures"
    pixels = {}
    for c, name in enumerate(("ant", "bee", "cow")):
        for i in range(4):
            path = f"{name}/{i:02}.png"
            pixels[path] = write_png(root / path, seed=10 * c + i)
    (root / "notes.txt").write_text("not an image")
    return root, pixels


@pytest.fixture
def write_zip(tmp_path):
    """Write a zip of (name or ZipInfo, content) pairs."""

    def write(entries, name="pictures.zip"):
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry, content in entries:
                archive.writestr(entry, content)
        return path

    return write


@pytest.fixture
def png():
    """A small PNG's bytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.arange(36, dtype=np.uint8).reshape(6, 6)).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    return partial(build_run, tmp_path / "run")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its report, for tests that only read it."""
    run = build_run(tmp_path_factory.mktemp("reported") / "run")
    write_report(run)
    return run


@pytest.fixture
def page(reported: Path) -> Page:
    return Page((reported / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Empty caches, and a network that cannot be used."""

    def refuse(*_args, **_options):
        raise OSError("no route")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
