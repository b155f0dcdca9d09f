"""The transaction log: the one writer of a run, and the readers beside it.

A commit is one frame. `append_*` returns when the frame is written, and with `sync="commit"` when it is on the device.
"""

from collections.abc import Mapping, Sequence
from types import TracebackType

import pyarrow as pa

from ..._errors import InvalidArgumentError, InvalidDeltaError, MMSBError
from ._changes import PageChanges, encode_changes, fault_in_changes
from ._codec import Codec, encode_coded
from ._fingerprint import environment_fingerprint
from ._frame import CODED, MASKED, TICKS, UNDO, FrameKind
from ._identity import RunIdentity, read_identity
from ._index import Held, deleted_pages
from ._layout_record import LayoutRecord, encode_layout, fault_in_layout
from ._records import EdgeRecords, PageRecord, encode_edges, encode_names, encode_pages, fault_in_edges, fault_in_pages
from ._recovery import Recovered, recover
from ._scan import read_frames
from ._segments import remove_leftovers, segment_name
from ._storage import DirectoryStorage, Place, Storage, as_storage
from ._vacancy import refuse_existing
from ._writer import FrameWriter, SyncMode, WriterOptions, failure

__all__ = ["TransactionLog", "read_frames"]


class TransactionLog:
    """Appends commits to a run. Made by `create` or `open`; not thread-safe; a context manager that closes.

    A commit survives the death of the process once `append_*` has returned. It survives a power failure, with `sync`:

    - `"commit"`: when `append_*` returns.
    - `"group"`: when a sync that begins with the first append after `group_ms` milliseconds or `group_bytes` bytes has
      ended, in the background; it has before the next one begins, and at `sync()` and `close()`.
    - `"none"`: when a segment is full, and at `sync()` and `close()`.

    >>> import numpy as np
    >>> from mmsb_jax.page import MemoryStorage
    >>> storage = MemoryStorage()
    >>> with TransactionLog.create(storage, page_words=4, capacity=8) as log:
    ...     source = np.array([log.name_id("api")], np.int32)
    ...     rows = PageChanges.from_rows(np.array([5], np.int32), np.array([[1, 2, 3, 4]], np.uint32), None, source)
    ...     log.append_changes(1, rows)
    2
    >>> [frame.kind.name for frame in read_frames(storage)]
    ['HEADER', 'NAMES', 'CHANGES']
    """

    def __init__(self, writer: FrameWriter) -> None:
        self._writer = writer

    @classmethod
    def create(
        cls,
        place: Place,
        *,
        page_words: int,
        capacity: int,
        sync: SyncMode = "group",
        segment_bytes: int = 64 << 20,
        group_ms: float = 50.0,
        group_bytes: int = 8 << 20,
        codec: Codec = "none",
        fingerprint: Mapping[str, str] | None = None,
    ) -> "TransactionLog":
        """Start a run in a directory (made if missing) or a `Storage`, and return its log, open for writing.

        Args:
            place: path of the run's directory, or a storage.
            page_words: 32-bit words per page.
            capacity: number of pages; ids are 0 to `capacity - 1`.
            sync: when commits become durable, see the class.
            segment_bytes: a segment that has reached this size gets no more frames.
            group_ms: for `sync="group"`, in milliseconds.
            group_bytes: for `sync="group"`, in bytes.
            codec: how to compress commits that become a tenth smaller by it: `"lz4"`, `"zstd"`, which is slower and
                smaller, `"auto"` for the one that suits a commit, `"none"`. Readers need not know.
            fingerprint: what the run runs on; by default `environment_fingerprint()`, which starts JAX.

        Raises:
            InvalidArgumentError: there is a run already, or a number is out of range.
            LogLockedError: another process is creating a run there.
            LogFailedError: the files can't be written.
        """
        options = WriterOptions(sync, segment_bytes, group_ms, group_bytes, codec).check()
        for name, value in (("page_words", page_words), ("capacity", capacity)):
            if not 1 <= value < 2**31:
                raise InvalidArgumentError(f"{name}={value}, but it must be between 1 and 2**31 - 1")
        storage = as_storage(place)
        refuse_existing(storage)
        run = RunIdentity.new(page_words, capacity)
        start = Recovered(segment_name(0), 0, -1, 0, [""], {}, 1)
        return cls._started(storage, storage is not place, run, start, options, fingerprint)

    @classmethod
    def open(
        cls,
        place: Place,
        *,
        sync: SyncMode = "group",
        segment_bytes: int = 64 << 20,
        group_ms: float = 50.0,
        group_bytes: int = 8 << 20,
        codec: Codec = "none",
        fingerprint: Mapping[str, str] | None = None,
    ) -> "TransactionLog":
        """Open a run to continue it: the last two segments are verified, a torn tail is cut off, and numbering goes on.

        A new segment begins when the fingerprint has changed. Arguments are those of `create`.

        Raises:
            LogNotFoundError: the place holds no run.
            LogLockedError: the run has a writer already.
            CorruptLogError: the log is damaged; nothing has been changed.
            LogFailedError: the files can't be written.
        """
        options = WriterOptions(sync, segment_bytes, group_ms, group_bytes, codec).check()
        storage = as_storage(place, must_exist=True)
        return cls._started(storage, storage is not place, read_identity(storage), None, options, fingerprint)

    @classmethod
    def _started(
        cls,
        storage: Storage,
        owned: bool,
        run: RunIdentity,
        start: Recovered | None,
        options: WriterOptions,
        fingerprint: Mapping[str, str] | None,
    ) -> "TransactionLog":
        fingerprint = environment_fingerprint() if fingerprint is None else fingerprint
        environment = {**run.texts(), **{f"env.{key}": value for key, value in fingerprint.items()}}
        try:
            storage.lock()
        except BaseException as why:
            if owned:  # a storage that was passed in may be the lock holder's
                storage.close()
            if isinstance(why, OSError) and not isinstance(why, MMSBError):
                raise failure(storage, "can't be opened for writing", why) from why
            raise
        try:
            if start is not None:
                refuse_existing(storage)  # again, now that nobody else can be creating one
            at = start or recover(storage, run)
            if start is None:
                remove_leftovers(storage)  # only now: a log that is refused stays as it is
            writer = FrameWriter(storage, run, at, options, environment)
            if start is not None:
                writer.begin_run()
            else:
                writer.resume(at.environment)
        except OSError as why:
            storage.close()
            raise failure(storage, "can't be opened for writing", why) from why
        except BaseException:
            storage.close()
            raise
        return cls(writer)

    @property
    def place(self) -> Place:
        """Where this log can be read from, also while it is open: its path, or its storage."""
        storage = self._writer.storage
        return storage.path if isinstance(storage, DirectoryStorage) else storage

    @property
    def page_words(self) -> int:
        """32-bit words per page."""
        return self._writer.run.page_words

    @property
    def capacity(self) -> int:
        """Number of pages; ids are 0 to `capacity - 1`."""
        return self._writer.run.capacity

    @property
    def run_id(self) -> str:
        """The run's identity, 32 hexadecimal digits."""
        return self._writer.run.run_id

    @property
    def sequence(self) -> int:
        """Number of the last frame."""
        return self._writer.sequence

    @property
    def durable_sequence(self) -> int:
        """Number of the last frame that is known to survive a power failure."""
        return self._writer.durable

    @property
    def tick(self) -> int:
        """Tick of the last frame."""
        return self._writer.tick

    @property
    def bytes_written(self) -> int:
        """Bytes appended by this object, headers included."""
        return self._writer.bytes

    @property
    def counts(self) -> dict[str, int]:
        """What this object has done: frames appended, rows in them, calls that waited for the device.

        `index_failures` counts segments whose index could not be written; readers make up for it.
        """
        writer = self._writer
        done = {"frames": writer.frames, "rows": writer.rows, "syncs": writer.syncs}
        return done | {"index_failures": writer.index.failures}

    @property
    def names(self) -> tuple[str, ...]:
        """The table of names of sources and intents; a name's id is its index, and id 0 is the empty name."""
        return tuple(self._writer.names)

    def name_id(self, text: str) -> int:
        """Return the id of a name; a new name is logged first.

        Raises:
            InvalidArgumentError: the text can't be written as UTF-8.
            BusClosedError, LogFailedError: as for `append_changes`.
        """
        writer = self._writer
        number = writer.names.get(text)
        if number is None:
            writer.check_usable()
            _check_text(text)
            number = len(writer.names)
            writer.append(FrameKind.NAMES, encode_names(number, [text]), writer.tick)
            # Only a name that is in the log may be in the table: a new segment repeats the table.
            writer.names[text] = number
        return number

    def append_changes(
        self,
        tick: int,
        changes: PageChanges,
        *,
        digest: tuple[int, int] | None = None,
        intent: str | None = None,
        time_ns: int | None = None,
    ) -> int:
        """Commit changed pages as one frame and return its sequence number.

        Args:
            tick: tick of the state after the commit; not below the log's tick.
            changes: the rows; sources are ids from `name_id`.
            digest: the two 32-bit lanes of the digest of the state after the commit.
            intent: why, as text; kept once in the table of names.
            time_ns: Unix time in nanoseconds, by default now.

        Raises:
            InvalidDeltaError: a page, source, mask or length doesn't fit the run.
            InvalidArgumentError: tick, digest, time or intent is out of range.
            CapacityError: more than 2**31 - 1 words.
            BusClosedError: the log is closed.
            LogFailedError: the frame couldn't be written (it is not in the log), or the log failed before.
        """
        run = self._writer.run
        if fault := fault_in_changes(changes, run.page_words, run.capacity, len(self._writer.names)):
            raise InvalidDeltaError(f"changes at tick {tick}: {fault}")
        if changes.tick is not None and len(changes):
            _check_range("the first row's tick", int(changes.tick[0]), self._writer.tick, 2**32)
            _check_range("the last row's tick", int(changes.tick[-1]), 0, tick + 1)
        flags = (0 if changes.mask is None else MASKED) | (0 if changes.tick is None else TICKS)
        batch = encode_coded(changes, run.page_words, self._writer.options.codec)
        if batch is None:
            batch = encode_changes(changes, run.page_words)
        else:
            flags |= CODED
        return self._commit(FrameKind.CHANGES, batch, tick, flags, digest, intent, time_ns, changes)

    def append_pages(
        self,
        tick: int,
        records: Sequence[PageRecord],
        *,
        digest: tuple[int, int] | None = None,
        intent: str | None = None,
        time_ns: int | None = None,
    ) -> int:
        """Commit made and deleted pages as one frame; arguments, result and errors are those of `append_changes`."""
        if fault := fault_in_pages(records, self._writer.run.capacity):
            raise InvalidArgumentError(f"page records at tick {tick}: {fault}")
        held = deleted_pages(records)
        return self._commit(FrameKind.PAGES, encode_pages(records), tick, 0, digest, intent, time_ns, held)

    def append_edges(
        self,
        tick: int,
        edges: EdgeRecords,
        *,
        digest: tuple[int, int] | None = None,
        intent: str | None = None,
        time_ns: int | None = None,
    ) -> int:
        """Commit added and removed edges as one frame; arguments, result and errors are those of `append_changes`."""
        if fault := fault_in_edges(edges, self._writer.run.capacity):
            raise InvalidArgumentError(f"edges at tick {tick}: {fault}")
        return self._commit(FrameKind.EDGES, encode_edges(edges), tick, 0, digest, intent, time_ns, None)

    def append_layout(
        self,
        tick: int,
        record: LayoutRecord,
        *,
        digest: tuple[int, int] | None = None,
        intent: str | None = None,
        time_ns: int | None = None,
    ) -> int:
        """Commit rows that moved to other slots as one frame; the rest is that of `append_changes`."""
        if fault := fault_in_layout(record, self._writer.run.capacity):
            raise InvalidArgumentError(f"layout at tick {tick}: {fault}")
        flags = UNDO if record.undo else 0
        return self._commit(FrameKind.LAYOUT, encode_layout(record), tick, flags, digest, intent, time_ns, None)

    def seal(self) -> tuple[Storage, RunIdentity]:
        """End the present segment and sync; return where the run is. What comes later goes to another segment.

        Raises:
            BusClosedError, LogFailedError: as for `append_changes`.

        >>> from mmsb_jax.page import MemoryStorage
        >>> with TransactionLog.create(MemoryStorage(), page_words=4, capacity=8, fingerprint={}) as log:
        ...     storage, run = log.seal()
        >>> run.page_words
        4
        """
        self._writer.check_usable()
        self._writer.seal()
        return self._writer.storage, self._writer.run

    def sync(self) -> None:
        """Return when all commits, and the mark that vouches for them, are on the device."""
        self._writer.check_usable()
        self._writer.sync()

    def close(self) -> None:
        """Sync, release the lock and close the files. Idempotent; a failed log is closed without syncing."""
        self._writer.close()

    def __enter__(self) -> "TransactionLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _commit(
        self,
        kind: FrameKind,
        batch: pa.RecordBatch,
        tick: int,
        flags: int,
        digest: tuple[int, int] | None,
        intent: str | None,
        time_ns: int | None,
        held: Held,
    ) -> int:
        writer = self._writer
        writer.check_usable()
        _check_range("tick", tick, writer.tick, 2**32)
        _check_range("time_ns", time_ns or 0, 0, 2**64)
        for lane in digest or ():
            _check_range("digest", lane, 0, 2**32)
        intent_id = self.name_id(intent) if intent else 0
        sequence = writer.append(
            kind, batch, tick, flags=flags, digest=digest, intent=intent_id, time_ns=time_ns, held=held
        )
        writer.sync_if_due()
        return sequence


def _check_range(name: str, value: int, low: int, end: int) -> None:
    if not low <= value < end:
        raise InvalidArgumentError(f"{name} is {value}, but it must be at least {low} and below {end}")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as why:
        raise InvalidArgumentError(
            f"the name {text!r} can't be written as UTF-8 ({why.reason}); names are ordinary text"
        ) from why
