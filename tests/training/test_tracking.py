from __future__ import annotations

import contextlib
import importlib.util
import sys
import types

import pytest

from training import recursive
from training.config import Config, ConfigError
from training.run import RunFolder
from training.tracking import check_tracker, tracked

ARMS = ["none", "greedy"]


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with folder.opened({"config": {"arms": ARMS, "generations": 3}, "data": {}}):
        yield folder


def finish(folder, arm, generation):
    value = generation + 0.25 * ARMS.index(arm)
    others = {"generalization_quantiles/pixel": [0.0, 1.0], "by_class": {"share_train": [1.0]}}
    folder.finish(arm, generation, {"arm": arm, "generation": generation, "fid": value, **others})


def follow(config, folder, places):
    """A command that finishes some generations, and ends however it ends."""
    with contextlib.suppress(KeyboardInterrupt), tracked(config, folder) as update:
        for place in places:
            finish(folder, *place)
            update()
        raise KeyboardInterrupt


COMMANDS = (
    [("none", 1), ("none", 2)],
    [],
    [("greedy", 2), ("none", 3)],
    [("greedy", 3)],
)


@pytest.mark.parametrize("killed_before_sending", [False, True])
def test_tensorboard_has_each_line_once(folder, killed_before_sending):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for places in COMMANDS:
        if killed_before_sending and places:
            finish(folder, *places[0])
        follow(Config(track="tensorboard"), folder, places[killed_before_sending:])
    follow(Config(track="tensorboard"), folder, [])
    for arm in ARMS:
        events = reader.EventAccumulator(str(folder.path / "tensorboard" / arm))
        events.Reload()
        assert events.Tags()["scalars"] == ["fid"]
        found = [(event.step, event.value) for event in events.Scalars("fid")]
        records = [r for r in folder.records() if r["arm"] == arm]
        assert found == [(r["generation"], r["fid"]) for r in records]
        assert len(found) == 3


@pytest.fixture
def service(monkeypatch):
    """A stand-in for wandb: what its runs hold, by their id."""
    held = {}

    class Run:
        def __init__(self, id):
            self.lines = held.setdefault(id, [])
            self.step = len(self.lines)
            self.finished = False

        def define_metric(self, name, step_metric):
            assert (name, step_metric) == ("*", "generation")

        def log(self, values, step):
            assert step == len(self.lines)
            self.lines.append(values)

        def finish(self):
            self.finished = True

    def init(*, project, name, id, resume, dir, config):
        assert (project, name, resume) == ("fastsel", "run", "allow")
        assert config["n"] == 256
        return Run(id)

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    return held


def test_wandb_has_each_line_once(folder, service):
    for places in COMMANDS:
        follow(Config(track="wandb"), folder, places)
    assert list(service.values()) == [
        [{"generation": r["generation"], f"{r['arm']}/fid": r["fid"]} for r in folder.records()]
    ]
    assert len(folder.records()) == 6


def test_nothing_is_sent_unless_asked_for(folder):
    before = sorted(folder.path.rglob("*"))
    with tracked(Config(), folder) as update:
        update()
    assert sorted(folder.path.rglob("*")) == before


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_told_before_any_work(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=f"pip install {name}"):
        check_tracker(Config(track=name))
    out = tmp_path / "run"
    assert recursive.main(["--track", name, "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith(f"error: --track {name} needs its package")
    assert not out.exists()
