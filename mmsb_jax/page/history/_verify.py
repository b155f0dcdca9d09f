"""Everything that a run says of itself, checked: the whole log, every digest in it, every checkpoint against it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32, UInt32

from ..._errors import CorruptCheckpointError, ReplayDivergenceError
from .._digest import digest_change
from ..checkpoint._checkpoint import checkpoints, open_checkpoint
from ..checkpoint._manifest import CheckpointInfo
from ..log._body import Frame
from ..log._frame import FrameKind
from ..log._identity import read_identity
from ..log._layout_record import layout_after
from ..log._scan import LogScanner
from ..log._storage import Place, Storage, opened
from ._target import Target

__all__ = ["Verified", "verify"]

_change = jax.jit(digest_change)


class Verified(NamedTuple):
    """What was checked and found right.

    >>> Verified(frames=4, commits=2, digests=2, checkpoints=0, first=0, last=2).commits
    2
    """

    frames: int
    """Frames whose checksums, order and contents are right."""
    commits: int
    """Those among them that changed something."""
    digests: int
    """Commits whose digest is that of the replayed state."""
    checkpoints: int
    """Checkpoints that hold just what the log leads to."""
    first: int
    """The tick that the log begins with."""
    last: int
    """The tick that it ends with."""


def verify(place: Place) -> Verified:
    """Replay a log from its beginning, without checkpoints, and compare with all that was recorded on the way.

    Raises:
        CorruptLogError: a frame is damaged.
        ReplayDivergenceError: a digest, or a checkpoint, is not that of the replayed state.
        CorruptCheckpointError: a checkpoint is damaged.

    >>> import mmsb_jax as mmsb, jax.numpy as jnp
    >>> from mmsb_jax.page import MemoryStorage
    >>> storage = MemoryStorage()
    >>> _ = mmsb.record(lambda x: x + 1, jnp.zeros(3), 10, path=storage, progress=False)
    >>> verify(storage).last
    10
    """
    with opened(place) as storage:
        scanner = LogScanner(storage, read_identity(storage))
        waiting = list(checkpoints(storage))
        found = _Replay(scanner.run.capacity, scanner.run.page_words)
        frames = 0
        for frame in scanner:
            found.take(frame)
            frames += 1
            while waiting and waiting[0].sequence <= frame.sequence:
                found.compare(storage, waiting.pop(0), frame)
        for info in waiting:
            open_checkpoint(storage, info)  # raises: its frame isn't in the log
        return Verified(frames, found.commits, found.digests, found.checkpoints, scanner.base.tick, scanner.tick)


class _Replay:
    """A state that is led along the log, its digest kept from the changed words alone."""

    def __init__(self, capacity: int, page_words: int) -> None:
        self.target = Target(capacity, page_words)
        self.lanes: UInt32[np.ndarray, "2"] = np.zeros(2, np.uint32)
        self.commits = self.digests = self.checkpoints = 0

    def take(self, frame: Frame) -> None:
        if frame.kind in (FrameKind.HEADER, FrameKind.NAMES):
            return
        pages = _touched(frame)
        before = self.target.pages[pages]
        if frame.kind == FrameKind.CHANGES:
            self.target.enter(frame.changes(), frame.tick)
        else:
            self.target.take(frame)
        self.lanes = self.lanes + _moved(pages, before, self.target.pages[pages])
        self.commits += 1
        if frame.digest is None:
            return
        if frame.digest != tuple(self.lanes.tolist()):
            raise ReplayDivergenceError(
                f"the commit of tick {frame.tick} (frame {frame.sequence}, {frame.file}, byte {frame.offset}) has the "
                f"digest {_hex(frame.digest)}, but replaying the log up to it gives {_hex(self.lanes.tolist())}: "
                f"what was committed there isn't what the state became. The last commit before it is right"
            )
        self.digests += 1

    def compare(self, storage: Storage, info: CheckpointInfo, frame: Frame) -> None:
        held = open_checkpoint(storage, info).load()
        if info.sequence != frame.sequence:
            raise CorruptCheckpointError(storage.describe(info.name), 0, "the log begins behind its frame")
        same = np.array_equal(held.pages, self.target.pages) and np.array_equal(held.epoch, self.target.epoch)
        layout = layout_after((event.records for event in self.target.events), len(self.target.pages))
        same = same and _same_layout(held.slot_of_page, layout)
        if not same or (held.digest is not None and held.digest != tuple(self.lanes.tolist())):
            raise ReplayDivergenceError(
                f"{storage.describe(info.name)} isn't the state that the log leads to at tick {frame.tick}; remove the "
                "checkpoint: the log alone is the truth"
            )
        self.checkpoints += 1


def _same_layout(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is other if one is None or other is None else np.array_equal(one, other)


def _touched(frame: Frame) -> Int32[np.ndarray, " n"]:
    if frame.kind == FrameKind.CHANGES:
        return np.unique(frame.changes().page)
    records = frame.records()
    gone = [record.pages for record in records if record.op == "delete"] if isinstance(records, tuple) else []
    return np.unique(np.concatenate([np.zeros(0, np.int32), *gone]))


def _moved(
    pages: Int32[np.ndarray, " n"], before: UInt32[np.ndarray, "n W"], after: UInt32[np.ndarray, "n W"]
) -> UInt32[np.ndarray, "2"]:
    """By how much a digest moves; rows are added that don't change, so that few sizes are ever compiled."""
    room = max(8, 1 << (len(pages) - 1).bit_length()) - len(pages) if len(pages) else 8
    padded = [np.pad(rows, ((0, room), (0, 0))) for rows in (before, after)]
    return np.asarray(_change(jnp.asarray(np.pad(pages, (0, room))), *map(jnp.asarray, padded)))


def _hex(lanes: tuple[int, ...] | list[int]) -> str:
    return "".join(f"{lane:08x}" for lane in lanes)
