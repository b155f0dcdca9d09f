"""How a session begins: a new run, or what the log of an existing one says."""

import os
from typing import Any

from ._arguments import as_path, as_whole_number
from ._catalog import Catalog
from ._errors import InvalidArgumentError
from .page import MemoryStorage, Storage, SyncMode, TransactionLog, replay_log, verified_state
from .physical import State

__all__ = ["open_session"]

DEFAULT_PAGE_BYTES = 1024
DEFAULT_CAPACITY = 16384


def open_session(path: Any, page_bytes: Any, capacity: Any, sync: SyncMode) -> tuple[TransactionLog, State, Catalog]:
    """The log, open for writing, the state that it describes, and its pages and edges. For the errors see `start`."""
    page_bytes = None if page_bytes is None else as_whole_number("page_bytes", page_bytes)
    capacity = None if capacity is None else as_whole_number("capacity", capacity)
    if path is None:
        return _create(MemoryStorage(), page_bytes, capacity, sync)
    path = as_path(path)
    if not os.path.exists(path) or (os.path.isdir(path) and not os.listdir(path)):
        return _create(path, page_bytes, capacity, sync)
    log = TransactionLog.open(path, sync=sync)
    try:
        return _resume(path, log, page_bytes, capacity)
    except BaseException:
        log.close()
        raise


def _create(
    place: str | Storage, page_bytes: int | None, capacity: int | None, sync: SyncMode
) -> tuple[TransactionLog, State, Catalog]:
    page_bytes = DEFAULT_PAGE_BYTES if page_bytes is None else page_bytes
    capacity = DEFAULT_CAPACITY if capacity is None else capacity
    if capacity < 1:
        raise InvalidArgumentError(f"got capacity={capacity}; a bus has room for at least one page")
    state = State.create(capacity, page_bytes=page_bytes)
    log = TransactionLog.create(place, page_words=state.page_words, capacity=capacity, sync=sync)
    return log, state, Catalog(capacity, page_bytes, log.run_id)


def _resume(
    path: str, log: TransactionLog, page_bytes: int | None, capacity: int | None
) -> tuple[TransactionLog, State, Catalog]:
    for what, asked, real in (("page_bytes", page_bytes, 4 * log.page_words), ("capacity", capacity, log.capacity)):
        if asked is not None and asked != real:
            raise InvalidArgumentError(
                f"got {what}={asked}, but the run at {path} has {real}; leave it out, or choose another path"
            )
    replayed = replay_log(path)
    catalog = Catalog(log.capacity, 4 * log.page_words, log.run_id)
    for event in replayed.events:
        catalog.retell(event.records)
    return log, verified_state(replayed), catalog
