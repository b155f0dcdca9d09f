"""Whether a place is free for a new run. What an interrupted creation has left doesn't count."""

from ..._errors import InvalidArgumentError
from ._frame import FrameKind
from ._identity import RUN_FILE
from ._scan import headers_from
from ._segments import segment_name, segments
from ._storage import Storage

__all__ = ["refuse_existing"]


def refuse_existing(storage: Storage) -> None:
    """Raise `InvalidArgumentError` when there is a run, or commits of one that has lost its identity."""
    if storage.exists(RUN_FILE):
        raise InvalidArgumentError(
            f"{storage.describe(RUN_FILE)} exists: this is a run already. Open it to go on, or create at another path."
        )
    if not _only_begun(storage):
        raise InvalidArgumentError(
            f"{storage.describe('log')} holds a log with commits but without {RUN_FILE}, which has been lost. "
            "Restore the file, or remove the directory, or create at another path."
        )


def _only_begun(storage: Storage) -> bool:
    """Return whether there is nothing, or what an interrupted creation leaves: one header at most, whole or torn."""
    found = segments(storage)
    if not found:
        return True
    headers = (header.kind for header in headers_from(storage, found[0], 0))
    return found == [segment_name(0)] and all(kind == FrameKind.HEADER for kind in headers)
