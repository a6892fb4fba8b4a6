"""docs/training.md says what the code does."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from training.arms import ARMS
from training.config import Config, flag
from training.glossary import METRICS
from training.parser import parse_config
from training.presets import PRESETS

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text()
COMMANDS = re.findall(r"^python -m training\.recursive (.*)$", TEXT, re.MULTILINE)


def option_rows() -> dict[str, list[str]]:
    """The rows of the tables of options, by group."""
    groups: dict[str, list[str]] = {}
    for option in dataclasses.fields(Config):
        kind, default = option.metadata["kind"], option.default
        if kind is None:
            shown = "off"
        elif default is None:
            shown = f"`{kind.expected.rpartition(' or ')[2]}`"
        elif default == ():
            shown = "none"
        else:
            shown = f"`{','.join(map(str, default)) if isinstance(default, tuple) else default}`"
        row = f"| `{flag(option.name)}` | {shown} | {option.metadata['help']} |"
        groups.setdefault(option.metadata["group"], []).append(row)
    return groups


@pytest.mark.parametrize("row", [row for rows in option_rows().values() for row in rows])
def test_every_option_is_there_with_its_default(row: str) -> None:
    assert f"\n{row}\n" in TEXT


def test_every_arm_preset_paradigm_and_metric_is_there() -> None:
    paradigms = ("replace", "accumulate", "accumulate-subsample", "fresh")
    for name in (*ARMS, *PRESETS, *paradigms):
        assert f"`{name}`" in TEXT
    for metric in METRICS.values():
        assert f"`{metric.name}" in TEXT


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    parse_config(shlex.split(command))


def test_commands_were_found() -> None:
    assert len(COMMANDS) >= 8
