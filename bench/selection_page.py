"""docs/selection.md and its plot, from the record of `python -m bench.selection`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.page import machine_section, table

SHARES = (50, 10)  # n_samples is N over this

COLUMNS = {
    "h1": "H_1, nats",
    "h5": "H_5, nats",
    "least": "least nearest distance",
    "mean": "mean nearest distance",
    "radius": "coverage radius",
}
COUNTS = (
    "rounds",
    "pairs in refreshes",
    "past the sketch",
    "pairs among active rows",
    "canonical distances",
)


def plot(record: dict[str, Any], path: Path) -> None:
    """A panel for each pool and column: the methods, one colour for each number of picks."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    pools = record["pools"]
    shown = {key: COLUMNS[key] for key in ("h1", "mean", "radius")}
    figure, rows = plt.subplots(
        len(pools), len(shown), figsize=(12, 3.2 * len(pools)), layout="constrained", squeeze=False
    )
    for pool, row in zip(pools, rows, strict=True):
        names = [entry["method"] for entry in pool["cases"][0]["methods"]][::-1]
        for axes, (key, label) in zip(row, shown.items(), strict=True):
            for case, colour in zip(pool["cases"], ("#4361a8", "#b5442e"), strict=True):
                values = {entry["method"]: entry[key] for entry in case["methods"]}
                axes.plot(
                    [values[name] for name in names],
                    range(len(names)),
                    "o",
                    color=colour,
                    label=f"{case['n_samples']:,} of {pool['n']:,}",
                )
            axes.set_yticks(range(len(names)), names if axes is row[0] else [""] * len(names))
            axes.grid(axis="y", color="#dddddd", linewidth=0.8)
            axes.set_axisbelow(True)
            axes.set_xlabel(label)
            axes.set_title(pool["name"], fontsize=10)
            axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def page(record: dict[str, Any], json_name: str, plot_name: str) -> str:
    """The whole page, as Markdown."""
    parts = [
        _head(record, json_name, plot_name),
        *(_pool(pool) for pool in record["pools"]),
        _cost(record["cost"], record["rounds"]),
        machine_section(record["machine"]),
    ]
    return "\n\n".join(parts) + "\n"


def _head(record: dict[str, Any], json_name: str, plot_name: str) -> str:
    trial = "\n\n**A trial of the command with tiny sizes: its figures mean nothing.**"
    return f"""# Which selection: what each buys{trial if record["trial"] else ""}

Made by `python -m bench.selection`; all figures of this page are from one run, and are in
[{json_name}]({json_name}).

- *random*: a uniform choice.
- *k-means medoids*: the points nearest to the centres of scikit-learn's mini-batch k-means; fewer,
  where two centres have the same.
- *threshold decay*: `threshold_decay_select`, its defaults.
- *greedy*: `greedy_select`, each pick the farthest point.
- *greedy entropy*: `greedy_select(objective="entropy")`, each pick the one that adds most to the
  Kozachenko-Leonenko sum of the selected set.
- *refined*: `refine` of the one before, until no exchange of two points raises the sum.

H_1 and H_5 are `kl_entropy` of the selection with k = 1 and 5. The nearest distance is that of a
selected point to its nearest selected other. The coverage radius is the largest distance of a point
of the pool to the selection, which greedy selection keeps within twice the least possible.

![Entropy, mean nearest distance and coverage radius by method]({plot_name})"""


def _pool(pool: dict[str, Any]) -> str:
    parts = [f"## {pool['name']}, {pool['n']:,} x {pool['dim']}"]
    for case in pool["cases"]:
        rows = [
            [
                entry["method"],
                f"{entry['picks']:,}",
                *(f"{entry[key]:.5g}" for key in COLUMNS),
                f"{entry['seconds']:.3g}",
            ]
            for entry in case["methods"]
        ]
        work = case["refinement"]
        parts.append(table(["", "picks", *COLUMNS.values(), "s"], rows))
        parts.append(
            f"The refinement made {work['swaps']:,} exchanges in {work['passes']} passes. It "
            f"computed the distances of {work['evaluated']:,} candidates to the members and\n"
            f"skipped {work['skipped']:,}. Its seconds include the selection that it began with."
        )
    return "\n\n".join(parts)


def _cost(cases: list[dict[str, Any]], rounds: int) -> str:
    rows = []
    for case in cases:
        seconds = case["seconds"]
        dense = case["n"] * case["n_samples"]
        for objective in ("maxmin", "entropy"):
            work = case["work"][objective]
            rows.append(
                [
                    f"{case['n_samples']:,} picks, {objective}",
                    f"{seconds[objective]:.3g}",
                    f"{seconds[objective] / seconds['maxmin']:.2f}",
                    f"{work['rounds']:,}",
                    f"{work['refresh_pairs'] / dense:.2f} N M",
                    f"{work['passed_pairs'] / dense:.3f} N M",
                    f"{work['pick_pairs'] / dense:.3f} N M",
                    f"{work['canonical_pairs']:,}",
                ]
            )
    first = cases[0]
    ratios = [case["seconds"]["entropy"] / case["seconds"]["maxmin"] for case in cases]
    canonical = [
        case["work"]["entropy"]["canonical_pairs"] / case["work"]["maxmin"]["canonical_pairs"]
        for case in cases
    ]
    return f"""## What greedy entropy costs

The same call with both objectives, on {first["name"]}, {first["n"]:,} x {first["dim"]}; medians of
{rounds} rounds. N M is the number of pairs that a plain loop looks at.

{table(["", "s", "of maxmin", *COUNTS], rows)}

A gain needs the distance of a candidate to every member in whose ball it lies, not to its nearest
alone: hence the canonical distances, {min(canonical):.1f} to {max(canonical):.1f} times as many,
most of them to members in the midst of the pool, in whose balls many points lie. More pairs pass a
sketch, too. Gains can rise, when a ball shrinks: hence the rounds. A candidate meets the picks of
its round when it leads, not before: hence the few pairs among active rows. The aim is at most four
times the seconds of maxmin; these are {min(ratios):.2f} and {max(ratios):.2f} times."""
