"""The whole state of a run at one moment of its log, on the host: what a checkpoint holds."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int32, UInt32

from ..._errors import InvalidArgumentError
from ..log._identity import RunIdentity
from ..log._records import ADD, EdgeRecords, PageRecord, fault_in_edges, fault_in_pages

__all__ = ["Snapshot", "check_snapshot", "no_edges"]


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
    slot_of_page: Int32[np.ndarray, " slots"] | None = None
    """In which slot each page lies; None: in that of its id. A checkpoint keeps pages in the order of their slots."""


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
    slots = snapshot.slot_of_page
    if slots is not None and not (slots.shape == shape[:1] and np.array_equal(np.sort(slots), np.arange(shape[0]))):
        return f"its page table of shape {slots.shape} is no permutation of the slots 0 to {shape[0] - 1}"
    return fault_in_pages(snapshot.records, run.capacity) or fault_in_edges(snapshot.edges, run.capacity)
