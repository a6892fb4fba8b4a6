"""The README's snippets run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from training.parser import parse_config
from training.presets import PRESETS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^\S*python -m training\.recursive (.*)$", README, re.MULTILINE)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_python_runs(snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("embeddings.npy", np.random.default_rng(0).normal(size=(300, 16)))
    exec(compile(snippet, "README.md", "exec"), {})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    parse_config(shlex.split(command))


def test_snippets_were_found() -> None:
    assert len(SNIPPETS) == 2
    assert len(COMMANDS) == 1


def test_the_run_folder_is_that_of_the_default() -> None:
    assert f"{parse_config([]).out} --figure docs/collapse.png" in README


def test_the_presets_exist() -> None:
    assert set(re.findall(r"paper-[\w-]+", README)) == {
        p for p in PRESETS if p.startswith("paper-")
    }
