"""Layer 1: pages and what happens to them.

Deltas with `apply`, `merge`, `diff` and `digest` are pure functions. The transaction log is the ground truth: what
`replay` reads from it is the state.
"""

from ._apply import apply, diff, rejected, settle
from ._delta import DeltaBatch, merge, pack_mask, unpack_mask
from ._digest import digest, digest_change
from .checkpoint._background import BackgroundCheckpointer
from .checkpoint._catalog_file import CheckpointCatalog
from .checkpoint._checkpoint import Checkpoint, Loaded, Newest, checkpoints, open_checkpoint
from .checkpoint._checkpoint import load_newest as load_newest_checkpoint
from .checkpoint._checkpoint import newest as newest_checkpoint
from .checkpoint._checkpoint_write import remove_checkpoint, write_checkpoint
from .checkpoint._manifest import CheckpointInfo
from .checkpoint._orbax import from_orbax, to_orbax
from .checkpoint._snapshot import Snapshot
from .history._blame import Blame, Write
from .history._compact import Compacted, compact
from .history._difference import Difference, PartDifference
from .history._part_values import Parts, PartValue
from .history._replay import Replayed
from .history._replay import replay as replay_log
from .history._restore import check_digest, replay, verified_state
from .history._run import Run, open_run
from .history._state_snapshot import snapshot_of
from .history._target import CatalogEvent
from .history._verify import Verified, verify
from .log._about import About
from .log._changes import PageChanges
from .log._frame import FrameKind
from .log._layout_record import LayoutRecord
from .log._log import TransactionLog
from .log._memory_storage import MemoryStorage
from .log._records import EdgeRecords, PageRecord, schema_of
from .log._scan import Frame, read_frames
from .log._storage import DirectoryStorage, Storage
from .log._writer import SyncMode
from .query._commits import Commit
from .query._select import Selection, select
from .query._stats import LogStats, log_stats
from .query._tail import follow
from .recorder._record import record
from .recorder._recorder import Recorder

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
    "LayoutRecord",
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
    "compact",
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
