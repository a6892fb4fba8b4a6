"""A command that runs out of time or disk stops cleanly, and the same one goes on."""

from __future__ import annotations

import signal

import pytest
import torch
from test_resume import results

from training import budget, recursive
from training import generation as phases
from training import train as training
from training.budget import Budget, BudgetSpent
from training.run import RunFolder, folder_bytes

COMMAND = [
    *("--limit", "30", "--n", "8", "--generations", "2", "--arms", "none,greedy"),
    *("--widths", "8,8", "--steps", "5", "--batch-size", "4", "--sampling-steps", "2"),
    *("--sampling-batch-size", "4", "--metrics-extractors", "pixel", "--metrics-real", "10"),
    *("--checkpoint-every", "2", "--device", "cpu"),
]


@pytest.fixture(scope="module", autouse=True)
def as_before():
    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken") / "run"
    assert recursive.main([*COMMAND, "--out", str(out)]) == 0
    return out


def test_the_time_is_over_when_it_is_over(tmp_path):
    Budget(tmp_path).check_time()
    Budget(tmp_path, hours=1).check_time()
    with pytest.raises(BudgetSpent, match=r"the time of --max-hours 0\.5 is over"):
        Budget(tmp_path, hours=0.5, started=budget.time.monotonic() - 1801).check_time()


def test_a_file_that_does_not_fit_is_not_written(tmp_path):
    (tmp_path / "there").write_bytes(bytes(900))
    limited = Budget(tmp_path, gigabytes=1e-6)
    limited.write(tmp_path / "new", bytes(100))
    with pytest.raises(BudgetSpent, match=r"1,000 bytes and new needs 1 more.*--max-disk 1e-06"):
        limited.write(tmp_path / "new", bytes(1))
    assert (tmp_path / "new").read_bytes() == bytes(100)


def test_time_that_ends_at_every_look_changes_nothing(tmp_path, monkeypatch, capsys, unbroken):
    monkeypatch.setattr(training, "_STEPS_PER_LOOK", 1)
    monkeypatch.setattr(phases, "_SECONDS_BETWEEN_PARTS", -1.0)
    left = 0

    def look(self):
        nonlocal left
        left -= 1
        if left < 0:
            raise BudgetSpent("over")

    monkeypatch.setattr(Budget, "check_time", look)
    out, stops = tmp_path / "run", 0
    # The look at the start of a generation passes, and one step or batch is done.
    for allowed in [0] + [1] * 99:
        left = allowed
        status = recursive.main([*COMMAND, "--out", str(out)])
        told = capsys.readouterr().err
        if status == 0:
            break
        stops += 1
        assert (status, told) == (75, "stopped: over. The same command goes on from here\n")
    # At each start, before each step but the first, after each batch but the last, of four and two.
    assert stops == 3 + 3 * 4 + 3 + 1 + 1
    assert results(RunFolder(out)) == results(RunFolder(unbroken))


def test_a_disk_budget_is_kept_to(tmp_path, capsys, unbroken):
    out, limit, stops = tmp_path / "run", 100_000, 0
    while status := recursive.main([*COMMAND, "--out", str(out), "--max-disk", f"{limit / 1e9}"]):
        assert status == 75
        told = capsys.readouterr().err
        assert told.startswith(f"stopped: {out} holds ")
        assert told.endswith("The same command goes on from here\n")
        assert told.count("\n") == 1
        assert folder_bytes(out) <= limit
        limit, stops = limit * 2, stops + 1
    assert stops > 1
    assert results(RunFolder(out)) == results(RunFolder(unbroken))


def test_a_command_without_time_does_nothing_but_begin(tmp_path, capsys):
    out = tmp_path / "run"
    assert recursive.main([*COMMAND, "--out", str(out), "--max-hours", "1e-9"]) == 75
    assert "--max-hours 1e-09 is over" in capsys.readouterr().err
    assert not (out / "generations").exists()


def test_seeds_run_into_folders_of_their_own_and_are_compared(tmp_path, capsys, unbroken):
    out = tmp_path / "runs"
    command = [*COMMAND, "--generations", "2", "--out", str(out)]
    assert recursive.main([*command, "--seeds", "0,1", "--max-hours", "1e-9"]) == 75
    assert recursive.main([*command, "--seeds", "0,1"]) == 0
    printed = capsys.readouterr().out
    assert "(2 seeds)" in printed
    assert printed.endswith(f"figures: {out / 'comparison'}\n")
    assert {p.name for p in out.iterdir()} == {"seed-0", "seed-1", "comparison"}
    assert (out / "comparison" / "entropy.png").is_file()
    assert results(RunFolder(out / "seed-0")) == results(RunFolder(unbroken))
    assert RunFolder(out / "seed-1").config()["config"]["seed"] == 1
    assert recursive.main([*command, "--seeds", "0,1,2"]) == 0
    assert "(3 seeds)" in capsys.readouterr().out


def test_a_dry_run_counts_the_seeds(capsys):
    assert recursive.main([*COMMAND, "--seeds", "0,1", "--dry-run"]) == 0
    assert "\nruns        2 of the above" in capsys.readouterr().out


def test_a_run_is_not_a_folder_of_seeds(capsys, unbroken):
    assert recursive.main([*COMMAND, "--out", str(unbroken), "--seeds", "0,1"]) == 2
    assert "holds a run" in capsys.readouterr().err
    assert not (unbroken / "seed-0").exists()
