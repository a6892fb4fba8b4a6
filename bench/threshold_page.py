"""docs/threshold.md and its plot, from the record of `python -m bench.threshold`."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from bench.page import machine_section, table

SHARES = (50, 5, 2)  # n_samples is N over this
STARTS = (1 / 16, 1 / 8, 1 / 4, 0.35, 0.5, 0.7, 1.0, 1.4)  # first thresholds, in units of "auto"
DECAYS = (0.8, 0.95, 0.99)  # that every start is tried with
ALL_DECAYS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 0.9999)  # that "auto" is tried with
DECAY = 0.95  # the default
PHASES = 8
MEDIAN = "the median distance of two points"


def phases() -> list[float]:
    """Starts from "auto" to its next multiple by the decay, in units of "auto"."""
    return [DECAY ** -(i / PHASES) for i in range(PHASES)]


def plot(record: dict[str, Any], path: Path) -> None:
    """Entropy and seconds against the first threshold: two rows of panels for each pool."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    colours = dict(zip(DECAYS, ("#b5442e", "#0b6e4f", "#4361a8"), strict=True))
    pools = record["ablation"]
    figure, rows = plt.subplots(
        2 * len(pools), len(SHARES), figsize=(12, 6 * len(pools)), sharex=True, layout="constrained"
    )
    panels = iter(rows.flat)
    for pool, what in itertools.product(pools, ("entropy", "seconds")):
        for case in pool["cases"]:
            axes = next(panels)
            for decay, colour in colours.items():
                values = [_at(case, start, decay)[what] for start in STARTS]
                axes.plot(
                    STARTS, values, color=colour, marker="o", markersize=4, label=f"decay {decay:g}"
                )
            axes.axhline(case["greedy"][what], color="#555555", linestyle="--", label="greedy")
            axes.axvline(case["median_start"], color="#aaaaaa", linewidth=1, label=MEDIAN)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator(STARTS))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.2g}"))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.tick_params(labelsize=8)
            axes.set_title(f"{pool['name']}: {case['n_samples']:,} of {pool['n']:,}", fontsize=9)
            axes.set_ylabel("entropy, nats" if what == "entropy" else what)
            axes.spines[["top", "right"]].set_visible(False)
            if what == "seconds":
                axes.set_ylim(0)
    for axes in rows[-1]:
        axes.set_xlabel('first threshold, in units of "auto"')
    legend = figure.axes[0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside lower center", ncols=5, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def page(record: dict[str, Any], json_name: str, plot_name: str) -> str:
    """The whole page, as Markdown."""
    parts = [
        _head(record, json_name, plot_name),
        *(part for pool in record["ablation"] for part in (_starts(pool), _decays(pool))),
        _speed(record["speed"]),
        machine_section(record["machine"]),
    ]
    return "\n\n".join(parts) + "\n"


def _head(record: dict[str, Any], json_name: str, plot_name: str) -> str:
    trial = "\n\n**A trial of the command with tiny sizes: its figures mean nothing.**"
    title = "# Threshold decay: where to begin, how to decay, how fast"
    return f"""{title}{trial if record["trial"] else ""}

Made by `python -m bench.threshold`; all figures of this page are from one run, and are in
[{json_name}]({json_name}). Entropy is `fastsel.kl_entropy` of the picks, H_1 in nats. Seconds
are medians of {record["rounds"]} rounds in which everyone takes a turn.

## The rule

With `threshold="auto"`, `fastsel.threshold_decay_select` begins at the distance of the point that
is farthest from what is selected before the first sweep. No point is ever farther from the selected
set, so that a higher threshold adds nothing but sweeps that accept nothing. At a lower one, the
first sweep takes every point beyond it in the order of the pool, whatever better ones come later.
The rule has no parameter and follows the scale of the features. It costs nothing: the selection
needs those distances anyway, and sweeps that can accept nothing are skipped.

## The first threshold

How low the threshold may begin depends on where it has to end, which nobody knows beforehand: the
fewer points are asked for, the higher. A rule that looks at the pool alone, such as the median
distance of two points, serves some numbers of picks and fails others.

![Entropy and seconds against the first threshold]({plot_name})"""


def _at(case: dict[str, Any], start: float, decay: float) -> dict[str, Any]:
    """The selection with that first threshold, in units of "auto", and that decay."""
    found: dict[str, Any] = next(
        s
        for s in case["selections"]
        if not s["auto"] and s["decay"] == decay and abs(s["start"] - start) < 1e-9
    )
    return found


def _starts(pool: dict[str, Any]) -> str:
    cases = pool["cases"]
    median = cases[0]["median_start"]
    rows = [
        [name, *(cell for case in cases for cell in _cells(_at(case, start, DECAY)))]
        for name, start in [(f"{s:.3g}", s) for s in STARTS] + [(f"{median:.3g}, {MEDIAN}", median)]
    ]
    autos = [_auto(case, DECAY) for case in cases]
    rows += [
        ["*last threshold from 1*", *(cell for s in autos for cell in (f"{s['last']:.3g}", ""))],
        ["*greedy selection*", *(cell for case in cases for cell in _cells(case["greedy"]))],
        ["*random choice*", *(c for x in cases for c in (f"{x['random']['entropy']:.2f}", ""))],
    ]
    spreads = [f"{_spread(case):.2f} ({case['n_samples']:,} picks)" for case in cases]
    return f"""### {pool["name"]}, {pool["n"]:,} x {pool["dim"]}

Decay {DECAY:g}; entropy and seconds.

{table(_header('first threshold, of "auto"', cases, ("", "s")), rows)}

All that a start above "auto" can change is where the thresholds lie between two multiples by the
decay. {PHASES} starts from "auto" to the next multiple differ in entropy by at most
{", ".join(spreads)}."""


def _spread(case: dict[str, Any]) -> float:
    """By how much the entropy differs between starts from "auto" to its next multiple."""
    entropies = [_at(case, start, DECAY)["entropy"] for start in phases()]
    return max(entropies) - min(entropies)


def _decays(pool: dict[str, Any]) -> str:
    rows = []
    for decay in ALL_DECAYS:
        row = [f"{decay:g}"]
        for case in pool["cases"]:
            s = _auto(case, decay)
            loss = case["greedy"]["entropy"] - s["entropy"]
            shared = f"{s['shared_with_greedy']:.0%}"
            row += [
                f"{round(loss, 2) + 0.0:.2f}",
                shared,
                f"{s['sweeps']:,}",
                f"{s['seconds']:.3f}",
            ]
        rows.append(row)
    header = _header("decay", pool["cases"], ("below greedy", "shared", "sweeps", "s"))
    return f"""#### The decay, from "auto"

How many nats below greedy selection, how many picks it shares with it, sweeps, seconds.

{table(header, rows)}"""


def _auto(case: dict[str, Any], decay: float) -> dict[str, Any]:
    found: dict[str, Any] = next(s for s in case["selections"] if s["auto"] and s["decay"] == decay)
    return found


def _cells(selection: dict[str, Any]) -> list[str]:
    return [f"{selection['entropy']:.2f}", f"{selection['seconds']:.3f}"]


def _header(first: str, cases: list[dict[str, Any]], columns: tuple[str, ...]) -> list[str]:
    """The number of picks goes into the first column of each case."""
    header = [first]
    for case in cases:
        header += [f"{case['n_samples']:,} picks {columns[0]}".strip(), *columns[1:]]
    return header


def _speed(cases: list[dict[str, Any]]) -> str:
    header = ["", "first threshold", "fastsel", "greedy_select", "ratio", "released loop", "ratio"]
    rows, notes = [], []
    for case in cases:
        for kind, entry in case["entries"].items():
            what = f"{case['n_samples']:,} picks, {kind}"
            seconds, greedy = entry["median_seconds"], case["greedy_median_seconds"]
            loop, work = entry["loop"], entry["work"]
            rows.append(
                [
                    what,
                    f"{entry['first_threshold']:.4g}",
                    f"{seconds:.3g} s",
                    f"{greedy:.3g} s",
                    f"{greedy / seconds:.2f}",
                    f"{loop['whole_seconds']:,.0f} s",
                    f"{loop['whole_seconds'] / seconds:,.0f}",
                ]
            )
            share = work["refresh_pairs"] / (case["n"] * case["n_samples"])
            notes.append(
                f"- {what}: the loop took {loop['seconds'][1]:.1f} s for its first "
                f"{loop['picks'][1]} picks and {loop['pairs'][1]:.2g} distances, of "
                f"{loop['whole_pairs']:.2g} in all. fastsel looked at {work['refresh_pairs']:.2g} "
                f"pairs, {share:.0%} of points times picks, and computed "
                f"{work['canonical_pairs']:.2g} exactly."
            )
    case = cases[0]
    few, more = case["entries"]["auto"]["loop"]["picks"]
    return f"""## Speed

{case["name"]}, {case["n"]:,} x {case["dim"]}, float32, decay {DECAY:g}. The fixed threshold is half
of the automatic one. The released loop compares each candidate with the accepted pool by a NumPy
norm and decays after every sweep. It is **extrapolated**: timed over its first {few} and {more}
picks, which are those of fastsel, and continued at the seconds per distance between them. How many
distances the whole run takes follows from the picks and the numbers of their sweeps.

{table(header, rows)}

{chr(10).join(notes)}"""
