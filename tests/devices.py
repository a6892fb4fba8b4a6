"""Where operations of the device backends run in the tests.

On a CUDA device, marked gpu, where there is one. Triton's kernels otherwise run in its interpreter,
which tests/conftest.py switches on.
"""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

HAS_CUDA = torch.cuda.is_available()

CUDA = (
    pytest.mark.gpu,
    pytest.mark.skipif(not HAS_CUDA, reason="needs a CUDA device"),
)
INTERPRETER = pytest.mark.skipif(HAS_CUDA, reason="the kernels run on the CUDA device instead")

PLACES = [
    pytest.param(("torch", "cpu"), id="torch-cpu"),
    pytest.param(("torch", "cuda"), id="torch-cuda", marks=CUDA),
    pytest.param(("triton", "cpu"), id="triton-interpreter", marks=INTERPRETER),
    pytest.param(("triton", "cuda"), id="triton-cuda", marks=CUDA),
    # On the processor: tests/cuda/.
    pytest.param(("cuda", "cuda"), id="cuda", marks=CUDA),
]
