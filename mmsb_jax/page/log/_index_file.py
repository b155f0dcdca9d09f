"""The index of a segment on disk: `log/<first sequence>.idx`, a block for every stretch, one after the other.

Derived, and only ever an accelerator. A block is added when a writer closes the log or ends the segment, and reaches
the device when it suits the kernel. What doesn't lead through the segment as it is counts as damage, and is rebuilt.
"""

import struct
from typing import NamedTuple

import numpy as np
from crc32c import crc32c

from ._frame import FORMAT_VERSION, HEADER_BYTES, HEADERS, MAGIC
from ._identity import RunIdentity
from ._index import Column, Span, Stretch, id_type
from ._segments import segment_start
from ._storage import Buffer, Storage

__all__ = ["Blocks", "encode_block", "index_name", "read_blocks"]

_MAGIC = b"MMSI"
_MOST_BYTES = 1 << 28  # of a block's body; a stretch that needs more goes without
_MOST_BODY = 1 << 40  # of a frame, so that no sum of offsets can overflow
_NO_SPAN = 0xFFFF
# magic, version, level of the span; salt, frames; first sequence, its offset; how many pages, how many sources; the
# span's first frame, earliest and latest time, kinds; CRC-32C of the body. Then that of these fields.
_FIELDS = struct.Struct("<4sHHIIQQIIQQQII")
_CRC = struct.Struct("<I")
_HEAD_BYTES = _FIELDS.size + _CRC.size


class Blocks(NamedTuple):
    """What an index says: stretches from the start of the segment on, where the next block belongs, what is damaged."""

    stretches: list[Stretch]
    end: int
    damage: str | None


class _Head(NamedTuple):
    """The fields of a block's head, behind magic and version."""

    level: int
    salt: int
    frames: int
    first: int
    offset: int
    pages: int
    sources: int
    span_first: int
    earliest: int
    latest: int
    kinds: int
    crc: int

    def body_bytes(self, capacity: int) -> int:
        span = 0 if self.level == _NO_SPAN else _span_bytes(capacity)
        return self.frames * (HEADER_BYTES + 8) + id_type(capacity).itemsize * self.pages + 4 * self.sources + span


def index_name(segment: str) -> str:
    """Return the name of a segment's index."""
    return f"log/{segment_start(segment):020d}.idx"


def encode_block(stretch: Stretch, salt: int) -> list[Buffer] | None:
    """Return the bytes of a block, or None when it would be too large."""
    span, columns = stretch.span, (stretch.pages, stretch.sources)
    level, *about = (_NO_SPAN, 0, 0, 0, 0) if span is None else (span.level, span.first, *span[2:5])
    arrays = [stretch.headers, *(array for column in columns for array in (column.counts, column.ids))]
    if span is not None:
        arrays.append(span.pages)
    if sum(array.nbytes for array in arrays) > _MOST_BYTES:
        return None
    body, crc = [array.view(np.uint8).data for array in arrays], 0
    for piece in body:
        crc = crc32c(piece, crc)
    sizes = [len(column.ids) for column in columns]
    head = level, salt, len(stretch), stretch.first, stretch.offset, *sizes, *about, crc
    fields = _FIELDS.pack(_MAGIC, FORMAT_VERSION, *head)
    return [fields + _CRC.pack(crc32c(fields)), *body]


def read_blocks(storage: Storage, run: RunIdentity, segment: str) -> Blocks:
    """Return what the index of a segment says of its frames, from the first on, as far as it can be believed."""
    name, found, end, damage = index_name(segment), list[Stretch](), 0, None
    size = storage.size(name) if storage.exists(name) else 0
    while end < size and damage is None:
        before = (found[-1].after, found[-1].end) if found else (segment_start(segment), 0)
        block = _read_block(storage, run, name, end, *before)
        if isinstance(block, str):
            damage = block
        else:
            stretch, end = block
            found.append(stretch)
    if found and not _leads_through(storage, segment, found[-1]):
        return Blocks([], 0, "the index is that of another segment")
    return Blocks(found, end, damage)


def _leads_through(storage: Storage, segment: str, last: Stretch) -> bool:
    """Whether the last frame that the index tells of stands in the segment just so."""
    if last.end > storage.size(segment):
        return False
    return bytes(storage.read(segment, int(last.offsets[-1]), HEADER_BYTES)) == last.headers[-1].tobytes()


def _read_block(
    storage: Storage, run: RunIdentity, name: str, at: int, first: int, offset: int
) -> tuple[Stretch, int] | str:
    """Return the stretch of the block at a byte of the index and where the block ends, or why it can't be believed."""
    data = storage.read(name, at, _HEAD_BYTES)
    fields = data[: _FIELDS.size]
    if len(data) < _HEAD_BYTES or crc32c(fields) != _CRC.unpack_from(data, _FIELDS.size)[0]:
        return "the checksum of a block's head is wrong"
    magic, version, *values = _FIELDS.unpack(fields)
    head = _Head._make(values)
    if (magic, version, head.salt) != (_MAGIC, FORMAT_VERSION, run.salt):
        return "a block of another version, or of another run"
    if (head.first, head.offset) != (first, offset) or not head.frames:
        return "a block doesn't follow the one before"
    length = head.body_bytes(run.capacity)
    if length > min(_MOST_BYTES, storage.size(name) - at - _HEAD_BYTES):
        return "a block is longer than its file"
    body = storage.read(name, at + _HEAD_BYTES, length)
    if len(body) < length or crc32c(body) != head.crc:
        return "the checksum of a block is wrong"
    stretch = _stretch(head, body, run.capacity)
    return stretch if isinstance(stretch, str) else (stretch, at + _HEAD_BYTES + length)


def _stretch(head: _Head, body: memoryview, capacity: int) -> Stretch | str:
    """Return what a block holds, sharing the memory of `body`, or why it can't be."""
    headers = np.frombuffer(body, HEADERS, head.frames)
    numbered = headers["sequence"] == np.arange(head.first, head.first + head.frames, dtype=np.uint64)
    ours = (headers["magic"] == MAGIC) & (headers["salt"] == head.salt) & (headers["body_bytes"] < _MOST_BODY)
    if not (numbered & ours).all():
        return "a block holds other headers than it says"
    at, columns = headers.nbytes, []
    for size, dtype in ((head.pages, id_type(capacity)), (head.sources, np.dtype(np.int32))):
        counts = np.frombuffer(body, "<u4", head.frames, at)
        columns.append(Column(counts, np.frombuffer(body, dtype, size, at + counts.nbytes)))
        at += counts.nbytes + dtype.itemsize * size
        if counts.sum(dtype=np.uint64) != size:
            return "a block's columns are not as long as it says"
    span = None
    if head.level != _NO_SPAN:
        bits = np.frombuffer(body, np.uint8, _span_bytes(capacity), at)
        span = Span(head.span_first, head.level, head.earliest, head.latest, head.kinds, bits)
    pages, sources = columns
    return Stretch(head.offset, headers, pages, sources, span)


def _span_bytes(capacity: int) -> int:
    return -(-Span.bits(capacity) // 8)
