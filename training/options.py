"""Kinds of option values: how each is read from text, checked, and described in an error."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class ConfigError(ValueError):
    """An option that cannot be used: the message names it, its value and what was expected."""


@dataclass(frozen=True)
class Kind:
    """A set of values.

    Attributes:
        expected: what a value must be, in words that follow "must be".
        parse: a value from its text; ValueError where the text is none.
        valid: whether a parsed value, or one given in Python, belongs.
    """

    expected: str
    parse: Callable[[str], Any]
    valid: Callable[[Any], bool]


def string(expected: str) -> Kind:
    """Any text but the empty one."""
    return Kind(expected, str, lambda v: isinstance(v, str) and v != "")


def whole(low: int, high: int | None = None) -> Kind:
    """A whole number from low, to high where that is given, both included."""

    def valid(value: Any) -> bool:
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        return value >= low and (high is None or value <= high)

    limits = f"of at least {low}" if high is None else f"from {low} to {high}"
    return Kind(f"a whole number {limits}", int, valid)


def between(low: float, high: float, *, from_low: bool = False) -> Kind:
    """A number between two others, the higher excluded, the lower if not ``from_low``; no NaN."""
    above = f"{'of at least' if from_low else 'greater than'} {low:g}"
    expected = f"a finite number {above}" if math.isinf(high) else f"a number {above}"
    expected += "" if math.isinf(high) else f" and less than {high:g}"

    def valid(value: Any) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return low < value < high or (from_low and value == low)

    return Kind(expected, float, valid)


def one_of(*choices: str | int) -> Kind:
    """One of a few values of one type."""
    return Kind("one of " + ", ".join(map(str, choices)), type(choices[0]), lambda v: v in choices)


def optional(word: str, kind: Kind) -> Kind:
    """The kind, or a word that stands for None."""
    return Kind(
        f"{kind.expected}, or {word}",
        lambda text: None if text == word else kind.parse(text),
        lambda v: v is None or kind.valid(v),
    )


def list_of(kind: Kind, *, distinct: bool = False) -> Kind:
    """One or more values with commas between; a tuple in Python."""

    def valid(value: Any) -> bool:
        if not isinstance(value, tuple) or not value or not all(map(kind.valid, value)):
            return False
        return not distinct or len(set(value)) == len(value)

    once = ", none of them twice" if distinct else ""
    return Kind(
        f"a comma-separated list, each {kind.expected}{once}",
        lambda text: tuple(kind.parse(part) for part in text.split(",")),
        valid,
    )
