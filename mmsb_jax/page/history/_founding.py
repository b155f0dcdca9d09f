"""A whole state as the first commits of a log: what a compacted log and a fork begin with.

They are ordinary frames. A CHANGES frame with ticks holds every page that was ever written, in the order of their
epochs, each with its epoch as its tick: so replay ends in the same contents and the same epochs.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ..checkpoint._snapshot import Snapshot
from ..log._changes import PageChanges, encode_changes
from ..log._frame import TICKS, FrameKind
from ..log._layout_record import LayoutRecord, encode_layout
from ..log._records import encode_edges, encode_pages

__all__ = ["Commit", "founding_commits"]

_PIECE_BYTES = 64 << 20


class Commit(NamedTuple):
    """One frame to be written."""

    kind: FrameKind
    batch: pa.RecordBatch
    tick: int
    flags: int = 0
    digest: tuple[int, int] | None = None


def founding_commits(state: Snapshot, source: int, piece_bytes: int = _PIECE_BYTES) -> Iterator[Commit]:
    """The frames that lead from nothing to a state, all rows from one source; the last has its tick and digest."""
    if state.records:
        yield Commit(FrameKind.PAGES, encode_pages(state.records), 0)
    if len(state.edges):
        yield Commit(FrameKind.EDGES, encode_edges(state.edges), 0)
    if state.slot_of_page is not None:
        moved = LayoutRecord.between(np.arange(len(state.pages), dtype=np.int32), state.slot_of_page)
        yield Commit(FrameKind.LAYOUT, encode_layout(moved), 0)
    written = np.flatnonzero((state.epoch > 0) | state.pages.any(axis=1)).astype(np.int32)
    written = written[np.argsort(state.epoch[written], kind="stable")]
    page_words = state.pages.shape[1]
    rows = max(1, piece_bytes // (4 * page_words))
    pieces = [written[first : first + rows] for first in range(0, len(written), rows)] or [written]
    for number, ids in enumerate(pieces):
        ends = number == len(pieces) - 1
        ticks = state.epoch[ids]
        changes = PageChanges(ids, np.full(len(ids), source, np.int32), None, state.pages[ids], ticks)
        tick = state.tick if ends else int(ticks[-1])
        batch = encode_changes(changes, page_words)
        yield Commit(FrameKind.CHANGES, batch, tick, TICKS, state.digest if ends else None)
