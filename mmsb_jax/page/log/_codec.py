"""Coded bodies: the columns of a CHANGES frame filtered and compressed one by one, where that pays."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from crc32c import crc32c
from jaxtyping import Int64, UInt32

from ._changes import PageChanges, mask_words
from ._codec_filters import DIFFERENCES, FILTERS, TRANSPOSED, by_place, filtered, unfiltered

__all__ = ["CODECS", "CODED_SCHEMA", "Codec", "decode_coded", "encode_coded"]

Codec = Literal["none", "lz4", "zstd", "auto"]
CODECS = ("none", "lz4", "zstd", "auto")

_NUMBERS = {"none": 0, "lz4": 1, "zstd": 2}
_COMPRESSORS = {1: pa.Codec("lz4_raw"), 2: pa.Codec("zstd", compression_level=1)}
_FASTEST = 1
_MOST_BYTES = 1 << 28  # of a frame's columns when decoded; more stays as it is
_SAMPLE_BYTES = 1 << 18
_WORTH = 0.9  # of the size before; what is left larger doesn't pay

CODED_SCHEMA = pa.schema(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in {
            "column": pa.string(),
            "codec": pa.uint8(),
            "filters": pa.uint8(),
            "raw_bytes": pa.uint32(),
            "raw_crc": pa.uint32(),
            "data": pa.binary(),
        }.items()
    ]
)
"""The record batch of a coded body: a row for each column that the frame would have otherwise."""


class _Coded(NamedTuple):
    """A column as it is written: the fields of `CODED_SCHEMA`."""

    column: str
    codec: int
    filters: int
    raw_bytes: int
    raw_crc: int
    data: bytes | pa.Buffer


def encode_coded(changes: PageChanges, page_words: int, codec: Codec) -> pa.RecordBatch | None:
    """Return the record batch of a coded body, or None where that would not be a tenth smaller."""
    columns = dict(_columns(changes))
    raw_bytes = sum(column.nbytes for column in columns.values())
    if codec == "none" or not 0 < raw_bytes <= _MOST_BYTES:
        return None
    number, filters = _choice(_sample(changes, raw_bytes), page_words, codec)
    order = by_place(changes, page_words) if filters & DIFFERENCES else None
    if order is None:  # not asked for, or it takes too many words
        filters &= ~DIFFERENCES
    found = [
        _coded(name, column, number, filters, order) if name == "words" else _coded(name, column, number, TRANSPOSED)
        for name, column in columns.items()
    ]
    if sum(len(column.data) for column in found) > _WORTH * raw_bytes:
        return None
    values = zip(*found, strict=True)
    arrays = [pa.array(each, field.type) for each, field in zip(values, CODED_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=CODED_SCHEMA)


def _columns(changes: PageChanges) -> Iterator[tuple[str, UInt32[np.ndarray, "..."]]]:
    """The columns of a frame in the order of its schema, as words."""
    for name in ("page", "source", "tick", "mask", "words"):
        column = getattr(changes, name)
        if column is not None:
            yield name, np.ascontiguousarray(column).view(np.uint32)


def _coded(
    name: str,
    column: UInt32[np.ndarray, "..."],
    number: int,
    filters: int,
    order: Int64[np.ndarray, " n"] | None = None,
) -> _Coded:
    data = _COMPRESSORS[number].compress(filtered(column, filters, order), asbytes=True)
    if len(data) > _WORTH * column.nbytes:
        number, filters, data = 0, 0, column.tobytes()
    return _Coded(name, number, filters, column.nbytes, crc32c(column.data), data)


def _sample(changes: PageChanges, raw_bytes: int) -> PageChanges:
    """Some of the pages with all that is written to them, about so much that trying everything on them costs little."""
    every = -(-raw_bytes // _SAMPLE_BYTES)
    return changes.take(changes.page % every == changes.page[0] % every) if every > 1 else changes


def _choice(sample: PageChanges, page_words: int, codec: Codec) -> tuple[int, int]:
    """The codec and the filters that make the words of a sample smallest; of codecs the faster one if it's close."""
    order, best = by_place(sample, page_words), dict[int, tuple[int, int]]()
    usable = [filters for filters in FILTERS if order is not None or not filters & DIFFERENCES]
    for number in _COMPRESSORS if codec == "auto" else [_NUMBERS[codec]]:
        tried = ((filters, filtered(sample.words, filters, order)) for filters in usable)
        best[number] = min((len(_COMPRESSORS[number].compress(octets)), filters) for filters, octets in tried)
    number = min(best, key=lambda number: best[number][0] / (_WORTH if number == _FASTEST else 1))
    return number, best[number][1]


def decode_coded(batch: pa.RecordBatch, rows: int, page_words: int, *, masked: bool, ticks: bool) -> PageChanges:
    """Return the changes in the batch of a coded body. Nothing is allocated but what `rows` and the masks call for.

    Raises:
        ValueError: the columns make no sense, or are more than a coded frame may hold.
    """
    batch.validate(full=True)
    found = [_Coded(*values) for values in zip(*(_values(column) for column in batch.columns), strict=True)]
    widths = {"page": 1, "source": 1} | ({"tick": 1} if ticks else {})
    widths |= {"mask": mask_words(page_words), "words": 0} if masked else {"words": page_words}
    if [column.column for column in found] != list(widths):
        raise ValueError(f"its columns are {[column.column for column in found]}, not {list(widths)}")
    if sum(column.raw_bytes for column in found) > _MOST_BYTES:
        raise ValueError("its columns are larger than a coded frame's may be")
    plain = {column.column: _decoded(column, 4 * rows * widths[column.column]) for column in found[:-1]}
    mask = plain["mask"].reshape(rows, -1) if masked else None
    count = rows * page_words if mask is None else int(np.bitwise_count(mask).sum(dtype=np.int64))
    page = plain["page"].view(np.int32)
    places = PageChanges(page, page, mask, np.empty((rows, 0) if mask is None else 0, np.uint32))
    order = by_place(places, page_words) if found[-1].filters & DIFFERENCES else None
    words = _decoded(found[-1], 4 * count, order, (rows, page_words) if mask is None else (count,))
    return PageChanges(page, plain["source"].view(np.int32), mask, words, plain.get("tick"))


def _values(column: pa.Array) -> list[Any]:
    if column.null_count:
        raise ValueError("a column that can't be null holds nulls")
    return [value.as_buffer() for value in column] if column.type == pa.binary() else column.to_pylist()


def _decoded(
    column: _Coded, raw_bytes: int, order: Int64[np.ndarray, " n"] | None = None, shape: tuple[int, ...] = (-1,)
) -> UInt32[np.ndarray, "..."]:
    what, number, filters, said, crc, data = column
    if said != raw_bytes:
        raise ValueError(f"{what} is said to be {said} bytes, but {raw_bytes} are needed")
    if filters not in FILTERS or (filters & DIFFERENCES and order is None):
        raise ValueError(f"{what} has the filters {filters}")
    if number:
        if number not in _COMPRESSORS:
            raise ValueError(f"{what} has codec {number}")
        try:
            data = _COMPRESSORS[number].decompress(data, decompressed_size=raw_bytes)
        except OSError as why:
            raise ValueError(f"{what} can't be decompressed ({why})") from why
    if len(data) != raw_bytes:
        raise ValueError(f"{what} has {len(data)} bytes, not {raw_bytes}")
    words = unfiltered(np.frombuffer(data, np.uint8), filters, order, shape)
    if crc32c(words.data) != crc:  # also where LZ4 gave less than was asked for, and left the rest as it was
        raise ValueError(f"the checksum of {what} is wrong")
    return words
