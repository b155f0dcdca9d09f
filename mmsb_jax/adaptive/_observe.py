"""`Observed`: counts of accesses, taken along inside jitted code."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int32, UInt32

from .._errors import InvalidArgumentError
from .._require import whole_number
from ..page import DeltaBatch
from ._affinity import Affinity

__all__ = ["Observed"]

_NEIGHBOURS = 4  # Of a batch, each page is counted together with so many that follow it.


class Observed(eqx.Module):
    """How often pages were used, and which of them together: a pytree, to be carried through a jitted loop.

    Pairs are counted in a table of fixed size. One that finds its place taken by a pair that is still in use isn't
    counted, but its weight is: in `lost`. Counts fall by a factor with every batch, so that what was long ago weighs
    less, and makes room.

    >>> seen = Observed.create(4, pairs=64)
    >>> for batch in ([0, 1], [0, 1], [2]):
    ...     seen = seen.batch(jnp.int32(batch))
    >>> seen.hits, seen.affinity()
    (Array([2., 2., 1., 0.], dtype=float32), Affinity(4 pages, 1 pairs, total weight 2))
    """

    hits: Float32[Array, " pages"]
    one: Int32[Array, " places"]
    other: Int32[Array, " places"]
    count: Float32[Array, " places"]
    """Of the pair in each place; 0 where there is none."""
    lost: Float32[Array, ""]
    """What was counted of pairs that had no place, or lost it."""
    keep: float = eqx.field(static=True)

    @classmethod
    def create(cls, pages: int | Any, *, pairs: int | Any | None = None, half_life: float | Any = np.inf) -> Observed:
        """Nothing seen yet.

        **Arguments:** `pages`: how many there are; `pairs`: places for pairs, four a page by default; `half_life`:
        after how many batches a count has fallen to half.

        Raises `InvalidArgumentError`.
        """
        count = whole_number(pages)
        places = 4 * count if pairs is None and count is not None else whole_number(pairs)
        if count is None or places is None or count < 1 or places < 1:
            raise InvalidArgumentError(f"got pages={pages!r}, pairs={pairs!r}; pass whole numbers from 1 on")
        if isinstance(half_life, bool) or not isinstance(half_life, int | float) or not half_life > 0:
            raise InvalidArgumentError(f"got half_life={half_life!r}; pass a number of batches greater than 0")
        nobody = jnp.full(places, -1, jnp.int32)
        return cls(
            hits=jnp.zeros(count, jnp.float32),
            one=nobody,
            other=nobody,
            count=jnp.zeros(places, jnp.float32),
            lost=jnp.zeros((), jnp.float32),
            keep=float(0.5 ** (1 / half_life)),
        )

    @property
    def num_pages(self) -> int:
        """How many pages there are."""
        return self.hits.shape[-1]

    def batch(self, page: Int32[Array, " n"] | Any) -> Observed:
        """Pages that were used together, by id, int32[n]; ids outside the pages stand for none.

        Each is paired with the four that follow it in the batch.
        """
        pages = jnp.asarray(page, jnp.int32)
        valid = (pages >= 0) & (pages < self.num_pages)
        times = jnp.zeros(self.num_pages, jnp.int32).at[jnp.where(valid, pages, self.num_pages)].add(1, mode="drop")
        older = self._aged()
        seen = eqx.tree_at(lambda s: s.hits, older, older.hits + times.astype(jnp.float32))
        if pages.shape[0] < 2:
            return seen
        shifts = range(1, min(_NEIGHBOURS, pages.shape[0] - 1) + 1)
        one = jnp.concatenate([pages[:-shift] for shift in shifts])
        other = jnp.concatenate([pages[shift:] for shift in shifts])
        both = jnp.concatenate([valid[:-shift] & valid[shift:] for shift in shifts])
        return seen._counted(one, other, both)

    def deltas(self, deltas: DeltaBatch) -> Observed:
        """The pages that a batch of deltas writes."""
        return self.batch(deltas.page)

    def edges(self, parent: Int32[Array, " n"] | Any, child: Int32[Array, " n"] | Any) -> Observed:
        """Pages that were read to recompute others, pair by pair; ids outside the pages stand for none."""
        ends = jnp.asarray(parent, jnp.int32), jnp.asarray(child, jnp.int32)
        valid = (ends[0] >= 0) & (ends[0] < self.num_pages) & (ends[1] >= 0) & (ends[1] < self.num_pages)
        return self._counted(*ends, valid)

    def affinity(self) -> Affinity:
        """What was seen, as an `Affinity`, on the host."""
        used = np.asarray(self.count) > 0
        ends = (np.asarray(self.one)[used], np.asarray(self.other)[used])
        return Affinity(*ends, np.asarray(self.count)[used], num_pages=self.num_pages, hits=np.asarray(self.hits))

    def _aged(self) -> Observed:
        if self.keep == 1:
            return self
        kept = jnp.float32(self.keep)
        return eqx.tree_at(
            lambda s: (s.hits, s.count, s.lost), self, (self.hits * kept, self.count * kept, self.lost * kept)
        )

    def _counted(self, one: Int32[Array, " n"], other: Int32[Array, " n"], valid: Bool[Array, " n"]) -> Observed:
        """One more of each valid pair. Of pairs that want one place, the last has it; nothing depends on chance."""
        low, high = jnp.minimum(one, other), jnp.maximum(one, other)
        valid = valid & (low != high)
        places = self.count.shape[0]
        place = (_mixed(low, high) % jnp.uint32(places)).astype(jnp.int32)
        here = (self.one[place] == low) & (self.other[place] == high)
        wants = valid & ~here & (self.count[place] < 1)
        row = jnp.arange(low.shape[0], dtype=jnp.int32)
        last = jnp.full(places, -1, jnp.int32).at[jnp.where(wants, place, places)].max(row, mode="drop")
        moves_in = last >= 0
        new_one = jnp.where(moves_in, low[last], self.one)
        new_other = jnp.where(moves_in, high[last], self.other)
        left = jnp.where(moves_in, self.count, 0)
        counts = valid & (new_one[place] == low) & (new_other[place] == high)
        times = jnp.zeros(places, jnp.int32).at[jnp.where(counts, place, places)].add(1, mode="drop")
        nowhere = jnp.sum(valid & ~counts, dtype=jnp.int32).astype(jnp.float32)
        return Observed(
            self.hits,
            new_one,
            new_other,
            jnp.where(moves_in, 0, self.count) + times.astype(jnp.float32),
            self.lost + nowhere + jnp.sum(left),
            self.keep,
        )


def _mixed(low: Int32[Array, " n"], high: Int32[Array, " n"]) -> UInt32[Array, " n"]:
    """Two numbers stirred into one: the finaliser of MurmurHash3 (Appleby, 2011)."""
    mixed = low.astype(jnp.uint32) * jnp.uint32(0x9E3779B1) ^ high.astype(jnp.uint32)
    for factor in (0x85EBCA6B, 0xC2B2AE35):
        mixed = (mixed ^ mixed >> 16) * jnp.uint32(factor)
    return mixed ^ mixed >> 16
