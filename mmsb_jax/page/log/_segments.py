"""The files of a log, and where it begins.

A compacted log begins with a segment called `.base`, which `log/base` names. That file is published once the segment is
on the device, so a crash leaves the old log or the new one; what else it leaves is cleared away by the next writer.
"""

import struct
from typing import NamedTuple

from crc32c import crc32c

from ..._errors import CorruptLogError
from ._frame import FORMAT_VERSION
from ._storage import Storage

__all__ = [
    "BASE",
    "Base",
    "base_name",
    "leftovers",
    "read_base",
    "remove_leftovers",
    "segment_name",
    "segment_start",
    "segments",
    "write_base",
]

BASE = "log/base"

_MAGIC = b"MMSL"
_FIELDS = struct.Struct("<4sHHQQQII")  # magic, version, 0; first segment, the one behind it, last merged; tick, salt
_CRC = struct.Struct("<I")


class Base(NamedTuple):
    """Where a log begins."""

    segment: int = 0
    """The number of the first frame."""
    following: int = 0
    """That of the first frame behind the first segment: of ordinary segments, those from here on count."""
    merged: int = -1
    """That of the last frame whose state the first segment begins with; -1 when nothing was merged."""
    tick: int = 0
    """The tick of that state: no earlier moment can be read any more."""


def write_base(storage: Storage, base: Base, salt: int) -> None:
    """Make a log begin there, from now on."""
    fields = _FIELDS.pack(_MAGIC, FORMAT_VERSION, 0, *base, salt)
    storage.publish(BASE, fields + _CRC.pack(crc32c(fields)))


def read_base(storage: Storage, salt: int | None = None) -> Base:
    """Return where the log begins. Raises `CorruptLogError` when `log/base` is damaged, or that of another run."""
    if not storage.exists(BASE):
        return Base()
    data = storage.map(BASE)  # not `read`, which would go on with a file that has been replaced since
    fields = data[: _FIELDS.size]
    if len(data) != _FIELDS.size + _CRC.size or crc32c(fields) != _CRC.unpack(data[_FIELDS.size :])[0]:
        raise CorruptLogError(storage.describe(BASE), 0, "the checksum or the length of the log's base is wrong")
    magic, version, _, *values, of_run = _FIELDS.unpack(fields)
    if magic != _MAGIC or version != FORMAT_VERSION:
        raise CorruptLogError(storage.describe(BASE), 0, f"the log's base has magic {magic!r} and version {version}")
    if salt is not None and of_run != salt:
        raise CorruptLogError(storage.describe(BASE), 0, "the log's base belongs to another run")
    return Base(*values)


def segment_name(first_sequence: int) -> str:
    """Return the name of the segment that starts with this frame."""
    return f"log/{first_sequence:020d}.seg"


def base_name(first_sequence: int) -> str:
    """Return the name of the first segment of a compacted log."""
    return f"log/{first_sequence:020d}.base"


def segment_start(name: str) -> int:
    """Return the sequence number of a segment's first frame."""
    return int(name[4:24])


def segments(storage: Storage) -> list[str]:
    """Return the names of the segments in order, from the log's base on.

    Raises:
        CorruptLogError: a `.seg` file has another kind of name, or the base is damaged.
    """
    base = read_base(storage)
    names = [name for name in _ordinary(storage) if segment_start(name) >= base.following]
    first = base_name(base.segment)
    return [first, *names] if base.segment and storage.exists(first) else names


def leftovers(storage: Storage) -> list[str]:
    """Return the names of segments, and of indexes of segments, that are no longer part of the log."""
    there = segments(storage)
    starts = {segment_start(name) for name in there}
    old = [name for name in storage.names("log") if name.endswith((".seg", ".base")) and name not in there]
    idle = [name for name in storage.names("log") if name.endswith(".idx") and int(name[4:24]) not in starts]
    return old + idle


def remove_leftovers(storage: Storage) -> None:
    """Take away what stands before the log's base, and what a compaction that died has left."""
    for name in leftovers(storage):
        storage.remove(name)


def _ordinary(storage: Storage) -> list[str]:
    names = [name for name in storage.names("log") if name.endswith(".seg")]
    for name in names:
        digits = name[4:-4]
        if len(digits) != 20 or not (digits.isascii() and digits.isdigit()):
            reason = "a segment is named by the 20 digits of its first sequence number"
            raise CorruptLogError(storage.describe(name), 0, reason)
    return names
