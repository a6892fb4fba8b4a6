"""Where and how the network runs: device, precision, threads.

What the options leave to ``auto`` is decided here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator

import torch

from training.config import Config, ConfigError

_TINY_RESOLUTION = 16


def resolve_device(config: Config) -> torch.device:
    """The device that ``--device`` means here.

    Raises:
        ConfigError: no such device, or none that this torch can use.
    """
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"--device must be auto, cpu, cuda or cuda:N, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device must be auto, cpu, cuda or cuda:N, got {name!r}")
    found = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= found:
        raise ConfigError(f"--device {name} is not there: torch sees {found} CUDA devices")
    return device


def resolve_precision(config: Config, device: torch.device) -> str:
    """The precision that ``--mixed-precision`` means on this device: no, fp16 or bf16.

    Raises:
        ConfigError: fp16 asked for on a CPU, which would train in software emulation.
    """
    precision = config.mixed_precision
    if precision == "auto":
        if device.type == "cpu":
            return "no"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("--mixed-precision fp16 needs a CUDA device, got cpu")
    return precision


def resolved(config: Config) -> Config:
    """The options with their ``auto`` device and precision replaced by what they mean here."""
    device = resolve_device(config)
    precision = resolve_precision(config, device)
    return dataclasses.replace(config, device=str(device), mixed_precision=precision)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which the network runs at a precision of :func:`resolve_precision`."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "no")


def make_deterministic(device: torch.device) -> None:
    """Let this process's CUDA kernels be only those that end in equal bits for equal input."""
    if device.type == "cuda":
        # cuBLAS reads it when it starts, and is not deterministic without it.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True)


@contextlib.contextmanager
def training_threads(config: Config, resolution: int) -> Iterator[None]:
    """Torch's CPU threads inside: those of ``--threads``.

    Left to ``auto``, one for tiny images: their layers end sooner than a second thread is awake,
    and on a machine that does anything else the two wait for each other many times as long.
    """
    before = torch.get_num_threads()
    tiny = resolution <= _TINY_RESOLUTION
    torch.set_num_threads(config.threads or (1 if tiny else before))
    try:
        yield
    finally:
        torch.set_num_threads(before)
