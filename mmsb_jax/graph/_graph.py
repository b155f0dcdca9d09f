"""The dependency graph of pages: immutable, acyclic, built and asked on the host."""

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float32, Int8, Int32, Int64
from numpy.typing import ArrayLike

from .._errors import GraphCycleError, InvalidArgumentError
from ._edges import EdgeKind, edge_kinds, edge_weights, page_count, page_ids
from ._traverse import Adjacency, edges_at, find_cycle, group, levels, reach

_CYCLE_SHOWN = 10


class ShadowPageGraph(eqx.Module):
    """Which page depends on which, without cycles. Make one with `from_edges`; it never changes.

    The edges lie sorted by child, then parent. All arrays are read-only NumPy: the methods, and the plans that higher
    layers make, read them on the host. They are nevertheless ordinary leaves of a pytree, so a graph may be mapped
    over, compared with `equinox.tree_equal`, saved, or handed to a jitted function that gathers with them; the methods
    need values, hence they don't work on traced arrays. As arrays it has no hash: it can't be a static argument.

    Parallel edges are kept: each has its own weight, and a semiring's ⊕ combines them as it combines any two edges.

    >>> graph = ShadowPageGraph.from_edges([0, 0, 1], [1, 2, 2], num_pages=4)
    >>> graph
    ShadowPageGraph(4 pages, 3 edges: 3 data; 3 levels, unweighted)
    >>> graph.levels().tolist()
    [0, 1, 2, 0]
    """

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

    @classmethod
    def from_edges(
        cls,
        parent: ArrayLike,
        child: ArrayLike,
        *,
        weight: ArrayLike | None = None,
        kind: ArrayLike | None = None,
        num_pages: int,
    ) -> "ShadowPageGraph":
        """The graph in which page `child[e]` depends on page `parent[e]`, for every edge e.

        `parent` and `child` are page ids, integers of any width, [edges]. `weight` is one real number per edge, kept
        as float32, or one for all, or None. `kind` is an `EdgeKind` (or its name, or its number) per edge, or one for
        all; None means DATA. Takes time linear in pages and edges; what it was given is copied.

        Raises `GraphCycleError` when the edges of all kinds together contain a cycle (a self-loop is one; its pages
        are in `.cycle`), `PageNotFoundError` for an id outside 0 to num_pages - 1, `InvalidTypeError` and
        `InvalidArgumentError` for dtypes, shapes, weights and kinds that can't be used.

        >>> ShadowPageGraph.from_edges([0, 1], [1, 2], weight=[0.5, 2], kind=["data", "control"], num_pages=3)
        ShadowPageGraph(3 pages, 2 edges: 1 data, 1 control; 3 levels, weighted)
        >>> ShadowPageGraph.from_edges([0, 1, 2], [1, 2, 0], num_pages=3)
        Traceback (most recent call last):
            ...
        mmsb_jax._errors.GraphCycleError: the edges contain a cycle of 3 pages: 0 -> 1 -> 2 -> 0; ...
        """
        count = page_count(num_pages)
        from_page, to_page = _ends(parent, child, count)
        weights, kinds = edge_weights(weight, len(to_page)), edge_kinds(kind, len(to_page))
        # Two stable counting sorts: by parent, then by child.
        by_parent = group(from_page, count)[1]
        in_start, by_child = group(to_page[by_parent], count)
        order = by_parent[by_child]
        from_page, to_page = from_page[order], to_page[order]
        out_start, out_edge = group(from_page, count)
        level = levels(np.diff(in_start), out_start, to_page[out_edge])
        if level.size and level.min() < 0:
            raise _cycle_error(find_cycle(level, from_page, to_page))
        return cls(
            parent=_frozen(from_page),
            child=_frozen(to_page),
            weight=None if weights is None else _frozen(weights[order]),
            kind=_frozen(kinds[order]),
            in_start=_frozen(in_start),
            out_start=_frozen(out_start),
            out_edge=_frozen(out_edge),
            _level=_frozen(level),
            num_pages=count,
        )

    @property
    def num_edges(self) -> int:
        """Number of edges, parallel ones counted singly."""
        return len(self.child)

    def levels(self) -> Int32[np.ndarray, " pages"]:
        """Length of the longest path from a root to each page, over all kinds: int32[num_pages], roots 0.

        Every parent of a page lies at a lower level, so the levels, one after another, are a schedule.

        >>> ShadowPageGraph.from_edges([0, 1], [1, 2], num_pages=3).levels().tolist()
        [0, 1, 2]
        """
        return self._level

    def topological_order(self) -> Int32[np.ndarray, " pages"]:
        """Every page once, parents before children; by level, then by id: int32[num_pages].

        >>> ShadowPageGraph.from_edges([2, 2], [0, 1], num_pages=3).topological_order().tolist()
        [2, 0, 1]
        """
        return group(self._level, self.num_pages)[1]

    def parents(self, pages: ArrayLike, kind: ArrayLike | None = None) -> Int32[np.ndarray, " found"]:
        """Pages that `pages`, one id or many, depend on by one edge (of that kind): ascending, each once.

        Raises `PageNotFoundError`, `InvalidTypeError`, and `InvalidArgumentError` for an unknown kind.

        >>> ShadowPageGraph.from_edges([0, 1, 2], [2, 2, 3], num_pages=4).parents(2).tolist()
        [0, 1]
        """
        return self._neighbours(self._inwards(), pages, kind)

    def children(self, pages: ArrayLike, kind: ArrayLike | None = None) -> Int32[np.ndarray, " found"]:
        """Pages that depend on `pages`, one id or many, by one edge (of that kind): ascending, each once.

        Raises `PageNotFoundError`, `InvalidTypeError`, and `InvalidArgumentError` for an unknown kind.

        >>> ShadowPageGraph.from_edges([0, 0, 2], [1, 2, 3], num_pages=4).children([0, 2]).tolist()
        [1, 2, 3]
        """
        return self._neighbours(self._outwards(), pages, kind)

    def ancestors(self, pages: ArrayLike, kind: ArrayLike | None = None) -> Int32[np.ndarray, " found"]:
        """Pages that a path of one edge or more (of that kind) leads from to any of `pages`: ascending, each once.

        Of several `pages`, one that is an ancestor of another is among the result.
        Raises `PageNotFoundError`, `InvalidTypeError`, and `InvalidArgumentError` for an unknown kind.

        >>> ShadowPageGraph.from_edges([0, 1], [1, 2], num_pages=3).ancestors(2).tolist()
        [0, 1]
        """
        return self._reachable(self._inwards(), pages, kind)

    def descendants(self, pages: ArrayLike, kind: ArrayLike | None = None) -> Int32[np.ndarray, " found"]:
        """Pages that a path of one edge or more (of that kind) leads to from any of `pages`: ascending, each once.

        Of several `pages`, one that is a descendant of another is among the result.
        Raises `PageNotFoundError`, `InvalidTypeError`, and `InvalidArgumentError` for an unknown kind.

        >>> ShadowPageGraph.from_edges([0, 1], [1, 2], num_pages=3).descendants([0, 1]).tolist()
        [1, 2]
        """
        return self._reachable(self._outwards(), pages, kind)

    def in_degree(self, kind: ArrayLike | None = None) -> Int32[np.ndarray, " pages"]:
        """Number of edges (of that kind) into each page, parallel ones counted singly: int32[num_pages].

        >>> ShadowPageGraph.from_edges([0, 1], [2, 2], num_pages=3).in_degree().tolist()
        [0, 0, 2]
        """
        return np.diff(self.in_start) if kind is None else self._degree(self.child, kind)

    def out_degree(self, kind: ArrayLike | None = None) -> Int32[np.ndarray, " pages"]:
        """Number of edges (of that kind) out of each page, parallel ones counted singly: int32[num_pages].

        >>> ShadowPageGraph.from_edges([0, 0], [1, 2], num_pages=3).out_degree("data").tolist()
        [2, 0, 0]
        """
        return np.diff(self.out_start) if kind is None else self._degree(self.parent, kind)

    def with_edges(
        self, parent: ArrayLike, child: ArrayLike, *, weight: ArrayLike | None = None, kind: ArrayLike | None = None
    ) -> "ShadowPageGraph":
        """This graph and more edges; arguments and errors as for `from_edges`, this graph stays as it is.

        A graph has weights for all of its edges or for none: what's missing is an `InvalidArgumentError`.

        >>> graph = ShadowPageGraph.from_edges([0], [1], num_pages=3)
        >>> graph.with_edges(1, 2).parents(2).tolist()
        [1]
        """
        from_page, to_page = _ends(parent, child, self.num_pages)
        weights = self._joined_weights(edge_weights(weight, len(to_page)), len(to_page))
        return ShadowPageGraph.from_edges(
            np.concatenate([self.parent, from_page]),
            np.concatenate([self.child, to_page]),
            weight=weights,
            kind=np.concatenate([self.kind, edge_kinds(kind, len(to_page))]),
            num_pages=self.num_pages,
        )

    def without_edges(self, parent: ArrayLike, child: ArrayLike, *, kind: ArrayLike | None = None) -> "ShadowPageGraph":
        """This graph less every edge (of that kind) from `parent[i]` to `child[i]`; this graph stays as it is.

        Raises `InvalidArgumentError` when one of them isn't there, and for bad ids and kinds as `from_edges` does.

        >>> graph = ShadowPageGraph.from_edges([0, 1], [1, 2], num_pages=3)
        >>> graph.without_edges(0, 1).parents([1, 2]).tolist()
        [1]
        """
        from_page, to_page = _ends(parent, child, self.num_pages)
        present, asked = self._keys(self.parent, self.child), self._keys(from_page, to_page)
        eligible = np.ones(self.num_edges, np.bool_) if kind is None else self.kind == EdgeKind.parse(kind)
        missing = ~np.isin(asked, present[eligible])
        if missing.any():
            first = int(np.argmax(missing))
            raise InvalidArgumentError(
                f"there is no edge {from_page[first]} -> {to_page[first]}"
                + ("" if kind is None else f" of kind {EdgeKind.parse(kind).name}")
                + f" to remove (and {int(missing.sum()) - 1} more are missing); ask parents() which edges there are"
            )
        keep = ~(eligible & np.isin(present, asked))
        return ShadowPageGraph.from_edges(
            self.parent[keep],
            self.child[keep],
            weight=None if self.weight is None else self.weight[keep],
            kind=self.kind[keep],
            num_pages=self.num_pages,
        )

    def __repr__(self) -> str:
        leaf: object = self.kind
        if not isinstance(leaf, np.ndarray):  # mapped over or traced: no edges to count
            return f"ShadowPageGraph({self.num_pages} pages, leaves of type {type(leaf).__name__})"
        counts = np.bincount(self.kind, minlength=len(EdgeKind)).tolist()
        kinds = ", ".join(f"{counts[k]} {k.name.lower()}" for k in EdgeKind if counts[k]) or "none"
        depth = int(self._level.max(initial=-1)) + 1
        weighted = "unweighted" if self.weight is None else "weighted"
        return f"ShadowPageGraph({self.num_pages} pages, {self.num_edges} edges: {kinds}; {depth} levels, {weighted})"

    def _inwards(self) -> Adjacency:
        return Adjacency(self.in_start, None, self.parent)

    def _outwards(self) -> Adjacency:
        return Adjacency(self.out_start, self.out_edge, self.child)

    def _neighbours(self, direction: Adjacency, pages: ArrayLike, kind: object) -> Int32[np.ndarray, " found"]:
        edges = edges_at(direction, page_ids(pages, self.num_pages, "pages"), self._of_kind(kind))
        return np.unique(direction.neighbour[edges])

    def _reachable(self, direction: Adjacency, pages: ArrayLike, kind: object) -> Int32[np.ndarray, " found"]:
        mask = reach(direction, page_ids(pages, self.num_pages, "pages"), self._of_kind(kind))
        return np.flatnonzero(mask).astype(np.int32)

    def _of_kind(self, kind: object) -> Bool[np.ndarray, " edges"] | None:
        return None if kind is None else self.kind == EdgeKind.parse(kind)

    def _degree(self, ends: Int32[np.ndarray, " edges"], kind: object) -> Int32[np.ndarray, " pages"]:
        return np.bincount(ends[self._of_kind(kind)], minlength=self.num_pages).astype(np.int32)

    def _keys(self, parent: Int32[np.ndarray, " n"], child: Int32[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        return child.astype(np.int64) * self.num_pages + parent

    def _joined_weights(
        self, new: Float32[np.ndarray, " n"] | None, count: int
    ) -> Float32[np.ndarray, " all_edges"] | None:
        if self.num_edges == 0:
            return new
        if count == 0:
            return self.weight
        if self.weight is None and new is not None:
            raise InvalidArgumentError("the graph has no weights, the new edges have; leave weight out, or rebuild it")
        if self.weight is not None and new is None:
            raise InvalidArgumentError("the graph has weights, the new edges have none; pass weight= as well")
        return None if self.weight is None or new is None else np.concatenate([self.weight, new])


def _ends(
    parent: ArrayLike, child: ArrayLike, num_pages: int
) -> tuple[Int32[np.ndarray, " edges"], Int32[np.ndarray, " edges"]]:
    from_page, to_page = page_ids(parent, num_pages, "parent"), page_ids(child, num_pages, "child")
    if len(from_page) != len(to_page):
        raise InvalidArgumentError(
            f"parent has {len(from_page)} ids and child {len(to_page)}; an edge is one of each, so pass equally many"
        )
    return from_page, to_page


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _cycle_error(cycle: tuple[int, ...]) -> GraphCycleError:
    length = len(cycle) - 1
    names = [str(page) for page in cycle]
    if length > _CYCLE_SHOWN:
        names = [*names[: _CYCLE_SHOWN - 1], f"({length - _CYCLE_SHOWN + 1} more)", names[-1]]
    pages = "1 page, which depends on itself" if length == 1 else f"{length} pages"
    return GraphCycleError(
        f"the edges contain a cycle of {pages}: {' -> '.join(names)}; a page can't depend on its own next value "
        "within one wave, so remove one of these edges, or let it lead to another page that the next tick reads",
        cycle,
    )
