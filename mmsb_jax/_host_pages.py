"""Pages in host memory: sets of rows as they were transferred, and which row of which set is a page's."""

from typing import Any

import jax
import numpy as np

from .physical import PINNED, UNPINNED, host_memory

__all__ = ["HostPages", "rounded_up"]

# A set is kept whole while any of its rows counts; when more than this part of all rows is waste, they are packed anew.
_MOST_WASTE = 0.5
_FEW = 64


class HostPages:
    """Contents of pages, in pinned memory where the device has it, otherwise in plain memory of the process.

    A copy is current as long as the page's epoch is the one that it was kept with: whatever writes a page stamps it.
    """

    def __init__(self, pages: int, page_words: int, device: jax.Device) -> None:
        self.page_words = page_words
        self._sharding = _pinned(device)
        self.epoch = np.zeros(pages, np.uint32)
        self._set = np.full(pages, -1, np.int32)
        self._row = np.zeros(pages, np.int32)
        self._sets: dict[int, Any] = {}
        self._live: dict[int, int] = {}
        self._next = 0

    @property
    def memory(self) -> str:
        """The kind of memory that this is, as `Page.placement` tells it."""
        return UNPINNED if self._sharding is None else PINNED

    @property
    def count(self) -> int:
        """How many pages have a copy here."""
        return sum(self._live.values())

    @property
    def has(self) -> np.ndarray:
        """bool[pages]: which pages have a copy here, current or not."""
        return self._set >= 0

    @property
    def rows_held(self) -> int:
        """How many rows the sets have, those that no longer count included."""
        return sum(map(len, self._sets.values()))

    def holds(self, ids: np.ndarray, epoch: np.ndarray) -> np.ndarray:
        """bool[n]: which of these pages, at these epochs, have a current copy here."""
        return (self._set[ids] >= 0) & (self.epoch[ids] == epoch)

    def keep(self, ids: np.ndarray, rows: Any, epoch: np.ndarray) -> None:
        """Keep these contents, in one transfer: rows of JAX or NumPy, of which those beyond `ids` don't count."""
        if not len(ids):
            return
        # On the CPU, NumPy sees the memory of a JAX array itself; nobody else has these rows, so that needs no copy.
        stored = np.asarray(rows) if self._sharding is None else jax.device_put(rows, self._sharding)
        self.drop(ids)
        self._sets[self._next], self._live[self._next] = stored, len(ids)
        self._set[ids], self._row[ids] = self._next, np.arange(len(ids), dtype=np.int32)
        self.epoch[ids] = epoch
        self._next += 1
        if self.rows_held > _FEW and self.count < (1 - _MOST_WASTE) * self.rows_held:
            self._pack()

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """uint32[n, page_words], new: the contents of these pages; zeros for those that aren't here."""
        found = np.zeros((len(ids), self.page_words), np.uint32)
        where = self._set[ids]
        for number in np.unique(where[where >= 0]).tolist():
            chosen = where == number
            # Pinned memory is seen by NumPy without a copy.
            found[chosen] = np.asarray(self._sets[number])[self._row[ids[chosen]]]
        return found

    def drop(self, ids: np.ndarray) -> None:
        """Forget what is kept of these pages."""
        numbers, counts = np.unique(self._set[ids], return_counts=True)
        self._set[ids] = -1
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            if number >= 0:
                self._live[number] -= count
                if not self._live[number]:
                    del self._sets[number], self._live[number]

    def _pack(self) -> None:
        ids = np.flatnonzero(self._set >= 0).astype(np.int32)
        rows, epoch = self.rows(ids), self.epoch[ids]
        self.keep(ids, rows, epoch)


def _pinned(device: jax.Device) -> jax.sharding.Sharding | None:
    """Pinned memory of a device, if it has such memory and can really move something there."""
    if host_memory(memory.kind for memory in device.addressable_memories()) != PINNED:
        return None
    sharding = jax.sharding.SingleDeviceSharding(device, memory_kind=PINNED)
    try:
        jax.block_until_ready(jax.device_put(np.zeros(1, np.uint32), sharding))
    except (jax.errors.JaxRuntimeError, NotImplementedError, ValueError):
        return None
    return sharding


def rounded_up(count: int, least: int = 8) -> int:
    """A size of at least `count`, one of eight between a power of two and the next: few are ever compiled.

    >>> [rounded_up(n) for n in (1, 8, 9, 17, 1000, 1030)]
    [8, 8, 9, 18, 1024, 1152]
    """
    step = max(1, 1 << (count.bit_length() - 4)) if count > least else 1
    return max(least, -(-count // step) * step)
