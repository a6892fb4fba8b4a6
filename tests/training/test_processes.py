"""Two processes make one run: the samples, features and picks of one, and one writer."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from test_resume import results

from training import recursive, select
from training import sample as sampling
from training.backbones import Backbone
from training.budget import Budget, BudgetSpent
from training.config import Config, ConfigError
from training.embed import Extractor, extract
from training.model import build_unet
from training.processes import ALONE, Processes, joined
from training.run import DiskFullError, RunFolder
from training.sample import sample
from training.train import train

ROOT = Path(__file__).parents[2]
TINY = Config(
    widths=(8, 8),
    n=7,
    steps=1,
    batch_size=5,  # two and three
    sampling_batch_size=2,
    sampling_steps=2,
    device="cpu",
)
COMMAND = [
    *("--limit", "60", "--n", "16", "--generations", "2", "--arms", "none,greedy"),
    *("--widths", "8,8", "--steps", "60", "--batch-size", "7", "--ema", "0.9"),
    *("--sampling-steps", "2", "--sampling-batch-size", "5", "--metrics-extractors", "pixel"),
    *("--metrics-real", "20", "--checkpoint-every", "5", "--device", "cpu"),
]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def environment(rank, port):
    """What a launcher sets."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


def images(n, channels=1):
    return np.random.default_rng(5).integers(0, 256, (n, 8, 8, channels), dtype=np.uint8)


def extractor():
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 4, 8)

    def forward(batch):
        return network(batch.float()).flatten(1)

    return Extractor("net", Backbone("net", network, forward, ""), device="cpu", batch_size=3)


def gradient_norms(path, processes):
    """The norm that clipping sees in each of two steps."""
    norms = []
    clip = torch.nn.utils.clip_grad_norm_

    def record(parameters, limit):
        norms.append(float(clip(parameters, limit)))

    torch.nn.utils.clip_grad_norm_ = record
    try:
        config = dataclasses.replace(TINY, steps=2)
        train(config, images(7), generation=1, checkpoint=path, processes=processes)
    finally:
        torch.nn.utils.clip_grad_norm_ = clip
    return norms


def check_that_all_halve_the_batch_when_one_must(rank, model, two):
    config = dataclasses.replace(TINY, sampling_batch_size=None)
    expected = np.concatenate(list(sample(config, model, generation=1, first=0, count=14)))
    denoise, told = sampling._denoise, []

    def short_of_memory(config, model, seeds, labels):
        if rank == 1 and len(seeds) > 4:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return denoise(config, model, seeds, labels)

    sampling._denoise = short_of_memory
    try:
        parts = sample(
            config, model, generation=1, first=0, count=14, halved=told.append, processes=two
        )
        images = np.concatenate(list(parts))
    finally:
        sampling._denoise = denoise
    assert told == [4]
    assert images.shape == expected.shape
    assert np.abs(images.astype(int) - expected).max() <= 1


def check(rank, ports, path):
    """What each of two processes must see, and a whole run; called in both."""
    os.environ.update(environment(rank, ports[0]))
    torch.set_num_threads(1)
    with joined(TINY) as two:
        assert two == Processes(rank, 2)
        assert two.first(lambda: rank) == 0
        for failure in (BudgetSpent("over"), DiskFullError(28, "full", "file")):
            with pytest.raises(type(failure), match=str(failure.args[-1])):
                two.first(lambda: (_ for _ in ()).throw(failure))  # noqa: B023
        for count in range(6):
            assert two.spread(range(count), lambda i: (i, i % 2)) == [
                (i, i % 2) for i in range(count)
            ]
        assert two.spread(range(4), lambda _: rank) == [0, 1, 0, 1]

        model = build_unet(TINY, 8, 1, seed=1)
        for count in (1, 3, 7):
            ours, theirs = (
                list(sample(TINY, model, generation=1, first=0, count=count, processes=each))
                for each in (two, ALONE)
            )
            assert np.array_equal(np.concatenate(ours), np.concatenate(theirs))

        check_that_all_halve_the_batch_when_one_must(rank, model, two)

        net, pictures = extractor(), images(11, channels=3)
        alone = net(pictures)
        for _ in range(2):  # made, then read
            found = extract(net, pictures, cache_dir=path / "cache", processes=two)
            assert np.array_equal(found, alone)
        assert len(list((path / "cache").iterdir())) == 1

        norms = gradient_norms(path / "two", two)
        assert norms == pytest.approx(gradient_norms(path / f"one{rank}", ALONE), rel=1e-5)

        stopped = Budget(path, hours=1e-9)
        config = dataclasses.replace(TINY, steps=41)
        checkpoint = path / "stopped"
        with pytest.raises(BudgetSpent):
            train(
                config,
                images(7),
                generation=1,
                checkpoint=checkpoint,
                processes=two,
                budget=stopped,
            )
        resumed, _ = train(config, images(7), generation=1, checkpoint=checkpoint, processes=two)
        unbroken, _ = train(config, images(7), generation=1, checkpoint=path / "-", processes=two)
        for one, other in zip(resumed.parameters(), unbroken.parameters(), strict=True):
            assert torch.equal(one, other)
    os.environ.update(environment(rank, ports[1]))
    assert recursive.main([*COMMAND, "--out", str(path / "unbroken")]) == 0


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    path = tmp_path_factory.mktemp("checked")
    torch.multiprocessing.spawn(check, ((free_port(), free_port()), path), nprocs=2)
    return path


@pytest.mark.slow
def test_two_processes_see_what_one_sees(checked):
    folder = RunFolder(checked / "unbroken")
    assert len(folder.records()) == 4
    assert folder.config()["launch"] == {"processes": 2}


@pytest.mark.slow
def test_the_picks_are_those_of_one_process(checked):
    folder = RunFolder(checked / "unbroken")
    with np.load(folder.generation_dir("greedy", 1) / "samples.npz") as saved:
        features = saved["images"].reshape(32, -1).astype(np.float32)
    expected = select.pick(Config(n=16), "greedy", features, generation=2)
    with np.load(folder.generation_dir("greedy", 2) / "picks.npz") as saved:
        assert np.array_equal(saved["position"], expected)


def start(out):
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, "-m", "training.recursive", *COMMAND, "--out", str(out)],
            cwd=ROOT,
            env={**os.environ, **environment(rank, port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]


def finish(processes):
    """Status, output and errors of each."""
    try:
        told = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [(p.returncode, *texts) for p, texts in zip(processes, told, strict=True)]


@pytest.mark.slow
def test_a_run_of_two_goes_on_after_one_was_killed(tmp_path, checked):
    out = tmp_path / "run"
    processes = start(out)
    deadline = time.monotonic() + 120
    while not (out / "generations/greedy/02/checkpoint.safetensors").exists():
        assert processes[0].poll() is None, processes[0].stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    processes[1].kill()
    (status, _, errors), (killed, _, _) = finish(processes)
    assert killed == -signal.SIGKILL
    assert status == 1
    assert errors == (
        "error: another process of this run has ended. The same command goes on from here\n"
    )
    assert not (out / "generations/greedy/02/done.json").exists()

    (status, printed, errors), (other, nothing, other_errors) = finish(start(out))
    assert (status, errors, other, other_errors) == (0, "", 0, "")
    assert "report: " in printed
    assert nothing == ""
    assert results(RunFolder(out)) == results(RunFolder(checked / "unbroken"))


def test_a_run_of_two_is_not_gone_on_with_by_one(tmp_path, capsys):
    description = {"config": {"arms": ["none"], "generations": 1}, "data": {}, "versions": {}}
    folder = RunFolder(tmp_path / "run")
    with folder.opened({**description, "launch": {"processes": 2}}):
        pass
    with (
        pytest.raises(ValueError, match="launch processes is 2 there, 1 here"),
        folder.opened({**description, "launch": {"processes": 1}}),
    ):
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 3}, "--batch-size must be at least the number of processes, 4, got 3"),
        ({"device": "cuda:1"}, "--device must be auto, cpu or cuda with several processes"),
    ],
)
def test_options_that_do_not_suit_several_processes(monkeypatch, change, message):
    monkeypatch.setenv("WORLD_SIZE", "4")
    config = dataclasses.replace(TINY, **change)
    with pytest.raises(ConfigError, match=re.escape(message)), joined(config):
        pass


@pytest.mark.parametrize(
    ("device", "devices", "backend", "taken"),
    [
        ("auto", 0, "gloo", []),
        ("cpu", 4, "gloo", []),
        ("auto", 4, "cpu:gloo,cuda:nccl", [2]),
        ("cuda", 4, "cpu:gloo,cuda:nccl", [2]),
    ],
)
def test_nccl_links_gpus_and_gloo_the_rest(monkeypatch, device, devices, backend, taken):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    own, begun = [], []
    monkeypatch.setattr(torch.cuda, "set_device", own.append)
    monkeypatch.setattr(dist, "init_process_group", lambda name, timeout: begun.append(name))
    monkeypatch.setattr(dist, "get_rank", lambda: 2)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: begun.append("ended"))
    with joined(dataclasses.replace(TINY, device=device)) as processes:
        assert processes == Processes(2, 4)
    assert begun == [backend, "ended"]
    assert own == taken


def test_each_process_needs_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    message = "torch sees 2 devices, got a process number 2 on this machine"
    with (
        pytest.raises(ConfigError, match=message),
        joined(dataclasses.replace(TINY, device="auto")),
    ):
        pass


@pytest.mark.parametrize(("count", "size"), [(1, 1), (5, 2), (7, 3), (128, 8)])
def test_shares_are_even_and_complete(count, size):
    shares = [Processes(rank, size).share(count) for rank in range(size)]
    numbers = [i for one in shares for i in range(count)[one]]
    assert numbers == list(range(count))
    lengths = {one.stop - one.start for one in shares}
    assert max(lengths) - min(lengths) <= 1


def test_only_the_first_process_tells_what_all_meet(monkeypatch, capsys):
    for rank, expected in (("0", "error: --n must be"), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        assert recursive.main(["--n", "x"]) == 2
        assert capsys.readouterr().err.startswith(expected)
