"""The whole state of a run at one moment of its log, on the host: what a checkpoint holds."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt32

from .._errors import InvalidArgumentError
from .._require import require_instance
from ..physical import State
from ._identity import RunIdentity
from ._records import ADD, EdgeRecords, PageRecord, fault_in_edges, fault_in_pages

__all__ = ["Snapshot", "check_snapshot", "no_edges", "snapshot_of"]


def no_edges() -> EdgeRecords:
    """Return a table of edges without rows."""
    return EdgeRecords.of(ADD, np.zeros(0, np.int32), np.zeros(0, np.int32))


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A state in NumPy arrays, and what the log said so far about its pages.

    >>> import numpy as np
    >>> pages, epoch = np.zeros((8, 4), np.uint32), np.zeros(8, np.uint32)
    >>> Snapshot(pages, epoch, tick=0, sequence=1).names
    ('',)
    """

    pages: UInt32[np.ndarray, "capacity W"]
    """Contents, in the order of page ids."""
    epoch: UInt32[np.ndarray, " capacity"]
    """The tick at which each page was last written; 0 for never, or at tick 0."""
    tick: int
    sequence: int
    """The number of the last frame that is in it."""
    digest: tuple[int, int] | None = None
    """Of the contents, if it is known."""
    names: tuple[str, ...] = ("",)
    """The table of names of sources and intents."""
    records: tuple[PageRecord, ...] = ()
    """The pages that are alive, in the order in which they were created."""
    edges: EdgeRecords = field(default_factory=no_edges)
    """The edges that are there, in the order in which they were added."""


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
    """Return a state as it is on the host, with pages in the order of their ids.

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
    if not np.array_equal(slots, np.arange(len(slots))):
        pages = pages[slots]
    elif copy:
        pages = pages.copy()
    epoch = np.array(state.epoch) if copy else np.asarray(state.epoch)
    edges = no_edges() if edges is None else edges
    return Snapshot(pages, epoch, int(state.tick), sequence, digest, tuple(names), tuple(records), edges)


def check_snapshot(snapshot: Snapshot, run: RunIdentity) -> None:
    """Raise `InvalidArgumentError` when such a snapshot can't be one of this run."""
    if fault := _fault_in(snapshot, run):
        raise InvalidArgumentError(f"snapshot of tick {snapshot.tick}: {fault}")


def _fault_in(snapshot: Snapshot, run: RunIdentity) -> str | None:
    shape = (run.capacity, run.page_words)
    if snapshot.pages.shape != shape or snapshot.epoch.shape != shape[:1]:
        return (
            f"pages of shape {snapshot.pages.shape} and epochs of shape {snapshot.epoch.shape}, "
            f"but this run has {shape[0]} pages of {shape[1]} words"
        )
    if not 0 <= snapshot.tick < 2**32 or int(snapshot.epoch.max()) > snapshot.tick:
        return f"its latest epoch is {snapshot.epoch.max()}; a tick is below 2**32, and no epoch is above it"
    if any(not 0 <= lane < 2**32 for lane in snapshot.digest or ()):
        return f"its digest is {snapshot.digest}; that is two numbers of 32 bits"
    if not snapshot.names or snapshot.names[0]:
        return "its table of names does not begin with the empty name"
    if any(record.op != "create" for record in snapshot.records) or (snapshot.edges.op != ADD).any():
        return "its records are of pages and edges that are there: all created, all added"
    return fault_in_pages(snapshot.records, run.capacity) or fault_in_edges(snapshot.edges, run.capacity)
