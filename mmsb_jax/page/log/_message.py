"""The Arrow message that is the body of a frame, read with care: a hostile one gets a `ValueError`."""

import struct
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ._changes import PageChanges, changes_schema, decode_changes

__all__ = ["dense_changes", "read_batch"]

_CONTINUATION = b"\xff\xff\xff\xff"  # Arrow also reads messages without it, as it wrote them before version 0.15
_MOST_HEAD = 1 << 12  # of what is remembered; ours take some 400 bytes


def read_batch(body: memoryview, schema: pa.Schema) -> pa.RecordBatch:
    """Return the record batch, which shares the memory of `body`. Raises `ValueError` where it makes no sense."""
    if _is_compressed(body):
        raise ValueError("the record batch is compressed, which no writer of this format does")
    try:
        return pa.ipc.read_record_batch(pa.py_buffer(body), schema)
    except (pa.ArrowException, OSError, EOFError) as why:
        raise ValueError(str(why)) from why


def dense_changes(body: memoryview, page_words: int, *, ticks: bool) -> PageChanges:
    """Return the changes of whole pages in a body, sharing its memory. Raises `ValueError` where they make no sense.

    Where the columns lie follows from the message's head, which is the same for all commits of as many rows. So it is
    found out once, which is several times slower than the rest.
    """
    head = bytes(body[: 8 + int.from_bytes(body[4:8], "little")])
    find = _layout if len(head) <= _MOST_HEAD else _layout.__wrapped__
    rows, page, source, tick, words = find(head, len(body), page_words, ticks)
    return PageChanges(
        np.frombuffer(body, np.int32, rows, page),
        np.frombuffer(body, np.int32, rows, source),
        None,
        np.frombuffer(body, np.uint32, rows * page_words, words).reshape(rows, page_words),
        np.frombuffer(body, np.uint32, rows, tick) if ticks else None,
    )


class _Layout(NamedTuple):
    """Rows of a dense batch, and where its columns begin in the body."""

    rows: int
    page: int
    source: int
    tick: int
    words: int


@lru_cache(256)
def _layout(head: bytes, body_bytes: int, page_words: int, ticks: bool) -> _Layout:
    body = np.zeros(body_bytes, np.uint8)  # of which only the head is looked at, so that it costs no memory
    body[: len(head)] = np.frombuffer(head, np.uint8)
    changes = decode_changes(read_batch(body.data, changes_schema(page_words, False, ticks)), page_words)
    columns = (changes.page, changes.source, changes.tick, changes.words)
    return _Layout(len(changes), *(_begin(column, body) if len(changes) else 0 for column in columns))


def _begin(column: np.ndarray | None, body: np.ndarray) -> int:
    return 0 if column is None else column.ctypes.data - body.ctypes.data


def _is_compressed(body: memoryview) -> bool:
    """Return whether an Arrow message is compressed: Arrow would believe its uncompressed lengths and allocate them.

    Follows the two flatbuffers tables of the message (Arrow's `Message.fbs`); Arrow itself verifies them later.
    """
    if body[:4] != _CONTINUATION:
        raise ValueError("the record batch does not start as an Arrow IPC message does")
    try:
        message = 8 + struct.unpack_from("<I", body, 8)[0]
        batch = _field(body, message, 2)
        return batch is not None and _field(body, batch + struct.unpack_from("<I", body, batch)[0], 3) is not None
    except struct.error as why:
        raise ValueError("the record batch is cut short") from why


def _field(body: memoryview, table: int, slot: int) -> int | None:
    vtable = table - struct.unpack_from("<i", body, table)[0]
    if struct.unpack_from("<H", body, vtable)[0] < 6 + 2 * slot:
        return None
    offset = struct.unpack_from("<H", body, vtable + 4 + 2 * slot)[0]
    return table + offset if offset else None
