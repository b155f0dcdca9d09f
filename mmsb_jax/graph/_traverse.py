"""Linear-time passes over the edges: sort by key, levels, reach.

Each pass expands whole frontiers with NumPy, at some 20 µs a step, and changes to plain Python, at some 1 µs a page,
while the frontier is narrow: so a million pages in one chain cost about what a million pages in three layers cost.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32
from scipy import sparse

_NARROW = 32


class Adjacency(NamedTuple):
    """The edges at each page, in one direction.

    The edges of page p are `edge[start[p]:start[p + 1]]`; without `edge` they are those numbers themselves.
    """

    start: Int32[np.ndarray, " pages_and_one"]
    edge: Int32[np.ndarray, " edges"] | None
    neighbour: Int32[np.ndarray, " edges"]
    """The page at the far end, by edge."""


def group(keys: Int32[np.ndarray, " n"], count: int) -> tuple[Int32[np.ndarray, " groups"], Int32[np.ndarray, " n"]]:
    """`(start, order)`: `order` sorts `keys` stably; those equal to k lie at `order[start[k]:start[k + 1]]`.

    SciPy's conversion to rows is a counting sort written in C, four to five times faster than `numpy.argsort`. Each
    element stands in a column of its own, so there are no duplicates for it to add up.
    """
    columns = np.arange(len(keys), dtype=np.int32)
    rows = sparse.coo_array((np.ones(len(keys), np.int8), (keys, columns)), shape=(count, max(1, len(keys)))).tocsr()
    return rows.indptr.astype(np.int32, copy=False), rows.indices.astype(np.int32, copy=False)


def levels(
    in_degree: Int32[np.ndarray, " pages"],
    start: Int32[np.ndarray, " pages_and_one"],
    neighbour: Int32[np.ndarray, " edges"],
) -> Int32[np.ndarray, " pages"]:
    """Length of the longest path that ends at each page; -1 for a page on a cycle or behind one.

    Kahn's algorithm (Communications of the ACM 5(11), 1962), a whole level at a time.
    """
    remaining = in_degree.copy()
    level = np.full(len(remaining), -1, np.int32)
    frontier = np.flatnonzero(remaining == 0)
    depth = 0
    while frontier.size:
        if frontier.size <= _NARROW:
            frontier, depth = _narrow_levels(frontier, depth, remaining, level, start, neighbour)
        else:
            level[frontier] = depth
            reached = neighbour[_ranges(start, frontier)]
            np.subtract.at(remaining, reached, 1)
            # `level` may serve as scratch: each page found here gets its level in the next step.
            frontier = _distinct(reached[remaining[reached] == 0], level)
            depth += 1
    return level


def _narrow_levels(
    frontier: Int[np.ndarray, " n"],
    depth: int,
    remaining: Int32[np.ndarray, " pages"],
    level: Int32[np.ndarray, " pages"],
    start: Int32[np.ndarray, " pages_and_one"],
    neighbour: Int32[np.ndarray, " edges"],
) -> tuple[Int[np.ndarray, " m"], int]:
    # A memoryview reads and writes single elements of the same array at three times NumPy's speed.
    left, height, begin, far = remaining.data, level.data, start.data, neighbour.data
    pages = frontier.tolist()
    while pages and len(pages) <= _NARROW:
        following = []
        for page in pages:
            height[page] = depth
            for position in range(begin[page], begin[page + 1]):
                child = far[position]
                left[child] -= 1
                if left[child] == 0:
                    following.append(child)
        pages, depth = following, depth + 1
    return np.array(pages, np.int64), depth


def reach(
    adjacency: Adjacency, sources: Int32[np.ndarray, " sources"], wanted: Bool[np.ndarray, " edges"] | None = None
) -> Bool[np.ndarray, " pages"]:
    """Which pages a path of one edge or more leads to from any of `sources`, over the `wanted` edges only."""
    seen = np.zeros(len(adjacency.start) - 1, np.bool_)
    scratch = np.empty(len(seen), np.int32)
    frontier = sources
    while frontier.size:
        if frontier.size <= _NARROW:
            frontier = _narrow_reach(adjacency, frontier, wanted, seen)
        else:
            reached = adjacency.neighbour[edges_at(adjacency, frontier, wanted)]
            frontier = _distinct(reached[~seen[reached]], scratch)
            seen[frontier] = True
    return seen


def _narrow_reach(
    adjacency: Adjacency,
    frontier: Int[np.ndarray, " n"],
    wanted: Bool[np.ndarray, " edges"] | None,
    seen: Bool[np.ndarray, " pages"],
) -> Int[np.ndarray, " m"]:
    start, edge, neighbour = adjacency
    begin, far, known = start.data, neighbour.data, seen.data
    pages = frontier.tolist()
    while pages and len(pages) <= _NARROW:
        following = []
        for page in pages:
            edges = range(begin[page], begin[page + 1])
            for found in edges if edge is None else edge[edges.start : edges.stop].tolist():
                other = far[found]
                if not known[other] and (wanted is None or wanted[found]):
                    known[other] = True
                    following.append(other)
        pages = following
    return np.array(pages, np.int64)


def edges_at(
    adjacency: Adjacency, pages: Int[np.ndarray, " n"], wanted: Bool[np.ndarray, " edges"] | None = None
) -> Int[np.ndarray, " m"]:
    """The edges at `pages`, page by page, those not `wanted` left out."""
    edges = _ranges(adjacency.start, pages)
    if adjacency.edge is not None:
        edges = adjacency.edge[edges]
    return edges if wanted is None else edges[wanted[edges]]


def _ranges(start: Int32[np.ndarray, " pages_and_one"], pages: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """`start[p], …, start[p + 1] - 1` for each p of `pages`, one after the other."""
    return ranges(start[pages], start[pages + 1])


def ranges(first: Int[np.ndarray, " n"], end: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """`first[i], …, end[i] - 1` for each i, one after the other."""
    counts = end - first
    before = np.cumsum(counts, dtype=np.int64) - counts
    return np.repeat(first - before, counts) + np.arange(counts.sum())


def _distinct(values: Int[np.ndarray, " n"], scratch: Int32[np.ndarray, " pages"]) -> Int[np.ndarray, " m"]:
    """`values`, each once, without sorting; `scratch` is overwritten at those places and needn't be cleared."""
    ticket = np.arange(len(values), dtype=scratch.dtype)
    scratch[values] = ticket
    return values[scratch[values] == ticket]
