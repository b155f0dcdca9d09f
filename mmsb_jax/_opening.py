"""How a session begins: a new run, or what the log of an existing one says."""

import os
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from ._arguments import as_path, as_whole_number
from ._catalog import Catalog, check_location, chosen, joined
from ._engine import Engine
from ._errors import GraphCycleError, InvalidArgumentError, MMSBError
from .graph import EdgeKind
from .page import (
    CatalogEvent,
    EdgeRecords,
    LayoutRecord,
    MemoryStorage,
    PageRecord,
    Storage,
    SyncMode,
    TransactionLog,
    check_digest,
    read_frames,
    replay_log,
    verified_state,
)
from .physical import State, page_words_of

__all__ = ["open_session"]

DEFAULT_PAGE_BYTES = 1024
DEFAULT_CAPACITY = 16384


class Room(NamedTuple):
    """What was asked for; None for what is right."""

    page_bytes: int | None
    capacity: int | None
    device_pages: int | None

    @classmethod
    def of(cls, **asked: Any) -> "Room":
        """From the arguments of `start`. Raises `InvalidTypeError`, `InvalidArgumentError`."""
        numbers = {what: None if value is None else as_whole_number(what, value) for what, value in asked.items()}
        for what in ("capacity", "device_pages"):
            if (number := numbers[what]) is not None and number < 1:
                raise InvalidArgumentError(f"got {what}={number}; a bus has room for at least one page")
        return cls(**numbers)


def open_session(
    path: Any, page_bytes: Any, capacity: Any, device_pages: Any, sync: SyncMode
) -> tuple[TransactionLog, Engine, Catalog]:
    """The log, open for writing, the state that it describes, and its pages and edges. For the errors see `start`."""
    room = Room.of(page_bytes=page_bytes, capacity=capacity, device_pages=device_pages)
    if path is None:
        return _create(MemoryStorage(), room, sync)
    path = as_path(path)
    if _is_new(path):
        return _create(path, room, sync)
    log = TransactionLog.open(path, sync=sync)
    try:
        return _resume(path, log, room)
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
    """Whether a file is named like a segment, or like the index of one."""
    stem, dot, suffix = file.partition(".")
    return len(stem) == 20 and stem.isdecimal() and dot + suffix in (".seg", ".idx")


def _create(place: str | Storage, room: Room, sync: SyncMode) -> tuple[TransactionLog, Engine, Catalog]:
    page_bytes = DEFAULT_PAGE_BYTES if room.page_bytes is None else room.page_bytes
    capacity = DEFAULT_CAPACITY if room.capacity is None else room.capacity
    page_words = page_words_of(page_bytes)
    if room.device_pages is None:
        engine = Engine(State.create(capacity, page_bytes=page_bytes))
    else:
        engine = Engine.limited(min(room.device_pages, capacity), np.zeros(capacity, np.uint32), page_words)
    log = TransactionLog.create(place, page_words=page_words, capacity=capacity, sync=sync)
    return log, engine, Catalog(capacity, page_bytes, log.run_id)


def _resume(path: str, log: TransactionLog, room: Room) -> tuple[TransactionLog, Engine, Catalog]:
    asked = (("page_bytes", room.page_bytes, 4 * log.page_words), ("capacity", room.capacity, log.capacity))
    for what, number, real in asked:
        if number is not None and number != real:
            raise InvalidArgumentError(
                f"got {what}={number}, but the run at {path} has {real}; leave it out, or choose another path"
            )
    replayed = replay_log(path)
    catalog = Catalog(log.capacity, 4 * log.page_words, log.run_id)
    _retell(path, replayed.events, catalog)
    if room.device_pages is None:
        engine = Engine(verified_state(replayed))
    else:
        rows = min(room.device_pages, log.capacity)
        engine = Engine.limited(rows, replayed.epoch, log.page_words, tick=replayed.tick, pages=replayed.pages)
        check_digest(replayed, engine.lanes())
    for location, pages in catalog.homes().items():
        if pages:
            catalog.place(pages, engine.place(np.concatenate([page.ids for page in pages]), location))
    return log, engine, catalog


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
        if isinstance(event.records, LayoutRecord):
            self.catalog.arrange(event.records)
            return
        lost = np.zeros(0, np.int32)
        for record in event.records:
            if record.op == "create":
                self._create(record)
            elif record.op == "alter":
                lost = np.concatenate([lost, self._alter(record)])
            elif len(record.pages) and np.isin(record.pages, lost).all():
                lost = self._give_back(record.pages, lost)
            else:
                self._delete(record)
        if len(lost):
            raise InvalidArgumentError(f"page {lost[0]} is nobody's, and isn't given back")

    def enter_edges(self) -> None:
        """Enter the edges that are left, in the order in which they were added."""
        self.catalog.set_edges(chosen(joined(self.told), np.fromiter(self.rows.values(), np.int64)))

    def closing_frame(self, cycle: Sequence[int]) -> int:
        """The sequence number of the last frame that added an edge between two pages of the cycle."""
        edges = self.catalog.edges
        inside = np.isin(edges.parent, cycle) & np.isin(edges.child, cycle)
        return self.sequences[max(row for row, within in zip(self.rows.values(), inside, strict=True) if within)]

    def _create(self, record: PageRecord) -> None:
        self._check(record)
        if record.name in self.catalog.names:
            raise InvalidArgumentError(f"a page named {record.name!r} is created, but there is one already")
        self.catalog.enter(record)

    def _check(self, record: PageRecord) -> None:
        pages, page_bytes = len(record.pages), self.catalog.page_bytes
        if not pages or -(-record.size // page_bytes) != pages:
            raise InvalidArgumentError(
                f"a page of {record.size} bytes is created on {pages} pages of {page_bytes} bytes"
            )
        check_location(record.location)

    def _alter(self, record: PageRecord) -> np.ndarray:
        """Returns the ids that are nobody's now."""
        self._check(record)
        page = self.catalog.pages.get(int(record.pages[0]))
        kept = 0 if page is None else min(len(page.ids), len(record.pages))
        if page is None or page.name != record.name or not np.array_equal(page.ids[:kept], record.pages[:kept]):
            raise InvalidArgumentError(f"a page with ids {record.pages.tolist()[:10]} is altered, but there is none")
        self.catalog.alter(page, record)
        return page.ids[kept:]

    def _give_back(self, ids: np.ndarray, lost: np.ndarray) -> np.ndarray:
        if self.edges_at[ids].any():
            raise InvalidArgumentError(f"page {ids[0]} is deleted, but it still has dependencies")
        self.catalog.release(ids)
        return np.setdiff1d(lost, ids)

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
