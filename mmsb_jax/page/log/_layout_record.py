"""What a LAYOUT frame holds: rows that moved to other slots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Int32

from ._changes import require

__all__ = [
    "LAYOUT_SCHEMA",
    "LayoutRecord",
    "decode_layout",
    "encode_layout",
    "fault_in_layout",
    "layout_after",
    "standing",
]

LAYOUT_SCHEMA = pa.schema([pa.field(name, pa.int32(), nullable=False) for name in ("before", "after")])


@dataclass(frozen=True, eq=False)
class LayoutRecord:
    """A permutation of slots: what lay in slot `before[i]` lies in slot `after[i]`, and all else where it was.

    It says nothing of ids, contents, epochs or digest, which stay. `inverse()` takes it back.

    >>> moved = LayoutRecord.between(np.array([0, 1, 2], np.int32), np.array([1, 0, 2], np.int32))
    >>> moved.before.tolist(), moved.after.tolist(), moved.of(np.array([1, 0, 2], np.int32)).tolist()
    ([0, 1], [1, 0], [0, 1, 2])
    """

    before: Int32[np.ndarray, "n"]
    after: Int32[np.ndarray, "m"]
    """As many; `fault_in_layout` looks."""
    undo: bool = False
    """Whether it takes back the last one that none has taken back."""

    def __post_init__(self) -> None:
        for name in ("before", "after"):
            require(name, getattr(self, name), np.dtype(np.int32), 1)

    def __len__(self) -> int:
        return len(self.before)

    @classmethod
    def between(cls, old: Int32[np.ndarray, " pages"], new: Int32[np.ndarray, " pages"]) -> LayoutRecord:
        """What leads from one page table to another; both are permutations, the slot of each page."""
        moved = np.flatnonzero(old != new)
        by_slot = moved[np.argsort(old[moved])]
        return cls(old[by_slot].astype(np.int32), new[by_slot].astype(np.int32))

    def inverse(self) -> LayoutRecord:
        """What leads back."""
        order = np.argsort(self.after)
        return LayoutRecord(self.after[order], self.before[order], undo=True)

    def of(self, slot_of_page: Int32[np.ndarray, " pages"]) -> Int32[np.ndarray, " pages"]:
        """The page table that one becomes."""
        slots = np.arange(len(slot_of_page), dtype=np.int32)
        slots[self.before] = self.after
        return slots[slot_of_page]


def standing(moves: list[LayoutRecord], then: LayoutRecord, now: Int32[np.ndarray, " pages"]) -> list[LayoutRecord]:
    """The changes that haven't been taken back after one more, the oldest first; `now` is the page table by then.

    What takes back a part of a change, since others were merged with it, leaves the rest of it, as one.

    >>> swap = LayoutRecord(np.array([0, 1], np.int32), np.array([1, 0], np.int32))
    >>> standing([swap], swap, np.arange(3, dtype=np.int32)) == [swap, swap]
    True
    >>> standing([swap, swap], swap.inverse(), np.array([1, 0, 2], np.int32)) == [swap]
    True
    """
    if not then.undo:
        return [*moves, then]
    last = moves[-1].inverse() if moves else None
    if last and np.array_equal(last.before, then.before) and np.array_equal(last.after, then.after):
        return moves[:-1]
    rest = LayoutRecord.between(np.arange(len(now), dtype=np.int32), now)
    return [rest] if len(rest) else []


def layout_after(records: Iterable[object], capacity: int) -> Int32[np.ndarray, " pages"] | None:
    """The page table that these lead to, in order, from every page in the slot of its id; None where that is the same.

    Records of other kinds are passed over.

    >>> swap = LayoutRecord(np.array([0, 1], np.int32), np.array([1, 0], np.int32))
    >>> layout_after([swap], 3).tolist(), layout_after([swap, swap], 3)
    ([1, 0, 2], None)
    """
    slots = np.arange(capacity, dtype=np.int32)
    for record in records:
        if isinstance(record, LayoutRecord):
            slots = record.of(slots)
    return None if np.array_equal(slots, np.arange(capacity)) else slots


def fault_in_layout(record: LayoutRecord, capacity: int) -> str | None:
    """Return why this can't be a permutation of a run's slots, or None."""
    before, after = record.before, record.after
    if len(before) != len(after):
        return f"{len(before)} slots move to {len(after)} slots"
    if not len(before):
        return None
    if min(before.min(), after.min()) < 0 or max(before.max(), after.max()) >= capacity:
        return f"a slot is outside this run's 0 to {capacity - 1}"
    if (np.diff(before) <= 0).any():
        return "the slots before don't ascend"
    if not np.array_equal(before, np.sort(after)):
        return "the slots after aren't those before in another order"
    return None


def encode_layout(record: LayoutRecord) -> pa.RecordBatch:
    """Return the record batch of a LAYOUT frame."""
    return pa.RecordBatch.from_arrays([pa.array(record.before), pa.array(record.after)], schema=LAYOUT_SCHEMA)


def decode_layout(batch: pa.RecordBatch) -> LayoutRecord:
    """Return the record of a LAYOUT frame. Raises `ValueError` where it makes no sense."""
    batch.validate(full=True)
    if any(column.null_count for column in batch.columns):
        raise ValueError("a column holds nulls")
    return LayoutRecord(*(column.to_numpy() for column in batch.columns))
