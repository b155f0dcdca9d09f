"""Writing indexes beside the log. Nothing here makes a commit fail: an index that can't be written is counted."""

from collections.abc import Sequence

from ..._errors import CorruptLogError
from ._body import Frame
from ._frame import FrameKind, pack_header
from ._identity import RunIdentity
from ._index import Held, Span, Stretch, StretchBuilder, deleted_pages
from ._index_file import Blocks, encode_block, index_name, read_blocks
from ._scan import LogScanner
from ._segments import segment_start, segments
from ._storage import Storage

__all__ = ["IndexWriter", "scan_stretch"]


def scan_stretch(
    storage: Storage, run: RunIdentity, first: int, offset: int, stop: int | None = None
) -> tuple[Stretch | None, LogScanner]:
    """Return the frames from number `first` at `offset` up to `stop` or the end of the segment, read and verified.

    None when there are none. The scanner tells where the end of the log is, when that was reached.
    """
    scanner = LogScanner(storage, run, start=first)
    segment, builder = scanner.segment, StretchBuilder(run.capacity)
    builder.begin(offset)
    for frame in scanner:
        if scanner.segment != segment:
            break
        builder.add(pack_header(frame.header), _held(frame))
        if frame.sequence + 1 == stop:
            break
    return builder.stretch() if len(builder) else None, scanner


def _held(frame: Frame) -> Held:
    if frame.header.kind == FrameKind.CHANGES:
        return frame.changes()
    return deleted_pages(frame.pages()) if frame.header.kind == FrameKind.PAGES else None


class IndexWriter:
    """Takes note of what a writer appends, and adds it to the segment's index when the segment ends or the log closes.

    `blocks` counts what was written, `failures` what could not be; then readers make up for it.
    """

    def __init__(self, storage: Storage, run: RunIdentity) -> None:
        self.storage, self.run = storage, run
        self.blocks = self.failures = 0
        self._spans: list[Span] = []
        self._builder = StretchBuilder(run.capacity)
        self.begin("", 0, 0)

    def begin(self, segment: str, first: int, offset: int) -> None:
        """The next frame will be number `first`, at a byte of this segment."""
        self._segment, self._first = segment, first
        self._builder.begin(offset)

    def add(self, header: bytes, held: Held) -> None:
        """A frame was written: its header, and the rows or the deleted pages in it."""
        self._builder.add(header, held)

    def write(self, *, sealed: bool) -> None:
        """Add a block for what was written since `begin` and is on the device; `sealed`: the segment has ended."""
        if not self._segment or not (len(self._builder) or sealed):
            return
        try:
            self._write(sealed)
        except (OSError, CorruptLogError):
            self.failures += 1
            self._spans = []
        self.begin("", 0, 0)

    def _write(self, sealed: bool) -> None:
        known, new = Blocks([], 0, None), list[Stretch]()
        if self._first > segment_start(self._segment):
            known = read_blocks(self.storage, self.run, self._segment)
            new += self._missing(known)
        if len(self._builder):
            new.append(self._builder.stretch())
        if sealed and new:
            new[-1] = new[-1].with_span(self._span([*known.stretches, *new]))
        elif sealed:
            self._spans = []  # nowhere to put this segment's: a search will look into it
        self._put(known.end, new)

    def _missing(self, known: Blocks) -> list[Stretch]:
        """What a writer before us did not add, because it died."""
        first, offset = (segment_start(self._segment), 0)
        if known.stretches:
            first, offset = known.stretches[-1].after, known.stretches[-1].end
        if first == self._first:
            return []
        stretch, _ = scan_stretch(self.storage, self.run, first, offset, self._first)
        return [] if stretch is None else [stretch]

    def _put(self, at: int, stretches: list[Stretch]) -> None:
        name = index_name(self._segment)
        if not self.storage.exists(name):
            self.storage.create(name)
        elif self.storage.size(name) > at:
            self.storage.truncate(name, at)
        for stretch in stretches:
            block = encode_block(stretch, self.run.salt)
            if block is None:
                return  # and none after it
            self.storage.write(name, at, block)
            at += sum(map(len, block))
            self.blocks += 1

    def _span(self, stretches: Sequence[Stretch]) -> Span:
        """The segment's own span joined with those before it of the same level, as a binary counter carries."""
        own = [stretch.own_span(self.run.capacity) for stretch in stretches]
        span = own[0]
        for later in own[1:]:
            span = later.joined(span)._replace(level=0)
        before = self._spans or self._spans_before(span.first)
        while before and before[-1].level == span.level:
            span = span.joined(before.pop())
        self._spans = [*before, span]
        return span

    def _spans_before(self, sequence: int) -> list[Span]:
        """The spans that lead from this frame back to the beginning of the log, or to where one is missing."""
        names, spans = segments(self.storage), list[Span]()
        while names := [name for name in names if segment_start(name) < sequence]:
            found = read_blocks(self.storage, self.run, names[-1]).stretches
            if not found or found[-1].after != sequence or (span := found[-1].span) is None:
                break
            spans.insert(0, span)
            sequence = span.first
        return spans
