"""Where in a log something was true: behind a frame. Bound to that very frame, so that it can be checked later."""

import struct
from typing import NamedTuple

from ._frame import HEADER_BYTES, FrameHeader, parse_header
from ._identity import RunIdentity
from ._segments import read_base, segment_name, segment_start, segments
from ._storage import Storage

__all__ = ["LogPosition", "fault_in_position", "position_behind"]

_WINDOW = 1 << 18


class LogPosition(NamedTuple):
    """The place behind frame `sequence`, which lies from byte `begin` to `end` of a segment.

    `segment` is the number of the segment's first frame, which names its file. `header_crc` ends the frame's header,
    which holds the time of the commit and the checksum of its body: in another history of the same run, such as one
    that went on from a restored copy of the log, it is another.
    """

    sequence: int
    segment: int
    begin: int
    end: int
    header_crc: int


def position_behind(storage: Storage, run: RunIdentity, sequence: int) -> LogPosition | None:
    """Return the place behind a frame, or None when the log doesn't hold it. Walks along the headers of one segment."""
    name = max((name for name in segments(storage) if segment_start(name) <= sequence), default=None)
    begin, base, window = 0, 0, memoryview(b"")
    while name is not None:
        if begin + HEADER_BYTES > base + len(window):
            base, window = begin, storage.read(name, begin, _WINDOW)
        data = window[begin - base : begin - base + HEADER_BYTES]
        header = parse_header(data)
        if isinstance(header, str) or header.salt != run.salt or header.sequence > sequence:
            return None
        end = begin + HEADER_BYTES + header.body_bytes
        if header.sequence == sequence:
            there = storage.size(name) >= end
            return LogPosition(sequence, segment_start(name), begin, end, _crc(data)) if there else None
        begin = end
    return None


def fault_in_position(storage: Storage, run: RunIdentity, position: LogPosition) -> str | None:
    """Return why the log as it is now does not lead through a position that it once led through, or None if it does.

    Of a log that was compacted up to this very frame nothing but what follows can be seen.
    """
    sequence, merged = position.sequence, read_base(storage, run.salt).merged
    if sequence < merged:
        return f"it stands behind frame {sequence}, but the log was compacted up to frame {merged}"
    if sequence == merged or _is_there(storage, run, position):
        return None
    found = position_behind(storage, run, sequence)  # compaction moves frames to another segment
    if found is None:
        return f"it stands behind frame {sequence}, which the log doesn't hold; is the log an older copy?"
    if found.header_crc != position.header_crc:
        return f"it stands behind a frame {sequence} that is another one in this log; are they of two histories?"
    return None


def _is_there(storage: Storage, run: RunIdentity, position: LogPosition) -> bool:
    name = segment_name(position.segment)
    if name not in segments(storage) or storage.size(name) < position.end:
        return False
    data = storage.read(name, position.begin, HEADER_BYTES)
    header = parse_header(data)
    return isinstance(header, FrameHeader) and (header.sequence, header.salt, _crc(data)) == (
        position.sequence,
        run.salt,
        position.header_crc,
    )


def _crc(header: memoryview) -> int:
    return struct.unpack_from("<I", header, HEADER_BYTES - 4)[0]
