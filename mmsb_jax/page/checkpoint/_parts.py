"""One part of a checkpoint: a stretch of pages and their epochs, as a safetensors file.

The header is written here rather than by the `safetensors` package, which would first copy all tensors into one piece
of memory; it is a function of the part's place and size alone, so a reader compares it and parses nothing. The data are
checked block by block as they are looked at, with sums from the manifest.
"""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
from crc32c import crc32c
from jaxtyping import Int64, UInt32

from ..._errors import CorruptCheckpointError

__all__ = [
    "BLOCK_BYTES",
    "Part",
    "PartLayout",
    "PartShape",
    "PartSums",
    "as_bytes",
    "block_sums",
    "for_each",
    "part_header",
]

_T = TypeVar("_T")
_R = TypeVar("_R")

BLOCK_BYTES = 1 << 18  # checked in 20 µs; a checkpoint of 1 GiB has 4096 sums
_THREADS = 4  # parts in flight, so that one's checksums and copy overlap with another's way to the device
_WORTH_THREADS = 64 << 20
_ALIGNMENT = 64  # of the data in the file, and so in a map of it: what JAX takes over without a copy


class PartShape(NamedTuple):
    """Which pages a part holds: `pages` of them from page `first` on, of `words` words each."""

    first: int
    pages: int
    words: int


class PartLayout(NamedTuple):
    """How the pages of a run are dealt out to parts: `part_pages` to each, fewer to the last."""

    capacity: int
    words: int
    part_pages: int

    @property
    def parts(self) -> int:
        """How many parts there are, if all are there."""
        return -(-self.capacity // self.part_pages)

    @property
    def part_bytes(self) -> int:
        """How many bytes the pages of a part have."""
        return 4 * self.words * self.part_pages

    def shape(self, index: int) -> PartShape:
        """Return which pages belong to a part."""
        first = index * self.part_pages
        return PartShape(first, min(self.part_pages, self.capacity - first), self.words)


class PartSums(NamedTuple):
    """CRC-32C of every block of a part's two tensors."""

    pages: UInt32[np.ndarray, "blocks"]
    epoch: UInt32[np.ndarray, "epoch_blocks"]


def part_header(shape: PartShape) -> bytes:
    """Return the bytes of the file before the data: a length, JSON, and spaces up to a multiple of 64.

    >>> len(part_header(PartShape(0, 100, 16))) % 64
    0
    """
    first, pages, words = shape
    middle, end = 4 * pages * words, 4 * pages * (words + 1)
    text = json.dumps(
        {
            "__metadata__": {"first_page": str(first)},
            "pages": {"dtype": "U32", "shape": [pages, words], "data_offsets": [0, middle]},
            "epoch": {"dtype": "U32", "shape": [pages], "data_offsets": [middle, end]},
        },
        separators=(",", ":"),
    ).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def as_bytes(array: UInt32[np.ndarray, "..."]) -> memoryview:
    """Return an array's words as bytes, little-endian; without a copy on machines that are."""
    return np.ascontiguousarray(array, "<u4").reshape(-1).view(np.uint8).data


def block_sums(data: memoryview) -> UInt32[np.ndarray, "blocks"]:
    """Return the CRC-32C of every block of `BLOCK_BYTES`; the last may be shorter."""
    return np.array([crc32c(data[at : at + BLOCK_BYTES]) for at in range(0, len(data), BLOCK_BYTES)], np.uint32)


def for_each(work: Callable[[_T], _R], parts: Iterable[_T], size: int) -> list[_R]:
    """Return what comes of each part, in order. Several are worked on at a time if all of them are large, in bytes."""
    if size < _WORTH_THREADS:
        return list(map(work, parts))
    with ThreadPoolExecutor(_THREADS, "mmsb-checkpoint") as pool:
        return list(pool.map(work, parts))


class Part:
    """A part that is there: mapped, and checked as far as it was looked at; at first only its length."""

    def __init__(self, file: str, data: memoryview, shape: PartShape, sums: PartSums) -> None:
        self._file, self._data, self._shape, self._head = file, data, shape, part_header(shape)
        middle = len(self._head) + 4 * shape.pages * shape.words
        expected = middle + 4 * shape.pages
        if len(data) != expected:
            raise CorruptCheckpointError(file, 0, f"the part has {len(data)} bytes, its manifest says {expected}")
        self._pages = _Checked(file, data, len(self._head), middle, sums.pages)
        self._epoch = _Checked(file, data, middle, expected, sums.epoch)
        self._has_head = False

    def pages(self, rows: Int64[np.ndarray, "n"] | None = None) -> UInt32[np.ndarray, "n W"]:
        """Return some pages, by their number in this part, or all as a view of the file."""
        self._check_head()
        return _rows(self._pages, self._shape.words, rows)

    def epochs(self, rows: Int64[np.ndarray, "n"] | None = None) -> UInt32[np.ndarray, " n"]:
        """Return the epochs of some pages, by their number in this part, or all as a view of the file."""
        self._check_head()
        return _rows(self._epoch, 1, rows).reshape(-1)

    def _check_head(self) -> None:
        if not self._has_head and self._data[: len(self._head)] != self._head:
            place = f"{self._shape.pages} pages from {self._shape.first} on"
            raise CorruptCheckpointError(self._file, 0, f"the header is not the one for {place}")
        self._has_head = True


class _Checked:
    """A tensor in a mapped file whose blocks are checked when first looked at."""

    def __init__(self, file: str, data: memoryview, start: int, end: int, sums: UInt32[np.ndarray, "blocks"]) -> None:
        self.file, self.start, self.sums, self.data = file, start, sums, data[start:end]
        self.unseen = np.ones(len(sums), np.bool_)

    def words(self) -> UInt32[np.ndarray, " k"]:
        """Return all words as they are in the file; `check` first."""
        return np.frombuffer(self.data, "<u4")

    def check(self, blocks: Int64[np.ndarray, " m"]) -> None:
        """Raise `CorruptCheckpointError` unless these blocks are what was written."""
        for block in blocks[self.unseen[blocks]].tolist():
            at = block * BLOCK_BYTES
            if crc32c(self.data[at : at + BLOCK_BYTES]) != self.sums[block]:
                reason = f"the checksum of {min(BLOCK_BYTES, len(self.data) - at)} bytes is wrong"
                raise CorruptCheckpointError(self.file, self.start + at, reason)
            self.unseen[block] = False


def _rows(tensor: _Checked, words: int, rows: Int64[np.ndarray, "n"] | None) -> UInt32[np.ndarray, "n W"]:
    if rows is None:
        tensor.check(np.arange(len(tensor.sums)))
        return tensor.words().reshape(-1, words)
    # Blocks first[i] to last[i] hold row i: +1 where a stretch begins, -1 behind its end, and what sums to more is in.
    stretch = np.zeros(len(tensor.sums) + 1, np.int64)
    np.add.at(stretch, rows * (4 * words) // BLOCK_BYTES, 1)
    np.add.at(stretch, ((rows + 1) * (4 * words) - 1) // BLOCK_BYTES + 1, -1)
    tensor.check(np.flatnonzero(np.cumsum(stretch[:-1])))
    return tensor.words().reshape(-1, words)[rows]
