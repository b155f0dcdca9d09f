"""Layer 1: pages and deltas. Apply, merge, diff and digest; the transaction log and replay."""

from ._apply import apply, diff, rejected, settle
from ._delta import DeltaBatch, merge, pack_mask, unpack_mask
from ._digest import digest, digest_change

__all__ = ["DeltaBatch", "apply", "diff", "digest", "digest_change", "merge", "pack_mask", "rejected", "settle", "unpack_mask"]
