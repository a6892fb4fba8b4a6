from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from cases import CASES

import fastsel

torch = pytest.importorskip("torch")

X = CASES["normal-65x8"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_in_and_out(dtype):
    x = torch.from_numpy(X).to(dtype)
    exact = x.double().numpy()
    picks, radii = fastsel.greedy_select(x, 20, return_distances=True)
    assert isinstance(picks, torch.Tensor)
    assert picks.dtype == torch.int64
    assert radii.dtype == torch.float64
    expected_picks, expected_radii = fastsel.greedy_select(exact, 20, return_distances=True)
    np.testing.assert_array_equal(picks, expected_picks)
    np.testing.assert_array_equal(radii, expected_radii)


def test_other_functions_take_tensors():
    x = torch.from_numpy(X)
    np.testing.assert_array_equal(
        fastsel.threshold_decay_select(x, 20),
        fastsel.threshold_decay_select(X, 20),
    )
    thresholds, sweeps = fastsel.threshold_decay_select(
        x, 20, return_thresholds=True, return_sweeps=True
    )[1:]
    assert thresholds.dtype == torch.float64
    assert sweeps.dtype == torch.int64
    distances, indices = fastsel.knn(x, x, 3, exclude_self=True)
    assert isinstance(distances, torch.Tensor)
    np.testing.assert_array_equal(indices, fastsel.knn(X, X, 3, exclude_self=True)[1])
    assert isinstance(fastsel.nearest_distances(x), torch.Tensor)
    assert fastsel.kl_entropy(x) == fastsel.kl_entropy(X)
    assert fastsel.generalization_score(x[:5], x[5:]) == fastsel.generalization_score(X[:5], X[5:])


def test_initial_and_anchors_as_tensors():
    x = torch.from_numpy(X)
    np.testing.assert_array_equal(
        fastsel.greedy_select(x, 9, initial=torch.tensor([3, 4]), anchors=x[:2]),
        fastsel.greedy_select(X, 9, initial=[3, 4], anchors=X[:2]),
    )


def test_gradients_and_strides_are_no_obstacle():
    x = torch.from_numpy(X.T.copy()).T.requires_grad_()
    np.testing.assert_array_equal(fastsel.greedy_select(x, 9), fastsel.greedy_select(X, 9))


def test_integer_tensors_are_refused():
    with pytest.raises(TypeError, match=r"features must have dtype .* got int64"):
        fastsel.greedy_select(torch.from_numpy(X).long(), 9)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_results_stay_on_the_device():
    x = torch.from_numpy(X).cuda()
    picks = fastsel.greedy_select(x, 9)
    assert picks.device == x.device
    np.testing.assert_array_equal(picks.cpu(), fastsel.greedy_select(X, 9))


def test_torch_threads_are_respected():
    from fastsel.backends import cpu

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert cpu.threads() == 1
    finally:
        torch.set_num_threads(before)


def test_import_brings_in_no_torch_and_prints_nothing():
    code = "import sys, fastsel; sys.exit(any(m in sys.modules for m in ('torch', 'triton')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class OnlyDLPack:
    """An array of a library that fastsel has never heard of."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_dlpack_in():
    np.testing.assert_array_equal(
        fastsel.greedy_select(OnlyDLPack(X), 9), fastsel.greedy_select(X, 9)
    )
