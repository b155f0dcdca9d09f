"""A run's past as bytes: states at earlier ticks, the rows that touch some pages, and a walk from tick to tick."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt32

from .._errors import InvalidArgumentError
from ._body import Frame
from ._changes import PageChanges
from ._frame import HEADER_BYTES, FrameKind, parse_header
from ._identity import RunIdentity, read_identity
from ._records import PageRecord
from ._replay import Replayed, replay
from ._scan import LogScanner, read_frames
from ._segments import read_base, segment_start, segments
from ._storage import Place, Storage, as_storage
from ._target import Target

__all__ = ["Extent", "Moment", "extent", "first_records", "moments", "rows_of", "state_at", "tick_at_time"]


class Extent(NamedTuple):
    """From where to where a log reaches."""

    run: RunIdentity
    first: int
    """The earliest tick that can be read: 0, unless the log was compacted."""
    last: int
    """The tick of the last commit."""
    sequence: int
    """The number of the last frame."""
    names: tuple[str, ...]
    """The table of names of sources and intents."""


class Moment(NamedTuple):
    """The state at one tick; `pages` is overwritten when the walk goes on."""

    tick: int
    pages: UInt32[np.ndarray, "capacity W"]


def extent(place: Place) -> Extent:
    """Return how far a log reaches. Reads its last two segments, however long it is."""
    storage = as_storage(place, must_exist=True)
    try:
        run = read_identity(storage)
        last = segments(storage)[-2:]
        scanner = LogScanner(storage, run, start=segment_start(last[0]) if last else 0, verify=False)
        for _ in scanner:
            pass
        return Extent(run, read_base(storage, run.salt).tick, scanner.tick, scanner.expected - 1, tuple(scanner.names))
    finally:
        _close(storage, place)


def first_records(place: Place) -> tuple[PageRecord, ...]:
    """Return the records of the PAGES frames at the very beginning of a log, before anything was written."""
    found: tuple[PageRecord, ...] = ()
    for frame in read_frames(place):
        if frame.kind == FrameKind.PAGES:
            found += frame.pages()
        elif frame.kind == FrameKind.CHANGES:
            break
    return found


def state_at(place: Place, tick: int) -> Replayed:
    """Return the state at a tick. Raises `InvalidArgumentError` when the log doesn't reach it."""
    found = replay(place, until_tick=tick)
    if found.tick < tick:
        raise InvalidArgumentError(f"got epoch {tick}, but the log ends at {found.tick}; pass at most that")
    return found


def rows_of(
    place: Place, pages: np.ndarray, first: int = 0, last: int | None = None
) -> Iterator[tuple[Frame, PageChanges]]:
    """Iterate over the rows that touch some pages, from tick `first` to `last`, oldest first, commit by commit."""
    for frame in read_frames(place):
        if last is not None and frame.tick > last and not frame.has_ticks:
            return
        if frame.kind != FrameKind.CHANGES or frame.tick < first:
            continue
        changes = frame.changes() if last is None else frame.changes().until(last)
        wanted: Bool[np.ndarray, " n"] = np.isin(changes.page, pages)
        if changes.tick is not None:
            wanted &= changes.tick >= first
        if wanted.any():
            yield frame, changes.take(wanted)
        if last is not None and frame.tick > last:
            return


def moments(place: Place, first: int, last: int, wanted: Bool[np.ndarray, " ticks"] | None = None) -> Iterator[Moment]:
    """Walk from tick `first` to `last`, both included, or over those that `wanted` marks, counted from `first`.

    One state is held, and changed in place. A tick at which nothing was written shows the state before.
    """
    start = state_at(place, first)
    target = Target(*start.pages.shape, start.pages, start.epoch)

    def shown(begin: int, end: int) -> Iterator[Moment]:
        for tick in range(begin, min(end, last) + 1):
            if wanted is None or wanted[tick - first]:
                yield Moment(tick, target.pages)

    at = first
    for tick, enter in _writes(place, start.sequence + 1, first):
        if tick > at:
            yield from shown(at, tick - 1)
            at = tick
        if tick > last:
            return
        enter(target)
    yield from shown(at, last)


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


def tick_at_time(place: Place, time_ns: int) -> int:
    """Return the tick of the last commit at or before a time. Raises `InvalidArgumentError` when there is none.

    Looks at the first header of O(log n) segments, then at the frames of one.
    """
    storage = as_storage(place, must_exist=True)
    try:
        run = read_identity(storage)
        names = segments(storage)
        at = max(0, bisect_right(names, time_ns, key=lambda name: _time_of(storage, name)) - 1)
        found = -1
        for frame in LogScanner(storage, run, start=segment_start(names[at]), verify=False):
            if frame.kind in (FrameKind.HEADER, FrameKind.NAMES):
                continue
            if frame.time_ns > time_ns:
                break
            found = frame.tick
    finally:
        _close(storage, place)
    if found < 0:
        raise InvalidArgumentError(f"nothing had been committed at {time_ns} ns since 1970; pass a later time")
    return found


def _time_of(storage: Storage, name: str) -> int:
    header = parse_header(storage.read(name, 0, HEADER_BYTES))
    return 2**64 if isinstance(header, str) else header.time_ns


def _close(storage: Storage, place: Place) -> None:
    if storage is not place:
        storage.close()
