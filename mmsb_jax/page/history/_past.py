"""A run's past as bytes: states at earlier ticks, the rows that touch some pages, and a walk from tick to tick.

A fork knows its past from the moment of the fork on; for what was before it asks its parent.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt32

from ..._errors import InvalidArgumentError, LogNotFoundError
from ..log._body import Frame
from ..log._changes import PageChanges
from ..log._frame import HEADER_BYTES, FrameKind, parse_header
from ..log._identity import read_identity
from ..log._records import PageRecord
from ..log._scan import LogScanner, read_frames
from ..log._segments import read_base, segment_start, segments
from ..log._storage import Place, Storage, opened
from ..query._select import select
from ._parent import find_parent, read_parent
from ._replay import Replayed, replay
from ._target import Target

__all__ = ["Moment", "Past", "Rows"]


class Moment(NamedTuple):
    """The state at one tick; `pages` is overwritten when the walk goes on."""

    tick: int
    pages: UInt32[np.ndarray, "capacity W"]


class Rows(NamedTuple):
    """Rows of one commit, and the table of names that its ids belong to."""

    frame: Frame
    changes: PageChanges
    names: tuple[str, ...]


class Past:
    """The past of a run up to the moment at which this object was made. Opening reads the end of the log alone."""

    def __init__(self, place: Place) -> None:
        self.place = place
        with opened(place) as storage:
            self.run = read_identity(storage)
            self._base = read_base(storage, self.run.salt)
            self._parent = read_parent(storage)
            last = segments(storage)[-2:]
            scanner = LogScanner(storage, self.run, start=segment_start(last[0]) if last else 0, bodies=False)
            for _ in scanner:
                pass
            self.last, self.names = scanner.tick, tuple(scanner.names)
        self.lost = ""
        if self._parent is not None and self._base.tick > self._parent.tick:
            # What came between is gone, and at those ticks the parent was in another future.
            self.lost = f"The log was compacted behind epoch {self._parent.tick}, where this run left its parent"
            self._parent = None

    @cached_property
    def parent(self) -> "Past | None":
        """The past of the run that this one was forked from; None when there is none, or `lost` says why."""
        if self._parent is None:
            return None
        with opened(self.place) as storage:
            try:
                return Past(find_parent(storage, self._parent))
            except LogNotFoundError as why:
                self.lost = str(why)
                return None

    @property
    def first(self) -> int:
        """The earliest tick that can be read: 0, unless the log was compacted; a fork's is that of its parent."""
        return self._base.tick if self.parent is None else min(self.parent.first, self._base.tick)

    def records(self) -> tuple[PageRecord, ...]:
        """The records of the PAGES frames at the very beginning of the log, before anything was written."""
        found: tuple[PageRecord, ...] = ()
        for frame in read_frames(self.place):
            if frame.kind == FrameKind.PAGES:
                found += frame.pages()
            elif frame.kind == FrameKind.CHANGES:
                break
        return found

    def at(self, tick: int) -> Replayed:
        """The state at a tick. Raises `InvalidArgumentError` when the log doesn't reach it."""
        if tick < self._base.tick and self.parent is not None:
            return self.parent.at(tick)
        if tick > self.last:
            raise InvalidArgumentError(f"got epoch {tick}, but the log ends at {self.last}; pass at most that")
        return replay(self.place, until_tick=tick)._replace(tick=tick)

    def rows(self, pages: np.ndarray, first: int, last: int) -> Iterator[Rows]:
        """Iterate over the rows that touch some pages, from one tick to another, oldest first, commit by commit."""
        own = 0
        if self.parent is not None:
            own = self._base.merged + 1
            if first <= self._base.tick:
                yield from self.parent.rows(pages, first, min(last, self._base.tick))
        for frame, changes in select(self.place, pages=pages, ticks=(first, last)):
            if frame.sequence >= own:
                yield Rows(frame, changes, self.names)

    def walk(self, first: int, last: int, wanted: Bool[np.ndarray, " ticks"]) -> Iterator[Moment]:
        """Go from tick `first` to `last`, both included, over those that `wanted` marks, counted from `first`.

        One state is held, and changed in place. A tick at which nothing was written shows the state before.
        """
        if self.parent is not None and first < self._base.tick:
            before = self._base.tick - first
            yield from self.parent.walk(first, min(last, self._base.tick - 1), wanted[:before])
            first, wanted = self._base.tick, wanted[before:]
        if first <= last:
            yield from self._walk(first, last, wanted)

    def _walk(self, first: int, last: int, wanted: Bool[np.ndarray, " ticks"]) -> Iterator[Moment]:
        start = self.at(first)
        target = Target(len(start.pages), start.pages.shape[1], start.pages, start.epoch)

        def shown(begin: int, end: int) -> Iterator[Moment]:
            for tick in range(begin, min(end, last) + 1):
                if wanted[tick - first]:
                    yield Moment(tick, target.pages)

        at = first
        for tick, enter in _writes(self.place, start.sequence + 1, first):
            if tick > at:
                yield from shown(at, tick - 1)
                at = tick
            if tick > last:
                return
            enter(target)
        yield from shown(at, last)

    def tick_at(self, time_ns: int) -> int:
        """The tick of the last commit at or before a time. Raises `InvalidArgumentError` when there is none.

        Looks at the first header of O(log n) segments, then at the frames of one.
        """
        with opened(self.place) as storage:
            names = segments(storage)
            at = max(0, bisect_right(names, time_ns, key=lambda name: _time_of(storage, name)) - 1)
            found = -1
            for frame in LogScanner(storage, self.run, start=segment_start(names[at]), bodies=False):
                if frame.kind in (FrameKind.HEADER, FrameKind.NAMES):
                    continue
                if frame.time_ns > time_ns:
                    break
                found = frame.tick
        if found >= 0:
            return max(found, self._base.tick)
        if self.parent is not None:
            return min(self.parent.tick_at(time_ns), self._base.tick)
        raise InvalidArgumentError(f"nothing had been committed at {time_ns} ns since 1970; pass a later time")


def _writes(place: Place, sequence: int, after: int) -> Iterator[tuple[int, Callable[[Target], None]]]:
    """What was written from a frame on and after a tick, tick by tick, as functions that enter it."""
    for frame in read_frames(place, start=sequence):
        if frame.kind == FrameKind.PAGES:
            yield frame.tick, partial(Target.take, frame=frame)
        elif frame.kind == FrameKind.CHANGES:
            for tick, rows in _by_tick(frame, after):
                yield tick, partial(Target.enter, changes=rows, tick=tick)


def _by_tick(frame: Frame, after: int) -> Iterator[tuple[int, PageChanges]]:
    changes = frame.changes()
    if changes.tick is None:
        yield frame.tick, changes
    else:
        yield from changes.take(changes.tick > after).by_tick()


def _time_of(storage: Storage, name: str) -> int:
    header = parse_header(storage.read(name, 0, HEADER_BYTES))
    return 2**64 if isinstance(header, str) else header.time_ns
