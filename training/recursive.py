"""Train diffusion models on their predecessors' images, with and without selection.

``python -m training.recursive`` runs the default experiment; ``--help`` lists the options. The
same command after an interruption goes on where it stopped and ends with the same numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import platform
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.config import Config, ConfigError, seed_runs
from training.parser import command_line, parse_config
from training.run import RunError, RunFolder, check_disk

if TYPE_CHECKING:
    from training.budget import Budget
    from training.data import ImageSet
    from training.processes import Processes


# Of sysexits.h: a failure after which one may well try again.
_BUDGET_SPENT = 75


def run(config: Config) -> Path:
    """Run, or finish, the experiment of a config, or of each of its seeds.

    Returns:
        The path of the report, of the comparison of the seeds, or of a dry run's folder.

    Raises:
        ConfigError, DataError, ExtractorError, RunError: for what the user can put right.
        BudgetSpent: time or disk that the config allows; the same call goes on later.
        LostError: another process of the run has ended.
        OSError: the disk is full, or a file cannot be read or written.
    """
    if config.dry_run:
        return _dry_run(config)
    # Torch takes seconds to import, which a mistyped option need not wait for.
    from training.budget import Budget
    from training.processes import joined
    from training.tracking import check_tracker

    check_tracker(config)
    assert config.out is not None
    budget = Budget(Path(config.out), config.max_hours, config.max_disk)
    with joined(config) as processes:
        if config.seeds is None:
            return _run(config, processes, budget)
        return _run_seeds(config, processes, budget)


def _run_seeds(config: Config, processes: Processes, budget: Budget) -> Path:
    """A run for each seed, in a folder of its own, and their comparison."""
    from training.compare import write_comparison

    folder = budget.folder
    if (folder / "config.json").exists():
        raise RunError(f"--out must be a folder for the runs of --seeds, {folder} holds a run")
    runs = seed_runs(config)
    for one in runs:
        _run(one, processes, budget)
    comparison = folder / "comparison"
    paths = [Path(str(one.out)) for one in runs]
    table = processes.first(lambda: write_comparison(paths, comparison))
    if processes.leads:
        print(f"\n{table}\nfigures: {comparison}")
    return comparison


def _run(config: Config, processes: Processes, budget: Budget) -> Path:
    """A run of one seed; the path of its report."""
    from training.device import make_deterministic, resolve_device, resolved
    from training.experiment import Experiment, load_extractors
    from training.generation import run_generation
    from training.plan import describe, disk_bytes, generations_to_train
    from training.report import format_table, write_report
    from training.tracking import tracked

    config = resolved(config)
    show = processes.leads and not config.quiet
    data = _load_data(config)
    n_images, height, _, channels = data.images.shape
    if show:
        print(
            describe(config, data.source, n_images, height, channels, len(data.class_names)),
            flush=True,
        )
    assert config.out is not None
    folder = RunFolder(Path(config.out))
    processes.first(lambda: check_disk(folder.path, disk_bytes(config, height, channels)))
    make_deterministic(resolve_device(config))
    description = {
        "config": config.identity(),
        "data": _origin(data),
        "launch": {"processes": processes.size},
        "versions": _versions(),
    }
    extractors = load_extractors(config)
    with contextlib.ExitStack() as stack:
        processes.first(lambda: stack.enter_context(folder.opened(description)))
        track = stack.enter_context(tracked(config, folder)) if processes.leads else None
        experiment = Experiment(
            config,
            folder,
            data.images,
            extractors,
            data.labels,
            len(data.class_names),
            show=show,
            processes=processes,
            budget=budget,
        )
        for arm, generation in generations_to_train(config):
            if not processes.first(functools.partial(folder.is_done, arm, generation)):
                record = run_generation(experiment, arm, generation)
                processes.first(functools.partial(folder.finish, arm, generation, record))
                if track is not None:
                    track()
                if show:
                    print(_progress_line(config, arm, record), flush=True)
        report = processes.first(lambda: write_report(folder.path))
    if processes.leads:
        print(format_table(folder.records()))
        print(f"report: {report}")
    return report


def _load_data(config: Config) -> ImageSet:
    """The images of a run, square and enough of them; with labels where models are told them."""
    from training.data import load_images
    from training.select import images_needed

    data = load_images(
        config.data,
        resolution=config.resolution,
        channels=config.channels,
        limit=config.limit,
        seed=config.seed,
    )
    n_images, height, width, _ = data.images.shape
    if height != width:
        raise ConfigError(f"--resolution must be given for images of {width}x{height}: a square")
    if config.n > n_images:
        raise ConfigError(f"--n must be at most {n_images}, the images in --data, got {config.n}")
    if images_needed(config) > n_images:
        raise ConfigError(
            f"--fresh-fraction {config.fresh_fraction:g} needs {images_needed(config)} images over"
            f" {config.generations} generations of {config.n}, got {n_images} in --data"
        )
    if config.condition == "none":
        return dataclasses.replace(data, labels=None, class_names=())
    if data.labels is None:
        raise ConfigError(
            f"--condition class needs images with classes, got --data {config.data}, which has none"
        )
    return data


def _origin(data: ImageSet) -> dict[str, Any]:
    """What config.json says of the data; the digest is of the images, then of the labels."""
    n_images, resolution, _, channels = data.images.shape
    digest = hashlib.sha256(data.images.tobytes())
    classes = {}
    if data.labels is not None:
        digest.update(data.labels.tobytes())
        classes = {"class_names": list(data.class_names)}
    return {
        "source": data.source,
        "n_images": n_images,
        "resolution": resolution,
        "channels": channels,
        **classes,
        "digest": digest.hexdigest(),
    }


def _dry_run(config: Config) -> Path:
    """Print the plan, its cost and every option; what is missing on this machine is a note."""
    from training.device import resolved
    from training.plan import describe
    from training.sources import DataError

    notes = []
    try:
        config = resolved(config)
    except ConfigError as error:
        notes.append(str(error))
    n_images, resolution, channels = None, config.resolution, config.channels
    n_classes = None
    try:
        data = _load_data(config)
        n_images, resolution, _, channels = data.images.shape
        n_classes = len(data.class_names)
    except DataError as error:
        if resolution is None or channels is None:
            raise
        notes.append(str(error))
    print(describe(config, config.data, n_images, resolution, channels, n_classes))
    if config.seeds is not None:
        print(f"{'runs':<11} {len(config.seeds)} of the above, one for each of --seeds")
    print(f"\noptions\n{command_line(config)}")
    if notes:
        print("\nmissing here\n" + "\n".join(notes))
    assert config.out is not None
    return Path(config.out)


def _progress_line(config: Config, arm: str, record: Mapping[str, Any]) -> str:
    generation = record["generation"]
    name = "all arms" if generation == 1 else arm
    seconds = "  ".join(
        f"{key.removeprefix('seconds/')} {value:.1f} s"
        for key, value in record.items()
        if key.startswith("seconds/")
    )
    return f"generation {generation}/{config.generations}  {name:<9}  {seconds}"


def _versions() -> dict[str, str]:
    packages = ("fastsel", "torch", "diffusers", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit status: 0 at the end of the run, 2 for a user's error, 75 when the budget is spent,
        130 when interrupted, and 1 when another process of the run has ended.
    """
    # A scheduler's SIGTERM is a Ctrl-C: files are written whole or not at all, so both may come
    # at any point.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rank, alike = int(os.environ.get("RANK", "0")), False
    try:
        run(parse_config(argv))
        return 0
    except KeyboardInterrupt:
        status, message = 130, "interrupted: the same command goes on from here"
    except Exception as error:
        status, message = _told(error)
        alike = isinstance(error, ConfigError | RunError)
    # What all processes meet alike, the first says for them.
    if rank == 0:
        print(message, file=sys.stderr)
    elif not alike and status in (1, 2):
        print(f"process {rank}: {message}", file=sys.stderr)
    return status


def _told(error: Exception) -> tuple[int, str]:
    """Status and message of an error that the user can do something about; others are raised."""
    from training.budget import BudgetSpent
    from training.processes import LostError

    if isinstance(error, OSError):
        place = "" if error.filename is None else f"{error.filename}: "
        return 2, f"error: {place}{error.strerror or error}"
    if isinstance(error, BudgetSpent):
        return _BUDGET_SPENT, f"stopped: {error}. The same command goes on from here"
    if isinstance(error, LostError):
        return 1, f"error: {error}. The same command goes on from here"
    if isinstance(error, ValueError) and type(error) is not ValueError:
        return 2, f"error: {error}"
    raise error


if __name__ == "__main__":
    sys.exit(main())
