"""The dependency graph of pages: immutable, acyclic, built and asked on the host."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Int32
from numpy.typing import ArrayLike

from .._errors import InvalidArgumentError, InvalidTypeError
from .._require import whole_number
from ._arrays import EdgeArrays, frozen, inwards, outwards
from ._change import all_levels, cut_out, is_small, joined_weights, numbers, numbers_to_remove, spliced
from ._edges import EdgeKind, edge_ends, edge_kinds, edge_weights, page_count, page_ids
from ._orders import implied, longest_path, pairs_below, reverse_postorder
from ._svg import to_svg
from ._traverse import Adjacency, edges_at, group, reach
from ._validate import GraphReport, validate_graph

_CLOSURE_LIMIT = 2**24


class ShadowPageGraph(EdgeArrays):
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
        from_page, to_page = edge_ends(parent, child, count)
        weights, kinds = edge_weights(weight, len(to_page)), edge_kinds(kind, len(to_page))
        # Two stable counting sorts: by parent, then by child.
        by_parent = group(from_page, count)[1]
        in_start, by_child = group(to_page[by_parent], count)
        order = by_parent[by_child]
        from_page, to_page = from_page[order], to_page[order]
        out_start, out_edge = group(from_page, count)
        level = all_levels(in_start, out_start, out_edge, from_page, to_page)
        return cls(
            parent=frozen(from_page),
            child=frozen(to_page),
            weight=None if weights is None else frozen(weights[order]),
            kind=frozen(kinds[order]),
            in_start=frozen(in_start),
            out_start=frozen(out_start),
            out_edge=frozen(out_edge),
            _level=frozen(level),
            num_pages=count,
        )

    def topological_order(self) -> Int32[np.ndarray, " pages"]:
        """Every page once, parents before children; by level, then by id: int32[num_pages].

        >>> ShadowPageGraph.from_edges([2, 2], [0, 1], num_pages=3).topological_order().tolist()
        [2, 0, 1]
        """
        return group(self._level, self.num_pages)[1]

    def reverse_postorder(self) -> Int32[np.ndarray, " pages"]:
        """Every page once, parents before children, each as close behind a parent as can be: int32[num_pages].

        The reverse of the order in which a depth-first search leaves the pages when it takes pages, and the children of
        each, by ascending id. Passes that go along paths (data flow, layout) meet a page soon after what it needs.

        >>> ShadowPageGraph.from_edges([0, 1, 0], [2, 3, 4], num_pages=5).reverse_postorder().tolist()
        [1, 3, 0, 4, 2]
        """
        return reverse_postorder(self)

    def longest_path(self) -> Int32[np.ndarray, " path"]:
        """Pages along a path of as many edges as any has: int32[levels]. Of several, ids decide.

        With weights: `mmsb.closure` in the semiring `max_plus`.

        >>> ShadowPageGraph.from_edges([0, 0, 1], [2, 1, 2], num_pages=3).longest_path().tolist()
        [0, 1, 2]
        """
        return longest_path(self)

    def roots(self, kind: ArrayLike | None = None) -> Int32[np.ndarray, " found"]:
        """Pages that depend on nothing (by that kind of edge), those without any edge included: ascending.

        >>> ShadowPageGraph.from_edges([0, 1], [2, 2], num_pages=3).roots().tolist()
        [0, 1]
        """
        return np.flatnonzero(self.in_degree(kind) == 0).astype(np.int32)

    def leaves(self, kind: ArrayLike | None = None) -> Int32[np.ndarray, " found"]:
        """Pages that nothing depends on (by that kind of edge), those without any edge included: ascending.

        >>> ShadowPageGraph.from_edges([0, 1], [2, 2], num_pages=3).leaves().tolist()
        [2]
        """
        return np.flatnonzero(self.out_degree(kind) == 0).astype(np.int32)

    def has_edge(
        self, parent: ArrayLike, child: ArrayLike, kind: ArrayLike | None = None
    ) -> Bool[np.ndarray, " pairs"]:
        """Whether an edge (of that kind) leads from `parent[i]` to `child[i]`: bool, one for each pair.

        Takes as many steps as a page has edges, in powers of two. Errors as for `from_edges`.

        >>> ShadowPageGraph.from_edges([0, 1], [2, 2], num_pages=3).has_edge([0, 2], [2, 0]).tolist()
        [True, False]
        """
        ends = edge_ends(parent, child, self.num_pages)
        return np.bincount(numbers(self, *ends, kind)[1], minlength=len(ends[0])) > 0

    def parents(self, pages: ArrayLike, kind: ArrayLike | None = None) -> Int32[np.ndarray, " found"]:
        """Pages that `pages`, one id or many, depend on by one edge (of that kind): ascending, each once.

        Raises `PageNotFoundError`, `InvalidTypeError`, and `InvalidArgumentError` for an unknown kind.

        >>> ShadowPageGraph.from_edges([0, 1, 2], [2, 2, 3], num_pages=4).parents(2).tolist()
        [0, 1]
        """
        return self._neighbours(inwards(self), pages, kind)

    def children(self, pages: ArrayLike, kind: ArrayLike | None = None) -> Int32[np.ndarray, " found"]:
        """Pages that depend on `pages`, one id or many, by one edge (of that kind): ascending, each once.

        Raises `PageNotFoundError`, `InvalidTypeError`, and `InvalidArgumentError` for an unknown kind.

        >>> ShadowPageGraph.from_edges([0, 0, 2], [1, 2, 3], num_pages=4).children([0, 2]).tolist()
        [1, 2, 3]
        """
        return self._neighbours(outwards(self), pages, kind)

    def ancestors(self, pages: ArrayLike, kind: ArrayLike | None = None) -> Int32[np.ndarray, " found"]:
        """Pages that a path of one edge or more (of that kind) leads from to any of `pages`: ascending, each once.

        Of several `pages`, one that is an ancestor of another is among the result.
        Raises `PageNotFoundError`, `InvalidTypeError`, and `InvalidArgumentError` for an unknown kind.

        >>> ShadowPageGraph.from_edges([0, 1], [1, 2], num_pages=3).ancestors(2).tolist()
        [0, 1]
        """
        return self._reachable(inwards(self), pages, kind)

    def descendants(self, pages: ArrayLike, kind: ArrayLike | None = None) -> Int32[np.ndarray, " found"]:
        """Pages that a path of one edge or more (of that kind) leads to from any of `pages`: ascending, each once.

        Of several `pages`, one that is a descendant of another is among the result.
        Raises `PageNotFoundError`, `InvalidTypeError`, and `InvalidArgumentError` for an unknown kind.

        >>> ShadowPageGraph.from_edges([0, 1], [1, 2], num_pages=3).descendants([0, 1]).tolist()
        [1, 2]
        """
        return self._reachable(outwards(self), pages, kind)

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
        A few edges cost some copies of the arrays, and a walk over the pages whose level rises.

        >>> graph = ShadowPageGraph.from_edges([0], [1], num_pages=3)
        >>> graph.with_edges(1, 2).parents(2).tolist()
        [1]
        """
        from_page, to_page = edge_ends(parent, child, self.num_pages)
        count = len(to_page)
        weights, kinds = joined_weights(self, edge_weights(weight, count), count), edge_kinds(kind, count)
        if count == 0:
            return self
        if is_small(self, count):
            return spliced(self, from_page, to_page, weights, kinds)
        return ShadowPageGraph.from_edges(
            np.concatenate([self.parent, from_page]),
            np.concatenate([self.child, to_page]),
            weight=weights if self.weight is None or weights is None else np.concatenate([self.weight, weights]),
            kind=np.concatenate([self.kind, kinds]),
            num_pages=self.num_pages,
        )

    def without_edges(self, parent: ArrayLike, child: ArrayLike, *, kind: ArrayLike | None = None) -> "ShadowPageGraph":
        """This graph less every edge (of that kind) from `parent[i]` to `child[i]`; this graph stays as it is.

        Raises `InvalidArgumentError` when one of them isn't there, and for bad ids and kinds as `from_edges` does.

        >>> graph = ShadowPageGraph.from_edges([0, 1], [1, 2], num_pages=3)
        >>> graph.without_edges(0, 1).parents([1, 2]).tolist()
        [1]
        """
        gone = numbers_to_remove(self, *edge_ends(parent, child, self.num_pages), kind)
        if gone.size == 0:
            return self
        return (
            cut_out(self, gone)
            if is_small(self, gone.size)
            else self._of_edges(np.delete(np.arange(self.num_edges), gone))
        )

    def subgraph(self, pages: ArrayLike | None = None, *, kind: ArrayLike | None = None) -> "ShadowPageGraph":
        """The edges that lie between `pages` (None: all), of that kind (None: any).

        Page ids and `num_pages` stay as they are: the other pages are there, without edges, so what was a plan for a
        state of these pages fits the same state. Errors as for `descendants`.

        >>> graph = ShadowPageGraph.from_edges([0, 1, 0], [1, 2, 2], num_pages=3)
        >>> graph.subgraph([0, 2])
        ShadowPageGraph(3 pages, 1 edges: 1 data; 2 levels, unweighted)
        """
        wanted = self._of_kind(kind)
        keep = np.ones(self.num_edges, np.bool_) if wanted is None else wanted
        if pages is not None:
            inside = np.zeros(self.num_pages, np.bool_)
            inside[page_ids(pages, self.num_pages, "pages")] = True
            keep = keep & inside[self.parent] & inside[self.child]
        return self._of_edges(np.flatnonzero(keep))

    def transitive_reduction(self) -> "ShadowPageGraph":
        """This graph less each edge that a longer path implies; what stays keeps weight and kind.

        Edges of all kinds imply each other; for one kind take `subgraph(kind=…)` first. Of an implied pair all parallel
        edges go, of one that stays all stay. At worst takes edges × pages / 64 steps; an edge to the next level costs
        nothing.

        >>> graph = ShadowPageGraph.from_edges([0, 1, 0], [1, 2, 2], num_pages=3)
        >>> graph.transitive_reduction().parents(2).tolist()
        [1]
        """
        return self._of_edges(np.flatnonzero(~implied(self)))

    def transitive_closure(self, *, limit: int | Any = _CLOSURE_LIMIT) -> "ShadowPageGraph":
        """The graph with an edge from each page to each of its descendants, unweighted and of kind DATA.

        A closure can be as large as pages²; one of more than `limit` edges, 16,777,216 unless said otherwise, is
        refused with `CapacityError` as soon as they are counted.

        >>> ShadowPageGraph.from_edges([0, 1, 2], [1, 2, 3], num_pages=4).transitive_closure().children(0).tolist()
        [1, 2, 3]
        """
        number = whole_number(limit)
        if number is None:
            raise InvalidTypeError(f"got limit={limit!r}; pass the largest number of edges that is welcome")
        if number < 0:
            raise InvalidArgumentError(f"got limit={limit}; pass nought or more edges")
        return ShadowPageGraph.from_edges(*pairs_below(self, number), num_pages=self.num_pages)

    def validate(self) -> GraphReport:
        """What there is to say about the edges: duplicates and orphans, and that there are no cycles, as a report.

        For edges that aren't a graph, and may never be one: `mmsb.graph.validate_edges(parent, child, num_pages=…)`.

        >>> ShadowPageGraph.from_edges([0, 0], [1, 1], num_pages=3).validate()
        3 pages, 2 edges: ok (... ms)
          check                found   ms  for example
          dangling    ok           0  ...
          cycles      ok           0  ...
          duplicates  allowed      1  ...  0 -> 1
          orphans     allowed      1  ...  2
        """
        return validate_graph(self)

    def __repr__(self) -> str:
        leaf: object = self.kind
        if not isinstance(leaf, np.ndarray):  # mapped over or traced: no edges to count
            return f"ShadowPageGraph({self.num_pages} pages, leaves of type {type(leaf).__name__})"
        counts = np.bincount(self.kind, minlength=len(EdgeKind)).tolist()
        kinds = ", ".join(f"{counts[k]} {k.name.lower()}" for k in EdgeKind if counts[k]) or "none"
        depth = int(self._level.max(initial=-1)) + 1
        weighted = "unweighted" if self.weight is None else "weighted"
        return f"ShadowPageGraph({self.num_pages} pages, {self.num_edges} edges: {kinds}; {depth} levels, {weighted})"

    def _repr_svg_(self) -> str | None:  # a notebook shows a picture
        return to_svg(self) if isinstance(self.kind, np.ndarray) else None

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

    def _of_edges(self, chosen: Int32[np.ndarray, " n"] | Any) -> "ShadowPageGraph":
        weight = None if self.weight is None else self.weight[chosen]
        return ShadowPageGraph.from_edges(
            self.parent[chosen], self.child[chosen], weight=weight, kind=self.kind[chosen], num_pages=self.num_pages
        )
