"""What the bus knows about its pages and edges. Host data, rebuilt from the log when a run is opened again."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._arguments import as_metadata, as_text, as_whole_number
from ._errors import InvalidArgumentError, InvalidTypeError, PageNotFoundError
from ._require import whole_number
from ._residency import LOCATIONS
from .graph import EdgeKind, ShadowPageGraph
from .page import EdgeRecords, LayoutRecord, PageRecord
from .page.log._layout_record import standing
from .physical import PINNED, Allocator
from .propagation import Rule

__all__ = ["Catalog", "Page", "check_location", "check_weights", "chosen", "joined"]


@dataclass(frozen=True, eq=False)
class Page:
    """A handle to some memory on a bus: `size` bytes on one or more pages of fixed size.

    A handle tells what its page was when it was taken; `bus.page(page)` is a new one. It outlives its page only as an
    error: once deleted, it is refused, also when its ids are in use again.

    ```python
    >>> import mmsb_jax as mmsb
    >>> with mmsb.start(page_bytes=64) as bus:
    ...     bus.create_page(100, name="wind").ids.tolist()
    [0, 1]

    ```
    """

    ids: np.ndarray
    """int32, the ids of its pages, in order. Only `resize_page` adds some at the end, or gives some back."""
    size: int
    """Bytes."""
    name: str | None = None
    location: str = "device"
    """Where it was asked to live: `"device"`, `"host"` or `"unified"`."""
    placement: str = "device"
    """The memory in which it lives: `"device"`, or for the other locations `"pinned_host"`; `"unpinned_host"` where the
    backend has no pinned memory."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    generation: int = 1
    """Tells it from other pages that have used its first id."""
    run: str = ""
    """Tells it from the pages of other runs."""

    @property
    def id(self) -> int:
        """The first of its ids."""
        return int(self.ids[0])

    def __repr__(self) -> str:
        name = f"{self.name!r}, " if self.name else ""
        ids = f"id {self.id}" if len(self.ids) == 1 else f"{len(self.ids)} pages from id {self.id}"
        return f"Page({name}{ids}, {self.size} bytes)"


class Catalog:
    """The live pages, by id and name, and the edges between them."""

    def __init__(self, capacity: int, page_bytes: int, run: str) -> None:
        self.run = run
        self.allocator = Allocator.create(capacity)
        self.page_bytes = page_bytes
        self.pages: dict[int, Page] = {}
        self.names: dict[str, Page] = {}
        self.edges = joined([])
        self.slot_of_page = np.arange(capacity, dtype=np.int32)
        self.moves: list[LayoutRecord] = []
        """The changes of the layout that haven't been taken back, the oldest first."""
        self._owner = np.full(capacity, -1, np.int32)  # the first id of the page that an id belongs to
        self._graph: ShadowPageGraph | None = None

    @property
    def graph(self) -> ShadowPageGraph:
        """The edges as a graph, built when it is first asked for. Raises `GraphCycleError`."""
        if self._graph is None:
            edges, pages = self.edges, self.allocator.capacity
            self._graph = ShadowPageGraph.from_edges(
                edges.parent, edges.child, weight=edges.weight, kind=edges.kind, num_pages=pages
            )
        return self._graph

    def arrange(self, moved: LayoutRecord) -> None:
        """Enter rows that moved."""
        self.slot_of_page = moved.of(self.slot_of_page)
        self.moves = standing(self.moves, moved, self.slot_of_page)

    @property
    def table(self) -> np.ndarray | None:
        """The slot of each fixed-size page; None: that of its id."""
        return None if np.array_equal(self.slot_of_page, np.arange(len(self.slot_of_page))) else self.slot_of_page

    def records(self) -> tuple[PageRecord, ...]:
        """All live pages as the log would tell of them, in the order in which they were created."""
        return tuple(
            PageRecord("create", page.ids, page.size, page.name, page.location, page.metadata)
            for page in self.pages.values()
        )

    def allocate(self, size: Any, name: Any, location: Any, metadata: Any) -> PageRecord:
        """Choose ids for a new page; nothing is entered yet."""
        size = _positive("size", size)
        check_location(location)
        if name is not None and not as_text("name", name):
            raise InvalidArgumentError("got name=''; a name has at least one character, and None is for a page without")
        if name in self.names:
            raise InvalidArgumentError(
                f"there is a page named {name!r} already; choose another name or delete it first"
            )
        metadata = as_metadata(metadata)
        _, ids = self.allocator.allocate(-(-size // self.page_bytes))
        return PageRecord("create", ids, size, name, location, metadata)

    def existing(self, name: Any, size: Any) -> Page | None:
        """The page of this name, if there is one of this size; otherwise None, and `allocate` says what is wrong."""
        found = self.names.get(name) if isinstance(name, str) else None
        return found if found is not None and found.size == whole_number(size) else None

    def enter(self, record: PageRecord, placement: str = "device") -> Page:
        """Enter a page that the log holds."""
        self.allocator = self.allocator.claim(record.pages)
        generation = int(self.allocator.generation[record.pages[0]])
        return self._hold(self._page(record, placement, generation))

    def altered(self, page: Page, *, size: Any = None, location: Any = None) -> PageRecord:
        """What a page would be; nothing is entered yet. A size takes ids, or leaves some."""
        size = page.size if size is None else _positive("size", size)
        location = page.location if location is None else check_location(location)
        count = -(-size // self.page_bytes)
        ids = page.ids[:count]
        if count > len(ids):
            ids = np.concatenate([ids, self.allocator.allocate(count - len(ids))[1]])
        return PageRecord("alter", ids, size, page.name, location, page.metadata)

    def alter(self, page: Page, record: PageRecord, placement: str = "device") -> Page:
        """Enter what the log says that a page is now. `release` takes the ids that it has left."""
        self.allocator = self.allocator.claim(record.pages[len(page.ids) :])
        return self._hold(self._page(record, placement, page.generation))

    def homes(self) -> dict[str, list[Page]]:
        """The live pages by where they were asked to live; those of the device come last."""
        return {
            location: [page for page in self.pages.values() if page.location == location]
            for location in sorted(LOCATIONS, key="device".__eq__)
        }

    def fallbacks(self) -> int:
        """Fixed-size pages that don't live in the memory that was meant."""
        return sum(len(page.ids) for page in self.pages.values() if page.placement not in ("device", PINNED))

    def release(self, ids: np.ndarray) -> None:
        """Give ids back that an altered page has left."""
        self._owner[ids] = -1
        self.allocator = self.allocator.release(ids)

    def place(self, pages: Sequence[Page], placement: str) -> None:
        """Note the memory in which pages live."""
        for page in pages:
            self._hold(dataclasses.replace(page, placement=placement))

    def remove(self, page: Page) -> None:
        """Forget a page that the log says is deleted."""
        self.release(page.ids)
        del self.pages[page.id]
        if page.name is not None:
            del self.names[page.name]

    def _page(self, record: PageRecord, placement: str, generation: int) -> Page:
        ids = record.pages.copy()
        ids.setflags(write=False)
        metadata = dict(record.metadata)
        return Page(ids, record.size, record.name, record.location, placement, metadata, generation, self.run)

    def owners(self, ids: np.ndarray) -> tuple[Page, ...]:
        """The pages that these ids belong to, each once, by first id; ids that are nobody's are left out."""
        return tuple(self.pages[first] for first in np.unique(self._owner[ids]).tolist() if first >= 0)

    def _hold(self, page: Page) -> Page:
        self.pages[page.id] = page
        self._owner[page.ids] = page.id
        if page.name is not None:
            self.names[page.name] = page
        return page

    def resolve(self, page: Any) -> Page:
        """The live page that a handle, a first id or a name means. Raises `PageNotFoundError`."""
        if isinstance(page, Page):
            found = self.pages.get(page.id)
            if found is None or (found.generation, found.run) != (page.generation, page.run):
                raise PageNotFoundError(f"{page} isn't on this bus; it was deleted, or belongs to another bus")
            return found
        if isinstance(page, str):
            if page not in self.names:
                near = difflib.get_close_matches(page, self.names, n=1)
                known = ", ".join(map(repr, list(self.names)[:5])) or "none"
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise PageNotFoundError(f"there is no page named {page!r}; names on this bus: {known}{hint}")
            return self.names[page]
        number = whole_number(page)
        if number is None:
            raise InvalidTypeError(f"got a {type(page).__name__} for a page; pass a Page, its first id, or its name")
        if number not in self.pages:
            raise PageNotFoundError(f"no page begins at id {number}; it was never created, or is deleted")
        return self.pages[number]

    def ids(self, pages: Any) -> np.ndarray:
        """int32: the ids that a page, an id, a name, or a list or array of them, means. All of them are alive."""
        if isinstance(pages, Page | str):
            return self.resolve(pages).ids
        if isinstance(pages, Sequence) and any(isinstance(page, Page | str) for page in pages):
            return np.concatenate([self.ids(page) for page in pages])
        if isinstance(pages, Sequence) and not pages:
            return np.zeros(0, np.int32)
        try:
            ids = np.atleast_1d(np.asarray(pages))
        except (TypeError, ValueError) as why:
            raise InvalidTypeError(f"got page ids that aren't a regular array ({why}); pass one flat list") from why
        if ids.dtype.kind not in "iu" or ids.ndim != 1:
            raise InvalidTypeError(
                f"got page ids of shape {ids.shape} and dtype {ids.dtype}; pass pages, or a flat list of whole numbers"
            )
        dead = ids[~self.allocator.alive(ids)]
        if dead.size:
            raise PageNotFoundError(f"page {dead[0]} doesn't exist; it was never created, or is deleted")
        return ids.astype(np.int32)

    def new_edges(self, parent: Any, child: Any, kind: Any, weight: Any) -> tuple[EdgeRecords, ShadowPageGraph]:
        """Edges to add, and the graph with them; nothing is entered yet. One side may be a single page."""
        ends = [self.ids(parent), self.ids(child)]
        rows = max(map(len, ends))
        if any(len(ids) not in (1, rows) for ids in ends):
            raise InvalidArgumentError(
                f"got {len(ends[0])} parents and {len(ends[1])} children; pass equally many, or one of either "
                "(a page that spans several fixed-size pages counts for all of them; pass `page.ids[i]` for one)"
            )
        parents, children = (np.ascontiguousarray(np.broadcast_to(ids, rows)) for ids in ends)
        number = EdgeKind.parse(kind)
        self._refuse_doubles(parents, children, number)
        graph = self.graph.with_edges(
            parents, children, weight=np.zeros(rows) if weight is None else weight, kind=number
        )
        weights = None
        if weight is not None:
            weights = np.ascontiguousarray(np.broadcast_to(np.asarray(weight).astype(np.float32), rows))
        return EdgeRecords.of(1, parents, children, np.full(rows, number, np.int8), weights), graph

    def _refuse_doubles(self, parent: np.ndarray, child: np.ndarray, kind: EdgeKind) -> None:
        # A cell of a notebook that is run twice would otherwise count every parent twice, without a word.
        new = parent.astype(np.int64) * self.allocator.capacity + child
        double = self.graph.has_edge(parent, child, kind)
        _, first = np.unique(new, return_index=True)
        double[np.setdiff1d(np.arange(len(new)), first)] = True
        if double.any():
            edge = int(np.argmax(double))
            raise InvalidArgumentError(
                f"{parent[edge]} -> {child[edge]} is a {kind.name.lower()} dependency already, or is passed twice; "
                "a weight can be changed by remove_dependency and adding it again"
            )

    def add_edges(self, edges: EdgeRecords, graph: ShadowPageGraph | None = None) -> None:
        """Enter edges that the log holds; `graph` is the one with them, if it is known."""
        self.edges, self._graph = joined([self.edges, edges]), graph

    def drop_edges(self, parent: Any, child: Any) -> tuple[EdgeRecords, EdgeRecords, ShadowPageGraph]:
        """Edges to remove, those that stay, and the graph of these; nothing is removed yet."""
        one, other = self.ids(parent), self.ids(child)
        if len(one) != 1 or len(other) != 1:
            raise InvalidArgumentError(
                "remove one edge at a time: pass a parent and a child of one fixed-size page each"
            )
        if not self.graph.has_edge(one, other).all():
            raise InvalidArgumentError(f"there is no edge {one[0]} -> {other[0]} to remove")
        gone = (self.edges.parent == one[0]) & (self.edges.child == other[0])
        removed = chosen(self.edges, gone)
        records = EdgeRecords.of(2, removed.parent, removed.child, removed.kind)
        return records, chosen(self.edges, ~gone), self.graph.without_edges(one, other)

    def set_edges(self, edges: EdgeRecords, graph: ShadowPageGraph | None = None) -> None:
        """Replace all edges by some of them; `graph` is the one of these, if it is known."""
        self.edges, self._graph = edges, graph

    def check_unused(self, page: Page, rules: Sequence[Rule], ids: np.ndarray | None = None) -> None:
        """Raise `InvalidArgumentError` when an edge or a rule still needs a page, or some ids of it."""
        ids = page.ids if ids is None else ids
        touching = np.isin(self.edges.parent, ids) | np.isin(self.edges.child, ids)
        if touching.any():
            first = int(np.argmax(touching))
            raise InvalidArgumentError(
                f"{page} has {int(touching.sum())} dependencies, such as {self.edges.parent[first]} -> "
                f"{self.edges.child[first]}; remove them with remove_dependency first"
            )
        for rule in rules:
            if np.isin(rule.pages, ids).any():
                raise InvalidArgumentError(f"{page} is computed by rule {rule.name!r}; it can't be deleted")

    def check_rule(self, rule: Any) -> None:
        """Raise when a rule can't work on this catalogue."""
        if not isinstance(rule, Rule):
            raise InvalidTypeError(f"got a {type(rule).__name__}; pass a Rule(name, pages=…, terms=…, update=…)")
        self.ids(rule.pages)
        check_weights(rule, self.edges)


def check_location(location: Any) -> str:
    """A location as it was passed. Raises `InvalidArgumentError` when there is no such place."""
    if not isinstance(location, str) or location not in LOCATIONS:
        raise InvalidArgumentError(f"got location={location!r}; it is one of {', '.join(map(repr, LOCATIONS))}")
    return location


def _positive(what: str, value: Any) -> int:
    number = as_whole_number(what, value)
    if number <= 0:
        raise InvalidArgumentError(f"got {what}={number}; a page has at least one byte")
    return number


def check_weights(rule: Rule, edges: EdgeRecords) -> None:
    """Raise `InvalidArgumentError` when a weighted term of the rule meets an edge without a weight."""
    if any(term.weighted for term in rule.terms):
        bare = np.isin(edges.child, rule.pages) & ~edges.weighted & (edges.kind == EdgeKind.DATA)
        if bare.any():
            first = int(np.argmax(bare))
            raise InvalidArgumentError(
                f"rule {rule.name!r} has a weighted term, but the dependency {edges.parent[first]} -> "
                f"{edges.child[first]} has no weight; pass weight=… to add_dependency"
            )


def joined(parts: Sequence[EdgeRecords]) -> EdgeRecords:
    """The rows of all parts, in order."""
    none = EdgeRecords.of(1, np.zeros(0, np.int32), np.zeros(0, np.int32))
    return EdgeRecords(*(np.concatenate(column) for column in zip(*map(_columns, [none, *parts]), strict=True)))


def chosen(edges: EdgeRecords, rows: np.ndarray) -> EdgeRecords:
    """Some of the rows, by a mask or by number."""
    return EdgeRecords(*(column[rows] for column in _columns(edges)))


def _columns(edges: EdgeRecords) -> list[np.ndarray]:
    return [edges.op, edges.parent, edges.child, edges.kind, edges.weight, edges.weighted]
