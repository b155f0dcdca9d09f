"""The commits of a log, one line each: when, who, why, how much. Headers and indexes tell, where no rows are chosen."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from ..._errors import CorruptLogError
from ..log._body import Frame
from ..log._changes import PageChanges
from ..log._frame import TICKS, FrameHeader, FrameKind
from ..log._index import Stretch
from ..log._storage import Place
from ._reader import LogReader
from ._tail import follow
from ._wanted import Wanted

__all__ = ["COMMITS", "Commit", "commits", "commits_to_come"]

COMMITS = (FrameKind.CHANGES, FrameKind.PAGES, FrameKind.EDGES, FrameKind.LAYOUT)
_LAST_TICK = 2**32 - 1


class Commit(NamedTuple):
    """One commit of a log, or what of it was asked for.

    >>> Commit(7, 5, 8, 1_700_000_000_000_000_000, FrameKind.CHANGES, 12, ("step",), "", None).time.year
    2023
    """

    sequence: int
    """Its number among the frames of the log."""
    first: int
    """The first tick in it: of a chunk of recorded steps the one behind the chunk before, else the same as `tick`."""
    tick: int
    """The last tick in it."""
    time_ns: int
    """When it was made, in nanoseconds since 1970."""
    kind: FrameKind
    """Whether it changed contents, pages, edges or the layout."""
    rows: int
    """How many changed pages it holds (records of pages, edges, slots); those that were asked for, where some were."""
    sources: tuple[str, ...]
    """Who wrote them."""
    intent: str
    """Why; empty where nobody said."""
    digest: tuple[int, int] | None
    """That of the state after it."""

    @property
    def time(self) -> datetime:
        """When it was made, in UTC."""
        return datetime.fromtimestamp(self.time_ns / 1e9, UTC)


def commits(reader: LogReader, wanted: Wanted, last: int | None) -> Iterator[Commit]:
    """Iterate over the commits that hold something wanted, oldest first; over the last so many of them only."""
    if last is None:
        yield from _found(reader, wanted, newest_first=False)
    else:
        yield from reversed(list(islice(_found(reader, wanted, newest_first=True), last)))


def commits_to_come(
    place: Place, reader: LogReader, wanted_in: Callable[[LogReader], Wanted], stop: Callable[[], bool] | None
) -> Iterator[Commit]:
    """Iterate over commits that are written after a reader was made, and wait for more. `wanted_in` says which."""
    start = reader.stretches(len(reader.segments) - 1)[-1].after
    wanted = wanted_in(reader)
    for frame in follow(place, start=start, stop=stop):
        if frame.kind == FrameKind.NAMES:
            reader.names += tuple(name for number, name in frame.new_names() if number >= len(reader.names))
        if frame.kind in (FrameKind.NAMES, FrameKind.PAGES):
            wanted = wanted_in(reader)
        if commit := _commit(frame, wanted, reader.names):
            yield commit


def _found(reader: LogReader, wanted: Wanted, *, newest_first: bool) -> Iterator[Commit]:
    if not _needs_rows(wanted):
        yield from _from_indexes(reader, wanted, newest_first)
        return
    for frame in reader.frames(wanted, newest_first=newest_first):
        if commit := _commit(frame, wanted, reader.names):
            yield commit


def _needs_rows(wanted: Wanted) -> bool:
    """Whether frames must be opened to know what is wanted of them."""
    some_rows = wanted.pages is not None or wanted.sources is not None or wanted.words is not None
    return some_rows or wanted.ticks[0] > 0 or wanted.ticks[1] < _LAST_TICK


def _commit(frame: Frame, wanted: Wanted, names: Sequence[str]) -> Commit | None:
    """What is wanted of a frame, or None when that is nothing."""
    if frame.kind not in wanted.kinds or not _fits(frame.header, wanted):
        return None
    if frame.kind != FrameKind.CHANGES:
        return _line(frame.header, (frame.tick, frame.tick), frame.rows, [], names, (frame.file, frame.offset))
    changes = wanted.rows(frame.changes())
    if _needs_rows(wanted) and not len(changes):
        return None
    ticks = _ticks(frame, changes, whole=not _needs_rows(wanted))
    sources = np.unique(changes.source).tolist()
    return _line(frame.header, ticks, len(changes), sources, names, (frame.file, frame.offset))


def _fits(header: FrameHeader, wanted: Wanted) -> bool:
    within = wanted.times[0] <= header.time_ns <= wanted.times[1] and wanted.ticks[0] <= header.tick
    if not header.flags & TICKS:
        within = within and header.tick <= wanted.ticks[1]
    return within and (wanted.intents is None or header.intent in wanted.intents)


def _ticks(frame: Frame, changes: PageChanges, *, whole: bool) -> tuple[int, int]:
    if changes.tick is None:
        return frame.tick, frame.tick
    if whole:
        return min(frame.tick_before + 1, frame.tick), frame.tick
    return int(changes.tick[0]), int(changes.tick[-1])


def _from_indexes(reader: LogReader, wanted: Wanted, newest_first: bool) -> Iterator[Commit]:
    numbers = range(len(reader.segments))
    for number in reversed(numbers) if newest_first else numbers:
        lines: deque[Iterator[Commit]] = deque()
        tick = -1
        for stretch in reader.stretches(number):
            tick = int(stretch.headers["tick"][0]) if tick < 0 else tick
            positions = wanted.positions(stretch, tick)
            file = reader.storage.describe(reader.segments[number])
            lines.append(_lines(stretch, positions[::-1] if newest_first else positions, tick, reader.names, file))
            tick = int(stretch.headers["tick"][-1])
        for each in reversed(lines) if newest_first else lines:
            yield from each


def _lines(
    stretch: Stretch, positions: Int64[np.ndarray, " f"], tick_before: int, names: Sequence[str], file: str
) -> Iterator[Commit]:
    before = np.append(np.int64(tick_before), stretch.headers["tick"].astype(np.int64))
    ends, offsets = np.cumsum(stretch.sources.counts, dtype=np.int64), stretch.offsets
    for at in positions.tolist():
        header = stretch.header(at)
        first = min(int(before[at]) + 1, header.tick) if header.flags & TICKS else header.tick
        ids = stretch.sources.ids[ends[at] - int(stretch.sources.counts[at]) : ends[at]]
        sources = np.unique(ids).tolist() if header.kind == FrameKind.CHANGES else []
        yield _line(header, (first, header.tick), header.rows, sources, names, (file, int(offsets[at])))


def _line(
    header: FrameHeader,
    ticks: tuple[int, int],
    rows: int,
    sources: Sequence[int],
    names: Sequence[str],
    place: tuple[str, int],
) -> Commit:
    for number in (header.intent, *sources):
        if not 0 <= number < len(names):
            raise CorruptLogError(*place, f"name {number} is not in the table of {len(names)} names")
    by, why = tuple(names[number] for number in sources), names[header.intent]
    return Commit(header.sequence, *ticks, header.time_ns, FrameKind(header.kind), rows, by, why, header.digest)
