"""A run that is cut off, however and wherever, ends with the numbers of one that was not."""

from __future__ import annotations

import dataclasses
import errno
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from training import budget, recursive, run, sample
from training import generation as phases
from training.choose import choose
from training.config import Config
from training.experiment import Experiment, load_extractors
from training.generation import run_generation
from training.plan import generations_to_train
from training.run import DiskFullError, RunFolder

ROOT = Path(__file__).parents[2]
TOY = Config(
    n=8,
    arms=("none", "greedy"),
    generations=3,
    paradigm="accumulate",
    widths=(8, 8),
    steps=5,
    batch_size=4,
    ema=0.9,
    checkpoint_every=2,
    sampling_steps=2,
    sampling_batch_size=4,
    metrics_extractors=("pixel",),
    metrics_real=10,
    device="cpu",
)
GUIDED = dataclasses.replace(TOY, condition="class", label_dropout=0.3, guidance=2.0)
SEED_IMAGES = np.random.default_rng(5).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
LABELS = np.arange(20) % 3


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small are slower on two, and far slower where other work is running."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def write_every_part(monkeypatch):
    """Keep sampled images after every batch, as a long sampling does now and then."""
    monkeypatch.setattr(phases, "_SECONDS_BETWEEN_PARTS", -1.0)


class Killed(BaseException):
    pass


def run_all(path, config=None):
    config = TOY if config is None else config
    classes = (LABELS, 3) if config.condition == "class" else ()
    folder = RunFolder(path)
    with folder.opened({"config": config.identity(), "data": {}, "versions": {}}):
        experiment = Experiment(config, folder, SEED_IMAGES, load_extractors(config), *classes)
        for arm, generation in generations_to_train(config):
            if not folder.is_done(arm, generation):
                folder.finish(arm, generation, run_generation(experiment, arm, generation))
    return folder


def results(folder):
    """Everything of a run but its seconds: lines, picks, samples, weights, grids; file names."""
    found = {}
    for path in sorted(folder.path.rglob("*")):
        name = str(path.relative_to(folder.path))
        if path.is_dir() or name.startswith(("cache", "plots", "report", ".lock")):
            continue
        if path.suffix == ".npz":
            with np.load(path) as saved:
                found[name] = {k: saved[k].tolist() for k in saved if k != "seconds"}
        elif path.suffix == ".safetensors":
            model, _ = phases.load_model(path)
            found[name] = {k: v.numpy().tobytes() for k, v in model.state_dict().items()}
        elif path.suffix == ".png":
            found[name] = path.read_bytes()
        else:
            found[name] = None
    lines = [
        {k: v for k, v in record.items() if not k.startswith("seconds/")}
        for record in folder.records()
    ]
    return found, lines, folder.config()["config"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return results(run_all(tmp_path_factory.mktemp("unbroken") / "run"))


def repeat_until_done(path, failure, config=None, limit=300):
    """Run again after every failure; how often it failed."""
    for failures in range(limit):
        try:
            run_all(path, config)
        except failure:
            continue
        return failures
    raise AssertionError(f"still failing after {limit} tries")


def test_a_kill_in_the_middle_of_every_file_changes_nothing(tmp_path, monkeypatch, unbroken):
    seen = set()
    write = run._write_durably

    def die_once_per_file(temporary, content):
        if temporary not in seen:
            seen.add(temporary)
            temporary.with_name(f"{temporary.name[:-4]}.0.tmp").write_bytes(
                content[: len(content) // 2]
            )
            raise Killed
        write(temporary, content)

    monkeypatch.setattr(run, "_write_durably", die_once_per_file)
    failures = repeat_until_done(tmp_path / "run", Killed)
    # Two lists, and for each of five generations seven files.
    assert failures == len(seen) >= 2 + 5 * 7
    assert any("part" in p.name for p in seen)
    assert any("checkpoint" in p.name for p in seen)
    assert results(RunFolder(tmp_path / "run")) == unbroken


@pytest.mark.parametrize("config", [TOY, GUIDED], ids=["plain", "guided"])
def test_a_kill_right_after_every_file_changes_nothing(tmp_path, monkeypatch, unbroken, config):
    if config is GUIDED:
        unbroken = results(run_all(tmp_path / "unbroken", config))
    seen = set()
    sync = run._sync_folder

    def die_once_per_state(folder):
        state = frozenset(p.name for p in folder.iterdir()), folder
        sync(folder)
        if state not in seen:
            seen.add(state)
            raise Killed

    monkeypatch.setattr(run, "_sync_folder", die_once_per_state)
    assert repeat_until_done(tmp_path / "run", Killed, config) >= 2 + 5 * 5
    assert results(RunFolder(tmp_path / "run")) == unbroken


def test_the_batch_that_fits_is_kept(tmp_path, monkeypatch):
    """A run that found its batch goes on with it, also where there is more memory by then."""
    config, denoise, holds = dataclasses.replace(TOY, sampling_batch_size=None), sample._denoise, 3

    def short_of_memory(config, model, seeds, labels):
        if len(seeds) > holds:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return denoise(config, model, seeds, labels)

    monkeypatch.setattr(sample, "_denoise", short_of_memory)
    unbroken = run_all(tmp_path / "unbroken", config)
    assert (unbroken.path / "sampling-batch.txt").read_text() == "2\n"

    def die(experiment, arm, generation):
        if generation == 2:
            raise Killed
        return choose(experiment, arm, generation)

    with monkeypatch.context() as patch:
        patch.setattr(phases, "choose", die)
        with pytest.raises(Killed):
            run_all(tmp_path / "run", config)
    holds = 99
    assert results(run_all(tmp_path / "run", config)) == results(unbroken)


def test_a_disk_that_fills_up_at_every_file_changes_nothing(tmp_path, monkeypatch, unbroken):
    seen = set()
    write = run._write_durably

    def fill_once_per_file(temporary, content):
        if temporary not in seen:
            seen.add(temporary)
            temporary.write_bytes(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(temporary, content)

    monkeypatch.setattr(run, "_write_durably", fill_once_per_file)
    assert repeat_until_done(tmp_path / "run", DiskFullError) == len(seen)
    assert results(RunFolder(tmp_path / "run")) == unbroken


def test_other_checkpoints_and_threads_go_on_with_the_same_run(tmp_path, monkeypatch, unbroken):
    """How a run is carried out may change between its parts."""
    monkeypatch.setattr(budget, "write_atomic", lambda *a: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        run_all(tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setitem(globals(), "TOY", dataclasses.replace(TOY, checkpoint_every=3, threads=1))
    assert results(run_all(tmp_path / "run")) == unbroken


COMMAND = [
    "--preset",
    "smoke",
    "--limit",
    "60",
    "--n",
    "16",
    "--arms",
    "none,greedy",
    "--widths",
    "8,8",
    "--steps",
    "60",
    "--batch-size",
    "8",
    "--checkpoint-every",
    "5",
    "--metrics-extractors",
    "pixel",
    "--metrics-real",
    "20",
    "--device",
    "cpu",
]


def start_and_stop(out, file, number):
    """Start the command, send it a signal as soon as a file is there; its status and stderr."""
    process = subprocess.Popen(
        [sys.executable, "-m", "training.recursive", *COMMAND, "--out", str(out)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets its background commands ignore the signal, and so their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 120
        while not (out / file).exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline, f"{file} did not appear"
            time.sleep(0.001)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    return process.returncode, errors


@pytest.mark.slow
def test_a_command_killed_at_several_points_ends_with_the_same_numbers(tmp_path, capsys):
    out = tmp_path / "run"
    for place, number, status in [
        ("shared/01/checkpoint.safetensors", signal.SIGKILL, -signal.SIGKILL),
        ("none/02/picks.npz", signal.SIGTERM, 130),
        ("none/02/checkpoint.safetensors", signal.SIGINT, 130),
        ("greedy/02/picks.npz", signal.SIGKILL, -signal.SIGKILL),
    ]:
        returned, errors = start_and_stop(out, f"generations/{place}", number)
        assert returned == status, errors
        assert "Traceback" not in errors
        assert ("the same command goes on from here" in errors) == (status == 130)
        assert not (out / "generations/greedy/02/done.json").exists()
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert recursive.main([*COMMAND, "--out", str(out)]) == 0
        assert recursive.main([*COMMAND, "--out", str(tmp_path / "unbroken")]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "report:" in capsys.readouterr().out
    assert results(RunFolder(out)) == results(RunFolder(tmp_path / "unbroken"))


def test_a_full_disk_is_one_line_that_names_the_file(tmp_path, monkeypatch, capsys):
    write = run._write_durably

    def fill(temporary, content):
        if "samples.npz" in temporary.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(temporary, content)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(run, "_write_durably", fill)
    try:
        status = recursive.main([*COMMAND, "--steps", "2", "--out", str(tmp_path / "run")])
    finally:
        signal.signal(signal.SIGTERM, before)
    errors = capsys.readouterr().err
    assert status == 2
    assert errors.startswith(f"error: {tmp_path}/run/generations/shared/01/samples.npz: no space")
    assert errors.count("\n") == 1
