"""What the edges other than DATA do: marks on pages that a change elsewhere has set, until somebody sees to them.

    CONTROL       stale: recomputed when somebody asks for it
    DEVICE_SYNC   unsynced: to be brought to where it is computed with
    COMPILER      invalid: so is what was compiled from it

A page is *stale* when a CONTROL edge leads to it from a page that changed, or a DATA or CONTROL edge from a stale one.
It is *invalid* when a path of COMPILER edges leads to it from a page that changed, and *unsynced* when a single
DEVICE_SYNC edge does. A mark may stay longer than it must, never shorter.
"""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int32

from .graph import EdgeKind, ShadowPageGraph
from .page import EdgeRecords

__all__ = ["Effects"]

Ids = Int32[np.ndarray, " _"]


class Effects:
    """The marks of a bus. Not in the log: after reopening, all is stale or invalid that edges could have made so."""

    def __init__(self, edges: EdgeRecords, capacity: int) -> None:
        self.stale, self.unsynced, self.invalid = (np.zeros(capacity, np.bool_) for _ in range(3))
        self._ways = _Ways(edges, capacity)
        parents = np.unique(edges.parent)
        self.stale[self._ways.stale(parents)] = True
        self.invalid[self._ways.invalid(parents)] = True

    def spread(self, edges: EdgeRecords, changed: Ids, fresh: Ids) -> Mapping[EdgeKind, Ids]:
        """These pages changed; those of them, or others, that are `fresh` are stale no longer.

        Returns what is marked now and wasn't before, by the kind of edge; nothing where the edges have no effect.
        """
        if self._ways.edges is not edges:
            self._ways = _Ways(edges, len(self.stale))
        new: dict[EdgeKind, Ids] = {}
        if self._ways.any:
            stale = np.setdiff1d(self._ways.stale(changed), fresh)
            new = {
                EdgeKind.CONTROL: _mark(self.stale, stale),
                EdgeKind.DEVICE_SYNC: _mark(self.unsynced, self._ways.unsynced(changed)),
                EdgeKind.COMPILER: _mark(self.invalid, self._ways.invalid(changed)),
            }
        self.stale[fresh] = False
        return new

    def stale_above(self, edges: EdgeRecords, ids: Ids) -> Ids:
        """The stale pages that these need: themselves, if they are stale, and those before them."""
        if not self.stale[ids].any():
            return ids[:0]
        if self._ways.edges is not edges:
            self._ways = _Ways(edges, len(self.stale))
        needed = np.union1d(ids, self._ways.flow.ancestors(ids))
        return needed[self.stale[needed]].astype(np.int32)

    def forget(self, ids: Ids) -> None:
        """These pages are nobody's now."""
        for marks in (self.stale, self.unsynced, self.invalid):
            marks[ids] = False


class _Ways:
    """The edges by what they do, so that a commit costs what it reaches, and nothing where there are none."""

    def __init__(self, edges: EdgeRecords, pages: int) -> None:
        self.edges, self._pages = edges, pages
        self.any = bool(np.any(edges.kind != EdgeKind.DATA))

    def stale(self, changed: Ids) -> Ids:
        return _from(self._control, self.flow, changed) if self.any else changed[:0]

    def unsynced(self, changed: Ids) -> Ids:
        return self._sync.children(changed) if self.any else changed[:0]

    def invalid(self, changed: Ids) -> Ids:
        return _from(self._compiler, self._compiler, changed) if self.any else changed[:0]

    @cached_property
    def flow(self) -> ShadowPageGraph:
        """The edges along which what is stale makes more stale."""
        return self._graph(EdgeKind.DATA, EdgeKind.CONTROL)

    @cached_property
    def _control(self) -> ShadowPageGraph:
        return self._graph(EdgeKind.CONTROL)

    @cached_property
    def _sync(self) -> ShadowPageGraph:
        return self._graph(EdgeKind.DEVICE_SYNC)

    @cached_property
    def _compiler(self) -> ShadowPageGraph:
        return self._graph(EdgeKind.COMPILER)

    def _graph(self, *kinds: EdgeKind) -> ShadowPageGraph:
        chosen = np.isin(self.edges.kind, kinds)
        return ShadowPageGraph.from_edges(self.edges.parent[chosen], self.edges.child[chosen], num_pages=self._pages)


def _from(step: ShadowPageGraph, way: ShadowPageGraph, ids: Ids) -> Ids:
    """One step of one kind, and then any way of another. Most changes lead nowhere, and that is seen at the step."""
    first = step.children(ids)
    return np.union1d(first, way.descendants(first)).astype(np.int32) if len(first) else first


def _mark(marks: Bool[np.ndarray, " pages"], ids: Ids) -> Ids:
    new = ids[~marks[ids]]
    marks[ids] = True
    return new
