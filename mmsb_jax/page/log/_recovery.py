"""Making a log fit to be continued: verify its end, then cut a torn tail back to the last whole commit.

A segment is on the device before the next one is begun, so a crash can only have hurt the last, and opening costs the
same however long the log is. The last but one is read as well: it has the names when the last was just begun.
"""

from typing import NamedTuple

from ._identity import RunIdentity, read_mark
from ._scan import LogScanner
from ._segments import segment_start, segments
from ._storage import Storage

__all__ = ["Recovered", "recover"]

_PIECE = 8 << 20


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
        CorruptLogError: the end of the log is damaged; nothing has been changed.
    """
    last = segments(storage)[-2:]
    scanner = LogScanner(storage, run, start=segment_start(last[0]) if last else 0)
    for _ in scanner:
        pass
    if storage.size(scanner.segment) > scanner.offset:
        storage.truncate(scanner.segment, scanner.offset)
    # What a killed process wrote may be in the page cache alone, and the mark is about to vouch for it.
    if scanner.has_power:
        _write_again(scanner)
    storage.sync(scanner.segment)
    slot = read_mark(storage, run.salt)[1]
    return Recovered(
        scanner.segment, scanner.offset, scanner.expected - 1, scanner.tick, scanner.names, scanner.environment, slot
    )


def _write_again(scanner: LogScanner) -> None:
    """Write what the mark doesn't vouch for once more, in place.

    If a sync of it failed, Linux calls the pages clean, shows them as long as it runs, and would never write them.
    """
    storage, name, mark = scanner.storage, scanner.segment, scanner.mark
    start = mark.end if mark.segment == segment_start(name) else 0
    for at in range(start, scanner.offset, _PIECE):
        storage.write(name, at, [storage.read(name, at, min(_PIECE, scanner.offset - at))])
