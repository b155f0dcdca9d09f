"""Exchanging pages between blocks, so that less weight lies between different ones. The blocks keep their sizes.

In each round every page offers to go to each block in which it has neighbours, with what that would gain, and of each
block the page that is least at home offers to go wherever another comes from. Of two blocks, the best offers in both
directions are put together, one by one, and those exchanges are made, all at once, that gain and of which no two touch
(Kernighan and Lin, An efficient heuristic procedure for partitioning graphs, Bell System Technical Journal 49, 1970,
exchange one pair after the other). Gains are blurred at first, which leads out of dead ends; the best round is kept.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from ._affinity import Affinity

__all__ = ["exchange"]

_OF_ANY_USE = -2.5  # An offer that costs more than so many neighbours of mean weight finds no partner.
_BLUR = 1.0


class _Neighbours(NamedTuple):
    """Each pair twice, by page."""

    page: np.ndarray
    other: np.ndarray
    weight: np.ndarray


class _Offers(NamedTuple):
    page: np.ndarray
    to: np.ndarray
    gain: np.ndarray


def exchange(
    affinity: Affinity, part: Int64[np.ndarray, " pages"], rounds: int, seed: int
) -> Int64[np.ndarray, " pages"]:
    """The parts after so many rounds: as many pages in each as before, and at most as much weight between them."""
    if affinity.pairs == 0 or rounds == 0:
        return part
    rng = np.random.default_rng(seed)
    matrix = affinity.matrix()
    page = np.repeat(np.arange(affinity.num_pages), np.diff(matrix.indptr))
    near = _Neighbours(page, matrix.indices.astype(np.int64), matrix.data.astype(np.float64) / affinity.weight.mean())
    now = part.astype(np.int64)
    best, least = now, _between(affinity, now)
    for done in range(rounds):
        offers = _offers(near, now)
        blur = _BLUR * (1 - 2 * done / rounds)
        wish = offers.gain + 1e-3 * rng.random(len(offers.gain))
        if blur > 0:
            wish += blur * rng.standard_normal(len(wish))
        one, other = _matched(near, now, offers, wish)
        if blur <= 0 and len(one) == 0:
            break
        now = now.copy()
        now[one], now[other] = now[other], now[one]
        if (cost := _between(affinity, now)) < least:
            best, least = now, cost
    return best


def _between(affinity: Affinity, part: np.ndarray) -> float:
    return float(affinity.weight[part[affinity.one] != part[affinity.other]].sum(dtype=np.float64))


def _offers(near: _Neighbours, part: np.ndarray) -> _Offers:
    """What each page would gain by going to each block in which it has a neighbour."""
    blocks = int(part.max()) + 1
    key, place = np.unique(near.page * blocks + part[near.other], return_inverse=True)
    held = np.bincount(place, near.weight)
    page, block = key // blocks, key % blocks
    at_home = block == part[page]
    home = np.zeros(len(part))
    home[page[at_home]] = held[at_home]
    page, block, gain = page[~at_home], block[~at_home], held[~at_home]
    gain = gain - home[page]
    useful = gain > _OF_ANY_USE
    page, block, gain = page[useful], block[useful], gain[useful]
    # Who makes room: in each block the page that loses least by leaving, for every block from which one comes.
    least = np.lexsort([home, part])
    leaver = np.zeros(blocks, np.int64)
    leaver[part[least[::-1]]] = least[::-1]
    ways = np.unique(part[page] * blocks + block)
    makes_room, goes = leaver[ways % blocks], ways // blocks
    return _Offers(
        np.concatenate([page, makes_room]), np.concatenate([block, goes]), np.concatenate([gain, -home[makes_room]])
    )


def _matched(near: _Neighbours, part: np.ndarray, offers: _Offers, wish: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pages to be exchanged, pair by pair, none of which is a neighbour of one of another pair."""
    start, to = part[offers.page], offers.to
    pair = np.minimum(start, to) * (int(part.max()) + 1) + np.maximum(start, to)
    back = start > to
    order = np.lexsort([-wish, back, pair])
    group = pair[order] * 2 + back[order]
    first = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]])) if len(group) else np.zeros(0, np.int64)
    nth = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    key = pair[order] * (len(part) + 1) + nth
    there = ~back[order]
    _, i, j = np.intersect1d(key[there], key[~there], assume_unique=True, return_indices=True)
    one, other = order[there][i], order[~there][j]
    both = wish[one] + wish[other]
    by_gain = np.argsort(-both, kind="stable")
    by_gain = by_gain[both[by_gain] > 0]
    one, other = offers.page[one[by_gain]], offers.page[other[by_gain]]
    turn = np.arange(len(one))
    earliest = np.full(len(part), len(one))
    np.minimum.at(earliest, one, turn)
    np.minimum.at(earliest, other, turn)
    around = earliest.copy()
    np.minimum.at(around, near.page, earliest[near.other])
    kept = (around[one] >= turn) & (around[other] >= turn)
    return one[kept], other[kept]
