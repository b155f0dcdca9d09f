"""What follows from a commit, once it is in the log: for open transactions, along edges, and for subscribers."""

from typing import Any, Protocol
from weakref import WeakSet

import numpy as np

from ._catalog import Catalog, Page
from ._delivery import Delivery
from ._effects import Effects
from ._events import CustomEvent, DeltaApplied, Event, EventKind, PagesMarked
from .graph import EdgeKind
from .page import EdgeRecords, PageChanges, TransactionLog

__all__ = ["Watch"]

_MARKS = {
    EdgeKind.CONTROL: EventKind.PAGE_STALE,
    EdgeKind.DEVICE_SYNC: EventKind.SYNC_NEEDED,
    EdgeKind.COMPILER: EventKind.ARTEFACT_INVALIDATED,
}


class Outdated(Protocol):
    """Whoever has to know which pages others have changed."""

    def outdated(self, ids: np.ndarray) -> None:
        """These fixed-size pages are no longer what they were."""


class Watch:
    """Who is to know what happens to the pages of a bus."""

    def __init__(self, log: TransactionLog, catalog: Catalog) -> None:
        self._log, self._catalog = log, catalog
        self.delivery = Delivery()
        self.effects = Effects(catalog.edges, catalog.allocator.capacity)
        self.transactions: WeakSet[Outdated] = WeakSet()
        self.ruled = np.zeros(catalog.allocator.capacity, np.bool_)
        """Which pages have a rule."""

    def committed(
        self, changes: PageChanges, intent: str | None, *, waved: bool, refreshed: np.ndarray | None = None
    ) -> None:
        """These changes are in the log. `waved`: a wave was among them; `refreshed`: stale pages that it recomputed."""
        ids = np.unique(changes.page)
        for each in list(self.transactions):
            each.outdated(ids)
        by_hand = ids[~self.ruled[ids]]
        fresh = by_hand if refreshed is None else np.union1d(by_hand, refreshed)
        marked = self.effects.spread(self._catalog.edges, ids, fresh)
        names = self._tell_changes(changes, intent)
        about: dict[str, Any] = {"source": names[0] if len(names) == 1 else None, "intent": intent, "causes": ids}
        if not waved and self.delivery.wanted(EventKind.PAGE_INVALIDATED):
            children = self._catalog.graph.children(ids, EdgeKind.DATA)
            self._tell(PagesMarked, EventKind.PAGE_INVALIDATED, children, **about)
        for edge, new in marked.items():
            self._tell(PagesMarked, _MARKS[edge], new, **about)

    def created(self, page: Page) -> None:
        """A page is there."""
        self._tell(Event, EventKind.PAGE_CREATED, page.ids)

    def deleted(self, page: Page) -> None:
        """A page is gone, from the catalogue too."""
        self._tell(Event, EventKind.PAGE_DELETED, page.ids, pages=(page,))

    def resized(self, page: Page, before: Page) -> None:
        """A page has another size."""
        for each in list(self.transactions):
            each.outdated(before.ids)
        self._tell(Event, EventKind.PAGE_CHANGED, page.ids, source="resize")

    def erased(self, ids: np.ndarray) -> None:
        """These fixed-size pages are zero, and nobody's from now on."""
        for each in list(self.transactions):
            each.outdated(ids)
        self.effects.forget(ids)

    def rewired(self, edges: EdgeRecords) -> None:
        """These edges are there now, or no longer."""
        data = edges.kind == EdgeKind.DATA
        causes = np.unique(edges.parent[data])
        self._tell(PagesMarked, EventKind.PAGE_INVALIDATED, np.unique(edges.child[data]), causes=causes)

    def synced(self, ids: np.ndarray) -> None:
        """These pages were brought to where they are computed with."""
        self.effects.unsynced[ids] = False
        self._tell(Event, EventKind.SYNC_DONE, ids)

    def emitted(self, kind: str, ids: np.ndarray, pages: tuple[Page, ...], **more: Any) -> None:
        """Somebody tells of something."""
        if self.delivery.wanted(kind):
            self.delivery.put(CustomEvent(kind=kind, tick=self._log.tick, pages=pages, ids=_frozen(ids), **more))

    def _tell_changes(self, changes: PageChanges, intent: str | None) -> list[str]:
        """Returns the names of the sources, in the order of their first rows."""
        sources = list(dict.fromkeys(changes.source.tolist()))
        names = [self._log.names[source] for source in sources]
        if self.delivery.wanted(EventKind.DELTA_APPLIED, EventKind.PAGE_CHANGED):
            for source, name in zip(sources, names, strict=True):
                rows = changes.take(changes.source == source)
                ids = np.unique(rows.page)
                self._tell(DeltaApplied, EventKind.DELTA_APPLIED, ids, source=name, intent=intent, changes=rows)
                self._tell(Event, EventKind.PAGE_CHANGED, ids, source=name, intent=intent)
        return names

    def _tell(self, what: type[Event], kind: EventKind, ids: np.ndarray, **more: Any) -> None:
        if len(ids) and self.delivery.wanted(kind):
            pages = more.pop("pages", None) or self._catalog.owners(ids)
            self.delivery.put(what(kind=kind, tick=self._log.tick, pages=pages, ids=_frozen(ids), **more))


def _frozen(ids: np.ndarray) -> np.ndarray:
    ids = np.sort(ids).astype(np.int32)
    ids.setflags(write=False)
    return ids
