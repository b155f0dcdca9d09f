"""Where a log begins. A compacted one begins behind a checkpoint, and `log/base` says so: no segment has been lost.

`log/base` is published once the new first segment is on the device under a name that no reader looks at, so a crash
leaves the old log or the new one. What else it leaves is cleared away by the next writer.
"""

import struct
from typing import NamedTuple

from crc32c import crc32c

from .._errors import CorruptLogError
from ._frame import FORMAT_VERSION
from ._storage import Storage

__all__ = ["BASE", "PENDING", "Base", "read_base", "segment_name", "segment_start", "segments", "write_base"]

BASE = "log/base"
PENDING = ".new"
"""What the name of a new first segment ends with until the base has been published."""

_MAGIC = b"MMSL"
_FIELDS = struct.Struct("<4sHHQQII")  # magic, version, 0; first segment, last frame merged; its tick; the run's salt
_CRC = struct.Struct("<I")


class Base(NamedTuple):
    """Where a log begins: the number of its first segment, and of the last frame that is in checkpoints alone."""

    segment: int = 0
    merged: int = -1
    tick: int = 0
    """The tick of that frame: no earlier moment can be read any more."""


def write_base(storage: Storage, base: Base, salt: int) -> None:
    """Make a log begin there, from now on."""
    fields = _FIELDS.pack(_MAGIC, FORMAT_VERSION, 0, base.segment, base.merged, base.tick, salt)
    storage.publish(BASE, fields + _CRC.pack(crc32c(fields)))


def read_base(storage: Storage, salt: int | None = None) -> Base:
    """Return where the log begins. Raises `CorruptLogError` when `log/base` is damaged, or that of another run."""
    if not storage.exists(BASE):
        return Base()
    data = storage.read(BASE, 0, _FIELDS.size + _CRC.size + 1)
    fields = data[: _FIELDS.size]
    if len(data) != _FIELDS.size + _CRC.size or crc32c(fields) != _CRC.unpack(data[_FIELDS.size :])[0]:
        raise CorruptLogError(storage.describe(BASE), 0, "the checksum or the length of the log's base is wrong")
    magic, version, _, segment, merged, tick, of_run = _FIELDS.unpack(fields)
    if magic != _MAGIC or version != FORMAT_VERSION:
        raise CorruptLogError(storage.describe(BASE), 0, f"the log's base has magic {magic!r} and version {version}")
    if salt is not None and of_run != salt:
        raise CorruptLogError(storage.describe(BASE), 0, "the log's base belongs to another run")
    return Base(segment, merged, tick)


def segment_name(first_sequence: int) -> str:
    """Return the name of the segment that starts with this frame."""
    return f"log/{first_sequence:020d}.seg"


def segment_start(name: str) -> int:
    """Return the sequence number of a segment's first frame."""
    return int(name[4:24])


def segments(storage: Storage) -> list[str]:
    """Return the names of the segments in order, from the log's base on.

    Raises:
        CorruptLogError: a `.seg` file has another kind of name, or the base is damaged.
    """
    base = read_base(storage).segment
    names = [name for name in storage.names("log") if name.endswith(".seg")]
    for name in names:
        digits = name[4:-4]
        if len(digits) != 20 or not (digits.isascii() and digits.isdigit()):
            reason = "a segment is named by the 20 digits of its first sequence number"
            raise CorruptLogError(storage.describe(name), 0, reason)
    names = [name for name in names if segment_start(name) >= base]
    first = segment_name(base)
    if base and first not in names and storage.exists(first + PENDING):
        names.insert(0, first + PENDING)  # a compaction died between the two names
    return names
