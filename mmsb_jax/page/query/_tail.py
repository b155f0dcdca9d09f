"""Reading along while another process writes."""

import time
from collections.abc import Callable, Iterator

from ..._errors import InvalidArgumentError
from ..log._body import Frame
from ..log._identity import read_identity
from ..log._scan import LogScanner
from ..log._storage import Place, opened

__all__ = ["follow"]

_BEHIND_ALL = 2**64


def follow(
    place: Place, *, start: int | None = None, poll: float = 0.05, stop: Callable[[], bool] | None = None
) -> Iterator[Frame]:
    """Iterate over the frames of a run while it is being written, by this process or another, and wait for more.

    Gives whole frames only, each once and in order, across segments and restarts of the writer. A frame can be seen as
    soon as it is written, which may be before it is on the device. Never writes or locks; break off to leave.

    Args:
        place: path of the run's directory, or a storage.
        start: sequence number of the first frame wanted; None: the first that is written after the iteration begins.
        poll: seconds to wait before looking again.
        stop: asked before each look; once it says True, what is there is still given out, then the iteration ends.

    Raises:
        LogNotFoundError: the place holds no run.
        CorruptLogError: the log is damaged; all frames before the damage have been given out.
        InvalidArgumentError: `poll` is negative.

    >>> from mmsb_jax.page import MemoryStorage, TransactionLog
    >>> storage = MemoryStorage()
    >>> with TransactionLog.create(storage, page_words=4, capacity=8, fingerprint={}) as log:
    ...     frames = follow(storage, start=0)
    ...     first = next(frames)
    ...     number = log.name_id("api")
    ...     first, next(frames)
    (Frame(0: HEADER, 4 rows, tick 0), Frame(1: NAMES, 1 rows, tick 0))
    """
    if not poll >= 0:
        raise InvalidArgumentError(f"got poll={poll}, but it is a number of seconds, 0 or more")
    with opened(place) as storage:
        scanner = LogScanner(storage, read_identity(storage), start=_BEHIND_ALL if start is None else start)
        if start is None:
            for _ in scanner:
                pass
            scanner.start = scanner.expected
        while True:
            ending = stop is not None and stop()
            scanner.look_at_the_mark()
            yield from scanner
            if ending:
                return
            time.sleep(poll)
