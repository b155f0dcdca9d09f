"""Which of many rows: from flags, or from a list with repetitions, to the ids of rows, each once.

No sort, no cumulative sum over all flags and no `nonzero`, all of which are slow on a CPU: flags are packed 32 to a
word, the words' counts are added up in two levels, and the n-th set flag is found by bisection.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32, UInt32

__all__ = ["Picks", "distinct"]

_WORD = 32
_GROUP = 64  # words whose counts are added up together


class Picks(NamedTuple):
    """The flags that are set, in a form in which the n-th is quickly found."""

    bits: UInt32[Array, " words"]
    """32 flags a word."""
    before: Int32[Array, " words"]
    """How many flags are set in the words before."""
    total: Int32[Array, ""]
    """How many are set in all."""

    @classmethod
    def of(cls, flags: Bool[Array, " n"]) -> "Picks":
        """
        >>> picks = Picks.of(jnp.arange(100) % 7 == 3)
        >>> picks.ids(jnp.array([0, 1, 13])).tolist(), int(picks.total)
        ([3, 10, 94], 14)
        """
        padded = jnp.pad(flags, (0, -len(flags) % (_WORD * _GROUP)))
        weights = jnp.uint32(1) << jnp.arange(_WORD, dtype=jnp.uint32)
        bits = jnp.sum(padded.reshape(-1, _WORD).astype(jnp.uint32) * weights[None], axis=1, dtype=jnp.uint32)
        counts = jax.lax.population_count(bits).astype(jnp.int32).reshape(-1, _GROUP)
        totals = jnp.sum(counts, axis=1, dtype=jnp.int32)
        before = (jnp.cumsum(totals) - totals)[:, None] + jnp.cumsum(counts, axis=1) - counts
        return cls(bits, before.reshape(-1), jnp.sum(totals, dtype=jnp.int32))

    def ids(self, nth: Int32[Array, " k"]) -> Int32[Array, " k"]:
        """The id of the n-th set flag, from 0; that of another flag where there is no such, or 0."""
        nth = jnp.clip(nth, 0, jnp.maximum(self.total - 1, 0))
        word = jnp.searchsorted(self.before, nth, side="right", method="scan_unrolled").astype(jnp.int32) - 1
        bits = self.bits.at[word].get(mode="promise_in_bounds")
        rank = nth - self.before.at[word].get(mode="promise_in_bounds")
        return jnp.where(self.total > 0, word * _WORD + _nth_bit(bits, rank), 0)


def _nth_bit(bits: UInt32[Array, " k"], rank: Int32[Array, " k"]) -> Int32[Array, " k"]:
    """The place of the `rank`-th set bit: is it in the lower half? And so on in that half."""
    place = jnp.zeros_like(rank)
    for half in (16, 8, 4, 2, 1):
        low = (bits >> place.astype(jnp.uint32)) & jnp.uint32((1 << half) - 1)
        below = jax.lax.population_count(low).astype(jnp.int32)
        above = rank >= below
        rank = jnp.where(above, rank - below, rank)
        place = jnp.where(above, place + half, place)
    return place


def distinct(
    ids: Int32[Array, " k"], owner: Int32[Array, " n"], stamp: Int32[Array, ""]
) -> tuple[Int32[Array, " k"], Int32[Array, ""], Int32[Array, " n"]]:
    """The ids below `n`, each once, at the front of a list; how many there are; and the table for the next call.

    **Arguments:**

    - `ids`: 0 or more; those from `n` on are left out.
    - `owner`: scratch, at first -1 throughout. Who writes last in the list owns an id; it is never cleared.
    - `stamp`: greater than before by at least `k`, from 0: what earlier calls left in the table counts for nothing.

    >>> ids, count, _ = distinct(jnp.array([4, 2, 4, 9]), jnp.full(5, -1), jnp.int32(0))
    >>> ids[:count].tolist()
    [2, 4]
    """
    claim = stamp + jnp.arange(len(ids), dtype=jnp.int32)
    owner = owner.at[ids].max(claim, mode="drop")
    speaks = owner.at[ids].get(mode="fill", fill_value=-1) == claim
    place = jnp.cumsum(speaks, dtype=jnp.int32) - 1
    there = jnp.where(speaks, place, jnp.int32(len(ids)))
    return jnp.zeros_like(ids).at[there].set(ids, mode="drop"), jnp.sum(speaks, dtype=jnp.int32), owner
