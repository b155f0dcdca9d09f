"""The rows of one commit as NumPy arrays, and their way into an Arrow record batch and back.

Masked changes store only the words that change: a bit-packed mask per row, and the masked words of all rows in one run.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int32, UInt32

from ..._errors import CapacityError, InvalidDeltaError, InvalidTypeError

__all__ = [
    "PageChanges",
    "changes_schema",
    "decode_changes",
    "encode_changes",
    "fault_in_changes",
    "fault_in_ids",
    "mask_words",
    "require",
]

_MAX_WORDS = 2**31 - 1  # Arrow list offsets are int32


def require(name: str, array: object, dtype: np.dtype, ndim: int) -> None:
    """Raise `InvalidTypeError` unless `array` is a NumPy array of this dtype and rank."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != ndim:
        got = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        needed = f"a NumPy array of {dtype} with {ndim} dimension{'s'[: ndim - 1]}"
        raise InvalidTypeError(f"{name} is {got}, but it must be {needed}")


def mask_words(page_words: int) -> int:
    """Return how many 32-bit words the mask of one row takes."""
    return -(-page_words // 32)


@dataclass(frozen=True, eq=False)
class PageChanges:
    """Changed pages of one commit; rows apply in order, the last writer of a word wins.

    `mask` is bit-packed: bit `i` of its word `j` stands for word `32 * j + i` of the page. With a mask, `words` holds
    only the masked words, row after row, in ascending order within a row; without one it is `uint32[n, W]`.
    A commit of several ticks, such as a chunk of recorded steps, says in `tick` when each row happened, ascending;
    without it all rows happened at the tick of the commit.

    >>> words = np.array([[7, 0, 9, 0]], np.uint32)
    >>> page, mask, source = np.array([5], np.int32), np.array([[0b101]], np.uint32), np.array([0], np.int32)
    >>> changes = PageChanges.from_rows(page, words, mask, source)
    >>> changes.words
    array([7, 9], dtype=uint32)
    >>> changes.to_rows(4)[1]
    array([[7, 0, 9, 0]], dtype=uint32)
    """

    page: Int32[np.ndarray, "n"]
    source: Int32[np.ndarray, "n"]
    mask: UInt32[np.ndarray, "n mask_words"] | None
    words: UInt32[np.ndarray, "k"] | UInt32[np.ndarray, "n W"]
    tick: UInt32[np.ndarray, "n"] | None = None

    def __post_init__(self) -> None:
        require("page", self.page, np.dtype(np.int32), 1)
        require("source", self.source, np.dtype(np.int32), 1)
        if self.tick is not None:
            require("tick", self.tick, np.dtype(np.uint32), 1)
        if self.mask is not None:
            require("mask", self.mask, np.dtype(np.uint32), 2)
        require("words", self.words, np.dtype(np.uint32), 2 if self.mask is None else 1)

    def __len__(self) -> int:
        return len(self.page)

    @classmethod
    def from_rows(
        cls,
        page: Int32[np.ndarray, "n"],
        words: UInt32[np.ndarray, "n W"],
        mask: UInt32[np.ndarray, "n mask_words"] | None,
        source: Int32[np.ndarray, "n"],
        tick: UInt32[np.ndarray, "n"] | None = None,
    ) -> "PageChanges":
        """Return the changes of a `DeltaBatch`-shaped set of rows. Every row is kept, in order.

        Raises:
            InvalidDeltaError: the mask does not have `ceil(W / 32)` words per row.
        """
        if mask is None:
            return cls(page, source, None, np.ascontiguousarray(words), tick)
        if mask.shape != (len(words), mask_words(words.shape[1])):
            raise InvalidDeltaError(
                f"mask has shape {mask.shape}, but {words.shape[0]} rows of {words.shape[1]} words "
                f"need ({words.shape[0]}, {mask_words(words.shape[1])}): one bit per word, packed into uint32"
            )
        mask = np.ascontiguousarray(mask)
        return cls(page, source, mask, words[_bits(mask, words.shape[1])], tick)

    def until(self, tick: int) -> "PageChanges":
        """Return the rows up to and including a tick; all of them when the rows carry no ticks of their own."""
        if self.tick is None or not len(self) or int(self.tick[-1]) <= tick:
            return self
        rows = int(np.searchsorted(self.tick, tick, side="right"))
        words = rows if self.mask is None else int(np.bitwise_count(self.mask[:rows]).sum(dtype=np.int64))
        mask = None if self.mask is None else self.mask[:rows]
        return PageChanges(self.page[:rows], self.source[:rows], mask, self.words[:words], self.tick[:rows])

    def take(self, rows: Bool[np.ndarray, "n"]) -> "PageChanges":
        """Return the rows that are marked, in their order; the same object when all are."""
        if rows.all():
            return self
        tick = None if self.tick is None else self.tick[rows]
        if self.mask is None:
            return PageChanges(self.page[rows], self.source[rows], None, self.words[rows], tick)
        words = np.repeat(rows, np.bitwise_count(self.mask).sum(axis=1, dtype=np.int64))
        return PageChanges(self.page[rows], self.source[rows], self.mask[rows], self.words[words], tick)

    def by_tick(self) -> Iterator[tuple[int, "PageChanges"]]:
        """Iterate over `(tick, rows)`, ascending; the rows must have ticks. Nothing is copied."""
        assert self.tick is not None
        edges = np.flatnonzero(np.diff(self.tick)) + 1
        counts = None if self.mask is None else np.bitwise_count(self.mask).sum(axis=1, dtype=np.int64)
        ends = None if counts is None else np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        for first, end in pairwise([0, *edges.tolist(), len(self)] if len(self) else []):
            at = slice(first, end)
            words = self.words[at] if ends is None else self.words[ends[first] : ends[end]]
            mask = None if self.mask is None else self.mask[at]
            yield int(self.tick[first]), PageChanges(self.page[at], self.source[at], mask, words, self.tick[at])

    def bits(self, page_words: int) -> Bool[np.ndarray, "n W"] | None:
        """Return which words of its page each row sets; None when all rows set all."""
        return None if self.mask is None else _bits(self.mask, page_words)

    def to_rows(
        self, page_words: int
    ) -> tuple[
        Int32[np.ndarray, "n"],
        UInt32[np.ndarray, "n W"],
        UInt32[np.ndarray, "n mask_words"] | None,
        Int32[np.ndarray, "n"],
    ]:
        """Return `(page, words[n, W], mask or None, source)`; words that are not masked come back as 0."""
        if self.mask is None:
            return self.page, self.words, None, self.source
        words = np.zeros((len(self), page_words), np.uint32)
        words[_bits(self.mask, page_words)] = self.words
        return self.page, words, self.mask, self.source


def _bits(mask: UInt32[np.ndarray, "n mask_words"], page_words: int) -> Bool[np.ndarray, "n W"]:
    as_bytes = mask.astype("<u4", copy=False).view(np.uint8)
    return np.unpackbits(as_bytes, axis=1, bitorder="little", count=page_words).view(np.bool_)


def fault_in_changes(changes: PageChanges, page_words: int, capacity: int, names: int) -> str | None:
    """Return why these rows can't belong to such a run, or None. Nothing is computed beyond the size of the rows."""
    page, source, mask, words = changes.page, changes.source, changes.mask, changes.words
    rows = len(page)
    if len(source) != rows:
        return f"{rows} pages but {len(source)} sources; every row needs one of each"
    if changes.tick is not None and (fault := _fault_in_ticks(changes.tick, rows)):
        return fault
    if fault := fault_in_ids(page, source, capacity, names):
        return fault
    if mask is None:
        needed = (rows, page_words)
        return None if words.shape == needed else f"words have shape {words.shape}, but whole pages need {needed}"
    if mask.shape != (rows, mask_words(page_words)):
        return f"mask has shape {mask.shape}, but {rows} rows need ({rows}, {mask_words(page_words)})"
    if page_words % 32 and (mask[:, -1] >> np.uint32(page_words % 32)).any():
        return f"a mask has bits beyond the {page_words} words of a page"
    masked = int(np.bitwise_count(mask).sum(dtype=np.int64))
    return None if words.shape == (masked,) else f"the masks select {masked} words, but words have shape {words.shape}"


def fault_in_ids(page: Int32[np.ndarray, "n"], source: Int32[np.ndarray, "n"], capacity: int, names: int) -> str | None:
    """Return why these ids can't belong to such a run, or None."""
    # As unsigned, a negative id is a huge one: one comparison checks both ends.
    if len(page) and int(page.view(np.uint32).max()) >= capacity:
        worst = page[page.view(np.uint32) >= capacity][0]
        return f"page {worst} is outside this run's pages 0 to {capacity - 1}"
    if len(source) and int(source.view(np.uint32).max()) >= names:
        worst = source[source.view(np.uint32) >= names][0]
        return f"source {worst} is not in the table of {names} names; get an id from name_id() first"
    return None


def _fault_in_ticks(tick: UInt32[np.ndarray, "n"], rows: int) -> str | None:
    if len(tick) != rows:
        return f"{rows} pages but {len(tick)} ticks; every row needs one of each, or none has one"
    back = np.flatnonzero(tick[1:] < tick[:-1])
    if len(back):
        return f"the rows' ticks go back from {tick[back[0]]} to {tick[back[0] + 1]}; rows come in order of time"
    return None


@cache
def changes_schema(page_words: int, masked: bool, ticks: bool = False) -> pa.Schema:
    """Return the Arrow schema of a CHANGES frame: a function of the page size and the flags MASKED and TICKS alone."""
    word = pa.field("item", pa.uint32(), nullable=False)
    kept = [("mask", pa.binary(4 * mask_words(page_words))), ("words", pa.list_(word))]
    whole = [("words", pa.list_(word, page_words))]
    when = [("tick", pa.uint32())] if ticks else []
    columns = [("page", pa.int32()), ("source", pa.int32()), *when, *(kept if masked else whole)]
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns])


def encode_changes(changes: PageChanges, page_words: int) -> pa.RecordBatch:
    """Return the record batch, which shares the arrays' memory; `changes` must be free of faults."""
    schema = changes_schema(page_words, changes.mask is not None, changes.tick is not None)
    rows = len(changes)
    if changes.words.size > _MAX_WORDS:
        raise CapacityError(
            f"{changes.words.size} words in one commit, but a frame holds {_MAX_WORDS}: split the commit"
        )
    words = _array(pa.uint32(), changes.words.size, changes.words)
    columns = [_array(pa.int32(), rows, changes.page), _array(pa.int32(), rows, changes.source)]
    if changes.tick is not None:
        columns.append(_array(pa.uint32(), rows, changes.tick))
    lists = schema.field("words").type
    if changes.mask is None:
        columns.append(pa.Array.from_buffers(lists, rows, [None], children=[words]))
    else:
        columns.append(_array(schema.field("mask").type, rows, changes.mask))
        offsets = pa.py_buffer(_offsets(changes.mask))
        columns.append(pa.Array.from_buffers(lists, rows, [None, offsets], children=[words]))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def decode_changes(batch: pa.RecordBatch, page_words: int) -> PageChanges:
    """Return the changes in a record batch, sharing its memory. Lengths are checked here, ids and masks are not.

    Raises:
        ValueError: the batch's buffers are too short for its rows, hold nulls, or its lists don't fit its masks.
    """
    rows = batch.num_rows
    names = batch.schema.names
    page = _values(batch.column("page"), 1, "<i4", rows)
    source = _values(batch.column("source"), 1, "<i4", rows)
    tick = _values(batch.column("tick"), 1, "<u4", rows) if "tick" in names else None
    lists = batch.column("words")
    if "mask" not in names:
        words = _values(lists, 2, "<u4", rows * page_words)
        return PageChanges(page, source, None, words.reshape(rows, page_words), tick)
    per_row = mask_words(page_words)
    mask = _values(batch.column("mask"), 1, "<u4", rows * per_row).reshape(rows, per_row)
    offsets = _offsets(mask)
    if rows and not np.array_equal(_values(lists, 1, "<i4", rows + 1), offsets):
        raise ValueError("the lists of words are not as long as the masks say")
    return PageChanges(page, source, mask, _values(lists, 3, "<u4", int(offsets[-1])), tick)


def _array(kind: pa.DataType, length: int, values: np.ndarray) -> pa.Array:
    return pa.Array.from_buffers(kind, length, [None, pa.py_buffer(np.ascontiguousarray(values))])


def _offsets(mask: UInt32[np.ndarray, "n mask_words"]) -> Int32[np.ndarray, "n+1"]:
    counts = np.bitwise_count(mask)
    offsets = np.zeros(len(mask) + 1, np.int32)
    np.cumsum(counts[:, 0] if mask.shape[1] == 1 else counts.sum(axis=1, dtype=np.int64), out=offsets[1:])
    return offsets


def _values(column: pa.Array, index: int, dtype: str, count: int) -> np.ndarray:
    buffers = column.buffers()
    if buffers[0] is not None:
        raise ValueError("a column that can't be null holds a validity bitmap")
    if not count:
        return np.empty(0, dtype)
    if count < 0 or buffers[index] is None:
        raise ValueError("a column's data is not as long as its rows need")
    return np.frombuffer(buffers[index], dtype, count)  # ValueError when the buffer is shorter
