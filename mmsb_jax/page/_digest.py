"""A fingerprint of contents: two 32-bit lanes, integers only, the same on every device and in every layout.

Every non-zero word is hashed together with its address (page id, word number), and the hashes are summed modulo
2^32. So the order of summation can't matter, zeroed pages count for nothing, and a change of a few words changes the
digest by their hashes alone. The hash is `mix(mix(word) * key)`, with an odd key made from the address and the finaliser
of MurmurHash3 (Appleby, 2011) as `mix`; all are bijections of the word, so one changed word always shows. (The inner
`mix` is needed: floats end in zeros, and a product's high bits would depend on few bits of the key.) It guards against
accidents, not against an adversary.
"""

import jax.numpy as jnp
from jaxtyping import Array, Int32, UInt32

from ..physical import State
from ._delta import DeltaBatch

__all__ = ["digest", "digest_change"]

_PAGE_SEEDS = (0x9E3779B9, 0x7F4A7C15)
_WORD_SEEDS = (0xC2B2AE3D, 0x27D4EB2F)


def digest(state: State) -> UInt32[Array, "2"]:
    """The digest of a state's contents, by page id: independent of layout, epochs and tick.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp
    >>> state = mmsb.State.create(2, page_bytes=4)
    >>> mmsb.digest(state).tolist()
    [0, 0]
    >>> mmsb.digest(mmsb.apply(state, mmsb.DeltaBatch.make(state, [1], jnp.array([[7]], jnp.int32)))).tolist()
    [3091318043, 1087206311]

    ```
    """
    page_of_slot = jnp.zeros_like(state.slot_of_page).at[state.slot_of_page].set(
        jnp.arange(state.num_pages, dtype=jnp.int32), unique_indices=True, mode="promise_in_bounds"
    )
    return jnp.stack([_sum(_hash(state.pages, page_of_slot, lane)) for lane in (0, 1)])


def digest_change(old: UInt32[Array, "n words"], deltas: DeltaBatch) -> UInt32[Array, "2"]:
    """By how much deltas move the digest, from the rows that they change alone: `digest(after) - digest(before)`.

    **Arguments:**

    - `old`: the contents of each row's page before.
    - `deltas`: such that every word that changes is set in one row only (see `settle`).
    """
    lanes = []
    for lane in (0, 1):
        change = _hash(deltas.words, deltas.page, lane) - _hash(old, deltas.page, lane)
        lanes.append(_sum(jnp.where(deltas.dense_mask(), change, jnp.uint32(0))))
    return jnp.stack(lanes)


def _hash(words: UInt32[Array, "n words"], page: Int32[Array, " n"], lane: int) -> UInt32[Array, "n words"]:
    by_page = _mix(page.astype(jnp.uint32) + jnp.uint32(_PAGE_SEEDS[lane]))
    by_word = _mix(jnp.arange(words.shape[1], dtype=jnp.uint32) * jnp.uint32(_WORD_SEEDS[lane]) + jnp.uint32(1))
    return _mix(_mix(words) * ((by_page[:, None] ^ by_word[None, :]) | jnp.uint32(1)))


def _mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _sum(x: UInt32[Array, "..."]) -> UInt32[Array, ""]:
    return jnp.sum(x, dtype=jnp.uint32)
