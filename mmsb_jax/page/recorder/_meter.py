"""How far a recorded loop is: one line on a terminal or in a notebook, rewritten a few times a second."""

import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Meter"]

_SECONDS = 0.25


class Meter:
    """Shows steps, their rate, and what the log has taken. Says nothing where nobody could see it.

    >>> meter = Meter(1000, 0, sys.stdout, clock=iter([0.0, 1.0]).__next__, shown=True)
    >>> meter.show(250, 3_000_000)  # doctest: +NORMALIZE_WHITESPACE
    step 250 of 1000 (25 %), 250 steps/s, 3.0 MB logged, 3 s left
    """

    def __init__(
        self,
        steps: int,
        done: int,
        stream: Any = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        shown: bool | None = None,
    ) -> None:
        """`done` steps of `steps` were there before, and don't count for the rate. `shown` None: where it is seen.

        `stream` is a text stream, by default stderr.
        """
        self._steps, self._before, self._clock = steps, done, clock
        self._stream = sys.stderr if stream is None else stream
        self._shown = _is_seen(self._stream) if shown is None else shown
        self._since = self._last = clock() if self._shown else 0.0
        self._width = 0

    def show(self, done: int, logged: int) -> None:
        """Say that so many steps are done and so many bytes logged, if it is time to say something."""
        if not self._shown:
            return
        now = self._clock()
        if now - self._last < _SECONDS and done < self._steps:
            return
        self._last = now
        rate = (done - self._before) / max(now - self._since, 1e-9)
        left = f", {(self._steps - done) / rate:.0f} s left" if rate > 0 and done < self._steps else ""
        text = (
            f"step {done} of {self._steps} ({100 * done // max(self._steps, 1)} %), {rate:.4g} steps/s, "
            f"{logged / 1e6:.1f} MB logged{left}"
        )
        self._stream.write("\r" + text.ljust(self._width))
        self._width = len(text)
        self._stream.flush()

    def __enter__(self) -> "Meter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the line."""
        if self._width:
            self._stream.write("\n")
            self._stream.flush()


def _is_seen(stream: Any) -> bool:
    # A notebook's stream is no terminal, but it shows what a terminal would.
    return stream.isatty() or type(stream).__module__.startswith("ipykernel")
