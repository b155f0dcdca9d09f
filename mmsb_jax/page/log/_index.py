"""What a stretch of a segment holds, known without reading it: the headers, and each frame's pages and sources.

Headers and page columns are kept as they were written. Comparing a segment's whole column with a page takes a tenth of
a millisecond, less than reading it, so there is nothing to sort. Spans join stretches of many segments, as the nodes of
a Fenwick tree do: a search passes over what can't match in a logarithmic number of looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Int64, Integer, UInt8, UInt32

from ._changes import PageChanges
from ._frame import HEADER_BYTES, HEADERS, FrameHeader
from ._records import PageRecord

__all__ = ["Column", "Held", "Span", "Stretch", "StretchBuilder", "deleted_pages", "id_type"]

_MOST_BITS = 1 << 20  # 128 KiB per segment at most; larger page ids share bits, which costs a look and never an answer

Held = PageChanges | Int32[np.ndarray, " p"] | None
"""What an index is told of a frame's body: rows, or deleted pages."""


def deleted_pages(records: Sequence[PageRecord]) -> Int32[np.ndarray, " p"]:
    """Return the pages whose contents a PAGES frame changes: those it deletes."""
    return np.concatenate([np.empty(0, np.int32), *(record.pages for record in records if record.op == "delete")])


@dataclass(frozen=True, eq=False)
class Column:
    """The ids that each frame of a stretch holds: `counts[i]` of them for frame `i`, one frame after the other.

    >>> column = Column(np.array([2, 0, 1], np.uint32), np.array([7, 3, 7], np.int32))
    >>> column.frames_of(np.array([7], np.int32)).tolist(), column.frames_of(np.array([3, 4], np.int32)).tolist()
    ([0, 2], [0])
    """

    counts: UInt32[np.ndarray, " n"]
    ids: Integer[np.ndarray, " rows"]

    def frames_of(self, wanted: Int32[np.ndarray, " w"]) -> Int64[np.ndarray, " f"]:
        """The positions of the frames that hold any of some ids, ascending."""
        rows = np.flatnonzero(self.ids == int(wanted[0]) if len(wanted) == 1 else np.isin(self.ids, wanted))
        return np.unique(np.searchsorted(np.cumsum(self.counts, dtype=np.int64), rows, side="right"))

    def without_runs(self) -> "Column":
        """The same with equal ids that follow each other in a frame taken together."""
        first_row = np.cumsum(self.counts, dtype=np.int64) - self.counts
        new: Bool[np.ndarray, " rows"] = np.ones(len(self.ids), np.bool_)
        np.not_equal(self.ids[1:], self.ids[:-1], out=new[1:])
        new[first_row[self.counts > 0]] = True
        kept = np.flatnonzero(new)
        edges = np.searchsorted(kept, np.append(first_row, len(self.ids)))
        return Column(np.diff(edges).astype(np.uint32), self.ids[kept])


class Span(NamedTuple):
    """What there is from frame `first` to the end of a segment: times, kinds of frames, changed pages.

    A segment's span covers `2**level` segments, fewer if some were cut away. It says "perhaps", or surely not.
    """

    first: int
    level: int
    earliest: int
    latest: int
    kinds: int
    """Bit `k` stands for kind `k`."""
    pages: UInt8[np.ndarray, " bytes"]

    @staticmethod
    def bits(capacity: int) -> int:
        """How many bits tell pages apart."""
        return min(capacity, _MOST_BITS)

    def joined(self, before: "Span") -> "Span":
        """This span and the one before it as one."""
        earliest, latest = min(self.earliest, before.earliest), max(self.latest, before.latest)
        pages = self.pages | before.pages
        return Span(before.first, self.level + 1, earliest, latest, self.kinds | before.kinds, pages)


@dataclass(frozen=True, eq=False)
class Stretch:
    """Consecutive frames of a segment: the first one's offset, the headers, and who holds what.

    A frame holds a page when it changes the page's contents: by rows, or by deleting the page.
    """

    offset: int
    headers: np.ndarray
    pages: Column
    sources: Column
    span: Span | None = None

    def __len__(self) -> int:
        return len(self.headers)

    @property
    def first(self) -> int:
        """The sequence number of the first frame."""
        return int(self.headers["sequence"][0])

    @property
    def after(self) -> int:
        """The sequence number behind the last frame."""
        return self.first + len(self.headers)

    @property
    def end(self) -> int:
        """Where the last frame ends in the segment."""
        return self.offset + len(self) * HEADER_BYTES + int(self.headers["body_bytes"].sum())

    @property
    def offsets(self) -> Int64[np.ndarray, " n"]:
        """Where each frame begins in the segment."""
        sizes = self.headers["body_bytes"].astype(np.int64) + HEADER_BYTES
        return self.offset + np.cumsum(sizes) - sizes

    def header(self, position: int) -> FrameHeader:
        """The header of one frame."""
        _, *fields, _ = self.headers[position].item()
        return FrameHeader._make(fields)

    def own_span(self, capacity: int) -> Span:
        """What there is in these frames alone."""
        bits = Span.bits(capacity)
        marked = np.zeros(bits, np.bool_)
        marked[self.pages.ids % bits if capacity > bits else self.pages.ids] = True
        times = self.headers["time_ns"]
        kinds = int(np.bitwise_or.reduce(1 << (self.headers["kind"].astype(np.uint32) & 31)))
        pages = np.packbits(marked, bitorder="little")
        return Span(self.first, 0, int(times.min()), int(times.max()), kinds, pages)

    def with_span(self, span: Span) -> "Stretch":
        """The same, as the last stretch of a segment that won't grow."""
        return replace(self, span=span)


def id_type(capacity: int) -> np.dtype:
    """The smallest unsigned integers that count the pages: an index has an id for every row of the log."""
    return np.min_scalar_type(capacity - 1)


class StretchBuilder:
    """Takes note of frames as they are written or read. `add` costs less than a microsecond.

    It keeps its memory from one stretch to the next: fresh memory would cost more than what is written to it.
    """

    def __init__(self, capacity: int) -> None:
        self._pages, self._sources = np.empty(0, id_type(capacity)), np.empty(0, np.int32)
        self.begin(0)

    def begin(self, offset: int) -> None:
        """Forget everything; the next frame will be at this byte."""
        self._offset, self._headers, self._rows = offset, bytearray(), 0
        self._counts: list[int] = []

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, header: bytes, held: Held) -> None:
        """Add a frame with its header as written."""
        self._headers += header
        pages, sources = (held.page, held.source) if isinstance(held, PageChanges) else (held, -1)
        if pages is None:
            self._counts.append(0)
            return
        first, end = self._rows, self._rows + len(pages)
        if end > len(self._pages):
            self._pages, self._sources = (_grown(array, first, 2 * end) for array in (self._pages, self._sources))
        self._pages[first:end] = pages
        self._sources[first:end] = sources
        self._rows = end
        self._counts.append(end - first)

    def stretch(self) -> Stretch:
        """Everything added so far, at least one frame; good until `begin`."""
        headers, counts = np.frombuffer(bytes(self._headers), HEADERS), np.array(self._counts, np.uint32)
        pages, sources = Column(counts, self._pages[: self._rows]), Column(counts, self._sources[: self._rows])
        return Stretch(self._offset, headers, pages, sources.without_runs())


def _grown(array: np.ndarray, used: int, room: int) -> np.ndarray:
    grown = np.empty(room, array.dtype)
    grown[:used] = array[:used]
    return grown
