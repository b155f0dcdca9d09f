"""The run that a recorded loop writes: its description, its first state, its commits, and checkpoints now and then."""

import os
from itertools import zip_longest
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt32

from ..._errors import InvalidArgumentError, InvalidTypeError
from ...physical import Leaf
from ..checkpoint._background import BackgroundCheckpointer
from ..checkpoint._checkpoint import checkpoints
from ..checkpoint._snapshot import Snapshot, no_edges
from ..history._alive import edges_alive, records_alive
from ..history._past import Past
from ..history._replay import Replayed
from ..log._about import About
from ..log._changes import PageChanges
from ..log._frame import FrameKind
from ..log._identity import RUN_FILE
from ..log._log import TransactionLog
from ..log._scan import read_frames
from ..log._storage import Place, as_storage
from ..log._writer import SyncMode
from ._drain import Rows

__all__ = ["Recording", "exists", "recorded_before"]

_KEYFRAME_STATES = 8
_KEYFRAME_BYTES = 256 << 20  # a log of this size is replayed in a fraction of a second


def exists(place: Place | Any) -> bool:
    """Whether there is a run. Raises `InvalidTypeError` for what is no place."""
    if not isinstance(place, str | os.PathLike) and not hasattr(place, "publish"):
        raise InvalidTypeError(f"got a {type(place).__name__} for a run; pass the path of its directory")
    storage = as_storage(place)
    try:
        return storage.exists(RUN_FILE)
    finally:
        if storage is not place:
            storage.close()


def recorded_before(place: Place, about: About) -> Replayed | None:
    """The state at the last commit of a run; None when it was interrupted before its first state was in the log.

    **Raises:** `InvalidArgumentError` when the run was recorded in another way than `about` says.
    """
    found, begun = None, False
    for frame in read_frames(place):
        if frame.kind == FrameKind.PAGES and found is None:
            found = About.of_records(frame.pages())
        if frame.kind not in (FrameKind.HEADER, FrameKind.NAMES) and found is None:
            raise InvalidArgumentError(
                f"{place} is the run of a bus, which mmsb.start continues; record to another path"
            )
        if frame.kind == FrameKind.CHANGES:
            begun = True
            break
    if found is not None:
        _require_same(found, about)
    if not begun:
        return None
    past = Past(place)
    return past.at(past.last)


def _require_same(found: About, wanted: About) -> None:
    if not found.whole:
        raise InvalidArgumentError(
            "this run recorded only a part of its state (select=…), so there is no state to go on from; record it anew"
        )
    for what in ("every", "members"):
        if getattr(found, what) != getattr(wanted, what):
            raise InvalidArgumentError(
                f"this run was recorded with {what}={getattr(found, what)}, and now {what}={getattr(wanted, what)} is "
                "asked for; go on as it was begun, or record to another path"
            )
    old, new = found.paging, wanted.paging
    if old.page_words != new.page_words:
        raise InvalidArgumentError(
            f"this run lies on pages of {4 * old.page_words} bytes, and now page_bytes={4 * new.page_words} is asked "
            "for; go on as it was begun, or record to another path"
        )
    for before, now in zip_longest(old.leaves, new.leaves):
        if before != now:
            raise InvalidArgumentError(
                f"the state of this run has {_named(before)}, and now there is {_named(now)} in its place; a run goes "
                "on with the state that it was begun with"
            )


def _named(leaf: Leaf | None) -> str:
    return "no more leaves" if leaf is None else f"the leaf {leaf.path}, {leaf.dtype}{list(leaf.shape)}"


class Recording:
    """The writer of a recorded run. Closes its log; a context manager."""

    def __init__(self, log: TransactionLog, about: About) -> None:
        self.log, self._about = log, about
        self._epoch = np.zeros(about.num_pages, np.uint32)
        self._state_bytes = 4 * about.num_pages * about.paging.page_words
        self._source = 0
        self._bytes_then = 0
        self._checkpoints: BackgroundCheckpointer | None = None
        # What a bus may have done to a run between two recordings.
        self._records = about.records()
        self._edges = no_edges()
        self._slots: Int32[np.ndarray, " pages"] | None = None

    @classmethod
    def begun(
        cls,
        place: Place,
        about: About,
        pages: UInt32[np.ndarray, "pages W"],
        *,
        sync: SyncMode,
    ) -> "Recording":
        """Start a run, or finish starting one, with its state at tick 0."""
        if exists(place):
            log = TransactionLog.open(place, sync=sync)
        else:
            log = TransactionLog.create(place, page_words=about.paging.page_words, capacity=about.num_pages, sync=sync)
        recording = cls(log, about)
        try:
            if not any(frame.kind == FrameKind.PAGES for frame in read_frames(log.place)):
                log.append_pages(0, about.records())
            init = log.name_id("init")
            ids = np.flatnonzero(pages.any(axis=1)).astype(np.int32)
            rows = pages if len(ids) == len(pages) else pages[ids]
            log.append_changes(0, PageChanges(ids, np.full(len(ids), init, np.int32), None, rows))
            recording._source = log.name_id("step")
        except BaseException:
            log.close()
            raise
        return recording

    @classmethod
    def resumed(cls, place: Place, about: About, before: Replayed, *, sync: SyncMode) -> "Recording":
        """Go on with a run."""
        recording = cls(TransactionLog.open(place, sync=sync), about)
        recording._epoch = before.epoch.copy()
        recording._records = records_alive(before.events)
        recording._edges, recording._slots = edges_alive(before.events, len(before.epoch)), before.slot_of_page
        recording._source = recording.log.name_id("step")
        return recording

    def append(self, rows: Rows, tick: int, digest: tuple[int, int] | None) -> None:
        """Commit what a chunk of steps changed."""
        changes = rows.changes(self._source)
        self.log.append_changes(tick, changes, digest=digest)
        assert changes.tick is not None, "rows say which step changed them"
        self._epoch[changes.page] = changes.tick

    def keyframe_due(self) -> bool:
        """Whether the log has grown so much that a checkpoint is worth its bytes. Says so once."""
        due = self.log.bytes_written - self._bytes_then >= max(_KEYFRAME_STATES * self._state_bytes, _KEYFRAME_BYTES)
        if due:
            self._bytes_then = self.log.bytes_written
        return due

    def write_keyframe(self, pages: UInt32[np.ndarray, "pages W"], digest: tuple[int, int] | None) -> None:
        """Have a checkpoint written in the background; `pages` is the state at the last commit, and must not change."""
        self.log.sync()
        if self._checkpoints is None:
            before = checkpoints(self.log.place)
            self._checkpoints = BackgroundCheckpointer(self.log.place, base=before[-1] if before else None)
        self._checkpoints.submit(
            Snapshot(
                pages,
                self._epoch.copy(),
                self.log.tick,
                self.log.sequence,
                digest,
                self.log.names,
                self._records,
                self._edges,
                self._slots,
            )
        )

    def close(self) -> None:
        """Wait for checkpoints, sync and close. Idempotent."""
        try:
            if self._checkpoints is not None:
                self._checkpoints.close()
        finally:
            self.log.close()

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
