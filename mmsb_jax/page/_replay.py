"""From the log to a state, in NumPy: the ground truth that every other way to a state is compared with."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt32

from .._errors import InvalidArgumentError, InvalidTypeError
from .._require import whole_number
from ._changes import PageChanges, fault_in_changes, mask_words
from ._frame import MASKED, FrameKind
from ._identity import read_identity
from ._records import EdgeRecords, PageRecord
from ._scan import Frame, LogScanner
from ._storage import Place, as_storage

__all__ = ["CatalogEvent", "Replayed", "replay"]

_CHUNK_BITS = 16 << 20  # bounds the scratch memory, about 10 bytes per bit at most


class CatalogEvent(NamedTuple):
    """A PAGES or EDGES frame, decoded.

    >>> CatalogEvent(sequence=3, tick=1, time_ns=0, intent=0, records=()).tick
    1
    """

    sequence: int
    tick: int
    time_ns: int
    intent: int
    records: tuple[PageRecord, ...] | EdgeRecords


class Replayed(NamedTuple):
    """What a log adds up to.

    `pages` are the contents in id order, `epoch` the tick of the last frame that touched each page, `tick` and
    `sequence` those of the last frame, `digest` what the last commit recorded (None if it recorded none), `names` the
    table of names, `events` all catalog frames in order, `environment` the last header frame.

    >>> from mmsb_jax.page import MemoryStorage, TransactionLog
    >>> storage = MemoryStorage()
    >>> with TransactionLog.create(storage, page_words=4, capacity=8, fingerprint={"jax": "0.10.2"}) as log:
    ...     api = log.name_id("api")
    >>> replayed = replay(storage)
    >>> replayed.pages.shape, replayed.sequence, replayed.names, replayed.environment["env.jax"]
    ((8, 4), 1, ('', 'api'), '0.10.2')
    """

    pages: UInt32[np.ndarray, "capacity W"]
    epoch: UInt32[np.ndarray, " capacity"]
    tick: int
    sequence: int
    digest: tuple[int, int] | None
    names: tuple[str, ...]
    events: tuple[CatalogEvent, ...]
    environment: dict[str, str]


def replay(place: Place, *, until_tick: int | None = None, until_sequence: int | None = None) -> Replayed:
    """Return the state that the log describes, whole or up to and including a tick or a frame.

    A deleted page is zeroed and its epoch set to the tick of the delete. Frames after the limit are not looked at.

    Args:
        place: path of the run's directory, or a storage.
        until_tick: the last tick to apply.
        until_sequence: sequence number of the last frame to apply.

    Raises:
        LogNotFoundError: the place holds no run.
        CorruptLogError: the log is damaged, or a frame doesn't fit the run.
        InvalidArgumentError: a limit is negative.

    >>> from mmsb_jax.page import MemoryStorage, TransactionLog
    >>> storage = MemoryStorage()
    >>> with TransactionLog.create(storage, page_words=4, capacity=8, fingerprint={"jax": "0.10.2"}) as log:
    ...     api = log.name_id("api")
    >>> replay(storage, until_sequence=0).names
    ('',)
    """
    for name, value in (("until_tick", until_tick), ("until_sequence", until_sequence)):
        if value is not None and whole_number(value) is None:
            raise InvalidTypeError(f"{name}={value!r} of type {type(value).__name__}, but it is a whole number")
        if value is not None and value < 0:
            raise InvalidArgumentError(f"{name}={value}, but it starts at 0; leave it out to replay the whole log")
    storage = as_storage(place, must_exist=True)
    try:
        return _replayed(LogScanner(storage, read_identity(storage)), until_tick, until_sequence)
    finally:
        if storage is not place:
            storage.close()


def _replayed(scanner: LogScanner, until_tick: int | None, until_sequence: int | None) -> Replayed:
    target = _Target(scanner.run.capacity, scanner.run.page_words)
    tick, sequence, names, environment = 0, -1, 0, scanner.environment
    for frame in scanner:
        if until_tick is not None and frame.tick > until_tick:
            break
        target.take(frame)
        tick, sequence, names, environment = frame.tick, frame.sequence, len(scanner.names), scanner.environment
        if sequence == until_sequence:
            break  # here, not at the next frame: that one may be the damaged one
    target.flush()
    return Replayed(
        target.pages,
        target.epoch,
        tick,
        sequence,
        target.digest,
        tuple(scanner.names[:names]),
        tuple(target.events),
        environment,
    )


class _Target:
    """The arrays a replay writes to, and the frames that wait to be written together."""

    def __init__(self, capacity: int, page_words: int) -> None:
        self.pages = np.zeros((capacity, page_words), np.uint32)
        self.epoch = np.zeros(capacity, np.uint32)
        self.events: list[CatalogEvent] = []
        self.digest: tuple[int, int] | None = None
        self._waiting: list[tuple[Frame, PageChanges]] = []
        self._waiting_bits = 0

    def take(self, frame: Frame) -> None:
        """Apply a frame, now or with later ones."""
        if frame.header.kind == FrameKind.CHANGES:
            self._take_changes(frame)
        elif frame.header.kind in (FrameKind.PAGES, FrameKind.EDGES):
            self._take_event(frame)
        else:
            return
        self.digest = frame.digest

    def flush(self) -> None:
        """Apply what waits, as if frame after frame."""
        if not self._waiting:
            return
        frames, changes = [frame for frame, _ in self._waiting], [changes for _, changes in self._waiting]
        self._waiting, self._waiting_bits = [], 0
        rows = [len(each) for each in changes]
        page, source, mask, words = (
            np.concatenate(arrays)
            for arrays in zip(*((c.page, c.source, c.mask, c.words) for c in changes), strict=True)
        )
        names = np.repeat(np.array([frame.names for frame in frames]), rows)
        together = PageChanges(page, source, mask, words)
        if fault_in_changes(together, self.pages.shape[1], len(self.pages), 2**31) or (source >= names).any():
            for frame in frames:
                frame.changes()  # raises, and says which frame it is
        self._write_masked(page, mask, words)
        self.epoch[page] = np.repeat(np.array([frame.tick for frame in frames], np.uint32), rows)

    def _take_changes(self, frame: Frame) -> None:
        if not frame.header.flags & MASKED:
            self.flush()
            changes = frame.changes()
            self.pages[changes.page] = changes.words
            self.epoch[changes.page] = frame.tick
            return
        self._waiting.append((frame, frame.raw_changes()))
        self._waiting_bits += frame.rows * 32 * mask_words(self.pages.shape[1])
        if self._waiting_bits >= _CHUNK_BITS:
            self.flush()

    def _take_event(self, frame: Frame) -> None:
        self.flush()
        records = frame.pages() if frame.kind == FrameKind.PAGES else frame.edges()
        header = frame.header
        self.events.append(CatalogEvent(header.sequence, header.tick, header.time_ns, header.intent, records))
        if isinstance(records, EdgeRecords):
            return
        for record in records:
            if record.op == "delete":
                self.pages[record.pages] = 0
                self.epoch[record.pages] = frame.tick

    def _write_masked(
        self, pages: Int32[np.ndarray, "n"], masks: UInt32[np.ndarray, "n mask_words"], words: UInt32[np.ndarray, "k"]
    ) -> None:
        # NumPy promises that the last of equal indices wins, which is the order of the log.
        flat, page_words = self.pages.reshape(-1), self.pages.shape[1]
        bits_per_row = 32 * masks.shape[1]
        step = max(1, _CHUNK_BITS // bits_per_row)
        done = 0
        for first in range(0, len(masks), step):
            mask = masks[first : first + step]
            page = pages[first : first + step].astype(np.int64)
            bits = np.unpackbits(mask.astype("<u4", copy=False).view(np.uint8), bitorder="little")
            where = np.flatnonzero(bits.view(np.bool_))  # four times as fast as for uint8
            # Bit b of row r is word b - r * bits_per_row of its page: one shift per row leads to words of `flat`.
            shift = page * page_words - np.arange(len(page)) * bits_per_row
            where += np.repeat(shift, np.bitwise_count(mask).sum(axis=1, dtype=np.int64))
            flat[where] = words[done : done + len(where)]
            done += len(where)
