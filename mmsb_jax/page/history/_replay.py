"""From the log to a state, in NumPy: the ground truth that every other way to a state is compared with."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt32

from ..._errors import CorruptCheckpointError, InvalidArgumentError, InvalidTypeError, LogCompactedError
from ..._require import whole_number
from ..checkpoint._checkpoint import Loaded, load_newest
from ..checkpoint._snapshot import Snapshot
from ..log._ahead import ahead
from ..log._body import Frame
from ..log._identity import read_identity
from ..log._layout_record import LayoutRecord, layout_after
from ..log._scan import LogScanner
from ..log._segments import Base, read_base
from ..log._storage import Place, opened
from ._target import CatalogEvent, Target

__all__ = ["Replayed", "replay"]


class Replayed(NamedTuple):
    """What a log adds up to.

    `pages` are the contents in id order, `epoch` the tick of the last frame that touched each page, `tick` and
    `sequence` those of the last frame, `digest` what the last commit recorded (None if it recorded none), `names` the
    table of names, `events` the catalog frames in order (a checkpoint that was begun with tells the ones before it in
    short), `environment` the last header frame.

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
    skipped: tuple[CorruptCheckpointError, ...] = ()
    """Why newer checkpoints than the one that was begun with were passed over."""

    @property
    def slot_of_page(self) -> Int32[np.ndarray, " capacity"] | None:
        """In which slot each page lay; None: in that of its id."""
        return layout_after((event.records for event in self.events), len(self.epoch))


def replay(
    place: Place, *, until_tick: int | None = None, until_sequence: int | None = None, checkpoints: bool = True
) -> Replayed:
    """Return the state that the log describes, whole or up to and including a tick or a frame.

    A deleted page is zeroed and its epoch set to the tick of the delete. Frames after the limit are not looked at.

    Args:
        place: path of the run's directory, or a storage.
        until_tick: the last tick to apply.
        until_sequence: sequence number of the last frame to apply.
        checkpoints: whether to begin with the newest valid checkpoint before the limit, rather than with the log.

    Raises:
        LogNotFoundError: the place holds no run.
        CorruptLogError: the log is damaged, or a frame doesn't fit the run.
        InvalidArgumentError: a limit is negative, or lies before what compaction has left.

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
    with opened(place) as storage:
        while True:
            run = read_identity(storage)
            _check_reach(read_base(storage, run.salt), until_tick, until_sequence)
            found = load_newest(storage, tick=until_tick, sequence=until_sequence) if checkpoints else Loaded(None, ())
            begun = found.snapshot
            scanner = LogScanner(storage, run, start=0 if begun is None else begun.sequence)
            try:
                return _replayed(scanner, begun, until_tick, until_sequence)._replace(skipped=found.skipped)
            except LogCompactedError:
                continue  # the compacted log leads to the same state, or the limit lies before it


def _check_reach(base: Base, until_tick: int | None, until_sequence: int | None) -> None:
    for what, limit, first in (("tick", until_tick, base.tick), ("frame", until_sequence, base.merged)):
        if limit is not None and limit < first:
            raise InvalidArgumentError(
                f"got {what} {limit}, but this log was compacted: it begins with the state at {what} {first}"
            )


def _replayed(
    scanner: LogScanner, begun: Snapshot | None, until_tick: int | None, until_sequence: int | None
) -> Replayed:
    target = Target(scanner.run.capacity, scanner.run.page_words)
    tick, sequence, names, environment = 0, -1, 0, scanner.environment
    if begun is not None:
        target = Target(len(begun.pages), begun.pages.shape[1], begun.pages, begun.epoch)
        target.digest, tick, sequence, names = begun.digest, begun.tick, begun.sequence, len(begun.names)
        target.events = _told(begun)
    for frame, count, found in ahead(_frames(scanner), lambda item: len(item[0].body)):
        if until_tick is not None and frame.tick > until_tick:
            if frame.has_ticks:  # a chunk of steps, of which some may lie before the limit
                target.take_until(frame, until_tick)
                tick = max(tick, until_tick)
            break
        if begun is None or frame.sequence > begun.sequence:
            target.take(frame)
        tick, sequence, names, environment = frame.tick, frame.sequence, count, found
        if sequence == until_sequence:
            break  # here, not at the next frame: that one may be the damaged one
    target.flush()
    return Replayed(
        target.pages,
        target.epoch,
        tick,
        sequence,
        target.digest,
        tuple((scanner.names if begun is None or len(scanner.names) >= names else begun.names)[:names]),
        tuple(target.events),
        environment or scanner.environment,
    )


def _frames(scanner: LogScanner) -> Iterator[tuple[Frame, int, dict[str, str]]]:
    """The frames with what is known behind each: how many names, and the environment."""
    for frame in scanner:
        yield frame, len(scanner.names), scanner.environment


def _told(begun: Snapshot) -> list[CatalogEvent]:
    """What a checkpoint says of pages, edges and slots, as if it had just happened."""
    place = begun.sequence, begun.tick, 0, 0
    told = [CatalogEvent(*place, records) for records in (begun.records, begun.edges) if len(records)]
    if begun.slot_of_page is not None:
        moved = LayoutRecord.between(np.arange(len(begun.epoch), dtype=np.int32), begun.slot_of_page)
        told.append(CatalogEvent(*place, moved))
    return told
