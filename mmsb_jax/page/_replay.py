"""From the log to a state, in NumPy: the ground truth that every other way to a state is compared with."""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt32

from .._errors import InvalidArgumentError, InvalidTypeError
from .._require import whole_number
from ._identity import read_identity
from ._scan import LogScanner
from ._storage import Place, as_storage
from ._target import CatalogEvent, Target

__all__ = ["Replayed", "replay"]


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
    target = Target(scanner.run.capacity, scanner.run.page_words)
    tick, sequence, names, environment = 0, -1, 0, scanner.environment
    for frame in scanner:
        if until_tick is not None and frame.tick > until_tick:
            if frame.has_ticks:  # a chunk of steps, of which some may lie before the limit
                target.take_until(frame, until_tick)
                tick = max(tick, until_tick)
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
