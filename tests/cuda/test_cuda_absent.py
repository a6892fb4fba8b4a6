"""Without a GPU, or without its core, the cuda backend says so."""

from __future__ import annotations

import pytest

import fastsel

torch = pytest.importorskip("torch", reason="torch is not installed")

from fastsel.backends import cuda, cuda_ops  # noqa: E402


def test_every_reason_is_given(monkeypatch):
    monkeypatch.setattr(cuda_ops, "core", lambda: "the CUDA core is not there (nvcc was not found)")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    status = fastsel.backends()["cuda"]
    assert not status.usable
    assert status.detail == (
        "the CUDA core is not there (nvcc was not found); torch finds no CUDA device"
    )
    with pytest.raises(RuntimeError, match="backend 'cuda' can not run here: the CUDA core is not"):
        fastsel.greedy_select(torch.zeros(3, 2), 1, backend="cuda")


def test_an_old_gpu_is_named(monkeypatch):
    monkeypatch.setattr(cuda_ops, "core", lambda: torch)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    assert cuda.unusable_because() == ["Tesla T4 has compute capability 7.5; it takes 8.0 or more"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_runs_the_core():
    assert cuda.unusable_because() == []
    x = torch.randn(3000, 40, device="cuda")
    ours = fastsel.greedy_select(x, 1500, backend="cuda", return_distances=True)
    host = fastsel.greedy_select(x.cpu(), 1500, return_distances=True)
    for one, other in zip(ours, host, strict=True):
        assert one.is_cuda
        assert torch.equal(one.cpu(), other)
    ours = fastsel.knn(x, x, 5, exclude_self=True, backend="cuda")
    for one, other in zip(ours, fastsel.knn(x.cpu(), x.cpu(), 5, exclude_self=True), strict=True):
        assert torch.equal(one.cpu(), other)
