"""Coarser affinities: pages that are used together much become one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32

from ._affinity import Affinity

__all__ = ["Coarse", "coarsen", "hierarchy"]

_ROUNDS = 5


class Coarse(NamedTuple):
    """A coarser affinity, and which of its pages each finer one has become."""

    affinity: Affinity
    size: Float64[np.ndarray, " coarse"]
    """How many pages of the finest affinity each stands for."""
    of_page: Int32[np.ndarray, " pages"]


def coarsen(affinity: Affinity, size: Float64[np.ndarray, " pages"], seed: int = 0) -> Coarse:
    """Match pages along heavy edges, light pages first; who stays alone joins the neighbour of the heaviest edge.

    Handshakes, all at once: each page holds out its hand to the neighbour with the largest weight over the product of
    both sizes, pages with pages that did so too are matched, and again (Karypis and Kumar, A fast and high quality
    multilevel scheme, SIAM J. Sci. Comput. 20, 1998, section 3.1, gives heavy-edge matching one page after the other).
    """
    count = affinity.num_pages
    rng = np.random.default_rng(seed)
    one, other = affinity.one.astype(np.int64), affinity.other.astype(np.int64)
    score = affinity.weight / (size[one] * size[other]) * (1 + 0.1 * rng.random(len(one)))
    ascending = np.argsort(score, kind="stable")
    ends = np.stack([one[ascending], other[ascending]], axis=1)
    giver, taker = ends.ravel(), ends[:, ::-1].ravel()
    partner = np.full(count, -1, np.int64)
    for _ in range(_ROUNDS):
        free = (partner[giver] < 0) & (partner[taker] < 0)
        giver_free, taker_free = giver[free], taker[free]
        if not len(giver_free):
            break
        wish = np.full(count, -1, np.int64)
        wish[giver_free] = taker_free  # the last one written is the best
        hands = np.flatnonzero(wish >= 0)
        met = hands[wish[wish[hands]] == hands]
        partner[met] = wish[met]
    leads = (partner < 0) | (np.arange(count) < partner)
    # Alone, all neighbours taken: to the best of them.
    best = np.full(count, -1, np.int64)
    best[giver] = taker
    joins = (partner < 0) & (best >= 0)
    joins &= (partner[best] >= 0) | (best < np.arange(count))
    leads &= ~joins
    number = np.cumsum(leads) - 1
    of_page = np.where(leads, number, -1)
    follows = (partner >= 0) & ~leads
    of_page[follows] = of_page[partner[follows]]
    late = np.flatnonzero(joins)
    target = best[late]
    while (unknown := of_page[target] < 0).any():  # a chain of those who join: up to its end
        target = np.where(unknown, best[target], target)
    of_page[late] = of_page[target]
    total = int(leads.sum())
    merged = Affinity(of_page[one], of_page[other], affinity.weight, num_pages=total)
    return Coarse(merged, np.bincount(of_page, size, minlength=total), of_page.astype(np.int32))


def hierarchy(affinity: Affinity, target: int, seed: int = 0) -> list[Coarse]:
    """Coarser and coarser, until there are no more than `target` pages or it gets no smaller."""
    found: list[Coarse] = []
    size = np.ones(affinity.num_pages)
    while affinity.num_pages > target:
        coarse = coarsen(affinity, size, seed + len(found))
        if coarse.affinity.num_pages > 0.9 * affinity.num_pages:
            break
        found.append(coarse)
        affinity, size = coarse.affinity, coarse.size
    return found
