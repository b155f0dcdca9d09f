"""Memory to read into, used again by itself once nobody looks at what was read.

Fresh memory is paid for page by page when it is first written: several times what reading into it costs.
"""

import weakref

import numpy as np
from jaxtyping import UInt8

__all__ = ["Buffers"]

_SMALL = 256 << 10  # what the allocator keeps at hand anyway
_ROUND = 1 << 20
_IDLE = 3


class Buffers:
    """A few large buffers.

    >>> buffers = Buffers()
    >>> one, other = buffers.take(1 << 20), buffers.take(1 << 20)
    >>> address = one.ctypes.data
    >>> del one
    >>> buffers.take(1 << 19).ctypes.data == address
    True
    """

    def __init__(self) -> None:
        self._idle: list[np.ndarray] = []

    def take(self, length: int) -> UInt8[np.ndarray, " length"]:
        """Return memory with anything in it. It comes back when the array and all views of it are gone."""
        if length < _SMALL:
            return np.empty(length, np.uint8)
        fitting = [i for i, buffer in enumerate(self._idle) if len(buffer) >= length]
        buffer = self._idle.pop(fitting[-1]) if fitting else np.empty(-(-length // _ROUND) * _ROUND, np.uint8)
        lent = buffer[:length]
        weakref.finalize(lent, self._give_back, buffer).atexit = False
        return lent

    def clear(self) -> None:
        """Let go of what is idle."""
        self._idle.clear()

    def _give_back(self, buffer: np.ndarray) -> None:
        self._idle.append(buffer)
        del self._idle[:-_IDLE]
