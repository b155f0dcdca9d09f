"""A notation for graphs written by hand: `build["tea", "milk"] >> build["total"]`."""

import itertools
from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._errors import InvalidArgumentError, InvalidTypeError, PageNotFoundError
from .._text import nearest
from ._edges import EdgeKind, page_count, page_ids
from ._graph import ShadowPageGraph
from ._named import NamedGraph, naming_cycles
from ._svg import to_svg

Ids = tuple[int, ...]


class GraphBuilder:
    """Named pages, and edges between them as they are written down.

    `pages` are names, which get the ids 0, 1, …, or pages of a bus, which have ids. Each page on the left of `>>`
    becomes a parent of each on the right; the right side is the result, so that arrows chain. `to` does the same with a
    weight and a kind; `kind` and `weight` here are for arrows that say none. Of pages that span several fixed-size
    ones, equally many are joined one by one, and a single one with all.

    Each arrow is checked when it is written, and changes nothing when it is refused: `PageNotFoundError` for a name
    that nobody declared, `GraphCycleError` with the names along the cycle, `InvalidArgumentError` for an edge that is
    there already (a cell that ran twice), and for weights of some edges only.

    >>> build = GraphBuilder("tea", "milk", "total", "report")
    >>> _ = build["tea", "milk"] >> build["total"] >> build["report"]
    >>> _ = build["milk"].to("report", kind="control")
    >>> graph, names = build.build()
    >>> graph
    ShadowPageGraph(4 pages, 4 edges: 3 data, 1 control; 3 levels, unweighted)
    >>> graph.parents(names["report"]).tolist() == [names["milk"], names["total"]]
    True
    """

    def __init__(
        self,
        *pages: Any,
        num_pages: int | Any = None,
        kind: ArrayLike = EdgeKind.DATA,
        weight: ArrayLike | None = None,
    ) -> None:
        self._ids: dict[Hashable, Ids] = {}
        self._on_bus: bool | None = None
        self._kind, self._weight = EdgeKind.parse(kind), weight
        self._fixed = None if num_pages is None else page_count(num_pages)
        self._graph = ShadowPageGraph.from_edges([], [], num_pages=self._fixed or 0)
        self.declare(*pages)

    def declare(self, *pages: Any) -> None:
        """Add pages: names, or pages of a bus; not both in one graph.

        Raises `InvalidArgumentError` for a name or an id that is taken, `InvalidTypeError` for anything else.

        >>> build = GraphBuilder("tea")
        >>> build.declare("total")
        >>> build
        GraphBuilder(2 pages, 0 edges: none)
        """
        known, on_bus = dict(self._ids), self._on_bus
        taken = {page for ids in known.values() for page in ids}
        for page in pages:
            handle = hasattr(page, "ids")
            if not handle and not isinstance(page, str):
                raise InvalidTypeError(f"got a {type(page).__name__} for a page; pass names, or pages of a bus")
            if on_bus not in (None, handle):
                raise InvalidTypeError("got names as well as pages of a bus; declare one or the other")
            on_bus = handle
            ids = _ids_of(page) if handle else (len(taken),)
            key = _key(page)
            if key in known or taken & {*ids}:
                raise InvalidArgumentError(f"{_told(page)} is declared already; declare each page once")
            known[key] = ids
            taken |= {*ids}
        count = max(taken, default=-1) + 1
        if self._fixed is not None and count > self._fixed:
            raise InvalidArgumentError(
                f"page {count - 1} needs num_pages={count} or more, but {self._fixed} was passed"
            )
        graph, size = self._graph, self._fixed or count
        if size != graph.num_pages:
            graph = ShadowPageGraph.from_edges(
                graph.parent, graph.child, weight=graph.weight, kind=graph.kind, num_pages=size
            )
        self._ids, self._on_bus, self._graph = known, on_bus, graph

    def __getitem__(self, pages: Any) -> "PageGroup":
        several = pages if isinstance(pages, tuple) else (pages,)
        return PageGroup(self, [self._resolve(page) for page in several])

    def build(self) -> NamedGraph:
        """The graph so far, and the page id of each name.

        A page of a bus that spans several ids has a name for each: `wind[0]`, `wind[1]` and so on. Such a graph fits
        the bus: `bus.add_dependency(graph.parent, graph.child)`.

        >>> GraphBuilder("tea", "milk").build().names
        {'tea': 0, 'milk': 1}
        """
        return NamedGraph(self._graph, self._names())

    def _names(self) -> dict[Hashable, int]:
        names: dict[Hashable, int] = {}
        for name, ids in self._ids.items():
            if isinstance(name, str):
                names |= {name: ids[0]} if len(ids) == 1 else {f"{name}[{i}]": page for i, page in enumerate(ids)}
        return names

    def _resolve(self, page: Any) -> Ids:
        if hasattr(page, "ids"):
            found = self._ids.get(_key(page))
            if found != _ids_of(page):
                raise PageNotFoundError(f"{_told(page)} isn't declared; pass it to GraphBuilder(…) or declare(…)")
            return found
        if not isinstance(page, str):
            raise InvalidTypeError(f"got a {type(page).__name__} for a page; pass names, or pages of a bus")
        if page not in self._ids:
            names = [name for name in self._ids if isinstance(name, str)]
            near = nearest(page, names)
            hint = "declare it first" if near is None else f"did you mean {near!r}? Otherwise declare it"
            known = ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")
            raise PageNotFoundError(f"no page is named {page!r}; {hint} (names so far: {known or 'none'})")
        return self._ids[page]

    def _join(self, left: list[Ids], right: list[Ids], weight: ArrayLike | None, kind: ArrayLike | None) -> None:
        pairs = [pair for one, other in itertools.product(left, right) for pair in _pairs(one, other)]
        parent, child = ([pair[end] for pair in pairs] for end in (0, 1))
        number = self._kind if kind is None else EdgeKind.parse(kind)
        weight = self._weight if weight is None else weight
        label = {page: str(name) for name, page in self._names().items()}
        double = self._graph.has_edge(parent, child, number)
        last = {pair: i for i, pair in enumerate(pairs)}
        double |= np.array([last[pair] != i for i, pair in enumerate(pairs)], np.bool_)
        if double.any():
            one, other = pairs[int(np.argmax(double))]
            raise InvalidArgumentError(
                f"{label.get(one, one)} -> {label.get(other, other)} is a {number.name.lower()} edge already, or is "
                "written twice; make a new GraphBuilder in the cell where its arrows are"
            )
        if self._graph.num_edges and pairs and (self._graph.weight is None) != (weight is None):
            raise InvalidArgumentError(
                "some edges have a weight, and some have none; pass weight= to all, or GraphBuilder(…, weight=1) for "
                "those that say none"
            )
        graph = self._graph
        self._graph = naming_cycles(
            self._names(), lambda: graph.with_edges(parent, child, weight=weight, kind=np.full(len(pairs), number))
        )

    def __repr__(self) -> str:
        kinds = repr(self._graph).partition(", ")[2].partition(";")[0]
        return f"GraphBuilder({len(self._ids)} pages, {kinds})"

    def _repr_svg_(self) -> str:  # a notebook shows a picture
        return to_svg(self._graph, self._names())


class PageGroup:
    """Some pages of a `GraphBuilder`, between brackets. See `GraphBuilder` for an example."""

    def __init__(self, builder: GraphBuilder, members: list[Ids]) -> None:
        self._builder, self._members = builder, members

    def to(self, pages: Any, *, weight: ArrayLike | None = None, kind: ArrayLike | None = None) -> "PageGroup":
        """Make each of these pages a parent of each of `pages`: names, or pages of the same builder; returns those.

        `weight` is one number, or one for each edge: first all out of the first page, then out of the second, ….

        >>> build = GraphBuilder("tea", "milk", "total")
        >>> _ = build["tea", "milk"].to("total", weight=[0.5, 2])
        >>> build.build().graph.weight.tolist()
        [0.5, 2.0]
        """
        group = pages if isinstance(pages, PageGroup) else self._builder[pages]
        if group._builder is not self._builder:
            raise InvalidArgumentError("both sides of >> belong to one GraphBuilder; these belong to two")
        self._builder._join(self._members, group._members, weight, kind)
        return group

    def __rshift__(self, pages: Any) -> "PageGroup":
        return self.to(pages)

    def __repr__(self) -> str:
        return f"PageGroup(ids {', '.join(str(page) for ids in self._members for page in ids)})"


def _ids_of(page: Any) -> Ids:
    return tuple(page_ids(page.ids, np.iinfo(np.int32).max, "page.ids").tolist())


def _key(page: Any) -> Hashable:
    """A name, or the ids of a page without one."""
    return page if isinstance(page, str) else getattr(page, "name", None) or _ids_of(page)


def _told(page: Any) -> str:
    return repr(page) if isinstance(page, str) else str(page)


def _pairs(one: Ids, other: Ids) -> list[tuple[int, int]]:
    if len(one) != len(other) and 1 not in (len(one), len(other)):
        raise InvalidArgumentError(
            f"got a page of {len(one)} fixed-size pages and one of {len(other)}; they can be joined when they are "
            "equally many, or one is single"
        )
    longer = max(len(one), len(other))
    return list(zip(one if len(one) > 1 else one * longer, other if len(other) > 1 else other * longer, strict=True))
