"""Cutting the beginning of a log off: all that came before an epoch is merged into one row a page.

    before   | 0.seg: H N c c c c | 7.seg: H N c c | 11.seg: H N c …        (c: commits; the wanted epoch begins at ^)
                            ^
    after                | 3.base: H N m · c c | 7.seg: H N c c | 11.seg: H N c …

The new first segment holds the state before the epoch as ordinary frames (m, see `_founding`), under the last numbers
of those that it replaces, and then the rest of the old segment as it was. `log/base` names it: published atomically,
after the segment has reached the device, it is the moment at which the log changes. Old segments go afterwards.
"""

from typing import Any, NamedTuple

from crc32c import crc32c

from ..._errors import InvalidArgumentError, InvalidTypeError
from ..._require import require_instance, whole_number
from ..checkpoint._checkpoint import checkpoints
from ..checkpoint._checkpoint_write import remove_checkpoint
from ..checkpoint._snapshot import Snapshot
from ..log._body import Frame
from ..log._frame import DIGEST, FORMAT_VERSION, FrameHeader, FrameKind, pack_header
from ..log._identity import RunIdentity
from ..log._log import TransactionLog
from ..log._records import encode_header, encode_names
from ..log._scan import LogScanner
from ..log._segments import Base, base_name, read_base, remove_leftovers, segment_start, segments, write_base
from ..log._storage import Storage
from ..log._writer import failure
from ._alive import edges_alive, records_alive
from ._founding import Commit, founding_commits
from ._replay import replay

__all__ = ["Compacted", "compact", "write_frames"]

_COPY = 8 << 20


class Compacted(NamedTuple):
    """What compaction did.

    >>> Compacted(first=0, merged=0, freed=0).freed
    0
    """

    first: int
    """The earliest tick that the log still has."""
    merged: int
    """How many commits were merged into one."""
    freed: int
    """By how many bytes the log is shorter."""


class _Cut(NamedTuple):
    """Where a log is cut: the first frame that stays, its place, and what was known just before it."""

    frame: Frame
    segment: str
    names: tuple[str, ...]
    environment: dict[str, str]
    commits: int
    starts_segment: bool
    """Whether nothing but header and names stands before it in its segment, which then stays as it is."""
    time_ns: int
    """When the last commit before it was made."""


def compact(log: TransactionLog | Any, before: int | Any) -> Compacted:
    """Merge all commits before a tick into one that holds a row a page; every later one stays as it is.

    One that began earlier stays whole. Where that would free nothing, nothing is done. What was merged can no longer be
    read: neither the states in between, nor who wrote what.

    Raises:
        InvalidTypeError: that is no log, or no tick.
        InvalidArgumentError: the log doesn't reach that tick.
        CorruptLogError: what is to be merged is damaged; the log is as it was.
        BusClosedError, LogFailedError: as for `append_changes`; all commits are there.

    >>> from mmsb_jax.page import MemoryStorage, PageChanges, TransactionLog, replay_log
    >>> storage = MemoryStorage()
    >>> with TransactionLog.create(storage, page_words=1, capacity=2, fingerprint={}) as log:
    ...     for tick in range(1, 10):
    ...         row = np.zeros(1, np.int32), np.zeros(1, np.int32), None, np.full((1, 1), tick, np.uint32)
    ...         _ = log.append_changes(tick, PageChanges(*row))
    ...     compact(log, before=8)[:2]
    (7, 7)
    >>> replay_log(storage, until_tick=8).pages[0]
    array([8], dtype=uint32)
    """
    require_instance(log, TransactionLog, "open the run by TransactionLog.open, or call `compact` of the bus")
    if whole_number(before) is None:
        raise InvalidTypeError(f"got before={before!r}; pass a tick, which is a whole number")
    if not 0 <= before <= log.tick:
        raise InvalidArgumentError(
            f"got before={before}, but the log ends at tick {log.tick}, and something must be left of it; pass at "
            f"most {log.tick}"
        )
    storage, run = log.seal()
    try:
        return _compacted(storage, run, before)
    except OSError as why:
        raise failure(storage, "could not be compacted; its commits are all there", why) from why


def _compacted(storage: Storage, run: RunIdentity, before: int) -> Compacted:
    names = segments(storage)
    cut = _find(storage, run, before)
    gone = [name for name in names if name < cut.segment or (name == cut.segment and not cut.starts_segment)]
    if not gone:
        return Compacted(read_base(storage, run.salt).tick, 0, 0)
    last_merged = (segment_start(cut.segment) if cut.starts_segment else cut.frame.sequence) - 1
    state = _state_before(storage, last_merged)
    frames = [Commit(FrameKind.HEADER, encode_header(cut.environment), 0)]
    if len(cut.names) > 1:
        frames.append(Commit(FrameKind.NAMES, encode_names(0, list(cut.names)), 0))
    frames += founding_commits(state, source=0)
    first = last_merged - len(frames) + 1
    if first <= segment_start(names[0]):
        return Compacted(read_base(storage, run.salt).tick, 0, 0)
    size_before = sum(map(storage.size, names))
    name = base_name(first)
    if storage.exists(name):
        storage.remove(name)  # left by a compaction that died
    storage.create(name)
    end = write_frames(storage, name, frames, first, cut.time_ns, run.salt)
    if not cut.starts_segment:
        _copy(storage, cut.segment, cut.frame.offset, name, end)
    storage.sync(name)
    following = segment_start(cut.segment) if cut.starts_segment else _after(names, cut.segment)
    write_base(storage, Base(first, following, last_merged, state.tick), run.salt)
    _sweep(storage)
    return Compacted(state.tick, cut.commits, size_before - sum(map(storage.size, segments(storage))))


def _sweep(storage: Storage) -> None:
    remove_leftovers(storage)
    merged = read_base(storage).merged
    for info in checkpoints(storage):
        if info.sequence <= merged:  # its frame is no longer the one that it stands behind
            remove_checkpoint(storage, info)


def _find(storage: Storage, run: RunIdentity, before: int) -> _Cut:
    scanner = LogScanner(storage, run)
    commits, in_segment, time_ns = 0, 0, 0
    for frame in scanner:
        if frame.kind == FrameKind.HEADER:
            in_segment = 0
        elif frame.kind != FrameKind.NAMES:
            if frame.tick >= before:
                names, environment = tuple(scanner.names), scanner.environment
                return _Cut(frame, scanner.segment, names, environment, commits, not in_segment, time_ns)
            commits, in_segment, time_ns = commits + 1, in_segment + 1, frame.time_ns
    raise InvalidArgumentError(
        f"got before={before}, but the log ends at tick {scanner.tick}, and nothing would be left of it; "
        f"pass at most {scanner.tick}"
    )


def _state_before(storage: Storage, sequence: int) -> Snapshot:
    found = replay(storage, until_sequence=sequence)
    return Snapshot(
        found.pages,
        found.epoch,
        found.tick,
        found.sequence,
        found.digest,
        found.names,
        records_alive(found.events),
        edges_alive(found.events, len(found.epoch)),
        found.slot_of_page,
    )


def write_frames(storage: Storage, name: str, frames: list[Commit], first: int, time_ns: int, salt: int) -> int:
    """Write frames to a file that is empty, numbered from `first` on, and return where they end. Doesn't sync."""
    end = 0
    for sequence, (kind, batch, tick, flags, digest) in enumerate(frames, first):
        body = memoryview(batch.serialize())
        flags |= DIGEST if digest else 0
        place = (FORMAT_VERSION, kind, flags, sequence, time_ns, len(body), tick, 0)
        header = pack_header(FrameHeader(*place, *(digest or (0, 0)), batch.num_rows, salt, crc32c(body)))
        storage.write(name, end, (header, body))
        end += len(header) + len(body)
    return end


def _copy(storage: Storage, source: str, offset: int, target: str, end: int) -> None:
    size = storage.size(source)
    while offset < size:
        piece = storage.read(source, offset, min(_COPY, size - offset))
        storage.write(target, end, [piece])
        offset, end = offset + len(piece), end + len(piece)


def _after(names: list[str], segment: str) -> int:
    return segment_start(names[names.index(segment) + 1])
