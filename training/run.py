"""The run folder: what it holds, how it is written, and who may write it.

A file appears under its name whole or not at all, and the presence of a file is the only record of
progress. So there is no state that an interruption could leave half-changed: a resumed run takes
what is there and makes the rest.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SHARED = "shared"
_COMPARED = ("config", "data", "launch")


class RunError(ValueError):
    """A run folder that cannot be used for this run."""


class DiskFullError(OSError):
    """No space left for a file of the run; what was written before is kept."""


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, durably, making its folder where needed.

    After a crash at any point the path holds the old content or the new, never a part.

    Raises:
        DiskFullError: no space or quota left; the path is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_durably(temporary, content)
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                error.errno,
                f"no space left to write {len(content):,} bytes; nothing finished is lost: free"
                " some space and run the same command again",
                str(path),
            ) from error
        raise


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Make a rename in the folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomic(path, (json.dumps(value, indent=2) + "\n").encode())


class RunFolder:
    """A run on disk. Reading needs nothing; writing goes through :meth:`opened`.

    ``config.json`` says what the run is; ``generations/<arm>/<NN>/`` holds each generation, the
    first under the arm ``shared``, finished when it has a ``done.json``; ``metrics.jsonl`` gathers
    those, one line for each arm and generation.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def config(self) -> dict[str, Any]:
        """The content of config.json: ``config``, ``data``, ``launch`` and ``versions``."""
        return _read_json(self.path / "config.json")

    def arms(self) -> list[str]:
        """The arms of the run, in the order of its configuration."""
        return list(self.config()["config"]["arms"])

    def records(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, by generation and then by arm; empty before the first.

        Raises:
            RunError: a line is no record.
        """
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        lines = path.read_bytes().splitlines()
        records = [_parse_json(line, f"{path}, line {i},") for i, line in enumerate(lines, 1)]
        for i, record in enumerate(records, 1):
            if not {"arm", "generation"} <= record.keys():
                raise RunError(f"{path}, line {i}, must have an arm and a generation")
        return records

    def generation_dir(self, arm: str, generation: int) -> Path:
        """The folder of one generation; every arm's first is the shared one."""
        owner = SHARED if generation == 1 else arm
        return self.path / "generations" / owner / f"{generation:02d}"

    def is_done(self, arm: str, generation: int) -> bool:
        """Whether nothing is left to do for this generation."""
        return (self.generation_dir(arm, generation) / "done.json").exists()

    @contextlib.contextmanager
    def opened(self, description: Mapping[str, Any]) -> Iterator[None]:
        """Hold the folder for writing a run of this description, new or to be resumed.

        Args:
            description: the content of config.json. ``config``, ``data`` and ``launch`` must be
                those of the run that is there; ``versions`` may differ, and those of the start are
                kept.

        Raises:
            RunError: another process writes here, or the folder holds another run or other files.
            DiskFullError: no space for config.json.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"--out must be a folder, {self.path} is a file")
        strangers = [] if not self.path.exists() else [p.name for p in self.path.iterdir()]
        if strangers and not {"config.json", ".lock"} & set(strangers):
            raise RunError(f"--out must be a new folder or a run, {self.path} holds other files")
        with _exclusive(self.path):
            for leftover in self.path.rglob(".*.tmp"):
                leftover.unlink(missing_ok=True)
            if (self.path / "config.json").exists():
                self._check_same(description)
            else:
                write_json(self.path / "config.json", dict(description))
            self.gather_records()
            yield

    def finish(self, arm: str, generation: int, record: Mapping[str, Any]) -> None:
        """Mark a generation finished, with its line of metrics."""
        write_json(self.generation_dir(arm, generation) / "done.json", dict(record))
        self.gather_records()

    def gather_records(self) -> None:
        """Write metrics.jsonl from every done.json, so that the two cannot disagree."""
        lines = []
        config = self.config()["config"]
        for generation in range(1, config["generations"] + 1):
            for arm in config["arms"]:
                if self.is_done(arm, generation):
                    record = _read_json(self.generation_dir(arm, generation) / "done.json")
                    lines.append(json.dumps({**record, "arm": arm}) + "\n")
        if lines:
            write_atomic(self.path / "metrics.jsonl", "".join(lines).encode())

    def _check_same(self, description: Mapping[str, Any]) -> None:
        there = self.config()
        differences = []
        for part in _COMPARED:
            old, new = there.get(part, {}), description.get(part, {})
            for name in sorted(old.keys() | new.keys()):
                if old.get(name) != new.get(name):
                    label = f"--{name.replace('_', '-')}" if part == "config" else f"{part} {name}"
                    differences.append(f"{label} is {old.get(name)} there, {new.get(name)} here")
        if differences:
            raise RunError(
                f"--out {self.path} holds a run of another configuration:"
                f" {'; '.join(differences)}. Give another --out, or the options of that run"
            )


def _read_json(path: Path) -> dict[str, Any]:
    return _parse_json(path.read_bytes(), str(path))


def _parse_json(content: bytes, place: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise RunError(f"{place} is not the JSON of a run: {error}") from error
    if not isinstance(value, dict):
        raise RunError(f"{place} must hold a JSON object, got {type(value).__name__}")
    return value


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold the folder's lock. The kernel drops it with the process, so none is ever stale."""
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise RunError(f"--out {path} is being written by process {owner}") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def folder_bytes(path: Path) -> int:
    """Bytes of all files in a folder; 0 where there is none."""
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def check_disk(path: Path, needed: int) -> None:
    """Refuse a run that its disk cannot hold, before any work.

    Args:
        path: the run folder, which need not exist; what it holds already counts as there.
        needed: bytes of the finished run.

    Raises:
        DiskFullError: the disk has less room than the rest of the run needs.
    """
    present = folder_bytes(path)
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if needed - present > free:
        raise DiskFullError(
            errno.ENOSPC,
            f"the run needs about {needed - present:,} bytes more and {free:,} are free",
            str(path),
        )
