"""How wrong is a distance? Ours and the peers' on data that make cancellation visible.

Whoever computes |x|^2 + |y|^2 - 2 x.y subtracts numbers that are larger than the distance. The data
here make them much larger. The reference takes differences first, in the longest float that the
processor has, and adds up their squares in it.

    python -m bench.accuracy    # the table of docs/neighbors.md, which bench.neighbors makes too
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import fastsel
from bench.data import Features, clustered
from bench.knn_peers import PEERS, Search
from bench.page import table

N, DIM = 2_000, 96
KS = (1, 10)


def data(n: int = N, dim: int = DIM) -> dict[str, Features]:
    """Feature matrices float32 [n, dim], by what is special about them."""
    features = clustered(n, dim)
    half = features[: n // 2]
    nudged = half.copy()
    nudged[:, 0] = np.nextafter(nudged[:, 0], np.float32(np.inf))
    decades = np.logspace(-4, 4, n)[np.random.default_rng(0).permutation(n)]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return {
        "one-ulp duplicates": np.concatenate([half, nudged]),
        "exact duplicates": np.concatenate([half, half]),
        "translated by 1e4": features + np.float32(1e4),
        "norms over eight decades": (unit * decades[:, None]).astype(np.float32),
    }


def reference(features: Features, ks: tuple[int, ...] = KS) -> npt.NDArray[np.longdouble]:
    """Distance of every row to its k-th nearest other, [N, len(ks)]."""
    wide = features.astype(np.longdouble)
    result = np.empty((len(wide), len(ks)), np.longdouble)
    for i, row in enumerate(wide):
        sq_dist = np.square(np.delete(wide, i, axis=0) - row).sum(axis=1)
        result[i] = np.sqrt(np.sort(sq_dist)[np.array(ks) - 1])
    return result


def worst(found: npt.NDArray[Any], truth: npt.NDArray[np.longdouble]) -> float:
    """The largest relative error; inf where a distance of 0 comes out as another."""
    error = np.abs(found - truth)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(error == 0, 0, error / truth)
    return float(relative.max())


def kth_distances(search: Search | None, features: Features) -> npt.NDArray[Any]:
    """Of a peer's search, or of ours for None, [N, len(KS)]."""
    if search is None:
        distances = fastsel.knn(features, features, max(KS), exclude_self=True)[0]
        return np.asarray(distances[:, np.array(KS) - 1])
    # The peers count the row itself, as the nearest.
    return search(features, max(KS) + 1)[:, list(KS)]


def measure() -> dict[str, Any]:
    """Worst relative error of the k-th distance, by data, contender and k."""
    usable = [peer for peer in PEERS if peer.missing() is None]
    cases = []
    for name, features in data().items():
        truth = reference(features)
        found = {"fastsel": kth_distances(None, features)}
        for peer in usable:
            found[peer.name] = kth_distances(peer.prepare(features), features)
        cases.append(
            {
                "data": name,
                # JSON has no infinity.
                "errors": {
                    who: [
                        None if np.isinf(error) else error
                        for error in (worst(distances[:, j], truth[:, j]) for j in range(len(KS)))
                    ]
                    for who, distances in found.items()
                },
                # What a distance of 0 comes out as at worst; None where no distance is 0.
                "zeros": {
                    who: float(distances[:, 0][truth[:, 0] == 0].max())
                    for who, distances in found.items()
                }
                if (truth[:, 0] == 0).any()
                else None,
            }
        )
    return {"n": N, "dim": DIM, "ks": KS, "cases": cases}


def section(record: dict[str, Any]) -> str:
    """The table, as Markdown."""
    who = list(record["cases"][0]["errors"])
    rows = []
    for case in record["cases"]:
        for j, k in enumerate(record["ks"]):
            cells = []
            for name in who:
                error = case["errors"][name][j]
                if error is not None:
                    cells.append("0" if error == 0 else f"{error:.1g}")
                else:
                    cells.append(f"{case['zeros'][name]:.1g} for 0")
            rows.append([case["data"], str(k), *cells])
    return table(["features", "k", *who], rows)


def main() -> None:
    """Print the table."""
    print(section(measure()))


if __name__ == "__main__":
    main()
