"""What a stretch of a segment holds, known without reading it: its headers, and which frames hold which page or source.

The headers are kept as they are, and lists of frames per page and per source are made by counting, as a sparse matrix
is transposed. Spans join stretches of many segments, as the nodes of a Fenwick tree do, so that a search can pass over
what can't match in a logarithmic number of looks.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Int64, UInt8, UInt32
from scipy.sparse import csr_array

from ._changes import PageChanges
from ._frame import HEADER_BYTES, HEADERS, FrameHeader

__all__ = ["Postings", "Span", "Stretch", "StretchBuilder"]

_MOST_BITS = 1 << 20  # 128 KiB per segment at most; larger page ids share bits, which costs a look and never an answer


@dataclass(frozen=True, eq=False)
class Postings:
    """For every key, which frames of a stretch hold it; frames are positions in the stretch, ascending for each key.

    The frames of `keys[i]` are `frames[bounds[i] : bounds[i + 1]]`.

    >>> postings = Postings.of(np.array([7, 3, 7, 7], np.int32), np.array([0, 2, 4]), limit=8)  # two frames of two rows
    >>> postings.frames_of(np.array([7], np.int32)).tolist(), postings.frames_of(np.array([3, 4], np.int32)).tolist()
    ([0, 1], [0])
    """

    keys: Int32[np.ndarray, " k"]
    bounds: UInt32[np.ndarray, " k+1"]
    frames: UInt32[np.ndarray, " m"]

    @classmethod
    def of(cls, ids: Int32[np.ndarray, " rows"], first_row: Int64[np.ndarray, " bounds"], *, limit: int) -> "Postings":
        """The lists for rows of which frame `i` has those from `first_row[i]` to `first_row[i + 1]`; ids < `limit`."""
        keys, frames = _by_key(ids, first_row, limit)
        new = np.ones(len(keys), np.bool_)
        new[1:] = (keys[1:] != keys[:-1]) | (frames[1:] != frames[:-1])
        keys, frames = keys[new], frames[new]
        starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1]))[: len(keys)])
        bounds = np.append(starts, len(keys))
        return cls(keys[starts].astype(np.int32), bounds.astype(np.uint32), frames.astype(np.uint32))

    def frames_of(self, wanted: Int32[np.ndarray, " w"]) -> UInt32[np.ndarray, " f"]:
        """The frames that hold any of some keys, ascending."""
        if not len(self.keys):
            return self.frames
        at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        at = at[self.keys[at] == wanted]
        pieces = [self.frames[self.bounds[i] : self.bounds[i + 1]] for i in at]
        return np.unique(np.concatenate(pieces)) if pieces else self.frames[:0]


def _by_key(
    ids: Int32[np.ndarray, " rows"], first_row: Int64[np.ndarray, " bounds"], limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of a key and a frame, by key, then by frame."""
    frames = len(first_row) - 1
    if limit > 4 * len(ids) + (1 << 16):  # counting would look at more keys than there are rows
        pairs = ids.astype(np.int64) << 32 | np.repeat(np.arange(frames), np.diff(first_row))
        pairs.sort()
        return pairs >> 32, pairs & 0xFFFFFFFF
    by_frame = csr_array((np.ones(len(ids), np.int8), ids, first_row.astype(np.int32)), shape=(frames, limit))
    by_key = by_frame.tocsc()
    return np.repeat(np.arange(limit), np.diff(by_key.indptr)), by_key.indices


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
    pages: Postings
    sources: Postings
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
        """What happened in these frames alone."""
        marked = np.zeros(Span.bits(capacity), np.bool_)
        marked[self.pages.keys % Span.bits(capacity)] = True
        times = self.headers["time_ns"]
        kinds = int(np.bitwise_or.reduce(1 << (self.headers["kind"].astype(np.uint32) & 31)))
        pages = np.packbits(marked, bitorder="little")
        return Span(self.first, 0, int(times.min()), int(times.max()), kinds, pages)

    def with_span(self, span: Span) -> "Stretch":
        """The same, as the last stretch of a segment that won't grow."""
        return replace(self, span=span)


class StretchBuilder:
    """Takes note of frames as they are written or read. `add` costs about a microsecond, `stretch` the rest."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self._headers = bytearray()
        self._pages: list[np.ndarray] = []
        self._sources: list[np.ndarray] = []
        self._page_rows: list[int] = []
        self._source_rows: list[int] = []

    def __len__(self) -> int:
        return len(self._page_rows)

    def add(self, header: bytes, held: PageChanges | Int32[np.ndarray, " p"] | None) -> None:
        """Add a frame with its header as written, and its rows or the pages that it deletes."""
        self._headers += header
        rows = deleted = 0
        if isinstance(held, PageChanges):
            rows = len(held)
            self._pages.append(held.page.copy())  # the caller may use its array for the next commit
            self._sources.append(held.source.copy())
        elif held is not None:
            deleted = len(held)
            self._pages.append(held)
        self._page_rows.append(rows + deleted)
        self._source_rows.append(rows)

    def stretch(self, capacity: int, names: int) -> Stretch:
        """Everything added so far; at least one frame."""
        headers = np.frombuffer(bytes(self._headers), HEADERS)
        pages = Postings.of(_joined(self._pages), _bounds(self._page_rows), limit=capacity)
        sources = Postings.of(*_runs(_joined(self._sources), _bounds(self._source_rows)), limit=names)
        return Stretch(self.offset, headers, pages, sources)


def _joined(arrays: list[np.ndarray]) -> Int32[np.ndarray, " rows"]:
    return np.concatenate(arrays) if arrays else np.empty(0, np.int32)


def _bounds(rows: list[int]) -> Int64[np.ndarray, " bounds"]:
    return np.concatenate(([0], np.cumsum(np.array(rows, np.int64))))


def _runs(
    ids: Int32[np.ndarray, " rows"], first_row: Int64[np.ndarray, " bounds"]
) -> tuple[Int32[np.ndarray, " runs"], Int64[np.ndarray, " bounds"]]:
    """The same frames with equal ids that follow each other taken together; nearly always that leaves one per frame."""
    new = np.ones(len(ids) + 1, np.bool_)
    new[1:-1] = ids[1:] != ids[:-1]
    new[first_row] = True
    return ids[new[:-1]], np.concatenate(([0], np.cumsum(new[:-1])))[first_row]
