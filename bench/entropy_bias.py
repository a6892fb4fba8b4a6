"""The error of `fastsel.kl_entropy` on distributions whose entropy is known: a Markdown table.

Usage: python -m bench.entropy_bias
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import fastsel

Doubles = npt.NDArray[np.float64]

DEGREES = 5  # of freedom of Student's t

SIZES = (1_000, 4_000)
DIMENSIONS = (1, 2, 8, 32, 128)
KS = (1, 4)
SEEDS = range(10)


class Family(NamedTuple):
    """A distribution on R^d: what it is, n draws of it, its differential entropy in nats."""

    what: str
    draw: Callable[[np.random.Generator, int, int], Doubles]
    entropy: Callable[[int], float]


def _draw_student(rng: np.random.Generator, n: int, d: int) -> Doubles:
    spread = np.sqrt(DEGREES / rng.chisquare(DEGREES, size=(n, 1)))
    return np.asarray(rng.standard_normal((n, d)) * spread)


def _digamma(x: float) -> float:
    """psi(x), x > 0: the recurrence up to 10, then the asymptotic series, to 1e-12."""
    shift = 0.0
    while x < 10:
        shift -= 1 / x
        x += 1
    inverse = 1 / (x * x)
    series = inverse * (1 / 12 - inverse * (1 / 120 - inverse * (1 / 252 - inverse / 240)))
    return shift + math.log(x) - 0.5 / x - series


def _student_entropy(d: int) -> float:
    # Of the multivariate t with unit scale matrix.
    half, whole = DEGREES / 2, (DEGREES + d) / 2
    log_normaliser = math.lgamma(half) - math.lgamma(whole) + d / 2 * math.log(DEGREES * math.pi)
    return log_normaliser + whole * (_digamma(whole) - _digamma(half))


FAMILIES = {
    "Gaussian": Family(
        "unit covariance",
        lambda rng, n, d: rng.standard_normal((n, d)),
        lambda d: d / 2 * math.log(2 * math.pi * math.e),
    ),
    "uniform": Family("on the unit cube", lambda rng, n, d: rng.random((n, d)), lambda d: 0.0),
    "Student-t": Family(
        f"multivariate, {DEGREES} degrees of freedom, unit scale", _draw_student, _student_entropy
    ),
}


def errors(family: str, n: int, d: int, ks: Sequence[int], seeds: Iterable[int]) -> Doubles:
    """Estimate minus truth in nats, [seeds, ks]."""
    draw, entropy = FAMILIES[family].draw, FAMILIES[family].entropy(d)
    return np.array(
        [fastsel.kl_entropy(draw(np.random.default_rng(s), n, d), ks) - entropy for s in seeds]
    )


def main() -> None:
    """Print the table."""
    print("| distribution | N | D |" + "".join(f" k = {k} |" for k in KS))
    print("|---|---:|---:|" + "---:|" * len(KS))
    for family in FAMILIES:
        for n in SIZES:
            for d in DIMENSIONS:
                columns = errors(family, n, d, KS, SEEDS).T
                cells = [f"{c.mean():+.2f} ± {statistics.stdev(c):.2f}" for c in columns]
                print(f"| {family} | {n:,} | {d} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
