from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import types

import pytest

from training import run
from training.run import DiskFullError, RunError, RunFolder, check_disk, write_atomic

DESCRIPTION = {
    "config": {"arms": ["none", "greedy"], "generations": 2, "n": 8, "batch_size": 4},
    "data": {"source": "digits", "digest": "abc"},
    "versions": {"torch": "1"},
}


def changed(**parts):
    return {part: {**DESCRIPTION[part], **parts.get(part, {})} for part in DESCRIPTION}


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "runs" / "one")


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "new" / "file"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch, code):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fill(descriptor):
        raise OSError(code, "no space")

    monkeypatch.setattr(os, "fsync", fill)
    with pytest.raises(DiskFullError, match="run the same command again") as caught:
        write_atomic(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")  # noqa: PTH110
def test_a_device_that_is_really_full_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(type(tmp_path), "with_name", lambda self, name: type(tmp_path)("/dev/full"))
    monkeypatch.setattr(type(tmp_path), "unlink", lambda self, missing_ok: None)
    with pytest.raises(DiskFullError, match="no space left to write 100,000 bytes"):
        write_atomic(tmp_path / "file", bytes(100_000))


def test_other_failures_pass_through_and_leave_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_run_starts_and_is_found_again(folder):
    with folder.opened(DESCRIPTION):
        assert folder.config() == DESCRIPTION
        assert folder.arms() == ["none", "greedy"]
        assert folder.records() == []
    with folder.opened(changed(versions={"torch": "2"})):
        assert folder.config() == DESCRIPTION


def test_records_are_ordered_and_share_the_first_generation(folder):
    with folder.opened(DESCRIPTION):
        folder.finish("greedy", 2, {"arm": "greedy", "generation": 2, "x": 2.0})
        folder.finish("none", 1, {"arm": "none", "generation": 1, "x": 1.0})
        assert [(r["generation"], r["arm"], r["x"]) for r in folder.records()] == [
            (1, "none", 1.0),
            (1, "greedy", 1.0),
            (2, "greedy", 2.0),
        ]
        assert folder.is_done("greedy", 1)
        assert not folder.is_done("none", 2)
    assert (folder.path / "generations" / "shared" / "01" / "done.json").exists()


def test_a_kill_between_a_generation_and_its_line_is_made_good(folder):
    with folder.opened(DESCRIPTION):
        folder.finish("none", 1, {"arm": "none", "generation": 1})
    (folder.path / "metrics.jsonl").unlink()
    with folder.opened(DESCRIPTION):
        assert len(folder.records()) == 2


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"arm": "none", "gen', "is not the JSON of a run"),
        (b"\xff\xfe", "is not the JSON of a run"),
        (b"[1]", "must hold a JSON object, got list"),
        (b'{"arm": "none"}', "must have an arm and a generation"),
    ],
)
def test_a_damaged_line_of_metrics_is_named(folder, line, problem):
    with folder.opened(DESCRIPTION):
        folder.finish("none", 1, {"arm": "none", "generation": 1})
    path = folder.path / "metrics.jsonl"
    first, second = path.read_bytes().splitlines()
    path.write_bytes(first + b"\n" + line + b"\n")
    with pytest.raises(RunError, match=rf"metrics\.jsonl, line 2, {problem}"):
        folder.records()
    with folder.opened(DESCRIPTION):  # the lines come from the generations' own files
        assert path.read_bytes().splitlines() == [first, second]


def test_leftovers_of_a_kill_are_removed(folder):
    with folder.opened(DESCRIPTION):
        pass
    leftover = folder.path / "generations" / ".model.safetensors.1.tmp"
    leftover.parent.mkdir()
    leftover.write_bytes(b"part")
    with folder.opened(DESCRIPTION):
        assert not leftover.exists()


def test_a_kill_before_the_configuration_was_written_is_a_new_run(folder):
    folder.path.mkdir(parents=True)
    (folder.path / ".lock").write_text("12345")
    with folder.opened(DESCRIPTION):
        assert folder.config() == DESCRIPTION


def test_another_configuration_is_refused_with_every_difference(folder):
    with folder.opened(DESCRIPTION):
        pass
    other = changed(config={"n": 9, "batch_size": 5}, data={"digest": "def"})
    with pytest.raises(RunError) as caught, folder.opened(other):
        pass
    message = str(caught.value)
    assert str(folder.path) in message
    assert "--n is 8 there, 9 here" in message
    assert "--batch-size is 4 there, 5 here" in message
    assert "data digest is abc there, def here" in message
    assert "--arms" not in message
    assert folder.config() == DESCRIPTION


def test_a_folder_of_other_files_is_left_alone(folder):
    folder.path.mkdir(parents=True)
    (folder.path / "thesis.tex").write_text("")
    with pytest.raises(RunError, match="holds other files"), folder.opened(DESCRIPTION):
        pass
    assert [p.name for p in folder.path.iterdir()] == ["thesis.tex"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunError, match="must be a folder"),
        RunFolder(tmp_path / "file").opened(DESCRIPTION),
    ):
        pass


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_damaged_configuration_is_named(folder, content):
    folder.path.mkdir(parents=True)
    (folder.path / "config.json").write_text(content)
    with pytest.raises(RunError, match=r"config\.json"), folder.opened(DESCRIPTION):
        pass


def test_two_processes_cannot_write_and_a_dead_ones_lock_is_taken_over(folder):
    code = (
        "import fcntl, os, sys, time\n"
        "f = open(sys.argv[1], 'a+'); fcntl.flock(f, fcntl.LOCK_EX)\n"
        "f.truncate(0); f.write(str(os.getpid())); f.flush()\n"
        "print('held', flush=True); time.sleep(60)\n"
    )
    folder.path.mkdir(parents=True)
    lock = folder.path / ".lock"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(RunError, match=f"is being written by process {other.pid}"),
            folder.opened(DESCRIPTION),
        ):
            pass
        other.kill()
    with folder.opened(DESCRIPTION):
        assert lock.read_text() == str(os.getpid())


def test_the_lock_is_dropped_at_the_end(folder):
    with pytest.raises(ZeroDivisionError), folder.opened(DESCRIPTION):
        raise ZeroDivisionError
    with (folder.path / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_disk_too_small_is_refused_before_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1000))
    path = tmp_path / "not" / "yet"
    check_disk(path, 1000)
    with pytest.raises(DiskFullError, match="needs about 1,001 bytes more and 1,000 are") as caught:
        check_disk(path, 1001)
    assert caught.value.filename == str(path)
    path.mkdir(parents=True)
    (path / "model").write_bytes(bytes(500))
    check_disk(path, 1500)


def test_records_are_json_lines(folder):
    with folder.opened(DESCRIPTION):
        folder.finish("none", 1, {"arm": "none", "generation": 1, "x": 0.1 + 0.2})
    lines = (folder.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["x"] for line in lines] == [0.1 + 0.2] * 2
    assert run.SHARED == "shared"
