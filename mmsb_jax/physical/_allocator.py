"""Which page ids are alive. Host data: ids are handed out between jitted calls, never inside one."""

from dataclasses import dataclass

import numpy as np

from .._errors import CapacityError, InvalidArgumentError, PageNotFoundError

__all__ = ["Allocator", "AllocatorStats"]


@dataclass(frozen=True)
class AllocatorStats:
    """How the ids of an allocator are used. See `Allocator.stats` for an example."""

    capacity: int
    """Ids there are."""
    live: int
    """Of these, ids in use."""
    free: int
    """And those that aren't."""
    high_water: int
    """The most ids that were ever in use at once."""
    reused: int
    """How often an id was handed out that had been in use before."""
    fragmentation: float
    """The part of the free ids that lies outside the longest run of them: 0 when all are in one run, or none is free.

    A page may take any ids, so this never makes an allocation fail; it tells how well neighbours in id stay together.
    """


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
    high_water: int = 0
    """The most ids that were ever alive at once."""
    reused: int = 0
    """How often an id was claimed that had been alive before."""

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

    def living(self) -> np.ndarray:
        """int32, ascending: the ids that are alive."""
        return np.flatnonzero(self.generation % 2).astype(np.int32)

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
        live, reused = self.live + len(ids), self.reused + int(np.count_nonzero(self.generation[ids]))
        return Allocator(self._bumped(ids), live, first_free, max(self.high_water, live), reused)

    def release(self, ids: np.ndarray) -> "Allocator":
        """Give these ids back.

        **Raises:** `PageNotFoundError` when one of them isn't alive, `InvalidArgumentError` when one is named twice.
        """
        dead = ids[~self.alive(ids)]
        if len(dead):
            raise PageNotFoundError(f"page {int(dead[0])} doesn't exist; it was never created or is already deleted")
        _refuse_twins(ids)
        lowest = int(ids.min(initial=self.first_free))
        first_free = min(self.first_free, lowest)
        return Allocator(self._bumped(ids), self.live - len(ids), first_free, self.high_water, self.reused)

    def stats(self) -> AllocatorStats:
        """Counts of ids. Looks at every id once.

        ```python
        >>> from mmsb_jax.physical import Allocator
        >>> allocator, ids = Allocator.create(8).allocate(6)
        >>> allocator.release(ids[[1, 3]]).stats()  # free are 1, 3, and 6 with 7
        AllocatorStats(capacity=8, live=4, free=4, high_water=6, reused=0, fragmentation=0.5)

        ```
        """
        free = self.capacity - self.live
        longest = int(_runs(self.generation % 2 == 0).max(initial=0))
        fragmentation = 1 - longest / free if free else 0.0
        return AllocatorStats(self.capacity, self.live, free, self.high_water, self.reused, fragmentation)

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


def _runs(holds: np.ndarray) -> np.ndarray:
    """The lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], holds, [False]])))
    return edges[1::2] - edges[::2]


def _refuse_twins(ids: np.ndarray) -> None:
    if (ids[1:] <= ids[:-1]).any() and len(np.unique(ids)) != len(ids):  # most often they ascend
        raise InvalidArgumentError(
            f"got page ids of which some occur twice, such as {ids.tolist()[:10]}; name each once"
        )


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
