"""Several processes of one run, as ``accelerate launch`` and ``torchrun`` start them.

All run the same program and make the calls below in the same order. Process 0 leads: it alone
selects, measures and writes, and what it decides or fails with reaches the others, so that none
goes on alone. Everything here works without torch.distributed for a run of one process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

# Imported later, its functions would keep the group as a default argument. A group that is kept is
# not shut down, and its threads may abort the process at its end.
import torch.distributed.nn

from training.config import Config, ConfigError

# Others may wait for as long as process 0 selects. One that dies ends the wait by itself.
_PATIENCE = timedelta(days=7)

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


class LostError(RuntimeError):
    """Another process of the run has ended."""


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    Attributes:
        rank: 0 leads.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def first(self, work: Callable[[], _Result]) -> _Result:
        """What ``work`` returns, or raises, in process 0, in every process.

        Raises:
            LostError: a process has ended meanwhile.
        """
        if self.size == 1:
            return work()
        outcome: list[Any] = [None, None]
        if self.leads:
            try:
                with _whole_machine():
                    outcome[0] = work()
            except Exception as error:
                outcome[1] = error
        with _linked():
            dist.broadcast_object_list(outcome)
        result, failure = outcome
        if failure is not None:
            raise failure
        done: _Result = result
        return done

    def spread(self, jobs: Sequence[_Job], work: Callable[[_Job], _Result]) -> list[_Result]:
        """The results of all jobs, in order, in every process: each does every size-th of them.

        Raises:
            LostError: a process has ended meanwhile.
        """
        own = [work(job) for job in jobs[self.rank :: self.size]]
        if self.size == 1:
            return own
        parts: list[Any] = [None] * self.size
        with _linked():
            dist.all_gather_object(parts, own)
        return [parts[i % self.size][i // self.size] for i in range(len(jobs))]

    def share(self, count: int) -> slice:
        """Which of ``count`` things in a row are this process's, evened out."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace every gradient by its sum over the processes.

        All in one buffer of a fixed order, where DistributedDataParallel orders its own anew after
        the first step: a training that goes on from a checkpoint would round differently.

        Raises:
            LostError: a process has ended meanwhile.
        """
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        buffer = torch.cat([gradient.flatten() for gradient in gradients])
        with _linked():
            dist.all_reduce(buffer)
        parts = torch.split(buffer, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


ALONE = Processes()


@contextlib.contextmanager
def joined(config: Config) -> Iterator[Processes]:
    """Take part in the run that the launcher's environment describes; alone without one.

    With CUDA each process has the device of its place on the machine.

    Raises:
        ConfigError: the options do not suit several processes, or there are too few devices.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    if config.batch_size < size:
        raise ConfigError(
            f"--batch-size must be at least the number of processes, {size},"
            f" got {config.batch_size}"
        )
    if config.device not in ("auto", "cpu", "cuda"):
        raise ConfigError(
            f"--device must be auto, cpu or cuda with several processes, got {config.device!r}"
        )
    backend = _take_device(config)
    with _linked():
        dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield Processes(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


def _take_device(config: Config) -> str:
    """Make the CUDA device of this process's place its own; what torch.distributed links with.

    That is nccl for tensors on CUDA devices, and gloo for those in host memory: gradients go by the
    first, what :meth:`Processes.first` and :meth:`Processes.spread` pass on by the second.
    """
    if config.device == "cpu" or not torch.cuda.is_available():
        return "gloo"
    place, found = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if place >= found:
        raise ConfigError(
            f"one process for each CUDA device: torch sees {found} devices,"
            f" got a process number {place} on this machine"
        )
    torch.cuda.set_device(place)
    return "cpu:gloo,cuda:nccl"


@contextlib.contextmanager
def _linked() -> Iterator[None]:
    """Name what torch tells as a closed connection, in one of many wordings."""
    try:
        yield
    except RuntimeError as error:
        raise LostError("another process of this run has ended") from error


@contextlib.contextmanager
def _whole_machine() -> Iterator[None]:
    """All cores for this process, since launchers share them out and the others wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
