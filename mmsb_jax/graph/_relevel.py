"""Levels after a few edges came or went: only pages whose level changes, and their neighbours, are looked at.

Both walks take pages by the level that they had before, from the lowest up. That level was a topological order, so when
a page's turn comes its new level is known, and each page has one turn. What is kept in order is the idea of Pearce and
Kelly (A dynamic topological sort algorithm for directed acyclic graphs, ACM Journal of Experimental Algorithmics 11,
2006); with levels in place of ranks the pages between the ends of a new edge needn't be permuted, and a cycle shows by
itself: the new edge would raise its own parent.

The walks are plain Python and end with None when they have met more edges than they were allowed, since passing over
the whole graph is then cheaper.
"""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

import numpy as np
from jaxtyping import Int32

from ._cycle import closed, cycle_error
from ._traverse import Adjacency

Levels = Int32[np.ndarray, " pages"]


def raised(
    level: Levels,
    out: Adjacency,
    parent: Int32[np.ndarray, " new"],
    child: Int32[np.ndarray, " new"],
    allowed: int,
) -> Levels | None:
    """Levels once edges are added to those of `out`. Raises `GraphCycleError`."""
    against = level[parent] >= level[child]
    if not against.any():
        return level
    if len(parent) > allowed:
        return None
    walk = _Raise(level.copy(), out, allowed)
    for one, other in zip(parent[~against].tolist(), child[~against].tolist(), strict=True):
        walk.added.setdefault(one, []).append(other)
    for one, other in zip(parent[against].tolist(), child[against].tolist(), strict=True):
        walk.insert(one, other)
        if walk.allowed < 0:
            return None
    return walk.level


class _Raise:
    """Levels, while edges are added one by one."""

    def __init__(self, level: Levels, out: Adjacency, allowed: int) -> None:
        self.level, self.allowed = level, allowed
        self.added: dict[int, list[int]] = {}
        self._height = level.data
        self._start, self._far = out.start.data, out.neighbour.data
        self._edge = _numbers(out)

    def insert(self, parent: int, child: int) -> None:
        """Add one edge. When it leaves `allowed` below nought, the levels are unfinished."""
        if parent == child:
            raise cycle_error((parent, parent))
        height = self._height
        if height[parent] >= height[child]:
            new, cause, waiting = {child: height[parent] + 1}, {child: parent}, [(height[child], child)]
            while waiting and self.allowed >= 0:
                page = heappop(waiting)[1]
                above = new[page] + 1
                for below in self._children(page):
                    if new.get(below, height[below]) < above:
                        if below == parent:
                            raise cycle_error(closed(_way_back(cause, page, parent)))
                        if below not in new:
                            heappush(waiting, (height[below], below))
                        new[below], cause[below] = above, page
            for page, value in new.items():
                height[page] = value
        self.added.setdefault(parent, []).append(child)

    def _children(self, page: int) -> list[int]:
        begin, end = self._start[page], self._start[page + 1]
        more = self.added.get(page, [])
        self.allowed -= 1 + end - begin + len(more)
        return [] if self.allowed < 0 else [*(self._far[edge] for edge in self._edge[begin:end]), *more]


def _numbers(adjacency: Adjacency) -> Sequence[int]:
    return range(len(adjacency.neighbour)) if adjacency.edge is None else adjacency.edge.data


def _way_back(cause: dict[int, int], page: int, first: int) -> list[int]:
    way = [page]
    while page != first:
        page = cause[page]
        way.append(page)
    return way[::-1]


def lowered(
    level: Levels,
    into: Adjacency,
    out: Adjacency,
    parent: Int32[np.ndarray, " gone"],
    child: Int32[np.ndarray, " gone"],
    allowed: int,
) -> Levels | None:
    """Levels once edges are removed; `into` and `out` are without them already."""
    bearing = np.unique(child[level[parent] + 1 == level[child]])
    if not bearing.size:
        return level
    before = level.data
    level = level.copy()
    height = level.data
    in_start, in_far, out_start, out_far = into.start.data, into.neighbour.data, out.start.data, out.neighbour.data
    edge_of = _numbers(out)
    waiting = [(before[page], page) for page in bearing.tolist()]
    heapify(waiting)
    known = set(bearing.tolist())
    while waiting:
        old, page = heappop(waiting)
        parents, edges = slice(*in_start[page : page + 2]), slice(*out_start[page : page + 2])
        allowed -= 1 + parents.stop - parents.start + edges.stop - edges.start
        if allowed < 0:
            return None
        height[page] = max((height[above] for above in in_far[parents]), default=-1) + 1
        if height[page] < old:
            for below in (out_far[edge] for edge in edge_of[edges]):
                if before[below] == old + 1 and below not in known:
                    known.add(below)
                    heappush(waiting, (old + 1, below))
    return level
