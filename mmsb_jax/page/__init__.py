"""Layer 1: pages and what happens to them.

Deltas with `apply`, `merge`, `diff` and `digest` are pure functions. The transaction log is the ground truth: what
`replay` reads from it is the state.
"""

from ._about import About
from ._apply import apply, diff, rejected, settle
from ._background import BackgroundCheckpointer
from ._blame import Blame, Write
from ._catalog_file import CheckpointCatalog
from ._changes import PageChanges
from ._checkpoint import Checkpoint, Loaded, Newest, checkpoints, open_checkpoint
from ._checkpoint import load_newest as load_newest_checkpoint
from ._checkpoint import newest as newest_checkpoint
from ._checkpoint_write import remove_checkpoint, write_checkpoint
from ._commits import Commit
from ._compact import Compacted
from ._delta import DeltaBatch, merge, pack_mask, unpack_mask
from ._difference import Difference, PartDifference
from ._digest import digest, digest_change
from ._frame import FrameKind
from ._log import TransactionLog
from ._manifest import CheckpointInfo
from ._memory_storage import MemoryStorage
from ._orbax import from_orbax, to_orbax
from ._part_values import Parts, PartValue
from ._record import record
from ._recorder import Recorder
from ._records import EdgeRecords, PageRecord, schema_of
from ._replay import Replayed
from ._replay import replay as replay_log
from ._restore import check_digest, replay, verified_state
from ._run import Run, open_run
from ._scan import Frame, read_frames
from ._select import Selection, select
from ._snapshot import Snapshot
from ._state_snapshot import snapshot_of
from ._stats import LogStats, log_stats
from ._storage import DirectoryStorage, Storage
from ._tail import follow
from ._target import CatalogEvent
from ._verify import Verified, verify
from ._writer import SyncMode

__all__ = [
    "About",
    "BackgroundCheckpointer",
    "Blame",
    "CatalogEvent",
    "Checkpoint",
    "CheckpointCatalog",
    "CheckpointInfo",
    "Commit",
    "Compacted",
    "DeltaBatch",
    "Difference",
    "DirectoryStorage",
    "EdgeRecords",
    "Frame",
    "FrameKind",
    "Loaded",
    "LogStats",
    "MemoryStorage",
    "Newest",
    "PageChanges",
    "PageRecord",
    "PartDifference",
    "PartValue",
    "Parts",
    "Recorder",
    "Replayed",
    "Run",
    "Selection",
    "Snapshot",
    "Storage",
    "SyncMode",
    "TransactionLog",
    "Verified",
    "Write",
    "apply",
    "check_digest",
    "checkpoints",
    "diff",
    "digest",
    "digest_change",
    "follow",
    "from_orbax",
    "load_newest_checkpoint",
    "log_stats",
    "merge",
    "newest_checkpoint",
    "open_checkpoint",
    "open_run",
    "pack_mask",
    "read_frames",
    "record",
    "rejected",
    "remove_checkpoint",
    "replay",
    "replay_log",
    "schema_of",
    "select",
    "settle",
    "snapshot_of",
    "to_orbax",
    "unpack_mask",
    "verified_state",
    "verify",
    "write_checkpoint",
]
