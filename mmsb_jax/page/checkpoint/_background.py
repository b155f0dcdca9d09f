"""Checkpoints written by a thread of their own, while the program goes on."""

from collections import deque
from concurrent import futures
from types import TracebackType

from ..._errors import BusClosedError, CorruptCheckpointError
from ..log._storage import Place
from ._checkpoint import checkpoints
from ._checkpoint_write import write_checkpoint
from ._manifest import CheckpointInfo
from ._snapshot import Snapshot

__all__ = ["BackgroundCheckpointer"]


class BackgroundCheckpointer:
    """Writes the checkpoints of a run in the background: one at a time, and at most one more waits.

    Each shares with the one before it what hasn't changed since. An error is raised by the next call, whichever that
    is; if there are several, one after the other. To be used by one thread; a context manager that closes.

    The arrays of a snapshot must not change until it is written, so it is up to `snapshot_of` (and its `copy=`) to see
    to that. Memory: at most two snapshots are held, one being written and one waiting.

    Args:
        place: path of the run's directory, or a storage.
        base: the checkpoint that the first one may share parts with.
        part_bytes: as for `write_checkpoint`.

    >>> from mmsb_jax.page import MemoryStorage, Snapshot, TransactionLog
    >>> import numpy as np
    >>> storage = MemoryStorage()
    >>> with TransactionLog.create(storage, page_words=4, capacity=8, fingerprint={}) as log:
    ...     state = Snapshot(np.zeros((8, 4), np.uint32), np.zeros(8, np.uint32), log.tick, log.sequence)
    >>> with BackgroundCheckpointer(storage) as checkpointer:
    ...     checkpointer.submit(state)  # returns at once
    ...     checkpointer.wait()
    CheckpointInfo(tick=0, sequence=0)
    """

    def __init__(self, place: Place, *, base: CheckpointInfo | None = None, part_bytes: int | None = None) -> None:
        self._place, self._last, self._part_bytes = place, base, part_bytes
        self._thread = futures.ThreadPoolExecutor(1, "mmsb-checkpoints")
        self._pending: deque[futures.Future[None]] = deque()
        self._closed = False

    @property
    def last(self) -> CheckpointInfo | None:
        """The checkpoint written last, or the base if none was yet."""
        return self._last

    def submit(self, snapshot: Snapshot) -> None:
        """Have a snapshot written. Waits while one is waiting already.

        Raises:
            MMSBError: an earlier one could not be written, for the reasons that `write_checkpoint` gives; this one is
                not taken. When it was for a damaged base, the next will do without.
            BusClosedError: it is closed.
        """
        if self._closed:
            raise BusClosedError("this BackgroundCheckpointer is closed; make another one for further checkpoints")
        self._collect(leave=1)
        self._pending.append(self._thread.submit(self._write, snapshot))

    def wait(self) -> CheckpointInfo | None:
        """Return when all is written: the checkpoint written last. Raises as `submit` does."""
        self._collect(leave=0)
        return self._last

    def close(self) -> None:
        """Wait, and end the thread. Idempotent. Raises as `submit` does, with further errors as notes on the first."""
        self._closed = True
        errors: list[Exception] = []
        while self._pending:
            try:
                self._collect(leave=0)
            except Exception as why:
                errors.append(why)
        self._thread.shutdown()
        for another in errors[1:]:
            errors[0].add_note(f"and then: {another}")
        if errors:
            raise errors[0]

    def __enter__(self) -> "BackgroundCheckpointer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _collect(self, leave: int) -> None:
        while len(self._pending) > leave or (self._pending and self._pending[0].done()):
            futures.wait([self._pending[0]])  # an interrupt here leaves it in the queue
            self._pending.popleft().result()

    def _write(self, snapshot: Snapshot) -> None:
        base = self._last if self._last in checkpoints(self._place) else None  # it may have been removed
        try:
            self._last = write_checkpoint(self._place, snapshot, base=base, part_bytes=self._part_bytes)
        except CorruptCheckpointError:
            self._last = None
            raise
