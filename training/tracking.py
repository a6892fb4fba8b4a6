"""Metrics shown while a run goes on: TensorBoard, and Weights & Biases.

Both get the values of metrics.jsonl and nothing else, each line once: what a resumed run has sent
before is not sent again.
"""

from __future__ import annotations

import contextlib
import importlib.util
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from training.config import Config, ConfigError
from training.glossary import number
from training.run import RunFolder

_PROJECT = "fastsel"

Update = Callable[[], None]


def check_tracker(config: Config) -> None:
    """Refuse a tracker whose package is missing, before any work.

    Raises:
        ConfigError: with the command that installs it.
    """
    if config.track is not None and importlib.util.find_spec(config.track) is None:
        raise ConfigError(
            f"--track {config.track} needs its package, which is not installed:"
            f" pip install {config.track}"
        )


@contextlib.contextmanager
def tracked(config: Config, folder: RunFolder) -> Iterator[Update]:
    """A function that passes on the lines of metrics.jsonl that were not passed on yet.

    To be entered by the one process that writes in the folder.
    """
    open_tracker = {None: _nowhere, "tensorboard": _tensorboard, "wandb": _wandb}[config.track]
    with open_tracker(config, folder) as (send, done):
        sent = done

        def update() -> None:
            nonlocal sent
            records = folder.records()
            for line, record in enumerate(records[sent:], sent):
                send(line, record)
            sent = len(records)

        update()
        yield update


_Send = Callable[[int, Mapping[str, Any]], None]


@contextlib.contextmanager
def _nowhere(config: Config, folder: RunFolder) -> Iterator[tuple[_Send, int]]:
    yield lambda line, record: None, 0


@contextlib.contextmanager
def _tensorboard(config: Config, folder: RunFolder) -> Iterator[tuple[_Send, int]]:
    """Event files in tensorboard/<arm>, begun anew by each command: they cannot be continued."""
    from torch.utils.tensorboard import SummaryWriter

    root = folder.path / "tensorboard"
    shutil.rmtree(root, ignore_errors=True)
    with contextlib.ExitStack() as stack:
        writers = {
            arm: stack.enter_context(SummaryWriter(str(root / arm))) for arm in folder.arms()
        }

        def send(line: int, record: Mapping[str, Any]) -> None:
            writer = writers[record["arm"]]
            for key, value in _values(record).items():
                writer.add_scalar(key, value, record["generation"])
            writer.flush()

        yield send, 0


@contextlib.contextmanager
def _wandb(config: Config, folder: RunFolder) -> Iterator[tuple[_Send, int]]:
    """A run of its own for each run folder, which keeps its name there; a step for each line."""
    import wandb

    kept = folder.path / "wandb-id.txt"
    if not kept.exists():
        kept.write_text(secrets.token_hex(4))
    run = wandb.init(
        project=_PROJECT,
        name=folder.path.name,
        id=kept.read_text(),
        resume="allow",
        dir=str(folder.path),
        config=config.identity(),
    )
    run.define_metric("*", step_metric="generation")

    def send(line: int, record: Mapping[str, Any]) -> None:
        values = {f"{record['arm']}/{key}": value for key, value in _values(record).items()}
        run.log({"generation": record["generation"], **values}, step=line)

    try:
        yield send, run.step
    finally:
        run.finish()


def _values(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record; a tracker has no place for quantiles and what is told by class."""
    found = {key: number(record, key) for key in record if key != "generation"}
    return {key: value for key, value in found.items() if value is not None}
