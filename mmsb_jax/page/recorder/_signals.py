"""Ctrl-C and SIGTERM while a run is recorded: first the log is made whole, then the signal takes its course."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Interruption", "held_signals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """The first signal that came, or None."""

    def __init__(self) -> None:
        self.signal: int | None = None


@contextmanager
def held_signals() -> Iterator[Interruption]:
    """Note SIGINT and SIGTERM instead of acting on them; act at the end, when the old handlers are back in place.

    A second signal acts at once. Only in the main thread, where Python allows it; elsewhere nothing is held.

    >>> with held_signals() as interruption:
    ...     interruption.signal
    """
    noted = Interruption()
    before: dict[int, Any] = {}

    def restore() -> None:
        while before:
            signal.signal(*before.popitem())

    def note(number: int, frame: FrameType | None) -> None:
        if noted.signal is None:
            noted.signal = number
            return
        restore()
        signal.raise_signal(number)

    if threading.current_thread() is threading.main_thread():
        # What is ignored, as SIGINT is in the background of a script, stays so. A handler that wasn't set from Python
        # (None) can't be put back, so it stays, too.
        old = {number: signal.getsignal(number) for number in _SIGNALS}
        before = {number: handler for number, handler in old.items() if handler not in (None, signal.SIG_IGN)}
        for number in before:
            signal.signal(number, note)
    try:
        yield noted
    finally:
        restore()
        if noted.signal is not None:
            signal.raise_signal(noted.signal)
