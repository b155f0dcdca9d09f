"""What a replay writes to: the arrays of a state, and the frames that wait to be written together."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt32

from ..log._body import Frame
from ..log._changes import PageChanges, fault_in_changes, fault_in_ids, mask_words
from ..log._frame import FrameKind
from ..log._layout_record import LayoutRecord
from ..log._records import EdgeRecords, PageRecord

__all__ = ["CatalogEvent", "Target"]

_CHUNK_BITS = 16 << 20  # bounds the scratch memory, about 10 bytes per bit at most
_BITS_PER_BYTE = 16  # so that a megabyte of whole pages waits: they should still be in the processor's cache


class CatalogEvent(NamedTuple):
    """A PAGES, EDGES or LAYOUT frame, decoded.

    >>> CatalogEvent(sequence=3, tick=1, time_ns=0, intent=0, records=()).tick
    1
    """

    sequence: int
    tick: int
    time_ns: int
    intent: int
    records: tuple[PageRecord, ...] | EdgeRecords | LayoutRecord


class Target:
    """The arrays a replay writes to, and the frames that wait to be written together. They begin at 0, or as given."""

    def __init__(
        self,
        capacity: int,
        page_words: int,
        pages: UInt32[np.ndarray, "capacity W"] | None = None,
        epoch: UInt32[np.ndarray, " capacity"] | None = None,
    ) -> None:
        self.pages = np.zeros((capacity, page_words), np.uint32) if pages is None else pages
        self.epoch = np.zeros(capacity, np.uint32) if epoch is None else epoch
        # A row as one item of many bytes: a third faster to assign than as words.
        self._rows = self.pages.view(f"V{4 * page_words}").reshape(-1)
        self.events: list[CatalogEvent] = []
        self.digest: tuple[int, int] | None = None
        self._waiting: list[tuple[Frame, PageChanges]] = []
        self._waiting_bits = 0

    def take(self, frame: Frame) -> None:
        """Apply a frame, now or with later ones."""
        if frame.header.kind == FrameKind.CHANGES:
            self._take_changes(frame)
        elif frame.header.kind in (FrameKind.PAGES, FrameKind.EDGES, FrameKind.LAYOUT):
            self._take_event(frame)
        else:
            return
        self.digest = frame.digest

    def take_until(self, frame: Frame, tick: int) -> None:
        """Apply the rows of a frame with ticks up to one of them."""
        self.flush()
        changes = frame.changes().until(tick)
        self.enter(changes, tick)
        if len(changes):
            self.digest = None  # logged is that of the state after the whole frame

    def flush(self) -> None:
        """Apply what waits, as if frame after frame."""
        if not self._waiting:
            return
        frames, changes = [frame for frame, _ in self._waiting], [changes for _, changes in self._waiting]
        self._waiting, self._waiting_bits = [], 0
        rows = [len(each) for each in changes]
        page, source = (np.concatenate([getattr(each, name) for each in changes]) for name in ("page", "source"))
        names = np.repeat(np.array([frame.names for frame in frames]), rows)
        masked = changes[0].mask is not None
        if masked:
            mask, words = (np.concatenate([getattr(each, name) for each in changes]) for name in ("mask", "words"))
            fault = fault_in_changes(
                PageChanges(page, source, mask, words), self.pages.shape[1], len(self.pages), 2**31
            )
        else:
            fault = fault_in_ids(page, source, len(self.pages), 2**31)
        if fault or (source >= names).any():
            for frame in frames:
                frame.changes()  # raises, and says which frame it is
        if masked:
            self._write_masked(page, mask, words)
        else:
            for each in changes:
                self._write_whole(each)
        self.epoch[page] = np.repeat(np.array([frame.tick for frame in frames], np.uint32), rows)

    def _take_changes(self, frame: Frame) -> None:
        if frame.has_ticks:
            self.flush()
            self.enter(frame.changes(), frame.tick)
            return
        if self._waiting and self._waiting[0][0].is_masked != frame.is_masked:
            self.flush()
        self._waiting.append((frame, frame.raw_changes()))
        if frame.is_masked:
            self._waiting_bits += frame.rows * 32 * mask_words(self.pages.shape[1])
        else:
            self._waiting_bits += _BITS_PER_BYTE * len(frame.body)
        if self._waiting_bits >= _CHUNK_BITS:
            self.flush()

    def enter(self, changes: PageChanges, tick: int) -> None:
        """Write some rows now; those without ticks of their own at this one. Nothing may be waiting."""
        if changes.mask is None:
            self._write_whole(changes)
        else:
            self._write_masked(changes.page, changes.mask, changes.words)
        self.epoch[changes.page] = tick if changes.tick is None else changes.tick

    def _write_whole(self, changes: PageChanges) -> None:
        self._rows[changes.page] = np.ascontiguousarray(changes.words).view(self._rows.dtype).reshape(-1)

    def _take_event(self, frame: Frame) -> None:
        self.flush()
        records = frame.records()
        header = frame.header
        self.events.append(CatalogEvent(header.sequence, header.tick, header.time_ns, header.intent, records))
        for record in records if isinstance(records, tuple) else ():
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
