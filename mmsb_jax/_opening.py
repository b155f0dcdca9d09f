"""How a session begins: a new run, or what the log of an existing one says."""

import os
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from ._arguments import as_path, as_whole_number
from ._catalog import Catalog, chosen, joined
from ._errors import GraphCycleError, InvalidArgumentError, MMSBError
from .graph import EdgeKind
from .page import (
    CatalogEvent,
    EdgeRecords,
    MemoryStorage,
    PageRecord,
    Storage,
    SyncMode,
    TransactionLog,
    read_frames,
    replay_log,
    verified_state,
)
from .physical import State

__all__ = ["open_session"]

DEFAULT_PAGE_BYTES = 1024
DEFAULT_CAPACITY = 16384


def open_session(path: Any, page_bytes: Any, capacity: Any, sync: SyncMode) -> tuple[TransactionLog, State, Catalog]:
    """The log, open for writing, the state that it describes, and its pages and edges. For the errors see `start`."""
    page_bytes = None if page_bytes is None else as_whole_number("page_bytes", page_bytes)
    capacity = None if capacity is None else as_whole_number("capacity", capacity)
    if path is None:
        return _create(MemoryStorage(), page_bytes, capacity, sync)
    path = as_path(path)
    if _is_new(path):
        return _create(path, page_bytes, capacity, sync)
    log = TransactionLog.open(path, sync=sync)
    try:
        return _resume(path, log, page_bytes, capacity)
    except BaseException:
        log.close()
        raise


def _is_new(path: str) -> bool:
    """Whether nothing is there, or only files of a creation that was killed: `create` tells these from a lost run."""
    if not os.path.isdir(path):
        return not os.path.exists(path)
    entries = set(os.listdir(path))
    if not entries <= {"log", "run.json.new"} or ("log" in entries and not os.path.isdir(os.path.join(path, "log"))):
        return False
    files = list(os.scandir(os.path.join(path, "log"))) if "log" in entries else []
    return all(file.is_file() and (file.name in ("lock", "mark") or _is_segment(file.name)) for file in files)


def _is_segment(file: str) -> bool:
    stem, dot, suffix = file.partition(".")
    return len(stem) == 20 and stem.isdecimal() and dot + suffix == ".seg"


def _create(
    place: str | Storage, page_bytes: int | None, capacity: int | None, sync: SyncMode
) -> tuple[TransactionLog, State, Catalog]:
    page_bytes = DEFAULT_PAGE_BYTES if page_bytes is None else page_bytes
    capacity = DEFAULT_CAPACITY if capacity is None else capacity
    if capacity < 1:
        raise InvalidArgumentError(f"got capacity={capacity}; a bus has room for at least one page")
    state = State.create(capacity, page_bytes=page_bytes)
    log = TransactionLog.create(place, page_words=state.page_words, capacity=capacity, sync=sync)
    return log, state, Catalog(capacity, page_bytes, log.run_id)


def _resume(
    path: str, log: TransactionLog, page_bytes: int | None, capacity: int | None
) -> tuple[TransactionLog, State, Catalog]:
    for what, asked, real in (("page_bytes", page_bytes, 4 * log.page_words), ("capacity", capacity, log.capacity)):
        if asked is not None and asked != real:
            raise InvalidArgumentError(
                f"got {what}={asked}, but the run at {path} has {real}; leave it out, or choose another path"
            )
    replayed = replay_log(path)
    catalog = Catalog(log.capacity, 4 * log.page_words, log.run_id)
    _retell(path, replayed.events, catalog)
    return log, verified_state(replayed), catalog


def _retell(path: str, events: Sequence[CatalogEvent], catalog: Catalog) -> None:
    """Enter what the frames say. Raises `CorruptLogError`, which names the frame, where that can't be."""
    story = _Story(catalog)
    for event in events:
        try:
            story.take(event)
        except MMSBError as why:
            raise next(read_frames(path, start=event.sequence)).corrupt(str(why)) from why
    story.enter_edges()
    try:
        _ = catalog.graph
    except GraphCycleError as why:
        frame = next(read_frames(path, start=story.closing_frame(why.cycle)))
        raise frame.corrupt(str(why)) from why


class _Story:
    """What the frames say, put together; what no bus would have done is refused with `InvalidArgumentError`.

    Every frame costs time in proportion to its own rows: the edges so far are looked up, never gone through.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.told: list[EdgeRecords] = []
        self.sequences: list[int] = []  # of the frame of each row told
        self.rows: dict[int, int] = {}  # the row told last, by key of an edge that is there
        self.edges_at = np.zeros(catalog.allocator.capacity, np.int64)

    def take(self, event: CatalogEvent) -> None:
        """Enter a frame: pages at once, edges when `enter_edges` is called."""
        if isinstance(event.records, EdgeRecords):
            self._take_edges(event.records, event.sequence)
            return
        for record in event.records:
            if record.op == "create":
                self._create(record)
            else:
                self._delete(record)

    def enter_edges(self) -> None:
        """Enter the edges that are left, in the order in which they were added."""
        self.catalog.set_edges(chosen(joined(self.told), np.fromiter(self.rows.values(), np.int64)))

    def closing_frame(self, cycle: Sequence[int]) -> int:
        """The sequence number of the last frame that added an edge between two pages of the cycle."""
        edges = self.catalog.edges
        inside = np.isin(edges.parent, cycle) & np.isin(edges.child, cycle)
        return self.sequences[max(row for row, within in zip(self.rows.values(), inside, strict=True) if within)]

    def _create(self, record: PageRecord) -> None:
        pages, catalog = len(record.pages), self.catalog
        if not pages or -(-record.size // catalog.page_bytes) != pages:
            raise InvalidArgumentError(
                f"a page of {record.size} bytes is created on {pages} pages of {catalog.page_bytes} bytes"
            )
        if record.name in catalog.names:
            raise InvalidArgumentError(f"a page named {record.name!r} is created, but there is one already")
        catalog.enter(record)

    def _delete(self, record: PageRecord) -> None:
        ids = record.pages
        page = self.catalog.pages.get(int(ids[0])) if len(ids) else None
        if page is None or not np.array_equal(page.ids, ids):
            raise InvalidArgumentError(f"a page with ids {ids.tolist()[:10]} is deleted, but there is none")
        if self.edges_at[ids].any():
            raise InvalidArgumentError(f"{page} is deleted, but it still has dependencies")
        self.catalog.remove(page)

    def _take_edges(self, edges: EdgeRecords, sequence: int) -> None:
        self._check_edges(edges)
        pages = len(self.edges_at)
        keys = ((edges.kind.astype(np.int64) * pages + edges.parent) * pages + edges.child).tolist()
        first = len(self.sequences)
        for added, rows in groupby(range(len(edges)), key=(edges.op == 1).tolist().__getitem__):
            run = list(rows)
            if added:
                self._add({keys[row]: first + row for row in run}, len(run))
            else:
                self._remove([keys[row] for row in run])
        self.told.append(edges)
        self.sequences += [sequence] * len(edges)
        change = np.where(edges.op == 1, 1, -1)
        np.add.at(self.edges_at, edges.parent, change)
        np.add.at(self.edges_at, edges.child, change)

    def _check_edges(self, edges: EdgeRecords) -> None:
        ends = np.concatenate([edges.parent, edges.child])
        dead = ends[~self.catalog.allocator.alive(ends)]
        if dead.size:
            raise InvalidArgumentError(f"a dependency names page {dead[0]}, which doesn't exist at this point")
        for kind in np.unique(edges.kind).tolist():
            EdgeKind.parse(kind)
        if np.isnan(edges.weight).any():
            raise InvalidArgumentError("a dependency has a weight that is not a number")

    def _add(self, rows: dict[int, int], count: int) -> None:
        if len(rows) != count or not self.rows.keys().isdisjoint(rows):
            raise InvalidArgumentError("a dependency is added that is there already")
        self.rows.update(rows)

    def _remove(self, keys: Sequence[int]) -> None:
        for key in keys:
            if self.rows.pop(key, None) is None:
                raise InvalidArgumentError("a dependency is removed that isn't there")
