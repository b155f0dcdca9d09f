"""Edges that say nothing beside a longer path: transitive reduction, in a semiring whose ⊕ is idempotent.

An edge p → c of weight w goes if along a path p → m → … → c, all of the same fold, the weights meet in a w′ with
w ⊕ w′ = w′. Then what c takes from m absorbs what it takes from p: m holds w₁ ⊗ x_p ⊕ more, and ⊗ distributes.

All such edges may go at once. Contents V solve the old program; they solve the new one, too: in c, the term of p is
absorbed by that of m, in V. If m → c goes as well, its term is absorbed by that of a page further down on a path from
m to c, and so on; levels rise, so this ends at an edge that stays (induction on the longest path from p to c; absorbing
is transitive, as ⊕ associates). That p → m may go, too, doesn't matter: by the same argument m holds the same without.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int

from ..graph._traverse import group
from ._program import Program

__all__ = ["redundant"]

# How much is looked at: pairs of edges for paths of two edges, and in each step along longer ones. What lies beyond
# stays, edges at the pages with most edges last.
_TWO, _MORE, _AT_ONCE = 1 << 26, 1 << 22, 1 << 21


def redundant(program: Program) -> tuple[Program, int]:
    """Drop edges that longer paths imply. Returns how many went."""
    classes = program.classes
    idempotent = np.array([*(algebra.idempotent for algebra in classes.algebras), False])
    level = program.levels(everything=False)
    doubtful = idempotent[classes.algebra[program.child_class]] & (level[program.child] > level[program.parent] + 1)
    gone = np.zeros(len(program.parent), np.bool_)
    _by_two(program, np.flatnonzero(doubtful), gone)
    further = level[program.child] > level[program.parent] + 2
    _by_more(program, np.flatnonzero(doubtful & further & ~gone), gone, level)
    return program.without(gone), int(gone.sum())


def _by_two(program: Program, doubtful: Int[np.ndarray, " n"], gone: Bool[np.ndarray, " edges"]) -> None:
    """Paths of two edges. Middle pages are listed at the end that has fewer, and looked up at the other one.

    So there are few even for pages with many edges: Chiba and Nishizeki, Arboricity and subgraph listing algorithms
    (SIAM J. Comput. 14, 1985).
    """
    start = program.start
    out_start, by_parent = group(program.parent, program.num_pages)
    key = program.child.astype(np.int64) * program.num_pages + program.parent  # ascending
    above, below = np.diff(start)[program.child[doubtful]], np.diff(out_start)[program.parent[doubtful]]
    for upwards, size in ((True, above), (False, below)):
        for edge in _portions(doubtful, np.where((above <= below) == upwards, size, 0), _TWO // 2):
            if upwards:
                owner, last = _listed(start, program.child[edge])
                middle = program.parent[last]
                first = _looked_up(key, middle, program.parent[edge[owner]], program.num_pages)
            else:
                owner, place = _listed(out_start, program.parent[edge])
                first = by_parent[place]
                last = _looked_up(key, program.child[edge[owner]], program.child[first], program.num_pages)
            found = np.flatnonzero((first >= 0) & (last >= 0))
            owner, first, last = edge[owner[found]], first[found], last[found]
            met = program.in_line(last, program.weight[last], first)
            gone[owner[met.ok & _absorbed(program, owner, met.weight)]] = True


def _by_more(
    program: Program, doubtful: Int[np.ndarray, " n"], gone: Bool[np.ndarray, " edges"], level: np.ndarray
) -> None:
    """Longer paths, upwards from the child, step by step: as long as there aren't too many."""
    start = program.start
    degree = np.diff(start).astype(np.int64)
    size = degree[program.child[doubtful]]
    chosen = np.concatenate([doubtful[:0], *_portions(doubtful, size, _MORE)])
    owner, last = _listed(start, program.child[chosen])
    edge, page, weight = chosen[owner], program.parent[last], program.weight[last]
    while True:
        open_ = (level[page] > level[program.parent[edge]]) & (program.class_of_page[page] >= 0) & ~gone[edge]
        edge, page, weight = _distinct(edge[open_], page[open_], weight[open_], program.num_pages)
        if not edge.size or degree[page].sum() > _MORE:
            return
        owner, first = _listed(start, page)
        edge = edge[owner]
        # What c makes of a page further up, when pages between are read through.
        met = program.in_line(edge, weight[owner], first)
        edge, page, weight = edge[met.ok], program.parent[first[met.ok]], met.weight[met.ok]
        there = np.flatnonzero(page == program.parent[edge])
        gone[edge[there[_absorbed(program, edge[there], weight[there])]]] = True


def _absorbed(program: Program, edge: np.ndarray, by: np.ndarray) -> Bool[np.ndarray, " n"]:
    """Where an edge says nothing beside a term of its parent that weighs so."""
    of = program.child_class[edge]
    found = ~program.classes.weighs[of]
    for number, algebra in enumerate(program.classes.algebras):
        some = np.flatnonzero((program.classes.algebra[of] == number) & ~found)
        if some.size:
            found[some] = algebra.absorbs(program.weight[edge[some]], by[some])
    return np.asarray(found)


def _portions(edges: np.ndarray, size: np.ndarray, limit: int) -> list[np.ndarray]:
    """Edges of some size, small ones first, up to a limit of all sizes together; so many at once as memory takes."""
    order = np.argsort(size, kind="stable")
    order = order[size[order] > 0]
    total = np.cumsum(size[order].astype(np.int64))
    order, total = order[total <= limit], total[total <= limit]
    return np.split(edges[order], np.flatnonzero(np.diff(total // _AT_ONCE)) + 1) if order.size else []


def _listed(start: np.ndarray, pages: np.ndarray) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """What lies between a page's start and the next one's: whose it is, and its number."""
    size = (start[pages + 1] - start[pages]).astype(np.int64)
    owner = np.repeat(np.arange(len(pages)), size)
    before = np.cumsum(size) - size
    return owner, start[pages][owner] + np.arange(len(owner)) - before[owner]


def _looked_up(key: np.ndarray, child: np.ndarray, parent: np.ndarray, pages: int) -> Int[np.ndarray, " n"]:
    """The first edge between two pages; −1: none."""
    wanted = child.astype(np.int64) * pages + parent
    at = np.searchsorted(key, wanted)
    at[at == len(key)] = 0
    return np.where(key[at] == wanted, at, -1)


def _distinct(
    edge: np.ndarray, page: np.ndarray, weight: np.ndarray, pages: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    key, bits = edge.astype(np.int64) * pages + page, weight.view(np.uint32)
    order = np.lexsort((bits, key))
    first = np.ones(len(order), np.bool_)
    first[1:] = (np.diff(key[order]) != 0) | (bits[order][1:] != bits[order][:-1])
    chosen = order[first]
    return edge[chosen], page[chosen], weight[chosen]
