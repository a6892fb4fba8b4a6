"""The command line: from arguments to a :class:`training.config.Config`, and back to text."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.config import Config, flag, shown
from training.options import ConfigError, Kind
from training.presets import PRESETS, released


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise ConfigError(message)


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m training.recursive",
        usage="%(prog)s [--preset NAME] [--option VALUE ...]",
        description="Train diffusion models on the images of their predecessors, with and without"
        " selecting the training set for entropy, and report how they collapse.",
        allow_abbrev=False,
    )
    parser.add_argument("--preset", default="digits", help="one of " + ", ".join(PRESETS))
    parser.add_argument(
        "--as-released",
        action="store_true",
        help="with a preset of the paper: where the released code differs from the paper, do as the"
        " code does",
    )
    groups: dict[str, Any] = {}
    for option in dataclasses.fields(Config):
        kind: Kind | None = option.metadata["kind"]
        title = option.metadata["group"]
        group = groups.setdefault(title, parser.add_argument_group(title))
        if kind is None:
            group.add_argument(
                flag(option.name), action="store_true", default=None, help=option.metadata["help"]
            )
            continue
        default = option.default
        if default is None:
            default = kind.expected.rpartition(" or ")[2]
        text = f"{option.metadata['help']} (default: {shown(default)})"
        group.add_argument(flag(option.name), metavar="VALUE", help=text)
    return parser


def command_line(config: Config) -> str:
    """Every option of a config as it would be written on the command line, one a line."""
    lines = []
    for option in dataclasses.fields(config):
        value = getattr(config, option.name)
        kind: Kind | None = option.metadata["kind"]
        if kind is None:
            lines += [flag(option.name)] if value else []
        else:
            # None is written as the word that stands for it.
            text = kind.expected.rpartition(" or ")[2] if value is None else shown(value)
            lines.append(f"{flag(option.name)} {text}" if value != () else "")
    return "\n".join(filter(None, lines))


def parse_config(argv: Sequence[str] | None = None) -> Config:
    """Config from command-line arguments; the run folder is filled in where it was not given.

    Raises:
        ConfigError: for an unknown option or preset, or a value that does not fit.
    """
    given = {k: v for k, v in vars(_build_parser().parse_args(argv)).items() if v is not None}
    preset, as_released = given.pop("preset"), given.pop("as_released")
    if preset not in PRESETS:
        raise ConfigError(f"--preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    kinds = {f.name: f.metadata["kind"] for f in dataclasses.fields(Config)}
    values: dict[str, Any] = dict(PRESETS[preset])
    for name, text in given.items():
        kind = kinds[name]
        try:
            values[name] = text if kind is None else kind.parse(text)
        except ValueError:
            message = f"{flag(name)} must be {kind.expected}, got {text!r}"
            raise ConfigError(message) from None
    if as_released:
        paradigm = values.get("paradigm", Config.paradigm)
        extractor = values.get("extractor", Config.extractor)
        values |= {
            name: value
            for name, value in released(preset, paradigm, extractor).items()
            if name not in given
        }
    # A preset's choice of model gives way to the user's; only two choices of the user conflict.
    if "unet" in given and "widths" not in given:
        values["widths"] = None
    if "widths" in given and "unet" not in given:
        values["unet"] = None
    config = Config(**values)
    if config.out is not None:
        return config
    name = preset if "data" not in given else Path(config.data).stem
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "data"
    digest = hashlib.sha256(json.dumps(config.identity(), sort_keys=True).encode()).hexdigest()
    suffix = "" if config.seeds is None else "-seeds"
    return dataclasses.replace(config, out=f"runs/{name}-{digest[:8]}{suffix}")
