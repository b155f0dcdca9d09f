"""Making a log fit to be continued: verify everything, then cut a torn tail back to the last whole commit."""

from typing import NamedTuple

from ._identity import RunIdentity, read_mark
from ._scan import LogScanner
from ._storage import Storage

__all__ = ["Recovered", "recover"]


class Recovered(NamedTuple):
    """Where a writer continues: behind `end` in `segment`, after frame `sequence`."""

    segment: str
    end: int
    sequence: int
    tick: int
    names: list[str]
    environment: dict[str, str]
    slot: int


def recover(storage: Storage, run: RunIdentity) -> Recovered:
    """Return where to continue. Only a torn tail is changed: it is cut off, durably; the caller holds the lock.

    Raises:
        CorruptLogError: the log is damaged; nothing has been changed.
    """
    scanner = LogScanner(storage, run)
    for _ in scanner:
        pass
    if storage.size(scanner.segment) > scanner.offset:
        storage.truncate(scanner.segment, scanner.offset)
    # What a killed process wrote may be in the page cache alone, and the mark is about to vouch for it.
    storage.sync(scanner.segment)
    slot = read_mark(storage, run.salt)[1]
    return Recovered(
        scanner.segment, scanner.offset, scanner.expected - 1, scanner.tick, scanner.names, scanner.environment, slot
    )
