"""docs/neighbors.md and its plot, from the record of `python -m bench.neighbors`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.page import in_seconds, in_times, machine_section, met_or_missed, table
from bench.plots import draw_lines

COLOURS = {
    "fastsel": "#0b6e4f",
    "faiss": "#b5442e",
    "scikit-learn": "#4361a8",
    "torch": "#8f7fc2",
}

# At least so many times as fast, by the first words of the case's name.
AIMS = (
    ("self 1-NN", "faiss", 5.0),
    ("self 1-NN", "scikit-learn", 8.0),
    ("self, k = 10", "faiss", 3.0),
    ("other points, k = 10", "faiss", 1.5),
)


def plot(record: dict[str, Any], path: Path) -> None:
    """Two panels, seconds against N and against k; none where growth was not measured."""
    if "growth" not in record:
        return
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    growth = record["growth"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), sharey=True, layout="constrained")
    draw_lines(left, growth["n"], growth["against_n"], COLOURS)
    left.set_xlabel(f"points N (k = {growth['fixed_k']}, D = {growth['dim']})")
    left.set_ylabel("seconds")
    draw_lines(right, growth["k"], growth["against_k"], COLOURS)
    right.set_xlabel(f"neighbours k ({growth['fixed_n']:,} points, D = {growth['dim']})")
    figure.suptitle(
        "Neighbours of every point: fastsel over all (marks), peers from a part of them (dashes)",
        fontsize=11,
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


def page(record: dict[str, Any], json_name: str, plot_name: str) -> str:
    """The whole page, as Markdown."""
    parts = [
        _head(record, json_name),
        _aims(record),
        *(_pool(entry, record["cap"]) for entry in record["data"]),
        *([_growth(record["growth"], plot_name)] if "growth" in record else []),
        *([_accuracy(record["accuracy"])] if "accuracy" in record else []),
        machine_section(record["machine"]),
    ]
    return "\n\n".join(parts) + "\n"


def _head(record: dict[str, Any], json_name: str) -> str:
    trial = "\n\n**A trial of the command with tiny sizes: its figures mean nothing.**"
    sections = "" if record["all"] else f" --sections {' '.join(record['sections'])}"
    return f"""# Nearest neighbours{trial if record["trial"] else ""}

Made by `python -m bench.neighbors{sections}`; all figures of this page are from one run, and are in
[{json_name}]({json_name}).

Every contender gets the same float32 features and the same number of threads, and finds distances
and indices. Each runs in a process of its own: within one, libraries that bring an OpenMP or BLAS
of their own slow each other down, by half or double. Contenders take turns, {record["rounds"]}
rounds; seconds are medians. fastsel is timed over the whole call of `fastsel.knn`. A peer has
{record["cap"]:g} s for a run: where all queries would take longer, it is timed over as many as fit,
evenly spaced and at least as many as it takes together, and **extrapolated linearly** to all, since
each query costs it the same; the tables say over how many. Setting up its index counts once. For
the neighbours of the points themselves the peers are asked for one more, the point itself.

Results are checked first, on a sample of the queries against differences in float64. Ours must be
the same neighbours; a squared distance of a peer may be off by {record["tolerance"]:g} of
|x|^2 + |y|^2, which is left to float32. A peer that is off by more is not timed."""


def _pool(entry: dict[str, Any], cap: float) -> str:
    parts = [f"## {entry['name']}, {entry['n']:,} x {entry['dim']}"]
    for case in entry["cases"]:
        what = (
            f"{case['k']:,} nearest of each of {case['points']:,} points among the others"
            if case["alone"]
            else f"{case['k']:,} nearest of {case['queries']:,} queries among {case['points']:,} "
            "other points"
        )
        parts.append(f"### {case['name']}\n\n{what[0].upper()}{what[1:]}.\n\n{_case(entry, case)}")
    parts.append(
        "The dense product alone is 2 Q N D operations at "
        f"{entry['sgemm_gflops']:.0f} GFLOP/s, the best matrix product\nof the libraries in this "
        "run. Relative errors are the worst of the sample's distances."
    )
    return "\n\n".join(parts)


def _case(entry: dict[str, Any], case: dict[str, Any]) -> str:
    ours = case["median_seconds"]
    operations = 2 * case["queries"] * case["points"] * entry["dim"]
    product = operations / (entry["sgemm_gflops"] * 1e9)
    rows = [
        ["**fastsel**", in_seconds(ours), "1", "all", "exact"],
        ["*the dense product alone*", in_seconds(product), in_times(product / ours), "", ""],
    ]
    notes = []
    for name, peer in case["peers"].items():
        if "skipped" in peer:
            notes.append(f"- {name} is left out: {peer['skipped']}.")
            continue
        whole, timed = peer["whole_seconds"], peer["queries"]
        queries = (
            "all" if timed == case["queries"] else f"{timed:,} ({timed / case['queries']:.0%})"
        )
        error = f"{peer['worst_error']:.1g}"
        label = f"{name}, {peer['what']}"
        rows.append([label, in_seconds(whole), in_times(whole / ours), queries, error])
    header = ["", "seconds", "ratio", "queries timed", "relative error"]
    return "\n\n".join([table(header, rows), *(["\n".join(notes)] if notes else [])])


def _aims(record: dict[str, Any]) -> str:
    rows = []
    for entry in record["data"]:
        where = f"{entry['name']} {entry['n']:,} x {entry['dim']}"
        for case in entry["cases"]:
            for name, peer, aim in AIMS:
                found = case["peers"].get(peer, {})
                if case["name"] == name and "whole_seconds" in found:
                    ratio = found["whole_seconds"] / case["median_seconds"]
                    what = f"{name} against {peer}"
                    rows.append(
                        [where, what, f"{aim:g}", in_times(ratio), met_or_missed(ratio >= aim)]
                    )
    header = ["features", "what", "aim, at least", "measured", "verdict"]
    return f"## Against the aims\n\n{table(header, rows, text_columns=2)}"


def _growth(growth: dict[str, Any], plot_name: str) -> str:
    panels = []
    for label, xs, series in (
        (f"N, at k = {growth['fixed_k']}", growth["n"], growth["against_n"]),
        (f"k, at N = {growth['fixed_n']:,}", growth["k"], growth["against_k"]),
    ):
        rows = [
            [f"{x:,}", *(in_seconds(values[i]) for values in series.values())]
            for i, x in enumerate(xs)
        ]
        panels.append(table([label, *series], rows))
    return f"""## Growth

Neighbours of every point of synthetic features, D = {growth["dim"]}, seconds.

![Seconds against points and against neighbours]({plot_name})

{(chr(10) * 2).join(panels)}"""


def _accuracy(accuracy: dict[str, Any]) -> str:
    from bench.accuracy import section

    return f"""## Accuracy

The worst relative error of the distance to the k-th nearest other, over {accuracy["n"]:,} rows of
{accuracy["dim"]} float32 components, against differences in extended precision
(`python -m bench.accuracy` makes this table alone). Where that distance is 0 the table says what
came out at worst. One-ulp duplicates are rows twice, the second time with one component moved by
its last bit.

{section(accuracy)}

Who computes |x|^2 + |y|^2 - 2 x.y loses what the norms have in common with the distance: near
duplicates come out at noise, and so does everything that lies far from the origin. fastsel takes
differences in float64 for all that it returns; its error is the rounding of the sum."""
