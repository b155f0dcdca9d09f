"""A whole frame, and its body decoded with care: a hostile file gets an error, never a huge allocation."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pyarrow as pa

from ..._errors import CorruptLogError, InvalidArgumentError
from ._changes import PageChanges, decode_changes, fault_in_changes
from ._codec import decode_coded
from ._frame import CODED, MASKED, TICKS, UNDO, FrameHeader, FrameKind
from ._identity import RunIdentity
from ._layout_record import LayoutRecord, decode_layout, fault_in_layout
from ._message import dense_changes, read_batch
from ._records import (
    EdgeRecords,
    PageRecord,
    decode_edges,
    decode_header,
    decode_names,
    decode_pages,
    fault_in_edges,
    fault_in_pages,
    schema_of,
)

__all__ = ["Frame"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A whole frame: header fields, and a body that is decoded when asked for.

    `sequence` counts frames, `tick` is the state's clock, `intent` an index into the names, `time_ns` Unix time in
    nanoseconds, `digest` the digest of the state after this frame or None, `offset` where the frame starts in `file`,
    `tick_before` the tick of the state before it.

    >>> from mmsb_jax.page import MemoryStorage, TransactionLog, read_frames
    >>> storage = MemoryStorage()
    >>> with TransactionLog.create(storage, page_words=4, capacity=8, fingerprint={"jax": "0.10.2"}) as log:
    ...     api = log.name_id("api")
    >>> _, names = read_frames(storage)
    >>> names.sequence, names.kind.name, names.new_names()
    (1, 'NAMES', [(1, 'api')])
    """

    header: FrameHeader
    body: memoryview
    file: str
    offset: int
    run: RunIdentity
    names: int
    tick_before: int

    def __repr__(self) -> str:
        return f"Frame({self.sequence}: {self.kind.name}, {self.rows} rows, tick {self.tick})"

    @property
    def kind(self) -> FrameKind:
        """What the body holds."""
        return FrameKind(self.header.kind)

    @property
    def sequence(self) -> int:
        """The frame's number, from 0."""
        return self.header.sequence

    @property
    def tick(self) -> int:
        """The tick of the state after this frame."""
        return self.header.tick

    @property
    def time_ns(self) -> int:
        """Wall-clock time of the commit, in nanoseconds since 1970."""
        return self.header.time_ns

    @property
    def intent(self) -> int:
        """The id of the intent's name, 0 for none."""
        return self.header.intent

    @property
    def digest(self) -> tuple[int, int] | None:
        """The digest of the state after this frame, or None."""
        return self.header.digest

    @property
    def rows(self) -> int:
        """How many rows the body has."""
        return self.header.rows

    @property
    def is_masked(self) -> bool:
        """Whether its rows are masked; only CHANGES frames' are."""
        return bool(self.header.flags & MASKED)

    @property
    def has_ticks(self) -> bool:
        """Whether its rows have ticks of their own; only CHANGES frames' have."""
        return bool(self.header.flags & TICKS)

    @property
    def is_coded(self) -> bool:
        """Whether its columns are compressed; only CHANGES frames' are."""
        return bool(self.header.flags & CODED)

    @property
    def raw_bytes(self) -> int:
        """Bytes of the columns of a CHANGES frame when they aren't compressed."""
        batch = self._decoded(FrameKind.CHANGES, lambda batch: batch)
        return int(batch.column("raw_bytes").to_numpy().sum(dtype=np.int64)) if self.is_coded else int(batch.nbytes)

    def changes(self) -> PageChanges:
        """Return the changed pages of a CHANGES frame; the arrays are read-only and share the frame's memory."""
        changes = self.raw_changes()
        fault = fault_in_changes(changes, self.run.page_words, self.run.capacity, self.names)
        if fault := fault or self.fault_in_ticks(changes):
            raise self.corrupt(fault)
        return changes

    def fault_in_ticks(self, changes: PageChanges) -> str | None:
        """Return why the ticks of the rows don't fit the frame's, or None."""
        if changes.tick is None or not len(changes):
            return None
        first, last = int(changes.tick[0]), int(changes.tick[-1])
        if first < self.tick_before or last > self.tick:
            return f"rows of ticks {first} to {last} stand in a frame of ticks {self.tick_before} to {self.tick}"
        return None

    def raw_changes(self) -> PageChanges:
        """Return the changes with lengths checked but not ids: for readers that check many frames at once."""
        self._check_kind(FrameKind.CHANGES)
        page_words, flags = self.run.page_words, self.header.flags
        masked, ticks = bool(flags & MASKED), bool(flags & TICKS)
        try:
            if flags & CODED:
                batch = self._batch(FrameKind.CHANGES)
                return decode_coded(batch, self.rows, page_words, masked=masked, ticks=ticks)
            if masked:
                return decode_changes(self._batch(FrameKind.CHANGES), page_words)
            changes = dense_changes(self.body, page_words, ticks=ticks)
            self._check_rows(len(changes))
            return changes
        except ValueError as why:
            raise self.corrupt(f"the body makes no sense ({why})") from why

    def pages(self) -> tuple[PageRecord, ...]:
        """Return the records of a PAGES frame."""
        records = self._decoded(FrameKind.PAGES, decode_pages)
        if fault := fault_in_pages(records, self.run.capacity):
            raise self.corrupt(fault)
        return records

    def edges(self) -> EdgeRecords:
        """Return the records of an EDGES frame."""
        edges = self._decoded(FrameKind.EDGES, decode_edges)
        if fault := fault_in_edges(edges, self.run.capacity):
            raise self.corrupt(fault)
        return edges

    def layout(self) -> LayoutRecord:
        """Return the record of a LAYOUT frame."""
        record = self._decoded(FrameKind.LAYOUT, decode_layout)
        if fault := fault_in_layout(record, self.run.capacity):
            raise self.corrupt(fault)
        return replace(record, undo=True) if self.header.flags & UNDO else record

    def records(self) -> tuple[PageRecord, ...] | EdgeRecords | LayoutRecord:
        """Return the records of a PAGES, EDGES or LAYOUT frame."""
        if self.kind == FrameKind.PAGES:
            return self.pages()
        return self.edges() if self.kind == FrameKind.EDGES else self.layout()

    def new_names(self) -> list[tuple[int, str]]:
        """Return the `(id, name)` pairs of a NAMES frame."""
        return self._decoded(FrameKind.NAMES, decode_names)

    def environment(self) -> dict[str, str]:
        """Return the key-value pairs of a HEADER frame: the run's identity, and the fingerprint under `env.…`."""
        return self._decoded(FrameKind.HEADER, decode_header)

    def corrupt(self, reason: str) -> CorruptLogError:
        """Return the error that says what is wrong with this frame, and where."""
        return CorruptLogError(self.file, self.offset, reason)

    def _decoded(self, kind: FrameKind, decode: Callable[[pa.RecordBatch], _T]) -> _T:
        self._check_kind(kind)
        try:
            return decode(self._batch(kind))
        except ValueError as why:
            raise self.corrupt(f"the body makes no sense ({why})") from why

    def _check_kind(self, kind: FrameKind) -> None:
        if self.header.kind != kind:
            raise InvalidArgumentError(
                f"frame {self.sequence} is {self.kind.name}, not {kind.name}; look at frame.kind first"
            )

    def _check_rows(self, rows: int) -> None:
        if rows != self.header.rows:
            raise ValueError(f"it has {rows} rows, its header says {self.header.rows}")

    def _batch(self, kind: FrameKind) -> pa.RecordBatch:
        shape = {"masked": self.is_masked, "ticks": self.has_ticks, "coded": self.is_coded}
        batch = read_batch(self.body, schema_of(kind, self.run.page_words, **shape))
        if not self.is_coded:
            self._check_rows(batch.num_rows)
        return batch
