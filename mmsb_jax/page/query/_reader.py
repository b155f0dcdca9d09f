"""A log as it is at one moment, to be searched: reads indexes, and of the segments only frames that can match."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from crc32c import crc32c
from jaxtyping import Int64

from ..._errors import CorruptLogError
from ..log._body import Frame
from ..log._frame import HEADER_BYTES, FrameKind, parse_header
from ..log._identity import read_identity
from ..log._index import Span, Stretch
from ..log._index_file import read_blocks
from ..log._index_writer import scan_stretch
from ..log._segments import segment_start, segments
from ..log._storage import Storage
from ..log._window import WINDOW, Window
from ._wanted import Wanted

__all__ = ["LogReader", "ReadCounts"]

_NEAR = 64 << 10  # frames with less than that between them are read at once
_KEPT = 8  # indexes in memory


@dataclass
class ReadCounts:
    """What a search has cost: segments looked at, indexes that had to be rebuilt, frames and bytes read from segments.

    >>> ReadCounts().rebuilt
    0
    """

    segments: int = 0
    rebuilt: int = 0
    frames: int = 0
    bytes: int = 0


class LogReader:
    """The log as it is now; what is appended later isn't looked at. Never writes or locks; the caller closes `storage`.

    `counts` says what was read, and how many sealed segments had no good index, so that one was rebuilt in memory.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage, self.run = storage, read_identity(storage)
        self.counts = ReadCounts()
        self._rebuilt: set[int] = set()
        self._sealed = lru_cache(_KEPT)(self._load)
        self._first_tick = lru_cache(1 << 16)(self._read_first_tick)
        self.segments = segments(storage)
        self._starts = [segment_start(name) for name in self.segments]
        self._last = self._load(len(self.segments) - 1) if self.segments else []
        self.names: tuple[str, ...] = ()
        self.names = self._read_names()

    def stretches(self, number: int) -> list[Stretch]:
        """What a segment holds, by its place among the segments."""
        return self._last if number == len(self.segments) - 1 else self._sealed(number)

    def frames(self, wanted: Wanted, *, newest_first: bool = False) -> Iterator[Frame]:
        """Iterate over the frames that may hold wanted rows, in order of their numbers or in the reverse one."""
        visited = self._segments_for(wanted)
        for number in visited if newest_first else reversed(list(visited)):
            found = self._found(number, wanted)
            for stretch, positions, tick_before in reversed(found) if newest_first else found:
                yield from self._read(number, stretch, positions, tick_before, newest_first)

    def last_write(self, page: int, tick: int = 2**32 - 1) -> Frame | None:
        """Return the last frame at or before a tick that changed a page, by rows or by deleting it, or None."""
        kinds = (FrameKind.CHANGES, FrameKind.PAGES)
        wanted = Wanted((0, tick), pages=np.array([page], np.int32), kinds=kinds)
        for frame in self.frames(wanted, newest_first=True):
            if frame.kind == FrameKind.PAGES or len(wanted.rows(frame.changes())):
                return frame
        return None

    def _found(self, number: int, wanted: Wanted) -> list[tuple[Stretch, Int64[np.ndarray, " f"], int]]:
        self.counts.segments += 1
        stretches = self.stretches(number)
        ticks = [int(stretch.headers["tick"][-1]) for stretch in stretches]
        before = [int(stretches[0].headers["tick"][0]), *ticks] if stretches else []
        return [(each, wanted.positions(each, tick), tick) for each, tick in zip(stretches, before, strict=False)]

    def _segments_for(self, wanted: Wanted) -> Iterator[int]:
        """The segments that may hold such frames, the last first."""
        number, low = self._between(wanted.ticks)
        while number >= low:
            span = self._span(number) if wanted.selective else None
            if span is None or wanted.may_be_in(span, self.run.capacity):
                yield number
                number -= 1
            else:
                number = bisect_left(self._starts, span.first) - 1

    def _between(self, ticks: tuple[int, int]) -> tuple[int, int]:
        """The last and the first segment that can hold rows of these ticks, by O(log n) of their first headers."""
        numbers = range(len(self.segments))
        last = bisect_right(numbers, ticks[1], key=self._first_tick) - 1
        first = bisect_left(numbers, ticks[0], key=self._first_tick) - 1
        return last, max(first, 0)

    def _read_first_tick(self, number: int) -> int:
        header = parse_header(self.storage.read(self.segments[number], 0, HEADER_BYTES))
        if not isinstance(header, str):
            return header.tick
        if number == len(self.segments) - 1:
            return 2**32  # it was just begun, and holds no frame
        raise CorruptLogError(self.storage.describe(self.segments[number]), 0, header)

    def _span(self, number: int) -> Span | None:
        """What a segment and those before it hold at most, or None if its index doesn't say so of all its frames."""
        found = read_blocks(self.storage, self.run, self.segments[number]).stretches
        return found[-1].span if found and self._reaches_the_end(number, found[-1].after, found[-1].end) else None

    def _reaches_the_end(self, number: int, after: int, end: int) -> bool:
        if number == len(self.segments) - 1:
            return end == self.storage.size(self.segments[number])
        return after == self._starts[number + 1]

    def _load(self, number: int) -> list[Stretch]:
        segment, last = self.segments[number], number == len(self.segments) - 1
        blocks = read_blocks(self.storage, self.run, segment)
        stretches = blocks.stretches
        after, end = (stretches[-1].after, stretches[-1].end) if stretches else (self._starts[number], 0)
        if self._reaches_the_end(number, after, end):
            return stretches
        if not last or blocks.damage is not None:
            self._rebuilt.add(number)
            self.counts.rebuilt = len(self._rebuilt)
        stop = None if last else self._starts[number + 1]
        rest, _ = scan_stretch(self.storage, self.run, after, end, stop)
        return stretches if rest is None else [*stretches, rest]

    def _read_names(self) -> tuple[str, ...]:
        """The table of names. The last segment repeats it, unless it was just begun; then the one before has it."""
        table: dict[int, str] = {0: ""}
        for number in range(max(0, len(self.segments) - 2), len(self.segments)):
            for each, positions, tick in self._found(number, Wanted(kinds=(FrameKind.NAMES,))):
                for frame in self._read(number, each, positions, tick, False):
                    table.update(frame.new_names())
        if sorted(table) != list(range(len(table))):
            where = self.storage.describe(self.segments[-1])
            raise CorruptLogError(where, 0, "its table of names has gaps")
        return tuple(table[number] for number in range(len(table)))

    def _read(
        self, number: int, stretch: Stretch, positions: Int64[np.ndarray, " f"], tick_before: int, backwards: bool
    ) -> Iterator[Frame]:
        """Read some frames of a stretch and check their bodies; those that lie close together in one go."""
        offsets, window = stretch.offsets[positions], Window(self.storage, self.segments[number])
        ends = offsets + HEADER_BYTES + stretch.headers["body_bytes"][positions].astype(np.int64)
        ticks, near = np.append(tick_before, stretch.headers["tick"]), _near(offsets, ends)
        file, known = self.storage.describe(self.segments[number]), len(self.names)
        for i in reversed(range(len(positions))) if backwards else range(len(positions)):
            header, offset = stretch.header(int(positions[i])), int(offsets[i])
            body = window.view(offset + HEADER_BYTES, header.body_bytes, 0 if backwards else int(near[i]))
            frame = Frame(header, body, file, offset, self.run, known, int(ticks[positions[i]]))
            self.counts.frames += 1
            self.counts.bytes += len(body)
            if len(body) < header.body_bytes or crc32c(body) != header.body_crc:
                raise frame.corrupt("the checksum of the frame body is wrong")
            yield frame


def _near(offsets: Int64[np.ndarray, " f"], ends: Int64[np.ndarray, " f"]) -> Int64[np.ndarray, " f"]:
    """How many bytes it is from the body of each frame to the end of those that lie near behind it, within bounds."""
    last_of_run = np.append(np.flatnonzero(offsets[1:] - ends[:-1] >= _NEAR), len(ends) - 1)
    run = np.searchsorted(last_of_run, np.arange(len(ends)))
    return np.minimum(ends[last_of_run[run]] - offsets - HEADER_BYTES, WINDOW)
