"""One frame of the log: a fixed header of 64 bytes, then one Arrow IPC record batch message.

The header is little-endian and its own CRC-32C comes last, so a header is trusted or not as a whole (docs/format.md).
"""

import struct
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from crc32c import crc32c

__all__ = [
    "CODED",
    "DIGEST",
    "FORMAT_VERSION",
    "HEADERS",
    "HEADER_BYTES",
    "MAGIC",
    "MASKED",
    "TICKS",
    "UNDO",
    "FrameHeader",
    "FrameKind",
    "pack_header",
    "parse_header",
]

MAGIC = b"MMSB"
FORMAT_VERSION = 1
HEADER_BYTES = 64

MASKED = 1  # CHANGES: rows carry a mask and only the masked words
DIGEST = 2  # the digest fields hold the digest of the state after this frame
TICKS = 4  # CHANGES: every row has a tick of its own, the frame has the last
CODED = 8  # CHANGES: the columns are compressed one by one
UNDO = 16  # LAYOUT: it takes back the one before it that none has taken back
_KNOWN_FLAGS = MASKED | DIGEST | TICKS | CODED | UNDO

_FIELDS = struct.Struct("<4sHBBQQQ7I")
_CRC = struct.Struct("<I")
_WHOLE = struct.Struct(_FIELDS.format + "I")
assert _FIELDS.size + _CRC.size == _WHOLE.size == HEADER_BYTES


class FrameKind(IntEnum):
    """What a frame's record batch holds.

    >>> FrameKind(3).name
    'CHANGES'
    """

    HEADER = 1
    NAMES = 2
    CHANGES = 3
    PAGES = 4
    EDGES = 5
    LAYOUT = 6


HEADERS = np.dtype(
    [("magic", "S4"), ("version", "<u2"), ("kind", "u1"), ("flags", "u1")]
    + [(name, "<u8") for name in ("sequence", "time_ns", "body_bytes")]
    + [(name, "<u4") for name in ("tick", "intent", "digest_low", "digest_high", "rows", "salt", "body_crc", "crc")]
)
"""The bytes of many headers as one array."""
assert HEADERS.itemsize == HEADER_BYTES

_KINDS = {int(kind): kind for kind in FrameKind}


class FrameHeader(NamedTuple):
    """The fields of a frame header, in the order of the bytes; magic and header CRC are checked and left out."""

    version: int
    kind: int
    flags: int
    sequence: int
    time_ns: int
    body_bytes: int
    tick: int
    intent: int
    digest_low: int
    digest_high: int
    rows: int
    salt: int
    body_crc: int

    @property
    def digest(self) -> tuple[int, int] | None:
        """The digest of the state after this frame, or None when the writer gave none."""
        return (self.digest_low, self.digest_high) if self.flags & DIGEST else None

    @property
    def unknown(self) -> str | None:
        """Why a header with a right checksum still can't be understood by this version, or None."""
        if self.version != FORMAT_VERSION:
            return f"the frame has format version {self.version}, but this mmsb_jax reads version {FORMAT_VERSION}"
        if self.kind not in _KINDS:
            return f"frame kind {self.kind} is unknown to format version {FORMAT_VERSION}"
        if self.flags & ~_KNOWN_FLAGS:
            return f"frame flags {self.flags:#04x} are unknown to format version {FORMAT_VERSION}"
        return None


def pack_header(header: FrameHeader) -> bytes:
    """Return the 64 bytes of a header."""
    fields = _FIELDS.pack(MAGIC, *header)
    return fields + _CRC.pack(crc32c(fields))


def parse_header(data: memoryview | bytes) -> FrameHeader | str:
    """Return the header in the first 64 bytes of `data`, or the reason why there is none."""
    if len(data) < HEADER_BYTES:
        return f"the frame header is cut short ({len(data)} of {HEADER_BYTES} bytes)"
    magic, *values, crc = _WHOLE.unpack_from(data)
    if magic != MAGIC:
        return f"no frame starts here (magic is {magic!r}, not {MAGIC!r})"
    if crc32c(data[: _FIELDS.size]) != crc:
        return "the checksum of the frame header is wrong"
    return FrameHeader._make(values)
