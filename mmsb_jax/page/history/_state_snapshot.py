"""From a `State` on any device to a snapshot on the host. Apart from `_snapshot`, so that a log does not need JAX."""

from collections.abc import Sequence

import numpy as np

from ..._require import require_instance
from ...physical import State
from ..checkpoint._snapshot import Snapshot, no_edges
from ..log._records import EdgeRecords, PageRecord

__all__ = ["snapshot_of"]


def snapshot_of(
    state: State,
    sequence: int,
    *,
    digest: tuple[int, int] | None = None,
    names: Sequence[str] = ("",),
    records: Sequence[PageRecord] = (),
    edges: EdgeRecords | None = None,
    copy: bool = False,
) -> Snapshot:
    """Return a state as it is on the host, with pages in the order of their ids, and the slots in which they lie.

    Args:
        state: the state; it may lie on any device, in any layout.
        sequence: the number of the last frame of the log that is in it.
        digest: the two lanes of its digest, if it is known.
        names: the log's table of names.
        records: the pages that are alive.
        edges: the edges that are there; None for none.
        copy: whether to copy what could be shared. On the CPU the snapshot otherwise holds the state's own buffers,
            which are safe there: JAX copies a donated buffer that is held, for as long as it is.

    >>> import mmsb_jax as mmsb
    >>> snapshot_of(mmsb.State.create(4, page_bytes=16), sequence=0).pages.shape
    (4, 4)
    """
    require_instance(state, State, "snapshot_of takes a whole state")
    pages, slots = np.asarray(state.pages), np.asarray(state.slot_of_page)
    moved = not np.array_equal(slots, np.arange(len(slots)))
    if moved:
        pages, slots = pages[slots], slots.copy()
    elif copy:
        pages = pages.copy()
    epoch = np.array(state.epoch) if copy else np.asarray(state.epoch)
    edges = no_edges() if edges is None else edges
    where = slots if moved else None
    return Snapshot(pages, epoch, int(state.tick), sequence, digest, tuple(names), tuple(records), edges, where)
