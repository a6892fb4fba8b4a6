"""docs/benchmarks.md, from the record of a measurement."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from bench import ours, peers

Record = dict[str, Any]


def page(record: Record, json_name: str, plot_name: str) -> str:
    """The whole page, as Markdown."""
    parts = [
        _head(record, json_name),
        *(_data(entry) for entry in record["data"]),
        _products(record["products"]),
        _growth(record["growth"], plot_name),
        _aims(record),
        machine_section(record["machine"]),
    ]
    return "\n\n".join(parts) + "\n"


def estimate(peer: Record, m: int) -> float:
    """Seconds of a peer for m picks: its first pick, and m - 1 more at the measured rate."""
    return float(peer["first_pick_seconds"] + peer["pick_seconds"] * (m - 1))


def dense_seconds(entry: Record, m: int) -> float:
    """Seconds of a matrix product of all points and m centres at the best measured rate."""
    return float(2 * entry["n"] * m * entry["dim"] / (entry["sgemm_gflops"] * 1e9))


def best_loop(entry: Record) -> str | None:
    """The faster of the plain loops, by time a pick."""
    timed = [name for name in peers.BEST_LOOPS if "skipped" not in entry["peers"][name]]
    return min(timed, key=lambda p: float(entry["peers"][p]["pick_seconds"]), default=None)


def _head(record: Record, json_name: str) -> str:
    trial = "\n\n**A trial of the command with tiny sizes: its figures mean nothing.**"
    return f"""# Benchmarks{trial if record["trial"] else ""}

Made by `python -m bench.report`; all figures of this page are from one run, and are in
[{json_name}]({json_name}).

Every contender gets the same float32 features, starts at the same row and uses the same number of
threads. Contenders take turns, {record["rounds"]} rounds; seconds are medians. fastsel is timed
over whole runs of `fastsel.greedy_select`. A peer is timed over its first pick and over 100 or 300
further picks, and **extrapolated linearly** to the number of picks, since each pick of a plain loop
costs the same. Before that its picks are checked: each must be a farthest point in exact distances,
to within {record["tolerance"]:.1%} of the distance, which is left to float32 rounding. A peer that
fails is not timed."""


def _data(entry: Record) -> str:
    cases = entry["cases"]
    header = ["", *(cell for case in cases for cell in (f"{case['n_samples']:,} picks", "ratio"))]
    rows = [
        [
            f"**{ours.NAME}**",
            *(cell for case in cases for cell in (in_seconds(case["median_seconds"]), "1")),
            "",
            "exact",
        ],
        [
            "*dense product of the same size*",
            *_against(cases, lambda m: dense_seconds(entry, m)),
            "",
            "",
        ],
    ]
    notes = []
    for name, peer in entry["peers"].items():
        if "skipped" in peer:
            notes.append(f"- {name} is left out: {peer['skipped']}.")
            continue
        rows.append(
            [
                name,
                *_against(cases, partial(estimate, peer)),
                f"{1000 * peer['pick_seconds']:.3g}",
                _verdict(peer["verdict"]),
            ]
        )
        notes.append(f"- {name}: {peer['what']}; {peer['prefix']} picks timed.")
        if peer.get("tree_refusal"):
            notes.append(
                f"- fpsample's k-d tree variants refuse this width: `{peer['tree_refusal']}`."
            )
    return f"""## Greedy selection, {entry["name"]} {entry["n"]:,} x {entry["dim"]}

{table([*header, "ms a pick", "check"], rows)}

A ratio is the contender's time over ours. The dense product is 2 N M D operations at
{entry["sgemm_gflops"]:.0f} GFLOP/s, the best matrix product of the libraries in this run.

{chr(10).join(notes)}

{_work(entry)}"""


def _against(cases: list[Record], seconds_of: Callable[[int], float]) -> list[str]:
    """Cells of a contender: its seconds and its ratio to ours, case by case."""
    cells = []
    for case in cases:
        seconds = seconds_of(case["n_samples"])
        cells += [in_seconds(seconds), in_times(seconds / case["median_seconds"])]
    return cells


def _work(entry: Record) -> str:
    """Where our time goes: every count and phase of the record, whatever it holds."""
    keys = [key for key in entry["cases"][0]["work"] if key != "trials"]
    header = ["what was done", *(f"{case['n_samples']:,} picks" for case in entry["cases"])]
    rows = []
    for key in keys:
        cells = []
        for case in entry["cases"]:
            value = case["work"][key]
            share = value / (entry["n"] * case["n_samples"])
            cells.append(
                in_seconds(value)
                if key.endswith("_seconds")
                else f"{value:,} ({share:.2%} of N M)"
                if key.endswith("_pairs")
                else f"{value:,}"
            )
        rows.append([key.removesuffix("_seconds").replace("_", " "), *cells])
    rows.append(["sketch", *(_sketch(case["work"]["trials"]) for case in entry["cases"])])
    return table(header, rows)


def _sketch(trials: list[dict[str, float]]) -> str:
    """The sketch that a trial chose, and what it expected of it."""
    chosen = min(trials, key=lambda trial: trial["cycles"], default=None)
    if chosen is None:
        return "not tried"
    if chosen["depth"] == 0:
        return "none, by the trial"
    return f"of depth {chosen['depth']}; in the trial {chosen['passed']:.1%} passed"


def _products(products: Record) -> str:
    names = list(next(iter(products.values())))
    header = ["inner size", *(f"{name}, GFLOP/s" for name in names), "fastsel's share of the best"]
    rows = []
    for dim, rates in products.items():
        best = max(rate for name, rate in rates.items() if name != ours.NAME)
        share = f"{rates[ours.NAME] / best:.0%}" if ours.NAME in rates else "no native core"
        rows.append([dim, *(f"{rates[name]:.0f}" for name in names), share])
    return f"""## The product alone

The libraries' float32 products of 4096 x 8192 and the inner size, the best of several turns, beside
the filter of fastsel with its epilogue. That one is square, of as many operations to within a
thousandth, and its rate counts the operations of a plain product, whatever arithmetic it is done
in.

{table(header, rows)}"""


def _growth(growth: Record, plot_name: str) -> str:
    return f"""## Growth

Synthetic features, D = {growth["dim"]}: time against the number of points at
{growth["fixed_m"]:,} picks, and against the number of picks at {growth["fixed_n"]:,} points. Both
axes are logarithmic. fastsel is measured at every mark; the peers are extrapolated as above.

![Seconds against points and against picks]({plot_name})"""


def _aims(record: Record) -> str:
    rows = []
    for entry in record["data"]:
        where = f"{entry['name']} {entry['n']:,} x {entry['dim']}"
        tenth, half = entry["cases"]
        loop = best_loop(entry)
        checks: list[tuple[Record, str | None, float]] = [
            (half, peers.RELEASED_LOOP, 300),
            (half, loop, 30),
            (tenth, loop, 25),
        ]
        for case, name, aim in checks:
            if name is None or "skipped" in entry["peers"][name]:
                continue
            peer = entry["peers"][name]
            ratio = estimate(peer, case["n_samples"]) / case["median_seconds"]
            what = f"{case['n_samples']:,} picks against the {name}"
            rows.append([where, what, f"{aim:g}", in_times(ratio), met_or_missed(ratio >= aim)])
        for case in (tenth, half):
            ratio = dense_seconds(entry, case["n_samples"]) / case["median_seconds"]
            what = f"{case['n_samples']:,} picks against the dense product"
            rows.append([where, what, "1", in_times(ratio), met_or_missed(ratio >= 1)])
    for dim, rates in record["products"].items():
        if ours.NAME in rates:
            best = max(rate for name, rate in rates.items() if name != ours.NAME)
            share = rates[ours.NAME] / best
            what = "bare product, share of the best sgemm"
            rows.append([f"D = {dim}", what, "85%", f"{share:.0%}", met_or_missed(share >= 0.85)])
    header = ["features", "what", "aim, at least", "measured", "verdict"]
    return f"## Against the aims\n\n{table(header, rows, text_columns=2)}"


def machine_section(machine: Record) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    backends = "; ".join(f"{name}: {detail}" for name, detail in machine["backends"].items())
    return f"""## The machine

- {machine["processor"]}, {machine["cores"]} cores, {machine["memory_gb"]} GB, {machine["system"]}
- load average {machine["load_average"]} before and {machine.get("load_average_after", "?")} after
- Python {machine["python"]}, {versions}
- backends: {backends}
- BLAS: {"; ".join(machine["blas"])}"""


def table(header: list[str], rows: list[list[str]], text_columns: int = 1) -> str:
    """A Markdown table; columns after the first ones of text are aligned as numbers."""
    marks = ["---" if i < text_columns else "---:" for i in range(len(header))]
    line = "|" + "|".join(marks) + "|"
    return "\n".join([_row(header), line, *map(_row, rows)])


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def in_seconds(value: float) -> str:
    """Seconds in three digits."""
    return f"{value:,.0f} s" if value >= 100 else f"{value:.3g} s"


def in_times(value: float) -> str:
    """A ratio in three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _verdict(verdict: Record) -> str:
    if verdict["same"] == verdict["checked"]:
        return f"same {verdict['checked']} picks"
    return (
        f"first {verdict['same']} of {verdict['checked']} the same, "
        f"then within {verdict['shortfall']:.1g} of the farthest"
    )


def met_or_missed(met: bool) -> str:
    """What became of an aim."""
    return "met" if met else "**missed**"
