"""Where and how the network runs: device, precision, threads, layout in memory, compiler.

What the options leave to ``auto`` is decided here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from diffusers import UNet2DModel

from training.config import Config, ConfigError

_TINY_RESOLUTION = 16
# Compiling takes about a minute: --compile auto does so where training takes many.
_STEPS_WORTH_COMPILING = 10_000
_COMPILER = "inductor"


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
    """The options with ``auto`` for device, precision and compiling replaced by what it means here.

    Raises:
        ConfigError: this machine can not do what an option asks for.
    """
    device = resolve_device(config)
    return dataclasses.replace(
        config,
        device=str(device),
        mixed_precision=resolve_precision(config, device),
        compile=_resolve_compile(config, device),
    )


def _resolve_compile(config: Config, device: torch.device) -> str:
    """What ``--compile`` means on this device, yes or no.

    Left to ``auto``, a compiler that does not work is no error, but a warning and a no.
    """
    if config.compile != "auto":
        return config.compile
    if device.type == "cpu" or config.steps < _STEPS_WORTH_COMPILING:
        return "no"
    try:
        square = _compile(torch.square)
        torch.autograd.backward(square(torch.ones(8, device=device, requires_grad=True)).sum())
    except Exception as error:  # of the compilers that torch calls, of any kind
        warnings.warn(f"{_not_compiled(error)}; going on without", stacklevel=2)
        return "no"
    return "yes"


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


def memory_format(config: Config, resolution: int) -> torch.memory_format:
    """How the weights of the network and its images lie in memory.

    The channels of a pixel side by side where that is faster: on a CPU for images larger than
    16x16, whose sampling takes a fifth less time, and on a GPU at 16 bits, as its matrix units
    want them.
    """
    device = resolve_device(config)
    if device.type == "cpu":
        beside = resolution > _TINY_RESOLUTION
    else:
        beside = resolve_precision(config, device) != "no"
    return torch.channels_last if beside else torch.contiguous_format


def callable_network(config: Config, model: UNet2DModel) -> Callable[..., Any]:
    """The network as the function to call in training and sampling.

    With ``--compile yes`` it is compiled. That happens when it is first called, and again for
    other shapes of its arguments, but not for another network of the same architecture.

    Raises:
        ConfigError: when it is called: torch can not compile it here.
    """
    if config.compile != "yes":
        network: Callable[..., Any] = model
        return network
    from torch._dynamo.exc import TorchDynamoException

    compiled = _compile(model)

    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return compiled(*arguments, **named)
        except TorchDynamoException as error:
            raise ConfigError(f"{_not_compiled(error)}; --compile no does without") from error

    return call


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function compiled such that each compilation of it gives the same bits.

    Raises:
        ConfigError: this version of torch can only time kernels and take the fastest.
    """
    options: dict[str, Any] | None = None
    if _COMPILER == "inductor":
        options = {"deterministic": True}
        if not options.keys() <= set(torch._inductor.list_options()):
            raise ConfigError(
                f"--compile yes needs a torch whose compiler can be deterministic,"
                f" got {torch.__version__}; --compile no does without"
            )
    made: Callable[..., Any] = torch.compile(
        function, backend=_COMPILER, fullgraph=True, dynamic=False, options=options
    )
    return made


def _not_compiled(error: Exception) -> str:
    # The second line says what the first one announces.
    reason = " ".join(str(error).split("\n")[:2]).strip() or type(error).__name__
    return f"--compile: torch can not compile here ({reason})"
