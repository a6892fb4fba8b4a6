"""Greedy selection and threshold decay as plain loops: what fastsel has to beat, and agree with.

Every function starts at row 0 and returns the picks, int64 [m], in order.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.data import Features

Picks = npt.NDArray[np.int64]


def released_loop(features: Features, m: int) -> Picks:
    """The greedy loop that came with the paper, written anew from its description.

    At every pick torch.cdist from all points to the newest centre, a minimum, an argmax.
    """
    import torch

    points = torch.from_numpy(features)
    nearest = torch.full((len(points),), torch.inf)
    picks = [0]
    while len(picks) < m:
        distances = torch.cdist(points, points[picks[-1]][None])[:, 0]
        nearest = torch.minimum(nearest, distances)
        picks.append(int(torch.argmax(nearest)))
    return np.array(picks)


def best_loop_numpy(features: Features, m: int) -> Picks:
    """The best plain loop that we could write, in NumPy: one matrix-vector product a pick.

    Norms are computed once, nothing is allocated inside the loop, and what is constant in the
    comparison is left out of it: `low` is the least of |c|^2 - 2 x.c, the squared distance less
    |x|^2.
    """
    sq_norms = np.einsum("ij,ij->i", features, features)
    low = np.full(len(features), np.inf, np.float32)
    work = np.empty_like(low)
    picks = [0]
    while len(picks) < m:
        newest = picks[-1]
        np.dot(features, features[newest] * np.float32(-2), out=work)
        work += sq_norms[newest]
        np.minimum(low, work, out=low)
        low[newest] = -np.inf
        np.add(low, sq_norms, out=work)
        picks.append(int(np.argmax(work)))
    return np.array(picks)


def best_loop_columns(features: Features, m: int) -> Picks:
    """The same loop over a copy of the features that lies column by column.

    It doubles the memory, but the product then streams it faster: OpenBLAS adds up scaled columns
    instead of an inner product for every row.
    """
    return best_loop_numpy(np.asfortranarray(features), m)


def best_loop_torch(features: Features, m: int) -> Picks:
    """The same loop in torch, whose element-wise operations are threaded."""
    import torch

    points = torch.from_numpy(features)
    sq_norms = torch.einsum("ij,ij->i", points, points)
    low = torch.full((len(points),), torch.inf)
    work = torch.empty_like(low)
    picks = [0]
    while len(picks) < m:
        newest = picks[-1]
        torch.mv(points, points[newest] * -2, out=work)
        work += sq_norms[newest]
        torch.minimum(low, work, out=low)
        low[newest] = -torch.inf
        torch.add(low, sq_norms, out=work)
        picks.append(int(torch.argmax(work)))
    return np.array(picks)


def threshold_decay_loop(features: Features, m: int, threshold: float, decay: float) -> Picks:
    """The Threshold Decay Filter that came with the paper, written anew from its description.

    Candidate by candidate, a NumPy norm of its differences from the accepted pool; the threshold
    decays after every sweep. In the features' own type, and without the growing list of the
    original, which would be copied for every candidate.
    """
    accepted = np.empty((m, features.shape[1]), features.dtype)
    accepted[0] = features[0]
    picks = [0]
    free = np.ones(len(features), bool)
    free[0] = False
    while len(picks) < m:
        for candidate in np.flatnonzero(free):
            distances = np.linalg.norm(accepted[: len(picks)] - features[candidate], axis=1)
            if distances.min() > threshold:
                accepted[len(picks)] = features[candidate]
                picks.append(int(candidate))
                free[candidate] = False
                if len(picks) == m:
                    break
        threshold *= decay
    return np.array(picks)


def threshold_decay_loop_pairs(n: int, picks: Picks, sweeps: npt.NDArray[np.int64]) -> int:
    """Distances that this loop computes for those picks; `sweeps` numbers that of each.

    A sweep compares every point not accepted before it with what is accepted by then; the last one
    ends at the last pick.
    """
    free = np.ones(n, bool)
    pairs = before = 0
    for sweep in range(int(sweeps[-1]) + 1):
        accepted = picks[sweeps == sweep]
        if sweep > 0:
            last = accepted[-1] if sweep == sweeps[-1] else n - 1
            candidates = np.flatnonzero(free[: last + 1])
            pairs += int(np.sum(before + np.searchsorted(accepted, candidates)))
        free[accepted] = False
        before += len(accepted)
    return pairs


def greedy_entropy_loop(features: Features, m: int) -> Picks:
    """Greedy selection by entropy from its definition: every gain anew at every pick, in float64.

    The distances to the picks are kept, 8 N M bytes. Quadratic in m.
    """
    points = features.astype(np.float64)
    logs = np.empty((m, len(points)))  # of each pick's distances to all points
    picks = [0]
    while True:
        with np.errstate(divide="ignore"):
            logs[len(picks) - 1] = np.log(np.linalg.norm(points - points[picks[-1]], axis=1))
        if len(picks) == m:
            return np.array(picks)
        known = logs[: len(picks)]
        gains = known.min(axis=0)
        if len(picks) > 1:
            among = known[:, picks].copy()
            np.fill_diagonal(among, np.inf)
            gains += np.minimum(known - among.min(axis=1)[:, None], 0).sum(axis=0)
        gains[picks] = -np.inf
        picks.append(int(np.argmax(gains)))
