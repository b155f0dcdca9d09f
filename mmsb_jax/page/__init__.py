"""Layer 1: pages and what happens to them.

Deltas with `apply`, `merge`, `diff` and `digest` are pure functions. The transaction log is the ground truth: what
`replay` reads from it is the state.
"""

from ._apply import apply, diff, rejected, settle
from ._changes import PageChanges
from ._delta import DeltaBatch, merge, pack_mask, unpack_mask
from ._digest import digest, digest_change
from ._frame import FrameKind
from ._log import TransactionLog
from ._records import EdgeRecords, PageRecord, schema_of
from ._replay import Replayed
from ._replay import replay as replay_log
from ._restore import replay, verified_state
from ._scan import Frame, read_frames
from ._storage import DirectoryStorage, MemoryStorage, Storage
from ._target import CatalogEvent
from ._writer import SyncMode

__all__ = [
    "CatalogEvent",
    "DeltaBatch",
    "DirectoryStorage",
    "EdgeRecords",
    "Frame",
    "FrameKind",
    "MemoryStorage",
    "PageChanges",
    "PageRecord",
    "Replayed",
    "Storage",
    "SyncMode",
    "TransactionLog",
    "apply",
    "diff",
    "digest",
    "digest_change",
    "merge",
    "pack_mask",
    "read_frames",
    "rejected",
    "replay",
    "replay_log",
    "schema_of",
    "settle",
    "unpack_mask",
    "verified_state",
]
