"""Reading frames in order, and telling a torn tail from damage.

A frame that can't be read is a torn tail only if nothing of this run follows it and no mark covers it. Readers may run
beside the writer, so a frame that looks bad is looked at again after the search for later ones: if a later one was
there, this one had long been written whole.
"""

from collections.abc import Iterator
from typing import Any, NoReturn

from crc32c import crc32c

from ..._errors import CorruptLogError, InvalidTypeError, LogCompactedError
from ..._require import whole_number
from ._body import Frame
from ._frame import HEADER_BYTES, MAGIC, FrameHeader, FrameKind, parse_header
from ._identity import Mark, RunIdentity, read_identity, read_mark
from ._segments import read_base, segment_name, segment_start, segments
from ._storage import Place, Storage, as_storage
from ._window import WINDOW, Window

__all__ = ["LogScanner", "headers_from", "read_frames"]

_HEADERS_ONLY = 16 << 10  # read at once where only headers are wanted: small frames come in one piece, large ones don't


def read_frames(
    place: Place, *, start: int | Any = 0, stop: int | Any | None = None, verify: bool = True
) -> Iterator[Frame]:
    """Iterate over the frames of a run, in order; many readers may run beside one writer. Never writes or locks.

    An incomplete last frame ends the iteration, since its commit was never acknowledged.

    Args:
        place: path of the run's directory, or a storage.
        start: sequence number of the first frame wanted; segments before it are not read.
        stop: sequence number of the first frame no longer wanted.
        verify: whether to check the CRC of CHANGES bodies; headers are always checked.

    Raises:
        InvalidTypeError: `start` or `stop` isn't a whole number.
        LogNotFoundError: the place holds no run.
        CorruptLogError: the log is damaged before `stop`; all frames before the damage have been given out.
        LogCompactedError: a compaction has merged frames that were still to come.

    >>> from mmsb_jax.page import MemoryStorage, TransactionLog
    >>> storage = MemoryStorage()
    >>> with TransactionLog.create(storage, page_words=4, capacity=8, fingerprint={"jax": "0.10.2"}) as log:
    ...     api = log.name_id("api")
    >>> [(frame.sequence, frame.kind.name) for frame in read_frames(storage, start=1)]
    [(1, 'NAMES')]
    """
    for name, number in ("start", start), ("stop", stop):
        if number is not None and whole_number(number) is None:
            raise InvalidTypeError(f"got {name}={number!r}; pass the number of a frame")
    if stop is not None and stop <= start:
        return
    storage = as_storage(place, must_exist=True)
    try:
        for frame in LogScanner(storage, read_identity(storage), start=start, verify=verify):
            yield frame
            if frame.sequence + 1 == stop:
                return  # here, not at the next frame: that one may be the damaged one
    finally:
        if storage is not place:
            storage.close()


class LogScanner:
    """Iterates over the frames of a log from number `start` on. Of those before it in the same segment it reads the
    headers and the names alone, and of segments before that nothing.

    When the iteration has ended, `segment` and `offset` say where the good part ends, and `tail` why it ends there.

    Raises (while iterating):
        CorruptLogError: anything is wrong that a crash of the writer can't explain.
        LogCompactedError: a compaction has merged frames that were still to come.
    """

    def __init__(
        self, storage: Storage, run: RunIdentity, *, start: int = 0, verify: bool = True, bodies: bool = True
    ) -> None:
        """`verify`: whether to check the CRC of CHANGES bodies. `bodies`: whether to read any but a segment's own."""
        self.storage, self.run, self.start, self.verify, self.bodies = storage, run, start, verify, bodies
        self.look_at_the_mark()
        self.names = [""]
        self.environment: dict[str, str] = {}
        self.tick = 0
        self.tail = ""
        self._begun = False
        self._begin(start)

    def look_at_the_mark(self) -> None:
        """Read the mark, which comes before any frame: what it covers was there before we looked.

        An iteration that has ended may be taken up again after another look, where the log has grown.
        """
        self.mark: Mark = read_mark(self.storage, self.run.salt)[0]
        self.has_power = self.mark.boot == self.storage.boot() != 0

    def __iter__(self) -> Iterator[Frame]:
        while True:
            found = self._probe()
            if isinstance(found, Frame):
                self._accept(found)
                if found.sequence >= self.start:
                    self._begun = True
                    yield found
            elif not self._advance(found):
                return

    def _begin(self, sequence: int) -> None:
        """Enter the segment that holds a frame, or the first."""
        storage = self.storage
        while True:
            self.base, found = read_base(storage, self.run.salt), segments(storage)
            if found and segment_start(found[0]) == self.base.segment:
                self._enter(max([name for name in found if segment_start(name) <= sequence], default=found[0]))
                return
            if read_base(storage, self.run.salt) == self.base:
                file = storage.describe(segment_name(self.base.segment))
                raise CorruptLogError(file, 0, "the first segment is missing")

    def _begin_again(self) -> None:
        """Go on in a log that has been compacted since this one began to read it."""
        merged = read_base(self.storage, self.run.salt).merged
        if self._begun and merged >= self.expected:
            raise LogCompactedError(
                f"the log at {self.storage.describe('log')} was compacted while it was being read: frames "
                f"{self.expected} to {merged} were merged. Begin again to read what is there now."
            )
        if self._begun:
            self.start = max(self.start, self.expected)
        self.tick = 0  # headers up to `start` are read once more
        self._begin(self.start)

    def _enter(self, name: str) -> None:
        self.segment, self.offset, self.expected = name, 0, segment_start(name)
        self._window, self._file = Window(self.storage, name), self.storage.describe(name)

    def _probe(self) -> Frame | str:
        """Return the frame at the current position, or why there is none."""
        try:
            data = self._window.view(
                self.offset, HEADER_BYTES, WINDOW if self.bodies and self.expected >= self.start else _HEADERS_ONLY
            )
        except FileNotFoundError:
            return "the file is gone"
        if not data:
            return "the file ends"
        header = parse_header(data)
        if isinstance(header, str):
            return header
        if header.salt != self.run.salt:
            return "the frame belongs to another run"
        wanted = self.bodies and header.sequence >= self.start
        skipped = not wanted and header.kind not in (FrameKind.HEADER, FrameKind.NAMES)
        body = memoryview(b"") if skipped else self._window.view(self.offset + HEADER_BYTES, header.body_bytes)
        there = self.storage.size(self.segment) - self.offset - HEADER_BYTES if skipped else len(body)
        if there < header.body_bytes:
            return f"the frame body is cut short ({max(there, 0)} of {header.body_bytes} bytes)"
        checked = not skipped and (self.verify or header.kind != FrameKind.CHANGES)
        if checked and crc32c(body) != header.body_crc:
            return "the checksum of the frame body is wrong"
        return Frame(header, body, self._file, self.offset, self.run, len(self.names), self.tick)

    def _accept(self, frame: Frame) -> None:
        """Check a whole frame against its place, and move behind it."""
        header = frame.header
        if reason := header.unknown or self._misplaced(header):
            raise frame.corrupt(reason)
        if header.kind == FrameKind.HEADER:
            self._accept_header(frame)
        elif header.kind == FrameKind.NAMES:
            self._accept_names(frame)
        self.expected, self.tick = header.sequence + 1, header.tick
        self.offset += HEADER_BYTES + header.body_bytes

    def _misplaced(self, header: FrameHeader) -> str | None:
        if header.sequence != self.expected:
            return f"frame {header.sequence} stands where frame {self.expected} belongs"
        if header.tick < self.tick:
            return f"the tick goes back from {self.tick} to {header.tick}"
        if (header.kind == FrameKind.HEADER) != (self.offset == 0):
            return "a segment begins with its one HEADER frame, and this one doesn't"
        if header.intent >= len(self.names):
            return f"intent {header.intent} is not in the table of {len(self.names)} names"
        return None

    def _accept_header(self, frame: Frame) -> None:
        environment = frame.environment()
        for key, value in self.run.texts().items():
            if environment.get(key) != value:
                raise frame.corrupt(f"{key} is {environment.get(key)!r} in this header but {value!r} in run.json")
        self.environment = environment

    def _accept_names(self, frame: Frame) -> None:
        for number, name in frame.new_names():
            if number == len(self.names):
                self.names.append(name)
            elif not 0 <= number < len(self.names) or self.names[number] != name:
                raise frame.corrupt(f"name {number} ({name!r}) doesn't continue the table of {len(self.names)} names")

    def _advance(self, reason: str) -> bool:
        """Decide what it means that no frame can be read here; return whether to go on reading."""
        if read_base(self.storage, self.run.salt) != self.base:
            self._begin_again()
            return True
        following = next((name for name in segments(self.storage) if name > self.segment), None)
        later = self._later_frame()
        self._window.forget()
        found = self._probe()
        if isinstance(found, Frame):
            return True
        at_end = self.storage.size(self.segment) == self.offset
        if following is not None and at_end and self.offset:
            if segment_start(following) != self.expected:
                reason = f"a segment that begins with frame {self.expected} belongs here: one is missing or misnamed"
                raise CorruptLogError(self.storage.describe(following), 0, reason)
            self._enter(following)
            return True
        vouched = self.expected <= self.mark.sequence
        if following is not None or (later is not None and (vouched or self.has_power)):
            self._fail(f"{reason}, yet {following or f'frame {later}'} follows")
        if vouched:
            self._fail(f"{reason}, yet frames up to {self.mark.sequence} were committed")
        self.tail = reason
        return False

    def _fail(self, reason: str) -> NoReturn:
        raise CorruptLogError(self.storage.describe(self.segment), self.offset, reason)

    def _later_frame(self) -> int | None:
        """Return the number of a later frame of this run in the rest of the segment, or None.

        A whole header is enough: the writer begins a frame only when the one before is written.
        """
        for header in headers_from(self.storage, self.segment, self.offset + 1):
            if header.salt == self.run.salt and header.sequence > self.expected:
                return header.sequence
        return None


def headers_from(storage: Storage, name: str, position: int) -> Iterator[FrameHeader]:
    """Iterate over all that looks like a whole frame header in the rest of a file, at any offset."""
    window = Window(storage, name)
    while chunk := window.view(position, WINDOW):
        data, at = bytes(chunk), -1
        while (at := data.find(MAGIC, at + 1)) >= 0:
            header = parse_header(window.view(position + at, HEADER_BYTES))
            if isinstance(header, FrameHeader):
                yield header
        if len(data) < WINDOW:
            return
        position += len(data) - len(MAGIC) + 1
