"""What a log consists of, counted from its indexes: nothing else is read, except compressed masked commits."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from typing import Any

import numpy as np
from jaxtyping import Int64

from ..log._frame import CODED, HEADER_BYTES, MASKED, TICKS, FrameKind
from ..log._index import Column, Stretch
from ..log._storage import Place, opened
from ._commits import COMMITS
from ._reader import LogReader
from ._wanted import Wanted

__all__ = ["LogStats", "log_stats"]


@dataclass(frozen=True)
class LogStats:
    """What a log consists of. A commit is a frame of changes, pages, edges or a layout.

    >>> LogStats(commits=2, coded=1, coded_raw_bytes=30, coded_bytes=20).coded_ratio
    1.5
    """

    segments: int = 0
    frames: int = 0
    commits: int = 0
    rows: int = 0
    """Changed pages, each counted every time."""
    bytes: int = 0
    """Of all frames; indexes, mark and checkpoints come on top."""
    frames_by_kind: dict[str, int] = field(default_factory=dict)
    bytes_by_kind: dict[str, int] = field(default_factory=dict)
    ticks: tuple[int, int] | None = None
    """Of the first and the last commit; None when there is none."""
    times: tuple[int, int] | None = None
    """The earliest and the latest time of a commit, in nanoseconds since 1970."""
    by_source: dict[str, int] = field(default_factory=dict)
    """Commits with rows of a source, by its name."""
    by_intent: dict[str, int] = field(default_factory=dict)
    """Commits by their intent; `""` for none."""
    coded: int = 0
    """Commits that are compressed."""
    coded_bytes: int = 0
    """Of these, as they are."""
    coded_raw_bytes: int = 0
    """Of these, the numbers in them without compression."""
    rebuilt: int = 0
    """Segments that had no good index, and were read instead."""

    @property
    def coded_ratio(self) -> float:
        """How many times smaller compression made what is compressed; 1 when nothing is."""
        return self.coded_raw_bytes / self.coded_bytes if self.coded else 1.0


def log_stats(place: Place) -> LogStats:
    """Count what a log consists of. Costs a fraction of reading it: about the hundredth part is looked at.

    Args:
        place: path of the run's directory, or a storage.

    Raises:
        LogNotFoundError, CorruptLogError: as `read_frames`.

    >>> from mmsb_jax.page import MemoryStorage, PageChanges, TransactionLog
    >>> storage, page = MemoryStorage(), np.zeros(1, np.int32)
    >>> with TransactionLog.create(storage, page_words=4, capacity=8, fingerprint={}) as log:
    ...     for tick in (1, 2):
    ...         changes = PageChanges(page, page, None, np.zeros((1, 4), np.uint32))
    ...         _ = log.append_changes(tick, changes, intent="an example")
    >>> stats = log_stats(storage)
    >>> stats.commits, stats.rows, stats.ticks, stats.by_intent
    (2, 2, (1, 2), {'an example': 2})
    """
    with opened(place) as storage:
        reader = LogReader(storage)
        segments = range(len(reader.segments))
        parts = (_of(each, reader) for number in segments for each in reader.stretches(number))
        whole = reduce(_joined, parts, LogStats())
        compressed = reader.frames(Wanted(flags=CODED | MASKED)) if whole.coded else ()
        masked = sum(frame.raw_bytes for frame in compressed)
        raw_bytes = whole.coded_raw_bytes + masked
        return replace(whole, segments=len(segments), coded_raw_bytes=raw_bytes, rebuilt=reader.counts.rebuilt)


def _of(stretch: Stretch, reader: LogReader) -> LogStats:
    """The part of the frames of a stretch; of coded frames' raw bytes those without masks, which follow from rows."""
    headers, columns = stretch.headers, reader.run.page_words + 2
    kinds, flags = headers["kind"], headers["flags"]
    sizes, rows = headers["body_bytes"].astype(np.int64) + HEADER_BYTES, headers["rows"].astype(np.int64)
    commits, coded = np.isin(kinds, COMMITS), (flags & CODED) > 0
    plain = coded & ((flags & MASKED) == 0)
    names = {kind: FrameKind(kind).name for kind in np.unique(kinds).tolist()}
    return LogStats(
        frames=len(headers),
        commits=int(commits.sum()),
        rows=int(rows[kinds == FrameKind.CHANGES].sum()),
        bytes=int(sizes.sum()),
        frames_by_kind={name: int((kinds == kind).sum()) for kind, name in names.items()},
        bytes_by_kind={name: int(sizes[kinds == kind].sum()) for kind, name in names.items()},
        ticks=_extent(headers["tick"][commits]),
        times=_extent(headers["time_ns"][commits]),
        by_source=_named(_frame_ids(stretch.sources), reader.names),
        by_intent=_named(headers["intent"][commits], reader.names),
        coded=int(coded.sum()),
        coded_bytes=int(headers["body_bytes"][coded].sum()),
        coded_raw_bytes=4 * int((rows * (columns + ((flags & TICKS) > 0)))[plain].sum()),
    )


def _joined(a: LogStats, b: LogStats) -> LogStats:
    return LogStats(**{each.name: _sum(getattr(a, each.name), getattr(b, each.name)) for each in fields(LogStats)})


def _sum(a: Any, b: Any) -> Any:
    if isinstance(a, dict):
        return {key: a.get(key, 0) + b.get(key, 0) for key in a | b}
    if isinstance(a, tuple) and isinstance(b, tuple):
        return min(a[0], b[0]), max(a[1], b[1])
    return (a or b) if a is None or b is None else a + b


def _extent(values: np.ndarray) -> tuple[int, int] | None:
    return (int(values.min()), int(values.max())) if len(values) else None


def _frame_ids(column: Column) -> Int64[np.ndarray, " ids"]:
    """The ids of a column, each once for every frame that holds it; those below 0 stand for nothing."""
    frame = np.repeat(np.arange(len(column.counts)), column.counts)
    pairs = np.unique(np.stack([frame, column.ids.astype(np.int64)]), axis=1)
    return pairs[1][pairs[1] >= 0]


def _named(ids: np.ndarray, names: Sequence[str]) -> dict[str, int]:
    found = zip(*(values.tolist() for values in np.unique(ids, return_counts=True)), strict=True)
    return {names[number]: count for number, count in found}
