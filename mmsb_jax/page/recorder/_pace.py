"""How many steps the next chunk should have: by the clock. Results never depend on it."""

import time
from collections.abc import Callable

__all__ = ["Pace"]

_CHUNK_SECONDS = 0.2  # long enough to hide what a chunk costs, short enough to be interrupted
_FASTER = 8
_DIGEST_SHARE = 16
_DIGEST_BYTES_PER_SECOND = 8e9


class Pace:
    """Chunks grow until one takes about a fifth of a second.

    >>> pace = Pace(state_bytes=100, clock=lambda: 0.0)
    >>> pace.steps, pace.finished(1, 0.001), pace.steps, pace.finished(8, 0.4), pace.steps
    (1, None, 8, None, 4)
    """

    def __init__(self, state_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.steps = 1
        self._clock = clock
        self._interval = _DIGEST_SHARE * state_bytes / _DIGEST_BYTES_PER_SECOND
        self._digest_at = clock()

    def finished(self, steps: int, seconds: float) -> None:
        """Take note of how long a chunk took."""
        wanted = int(_CHUNK_SECONDS * steps / max(seconds, 1e-6))
        self.steps = max(1, min(wanted, _FASTER * max(steps, 1)))

    def digest_due(self) -> bool:
        """Whether it is time to sum up the state: that is a pass over it, and may take a sixteenth of the time."""
        now = self._clock()
        due = now - self._digest_at >= self._interval
        if due:
            self._digest_at = now
        return due
