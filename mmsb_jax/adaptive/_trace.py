"""`Trace`: which pages were used when; and what its locality is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float64, Int32, Int64
from numpy.typing import ArrayLike

from .._errors import InvalidArgumentError, InvalidTypeError
from .._require import require_instance, whole_number
from ..physical import State

__all__ = ["Trace"]

_ALL_PAIRS = 1 << 22  # Of so many pairs all are taken, of more a sample.
_PARTNERS = 16


class Trace:
    """Accesses to pages, in batches: what one tick, or one checkpoint, touched. Immutable; NumPy, on the host.

    >>> trace = Trace([[0, 1], [1, 2], [0]], num_pages=4)
    >>> trace
    Trace(3 batches, 5 accesses to 4 pages)
    >>> trace.hits()
    array([2., 2., 1., 0.])
    """

    page: Int32[np.ndarray, " accesses"]
    start: Int64[np.ndarray, " batches_and_one"]

    def __init__(self, batches: Iterable[ArrayLike] | Any, *, num_pages: int | Any) -> None:
        """Page ids, batch by batch. Raises `InvalidTypeError`, `InvalidArgumentError`."""
        count = whole_number(num_pages)
        if count is None or count < 0:
            raise InvalidArgumentError(f"got num_pages={num_pages!r}; pass how many pages there are")
        parts = [np.atleast_1d(np.asarray(batch)) for batch in batches]
        sizes = [len(part) for part in parts]
        page = np.concatenate([np.zeros(0, np.int32), *(part for part in parts if len(part))])
        if not np.issubdtype(page.dtype, np.integer) or page.ndim != 1:
            raise InvalidTypeError(f"got accesses of dtype {page.dtype}; pass page ids, whole numbers, batch by batch")
        if page.size and (page.min() < 0 or page.max() >= count):
            raise InvalidArgumentError(f"got page ids from {page.min()} to {page.max()}; there are {count} pages")
        self.num_pages = count
        self.page = page.astype(np.int32)
        self.start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    @classmethod
    def of(cls, state: State | Any) -> Trace:
        """What a state says of itself: the pages that were last changed in one tick are a batch.

        >>> import jax.numpy as jnp
        >>> state = mmsb.State.create(3, page_bytes=4).advance()
        >>> state = mmsb.apply(state, mmsb.DeltaBatch.make(state, [0, 2], jnp.uint32([[1], [1]])))
        >>> Trace.of(state).page
        array([0, 2], dtype=int32)
        """
        require_instance(state, State, "State.create(…) makes one")
        epoch = np.asarray(state.epoch)
        by_tick = np.argsort(epoch, kind="stable")
        by_tick = by_tick[epoch[by_tick] > 0]
        return cls(np.split(by_tick, np.flatnonzero(np.diff(epoch[by_tick])) + 1), num_pages=state.num_pages)

    def __len__(self) -> int:
        """How many batches there are."""
        return len(self.start) - 1

    @property
    def batch(self) -> Int32[np.ndarray, " accesses"]:
        """The batch of each access."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.start))

    def hits(self) -> Float64[np.ndarray, " pages"]:
        """How often each page was used."""
        return np.bincount(self.page, minlength=self.num_pages).astype(np.float64)

    def distinct(self, touched: np.ndarray) -> int:
        """How many things the batches touch, counted batch by batch, from what each access touches: int[accesses].

        >>> Trace([[0, 1], [1, 2]], num_pages=3).distinct(np.array([5, 5, 5, 6]))
        3
        """
        return len(np.unique(self.batch.astype(np.int64) * (int(touched.max(initial=0)) + 1) + touched))

    def pairs(self, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pairs of one batch, and weights: 1 for two pages that are used together, however large the batch.

        Of batches with many pages, some partners of each stand for all.
        """
        rng = np.random.default_rng(seed)
        sizes = np.diff(self.start)
        if float((sizes.astype(float) ** 2).sum()) <= _ALL_PAIRS:
            shifts = range(1, int(sizes.max(initial=0)))
            place = np.arange(len(self.page)) - np.repeat(self.start[:-1], sizes)
            room = np.repeat(sizes, sizes) - place
            ones = [np.flatnonzero(room > shift) for shift in shifts]
            others = [found + shift for found, shift in zip(ones, shifts, strict=True)]
            one, other = (np.concatenate([np.zeros(0, np.int64), *ends]) for ends in (ones, others))
            return self.page[one], self.page[other], np.ones(len(one))
        several = np.repeat(sizes > 1, sizes)
        one = np.tile(np.flatnonzero(several), _PARTNERS)
        size, first = np.repeat(sizes, sizes)[one], np.repeat(self.start[:-1], sizes)[one]
        away = 1 + (rng.random(len(one)) * (size - 1)).astype(np.int64)
        other = first + (one - first + away) % size
        return self.page[one], self.page[other], (size - 1) / (2 * _PARTNERS)

    def __repr__(self) -> str:
        return f"Trace({len(self)} batches, {len(self.page)} accesses to {self.num_pages} pages)"
