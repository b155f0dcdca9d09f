"""Rows of a log by page, leaf, tick, time, source and intent, without reading the rest."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int32

from ..._errors import InvalidArgumentError, InvalidTypeError
from ..._require import whole_number
from ..log._body import Frame
from ..log._changes import PageChanges
from ..log._storage import Place, opened
from ._arrow import ROWS, record_batches
from ._catalogue import Catalogue
from ._commits import COMMITS, Commit, commits, commits_to_come
from ._reader import LogReader, ReadCounts
from ._wanted import Wanted

__all__ = ["Selection", "select"]

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_TICK, _LAST_TIME = 2**32 - 1, 2**64 - 1


def select(
    place: Place,
    *,
    pages: int | Iterable[int] | Any | None = None,
    ticks: tuple[int | None, int | None] | Any | None = None,
    times: tuple[int | datetime | None, int | datetime | None] | Any | None = None,
    sources: str | Iterable[str] | Any | None = None,
    intents: str | Iterable[str] | Any | None = None,
    leaves: str | Iterable[str] | Any | None = None,
) -> "Selection":
    """Choose rows of a log; what is chosen is read when the result is iterated over. Never writes or locks.

    A row must fit everything that is given. Only indexes and frames that can hold such rows are read.

    Args:
        place: path of the run's directory, or a storage.
        pages: page ids, or one.
        ticks: the first and the last tick, both included; None for an open end.
        times: the first and the last time of a commit, both included: a `datetime` with a time zone, or nanoseconds
            since 1970 as an int; None for an open end.
        sources: names of sources, or one. A name that was never logged fits no row.
        intents: likewise for intents; `""` fits commits without one.
        leaves: tree paths of a recorded run, or one; a path means all leaves below it. Of a run of a bus, names of
            pages. A row without a mask fits if its page holds a word of the leaf.

    Raises:
        InvalidTypeError, InvalidArgumentError: an argument is no such thing.
        LogNotFoundError, CorruptLogError: when iterated over, as `read_frames`.
        PageNotFoundError: when iterated over, for a leaf that isn't there.

    >>> from mmsb_jax.page import MemoryStorage, PageChanges, TransactionLog
    >>> storage, words = MemoryStorage(), np.zeros((1, 4), np.uint32)
    >>> with TransactionLog.create(storage, page_words=4, capacity=8, fingerprint={}) as log:
    ...     for tick, page in enumerate([5, 6, 5, 7], 1):
    ...         rows = PageChanges(np.array([page], np.int32), np.array([0], np.int32), None, words)
    ...         _ = log.append_changes(tick, rows, intent="even" if tick % 2 == 0 else "odd")
    >>> [(frame.tick, rows.page.tolist()) for frame, rows in select(storage, pages=5)]
    [(1, [5]), (3, [5])]
    >>> [frame.tick for frame, _ in select(storage, ticks=(2, None), intents="even")]
    [2, 4]
    """
    bounds = _between("ticks", ticks, whole_number, _LAST_TICK), _between("times", times, _nanoseconds, _LAST_TIME)
    texts = _texts("sources", sources), _texts("intents", intents), _texts("leaves", leaves)
    return Selection(place, _Filters(_page_ids(pages), *bounds, *texts))


class _Filters(NamedTuple):
    """What was asked for, checked; names are not yet numbers, since a log gets more of them."""

    pages: np.ndarray | None
    ticks: tuple[int, int]
    times: tuple[int, int]
    sources: tuple[str, ...] | None
    intents: tuple[str, ...] | None
    leaves: tuple[str, ...] | None

    def wanted(self, reader: LogReader) -> Wanted:
        """The same in numbers, for a log as it is now."""
        capacity = reader.run.capacity
        if self.pages is not None and len(self.pages) and self.pages[-1] >= capacity:
            raise InvalidArgumentError(f"got page {self.pages[-1]}, but this run has the pages 0 to {capacity - 1}")
        words = None if self.leaves is None else Catalogue(reader).words_of(self.leaves)
        sources, intents = (_numbers(reader.names, texts) for texts in (self.sources, self.intents))
        return Wanted(self.ticks, self.times, self.pages, sources, intents, words)


class Selection:
    """Rows of a log, read as they are asked for, oldest first. Each iteration looks at the log as it is by then.

    `counts` is what the last iteration has read so far. Made by `select`.
    """

    def __init__(self, place: Place, filters: _Filters) -> None:
        self._place, self._filters = place, filters
        self.counts = ReadCounts()

    def __iter__(self) -> Iterator[tuple[Frame, PageChanges]]:
        with opened(self._place) as storage:
            reader = LogReader(storage)
            self.counts = reader.counts
            yield from _rows(reader, self._filters.wanted(reader))

    def commits(
        self, *, last: int | None = None, follow: bool = False, stop: Callable[[], bool] | None = None
    ) -> Iterator[Commit]:
        """Iterate over the commits that hold such rows, oldest first; also those of pages, edges and layouts, if
        none is chosen by page, leaf or source.

        Args:
            last: how many of them, at most: those at the end.
            follow: whether to go on with what is written from then on, and wait for more.
            stop: asked before each look for more; once it says True, the iteration ends.

        >>> from mmsb_jax.page import MemoryStorage, PageChanges, TransactionLog
        >>> storage, zero = MemoryStorage(), np.zeros(1, np.int32)
        >>> with TransactionLog.create(storage, page_words=1, capacity=8, fingerprint={}) as log:
        ...     for tick in (1, 2, 3):
        ...         rows = PageChanges(zero, zero, None, np.array([[tick]], np.uint32))
        ...         _ = log.append_changes(tick, rows, intent=f"step {tick}")
        >>> [(commit.tick, commit.rows, commit.intent) for commit in select(storage).commits(last=2)]
        [(2, 1, 'step 2'), (3, 1, 'step 3')]
        """
        with opened(self._place) as storage:
            reader = LogReader(storage)
            self.counts = reader.counts
            yield from commits(reader, self._commits_wanted(reader), last)
            if follow:
                yield from commits_to_come(storage, reader, self._commits_wanted, stop)

    def _commits_wanted(self, reader: LogReader) -> Wanted:
        wanted = self._filters.wanted(reader)
        by_row = wanted.pages is not None or wanted.words is not None or wanted.sources is not None
        return wanted if by_row else replace(wanted, kinds=COMMITS)

    def to_arrow(self) -> pa.RecordBatchReader:
        """Return the rows as a stream of Arrow record batches, which Polars, DuckDB and pandas read.

        Columns: `sequence`, `tick`, `time`, `page`, `leaf` (the name of what is on the page), `member` (of an
        ensemble), `source`, `intent`, `mask` (null where all words of the page are set) and `words`. Memory stays
        within a frame or a few megabytes, however many rows there are.

        >>> from mmsb_jax.page import MemoryStorage, PageChanges, TransactionLog
        >>> storage, rows = MemoryStorage(), np.zeros(2, np.int32)
        >>> with TransactionLog.create(storage, page_words=1, capacity=8, fingerprint={}) as log:
        ...     changes = PageChanges(rows, rows, None, np.array([[7], [8]], np.uint32))
        ...     _ = log.append_changes(1, changes, intent="an example")
        >>> table = select(storage, pages=0).to_arrow().read_all()
        >>> table.column("words").to_pylist(), table.column("intent").to_pylist()
        ([[7], [8]], ['an example', 'an example'])
        """
        return pa.RecordBatchReader.from_batches(ROWS, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        with opened(self._place) as storage:
            reader = LogReader(storage)
            self.counts = reader.counts
            yield from record_batches(_rows(reader, self._filters.wanted(reader)), reader.names, Catalogue(reader))


def _rows(reader: LogReader, wanted: Wanted) -> Iterator[tuple[Frame, PageChanges]]:
    for frame in reader.frames(wanted):
        changes = wanted.rows(frame.changes())
        if len(changes):
            yield frame, changes


def _between(name: str, bounds: Any, number: Callable[[Any], int | None], last: int) -> tuple[int, int]:
    if bounds is None:
        return 0, last
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise InvalidTypeError(f"got {name}={bounds!r}, but it is a pair: the first and the last, None for an open end")
    found = [default if bound is None else number(bound) for bound, default in zip(bounds, (0, last), strict=True)]
    if None in found:
        raise InvalidTypeError(f"got {name}={bounds!r}; ticks are whole numbers, times nanoseconds or aware datetimes")
    first, end = (bound for bound in found if bound is not None)
    return max(first, 0), min(end, last)


def _nanoseconds(time: Any) -> int | None:
    if not isinstance(time, datetime):
        return whole_number(time)
    if time.tzinfo is None:
        raise InvalidArgumentError(f"got the time {time}, which has no time zone; for instance: time.astimezone()")
    since = time - _BEGINNING
    return (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000


def _page_ids(pages: Any) -> Int32[np.ndarray, " p"] | None:
    if pages is None:
        return None
    given = [pages] if whole_number(pages) is not None else list(pages)
    found = [whole_number(page) for page in given]
    for page, number in zip(given, found, strict=True):
        if number is None:
            raise InvalidTypeError(f"got {page!r} of type {type(page).__name__} among pages; pages are whole numbers")
        if not 0 <= number < 2**31:
            raise InvalidArgumentError(f"got page {number}; pages are numbered from 0")
    return np.unique(np.array(found, np.int32))


def _texts(name: str, texts: Any) -> tuple[str, ...] | None:
    if texts is None:
        return None
    if not isinstance(texts, Iterable):
        raise InvalidTypeError(f"got {name}={texts!r} of type {type(texts).__name__}; pass a name, or several")
    found = (texts,) if isinstance(texts, str) else tuple(texts)
    for text in found:
        if not isinstance(text, str):
            raise InvalidTypeError(f"got {text!r} of type {type(text).__name__} among {name}; they are names")
    return found


def _numbers(names: Sequence[str], texts: tuple[str, ...] | None) -> Int32[np.ndarray, " t"] | None:
    return None if texts is None else np.array([i for i, name in enumerate(names) if name in texts], np.int32)
