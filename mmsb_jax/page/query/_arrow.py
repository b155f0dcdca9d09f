"""Rows of a log as Arrow record batches, for programs that know nothing of this one."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from ..log._body import Frame
from ..log._changes import PageChanges
from ._catalogue import Catalogue

__all__ = ["ROWS", "record_batches"]

_TEXT = pa.dictionary(pa.int32(), pa.string())
_WORDS = pa.list_(pa.field("item", pa.uint32(), nullable=False))
ROWS = pa.schema(
    [
        pa.field("sequence", pa.uint64(), nullable=False),
        pa.field("tick", pa.uint32(), nullable=False),
        pa.field("time", pa.timestamp("ns", "UTC")),
        pa.field("page", pa.int32(), nullable=False),
        pa.field("leaf", _TEXT),
        pa.field("member", pa.int32()),
        pa.field("source", _TEXT, nullable=False),
        pa.field("intent", _TEXT, nullable=False),
        pa.field("mask", _WORDS),
        pa.field("words", _WORDS, nullable=False),
    ]
)
"""What the rows of a log look like as a table."""

_MOST_ROWS = 1 << 16  # in a batch
_MOST_WORDS = 1 << 22  # 16 MiB; frames are gathered up to here

_Found = tuple[Frame, PageChanges]


def record_batches(found: Iterable[_Found], names: Sequence[str], catalogue: Catalogue) -> Iterator[pa.RecordBatch]:
    """Iterate over batches of `ROWS`; small frames come together in one, a large one in several."""
    dictionary = pa.array(names, pa.string()), pa.array(catalogue.texts, pa.string())
    gathered, rows, words = list[_Found](), 0, 0
    for frame, changes in found:
        if rows + len(changes) > _MOST_ROWS or words + changes.words.size > _MOST_WORDS:
            yield from _batches(gathered, *dictionary, catalogue)
            gathered, rows, words = [], 0, 0
        gathered.append((frame, changes))
        rows, words = rows + len(changes), words + changes.words.size
    yield from _batches(gathered, *dictionary, catalogue)


def _batches(
    gathered: Sequence[_Found], names: pa.Array, leaves: pa.Array, catalogue: Catalogue
) -> Iterator[pa.RecordBatch]:
    if not gathered:
        return
    frames, changes = zip(*gathered, strict=True)
    rows = [len(each) for each in changes]
    page = np.concatenate([each.page for each in changes])
    leaf = np.concatenate([catalogue.name_of(c.page, frame.sequence) for frame, c in gathered])
    ticks = [np.full(len(c), frame.tick, np.uint32) if c.tick is None else c.tick for frame, c in gathered]
    intents = np.array([frame.intent for frame in frames], np.int32)
    columns = [
        pa.array(np.repeat(np.array([frame.sequence for frame in frames], np.uint64), rows)),
        pa.array(np.concatenate(ticks)),
        _times(np.repeat(np.array([frame.time_ns for frame in frames], np.uint64), rows)),
        pa.array(page),
        pa.DictionaryArray.from_arrays(pa.array(leaf, mask=leaf < 0), leaves),
        _members(page, catalogue),
        pa.DictionaryArray.from_arrays(pa.array(np.concatenate([each.source for each in changes])), names),
        pa.DictionaryArray.from_arrays(pa.array(np.repeat(intents, rows)), names),
        _masks(changes),
        _words(changes),
    ]
    whole = pa.RecordBatch.from_arrays(columns, schema=ROWS)
    for first in range(0, len(page), _MOST_ROWS):
        yield whole.slice(first, _MOST_ROWS)


def _times(time_ns: np.ndarray) -> pa.Array:
    late = time_ns >= 2**63  # after the year 2262, which Arrow can't say
    return pa.array(np.where(late, np.uint64(0), time_ns).astype(np.int64), ROWS.field("time").type, mask=late)


def _members(page: np.ndarray, catalogue: Catalogue) -> pa.Array:
    members = catalogue.member_of(page)
    return pa.nulls(len(page), pa.int32()) if members is None else pa.array(members)


def _masks(changes: Sequence[PageChanges]) -> pa.Array:
    lengths = np.concatenate([np.full(len(c), 0 if c.mask is None else c.mask.shape[1]) for c in changes])
    values = np.concatenate([np.empty(0, np.uint32), *(c.mask.reshape(-1) for c in changes if c.mask is not None)])
    return _lists(lengths, values, absent=lengths == 0)


def _words(changes: Sequence[PageChanges]) -> pa.Array:
    lengths = [
        np.full(len(c), c.words.shape[1]) if c.mask is None else np.bitwise_count(c.mask).sum(axis=1, dtype=np.int64)
        for c in changes
    ]
    return _lists(np.concatenate(lengths), np.concatenate([c.words.reshape(-1) for c in changes]))


def _lists(lengths: np.ndarray, values: np.ndarray, absent: np.ndarray | None = None) -> pa.Array:
    offsets = pa.array(np.concatenate(([0], np.cumsum(lengths))).astype(np.int32))
    nulls = None if absent is None or not absent.any() else pa.array(absent)
    return pa.ListArray.from_arrays(offsets, pa.array(values), type=_WORDS, mask=nulls)
