"""Putting frames into segments: one write per frame, the mark, and what happens when the device says no."""

import time
from collections.abc import Callable
from typing import Literal, NamedTuple, NoReturn, TypeVar

import pyarrow as pa
from crc32c import crc32c

from ..._errors import BusClosedError, InvalidArgumentError, LogFailedError
from ._changes import PageChanges
from ._codec import CODECS, Codec
from ._frame import DIGEST, FORMAT_VERSION, FrameHeader, FrameKind, pack_header
from ._identity import MARK, RUN_FILE, Mark, RunIdentity, write_mark
from ._index import Held
from ._index_writer import IndexWriter
from ._records import encode_header, encode_names
from ._recovery import Recovered
from ._segments import segment_name, segment_start
from ._storage import Storage

__all__ = ["FrameWriter", "SyncMode", "WriterOptions", "failure"]

SyncMode = Literal["commit", "group", "none"]

# A mark that is overwritten in place costs another 0.1 ms to sync. It matters only when a power failure and damage to
# the last frames come together, so it may lag that long behind the data.


_NOT_SYNCED = "could not be synced, so its last commits may be lost"
_T = TypeVar("_T")


class WriterOptions(NamedTuple):
    """When to sync, and when to begin a new segment."""

    sync: SyncMode
    segment_bytes: int
    group_ms: float
    group_bytes: int
    codec: Codec = "none"

    def check(self) -> "WriterOptions":
        """Return the options, or raise `InvalidArgumentError`."""
        if self.sync not in ("commit", "group", "none"):
            raise InvalidArgumentError(f"sync={self.sync!r}, but it is 'commit', 'group' or 'none'")
        for name in ("segment_bytes", "group_bytes"):
            if getattr(self, name) < 1:
                raise InvalidArgumentError(f"{name}={getattr(self, name)}, but it is a number of bytes, 1 or more")
        if self.codec not in CODECS:
            raise InvalidArgumentError(f"codec={self.codec!r}, but it is {', '.join(map(repr, CODECS))}")
        if not self.group_ms >= 0:
            raise InvalidArgumentError(f"group_ms={self.group_ms}, but it is a time in milliseconds, 0 or more")
        return self


class FrameWriter:
    """The end of a log. `names` is the table of names, in the order of their ids; `TransactionLog` extends it."""

    def __init__(
        self, storage: Storage, run: RunIdentity, at: Recovered, options: WriterOptions, environment: dict[str, str]
    ) -> None:
        self.storage, self.run, self.options, self.environment = storage, run, options, environment
        self.segment, self.end, self.sequence, self.tick = at.segment, at.end, at.sequence, at.tick
        self.names = {name: number for number, name in enumerate(at.names)}
        self.durable, self.slot = at.sequence, at.slot
        self.unsynced = self.bytes = self.frames = self.rows = self.syncs = 0
        self.synced_at, self.mark_synced = time.monotonic(), True
        self.boot = storage.boot()
        self._in_flight: tuple[Mark, Callable[[], None] | None] | None = None  # what a sync that goes on will vouch for
        self.failed: str | None = None
        self.closed = False
        self.index = IndexWriter(storage, run)
        self.index.begin(self.segment, self.sequence + 1, self.end)

    def begin_run(self) -> None:
        """Write everything a run consists of; `run.json` last, since it is what makes a directory a run."""
        self._create_empty(self.segment)
        self._start_segment()
        self._create_empty(MARK)
        self.sync()
        self.storage.publish(RUN_FILE, self.run.to_json())

    def _create_empty(self, name: str) -> None:
        if self.storage.exists(name):  # left by an attempt that failed, and its name may not be durable
            self.storage.remove(name)
        self.storage.create(name)

    def _remove_unused(self, name: str) -> None:
        """Remove a segment that could not be begun: later commits may still go into the one before."""
        try:
            if self.storage.exists(name):
                self.storage.remove(name)
        except OSError as worse:
            self._fail(f"could not begin {name}, nor remove what there is of it", worse)

    def resume(self, recorded_environment: dict[str, str]) -> None:
        """Vouch for what recovery found, and say so if the run goes on in another environment."""
        self.mark_synced = False  # a killed writer left it in the page cache alone, perhaps; only one slot may be
        self._sync_mark()
        self._mark(self._written())
        self._sync_mark()
        if self.end and self.environment != recorded_environment:
            self._start_segment()

    def append(
        self,
        kind: FrameKind,
        batch: pa.RecordBatch,
        tick: int,
        *,
        flags: int = 0,
        digest: tuple[int, int] | None = None,
        intent: int = 0,
        time_ns: int | None = None,
        held: Held = None,
    ) -> int:
        """Write one frame and return its sequence number; `held` is what the index needs to know of it.

        After an `OSError` the log ends where it ended before.
        """
        if self.end == 0 or self.end >= self.options.segment_bytes:
            self._start_segment(time_ns)
        self._put_names()
        return self._put(kind, batch, tick, flags, digest, intent, time_ns, held)

    def seal(self) -> None:
        """End the present segment: from now on nothing is written to it. Syncs."""
        if self.end and self.sequence > segment_start(self.segment):
            self._start_segment()
        self.sync()

    def sync_if_due(self) -> None:
        """Sync when the mode asks for it."""
        mode, _, group_ms, group_bytes, _ = self.options
        if mode == "commit":
            self._sync_data()
        elif mode == "group" and (
            self.unsynced >= group_bytes or (time.monotonic() - self.synced_at) * 1000 >= group_ms
        ):
            self._begin_sync()

    def sync(self) -> None:
        """Return when all frames and the mark are on the device."""
        self._sync_data()
        self._sync_mark()

    def close(self) -> None:
        """Sync unless the log has failed, and let go of the storage. Idempotent."""
        if self.closed:
            return
        self.closed = True
        try:
            if self.failed is None:
                self.sync()
                self.index.write(sealed=False)
        finally:
            self.storage.close()

    def check_usable(self) -> None:
        """Raise if the log is closed or has failed."""
        if self.closed:
            raise BusClosedError(f"the log at {self.storage.describe('log')} is closed; open the run again to go on")
        if self.failed is not None:
            raise LogFailedError(self.failed)

    def _put(
        self,
        kind: FrameKind,
        batch: pa.RecordBatch,
        tick: int,
        flags: int = 0,
        digest: tuple[int, int] | None = None,
        intent: int = 0,
        time_ns: int | None = None,
        held: Held = None,
    ) -> int:
        body = memoryview(batch.serialize())
        low, high = digest or (0, 0)
        rows = len(held) if isinstance(held, PageChanges) else batch.num_rows
        header = FrameHeader(
            FORMAT_VERSION,
            int(kind),
            flags if digest is None else flags | DIGEST,
            self.sequence + 1,
            time.time_ns() if time_ns is None else time_ns,
            len(body),
            tick,
            intent,
            low,
            high,
            rows,
            self.run.salt,
            crc32c(body),
        )
        packed = pack_header(header)
        self._write(packed, body)
        self.sequence, self.tick = header.sequence, tick
        self.rows += header.rows
        self.index.add(packed, held)
        return header.sequence

    def _write(self, header: bytes, body: memoryview) -> None:
        try:
            self.storage.write(self.segment, self.end, (header, body))
        except BaseException as why:  # an interrupt, too, may leave half a frame
            self._take_back(why)
            raise
        size = len(header) + len(body)
        self.end += size
        self.unsynced += size
        self.bytes += size
        self.frames += 1

    def _take_back(self, why: BaseException) -> None:
        """Cut off what was written of a frame; durably, or a power failure might bring it back over a later one."""
        try:
            self.storage.truncate(self.segment, self.end)
            self.storage.sync(self.segment)
        except OSError as worse:
            self._fail("a commit failed half-way and could not be taken back", worse)
        if isinstance(why, OSError):
            what = "could not write a commit: it is not in the log, all before it are. Mend the cause and commit again"
            raise failure(self.storage, what, why) from why

    def _start_segment(self, time_ns: int | None = None) -> None:
        """Begin a segment with its header. `append` puts the names so far behind it, so it is readable by itself.

        The header has the time of the commit that it is begun for: a moment is looked for by the segments' headers.
        """
        if self.end:
            # A torn frame is a tail only in the last segment, so this one has to be whole before there is another.
            self._put_names()
            self._sync_data()
            self.index.write(sealed=True)
            name = segment_name(self.sequence + 1)
            try:
                self._create_empty(name)
            except BaseException as why:
                self._remove_unused(name)
                if isinstance(why, OSError):
                    what = f"could not begin {name}: this commit is not in the log, all before it are"
                    raise failure(self.storage, what, why) from why
                raise
            self.segment, self.end = name, 0
        self.index.begin(self.segment, self.sequence + 1, 0)
        self._put(FrameKind.HEADER, encode_header(self.environment), self.tick, time_ns=time_ns)

    def _put_names(self) -> None:
        # Judged by what the segment holds, so that a table which a crash or a full disk took away is made up for.
        if len(self.names) > 1 and self.sequence == segment_start(self.segment):
            self._put(FrameKind.NAMES, encode_names(0, list(self.names)), self.tick)

    def _sync_data(self) -> None:
        self._begin_sync()
        self._end_sync()

    def _begin_sync(self) -> None:
        """Begin to bring all that is written to the device, the mark first; there is one sync at a time."""
        self._end_sync()
        if self.durable == self.sequence:
            return
        names = [self.segment] if self.mark_synced else [MARK, self.segment]
        self._in_flight = self._written(), self._try(lambda: self.storage.begin_sync(*names), _NOT_SYNCED)
        self.unsynced, self.synced_at = 0, time.monotonic()
        if self._in_flight[1] is None:
            self._end_sync()

    def _end_sync(self) -> None:
        """Wait for the sync that goes on, if there is one, and mark what it has made durable."""
        if self._in_flight is None:
            return
        mark, wait = self._in_flight
        if wait is not None:
            # Never tried again: after an error the kernel may call lost pages clean, and the next sync would succeed.
            self._try(wait, _NOT_SYNCED)
        self._in_flight, self.mark_synced = None, True
        self.syncs += 1
        self.durable = mark.sequence
        self._mark(mark)

    def _written(self) -> Mark:
        """What a mark says once all that is written is on the device."""
        return Mark(self.sequence, segment_start(self.segment), self.end, self.boot)

    def _mark(self, mark: Mark) -> None:
        """Say what is durable. The mark itself becomes so before the next sync, so it lags by one at most."""
        slot = 1 - self.slot
        self.mark_synced = False
        self._try(lambda: write_mark(self.storage, mark, self.run.salt, slot), "could not write its mark")
        self.slot = slot  # not before: the slot that is whole must not be the next one to be written

    def _sync_mark(self) -> None:
        if not self.mark_synced:
            self._try(lambda: self.storage.sync(MARK), "could not sync its mark")
            self.mark_synced = True

    def _try(self, action: Callable[[], _T], what: str) -> _T:
        try:
            return action()
        except OSError as why:
            self._fail(what, why)

    def _fail(self, what: str, why: OSError) -> NoReturn:
        mend = "It takes no more commits; close it, and open the run again to see what is there"
        error = failure(self.storage, f"{what}. {mend}", why)
        self.failed = str(error)
        raise error from why


def failure(storage: Storage, what: str, why: OSError) -> LogFailedError:
    """Return the error for an operation that the device refused; one that says so already stays what it is."""
    if isinstance(why, LogFailedError):
        return why
    return LogFailedError(why.errno, f"the log at {storage.describe('log')} {what} ({why.strerror or why})")
