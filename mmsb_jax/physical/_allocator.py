"""Which page ids are alive. Host data: ids are handed out between jitted calls, never inside one."""

from dataclasses import dataclass

import numpy as np

from .._errors import CapacityError, InvalidArgumentError, PageNotFoundError

__all__ = ["Allocator"]


@dataclass(frozen=True, eq=False)
class Allocator:
    """Hands out page ids, lowest first, and takes them back. Immutable: every call returns a new allocator.

    An id's generation is odd while it is alive and grows with every create and delete, so a handle that remembers
    its generation can tell a page from a later one that reuses the id.

    ```python
    >>> from mmsb_jax.physical import Allocator
    >>> allocator, ids = Allocator.create(8).allocate(3)
    >>> allocator, again = allocator.release(ids[:1]).allocate(1)
    >>> again.tolist(), allocator.live
    ([0], 3)

    ```
    """

    generation: np.ndarray
    """uint32[capacity], read-only."""
    live: int = 0
    """How many ids are alive."""
    first_free: int = 0
    """No id below this one is free: where the search starts."""

    @classmethod
    def create(cls, capacity: int) -> "Allocator":
        """An allocator with `capacity` free ids. Raises `InvalidArgumentError` for a negative capacity."""
        if not 0 <= capacity < 2**31:
            raise InvalidArgumentError(
                f"got capacity={capacity}; page ids are int32, so it lies between 0 and 2**31 - 1"
            )
        return cls(_frozen(np.zeros(capacity, np.uint32)))

    @property
    def capacity(self) -> int:
        """How many ids there are, alive or free."""
        return len(self.generation)

    def alive(self, ids: np.ndarray) -> np.ndarray:
        """bool[n]: which of the ids exist and are alive."""
        inside = (ids >= 0) & (ids < self.capacity)
        return inside & (self.generation[np.where(inside, ids, 0)] % 2 == 1)

    def allocate(self, count: int) -> tuple["Allocator", np.ndarray]:
        """The `count` lowest free ids, int32 and ascending. Raises `CapacityError` when there are fewer."""
        if count < 1:
            raise InvalidArgumentError(f"got count={count}; allocate at least one page")
        if count > self.capacity - self.live:
            raise CapacityError(
                f"{count} more pages were asked for, but {self.live} of {self.capacity} are in use; "
                f"start the bus with a capacity of at least {self.live + count}, or delete pages first"
            )
        ids = self._lowest_free(count)
        return self.claim(ids), ids

    def claim(self, ids: np.ndarray) -> "Allocator":
        """Mark these free ids as alive: `allocate` with the choice made elsewhere, as a log replays it.

        **Raises:** `PageNotFoundError` for an id that can't be, `InvalidArgumentError` for one alive or named twice.
        """
        outside = ids[(ids < 0) | (ids >= self.capacity)]
        if len(outside):
            raise PageNotFoundError(f"page {int(outside[0])} can't be; the ids are 0 to {self.capacity - 1}")
        if self.alive(ids).any():
            raise InvalidArgumentError(f"pages {ids[self.alive(ids)].tolist()[:10]} are in use already")
        _refuse_twins(ids)
        first_free = self.first_free
        if len(ids) and ids[0] == first_free and ids[-1] == first_free + len(ids) - 1:
            first_free += len(ids)
        return Allocator(self._bumped(ids), self.live + len(ids), first_free)

    def release(self, ids: np.ndarray) -> "Allocator":
        """Give these ids back.

        **Raises:** `PageNotFoundError` when one of them isn't alive, `InvalidArgumentError` when one is named twice.
        """
        dead = ids[~self.alive(ids)]
        if len(dead):
            raise PageNotFoundError(f"page {int(dead[0])} doesn't exist; it was never created or is already deleted")
        _refuse_twins(ids)
        lowest = int(ids.min(initial=self.first_free))
        return Allocator(self._bumped(ids), self.live - len(ids), min(self.first_free, lowest))

    def _lowest_free(self, count: int) -> np.ndarray:
        # Most often the next ids in a row are free; otherwise look at everything once.
        window = self.generation[self.first_free : self.first_free + count]
        if len(window) == count and not (window % 2).any():
            return np.arange(self.first_free, self.first_free + count, dtype=np.int32)
        return np.flatnonzero(self.generation % 2 == 0)[:count].astype(np.int32)

    def _bumped(self, ids: np.ndarray) -> np.ndarray:
        generation = self.generation.copy()
        generation[ids] += np.uint32(1)
        return _frozen(generation)


def _refuse_twins(ids: np.ndarray) -> None:
    if len(np.unique(ids)) != len(ids):
        raise InvalidArgumentError(
            f"got page ids of which some occur twice, such as {ids.tolist()[:10]}; name each once"
        )


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
