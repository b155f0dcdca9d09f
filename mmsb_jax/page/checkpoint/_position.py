"""Where in a log something was true: behind a frame. Bound to that very frame, so that it can be checked later."""

import struct
from contextlib import suppress
from typing import NamedTuple

from ..._errors import CorruptLogError
from ..log._frame import HEADER_BYTES, FrameHeader, parse_header
from ..log._identity import RunIdentity, read_mark
from ..log._scan import LogScanner
from ..log._segments import read_base, segment_start, segments
from ..log._storage import Storage

__all__ = ["LogPosition", "fault_in_position", "position_behind"]

_WINDOW = 1 << 18
_NUMBERS = struct.Struct("<8xQ8xQ")  # of a header: the frame's number and the length of its body


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
    if name is None:
        return None
    begin, start, window = 0, 0, memoryview(b"")
    while True:
        if begin + HEADER_BYTES > start + len(window):
            start, window = begin, storage.read(name, begin, _WINDOW)
        header = window[begin - start : begin - start + HEADER_BYTES]
        if len(header) < HEADER_BYTES:
            return None
        found, body_bytes = _NUMBERS.unpack_from(header)
        end = begin + HEADER_BYTES + body_bytes
        if found >= sequence:  # only this header is checked: a wrong one on the way leads nowhere
            there = _is_header_of(header, run, sequence) and storage.size(name) >= end
            return LogPosition(sequence, segment_start(name), begin, end, _crc(header)) if there else None
        begin = end


def fault_in_position(storage: Storage, run: RunIdentity, position: LogPosition) -> str | None:
    """Return why the log as it is now does not lead through a position that it once led through, or None if it does."""
    sequence, merged = position.sequence, read_base(storage, run.salt).merged
    if sequence <= merged:
        return f"it stands behind frame {sequence}, but the log was compacted up to frame {merged}"
    mark = read_mark(storage, run.salt)[0].sequence
    if sequence > mark and (whole := _last_whole(storage, run, mark)) < sequence:
        return f"it stands behind frame {sequence}, but the log is whole up to frame {whole} alone: an older copy?"
    if _is_there(storage, run, position):
        return None
    found = position_behind(storage, run, sequence)  # compaction moves frames to another segment
    if found is None:
        return f"it stands behind frame {sequence}, which the log doesn't hold; is the log an older copy?"
    if found.header_crc != position.header_crc:
        return f"it stands behind a frame {sequence} that is another one in this log; are they of two histories?"
    return None


def _last_whole(storage: Storage, run: RunIdentity, start: int) -> int:
    """The last of the frames behind a mark: its header may have reached the device, and something before it not."""
    scanner = LogScanner(storage, run, start=max(0, start))
    with suppress(CorruptLogError):  # whoever reads the log will be told
        for _ in scanner:
            pass
    return scanner.expected - 1


def _is_there(storage: Storage, run: RunIdentity, position: LogPosition) -> bool:
    name = next((name for name in segments(storage) if segment_start(name) == position.segment), None)
    if name is None or storage.size(name) < position.end:
        return False
    header = storage.read(name, position.begin, HEADER_BYTES)
    return _is_header_of(header, run, position.sequence) and _crc(header) == position.header_crc


def _is_header_of(header: memoryview, run: RunIdentity, sequence: int) -> bool:
    found = parse_header(header)
    return isinstance(found, FrameHeader) and (found.sequence, found.salt) == (sequence, run.salt)


def _crc(header: memoryview) -> int:
    return struct.unpack_from("<I", header, HEADER_BYTES - 4)[0]
