"""What a graph is made of: the edges, sorted, and the way from a page to its edges."""

from typing import Any, TypeVar

import equinox as eqx
import numpy as np
from jaxtyping import Float32, Int8, Int32

from .._errors import InvalidTypeError
from ._traverse import Adjacency

AnyGraph = TypeVar("AnyGraph", bound="EdgeArrays")


class EdgeArrays(eqx.Module):
    """The arrays of a graph; `ShadowPageGraph` says how they come about and what can be asked."""

    # The edges.
    parent: Int32[np.ndarray, " edges"]
    """Page whose change matters, by edge."""
    child: Int32[np.ndarray, " edges"]
    """Page that depends on it, by edge; ascending."""
    weight: Float32[np.ndarray, " edges"] | None
    """Number that a semiring's ⊗ combines with the parent, by edge."""
    kind: Int8[np.ndarray, " edges"]
    """`EdgeKind`, by edge."""

    # The way from a page to its edges.
    in_start: Int32[np.ndarray, " pages_and_one"]
    """Edges into page p are those from `in_start[p]` to `in_start[p + 1]`."""
    out_start: Int32[np.ndarray, " pages_and_one"]
    """Edges out of page p are `out_edge[out_start[p]:out_start[p + 1]]`."""
    out_edge: Int32[np.ndarray, " edges"]
    """Edge numbers sorted by parent, then child."""

    _level: Int32[np.ndarray, " pages"]
    num_pages: int = eqx.field(static=True)
    """Number of pages, those without an edge included."""

    @property
    def num_edges(self) -> int:
        """Number of edges, parallel ones counted singly."""
        return len(self.child)

    def levels(self) -> Int32[np.ndarray, " pages"]:
        """Length of the longest path from a root to each page, over all kinds: int32[num_pages], roots 0.

        Every parent of a page lies at a lower level, so the levels, one after another, are a schedule.

        >>> import mmsb_jax as mmsb
        >>> mmsb.ShadowPageGraph.from_edges([0, 1], [1, 2], num_pages=3).levels().tolist()
        [0, 1, 2]
        """
        return self._level


def require_graph(graph: Any) -> None:
    """Raise `InvalidTypeError` unless this is a graph."""
    if not isinstance(graph, EdgeArrays):
        raise InvalidTypeError(
            f"got a {type(graph).__name__} where a ShadowPageGraph is needed: make one with from_edges; what a "
            "GraphBuilder or a reader gave is a graph and names, so pass both: to_dot(*named)"
        )


def inwards(graph: EdgeArrays) -> Adjacency:
    """The edges into each page; their far ends are parents."""
    return Adjacency(graph.in_start, None, graph.parent)


def outwards(graph: EdgeArrays) -> Adjacency:
    """The edges out of each page; their far ends are children."""
    return Adjacency(graph.out_start, graph.out_edge, graph.child)


def frozen(array: np.ndarray) -> np.ndarray:
    """The same array, from now on read-only."""
    array.setflags(write=False)
    return array
