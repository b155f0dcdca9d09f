"""A fingerprint of contents: two 32-bit lanes, integers only, the same on every device and in every layout.

Every non-zero word is hashed together with its address (page id, word number), and the hashes are summed modulo 2^32.
So the order of summation can't matter, zeroed pages count for nothing, and a change of a few words changes the digest
by their hashes alone. The hash is `mix(mix(word) * key)`, with an odd key made from the address and the finaliser of
MurmurHash3 (Appleby, 2011) as `mix`; all are bijections of the word, so one changed word always shows. (The inner
`mix` is needed: floats end in zeros, and a product's high bits would depend on few bits of the key.) It guards against
accidents, not against an adversary.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int32, UInt32

from .._require import require_instance
from ..physical import State

__all__ = ["digest", "digest_change", "digest_rows"]

_PAGE_SEEDS = (0x9E3779B9, 0x7F4A7C15)
_WORD_SEEDS = (0xC2B2AE3D, 0x27D4EB2F)


@jax.jit
def digest(state: State) -> UInt32[Array, "2"]:
    """The digest of a state's contents, by page id: independent of layout, epochs and tick.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp
    >>> state = mmsb.State.create(2, page_bytes=4)
    >>> mmsb.digest(state).tolist()
    [0, 0]
    >>> mmsb.digest(mmsb.apply(state, mmsb.DeltaBatch.make(state, [1], jnp.array([[7]], jnp.int32)))).tolist()
    [1147357526, 3003232282]

    ```
    """
    require_instance(state, State, "digest takes a whole state")
    state.require_whole("digest")
    page_of_slot = (
        jnp.zeros_like(state.slot_of_page)
        .at[state.slot_of_page]
        .set(jnp.arange(state.num_pages, dtype=jnp.int32), unique_indices=True, mode="promise_in_bounds")
    )
    return digest_rows(page_of_slot, state.pages)


def digest_change(
    page: Int32[Array, " n"], old: UInt32[Array, "n words"], new: UInt32[Array, "n words"]
) -> UInt32[Array, "2"]:
    """By how much the digest moves when pages change, from their rows alone: `digest(after) - digest(before)`.

    **Arguments:**

    - `page`: ids. A page may occur in several rows, as long as each word that changes differs in one of them only.
    - `old`, `new`: contents before and after.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp
    >>> state = mmsb.State.create(2, page_bytes=4)
    >>> after = mmsb.apply(state, mmsb.DeltaBatch.make(state, [1], jnp.array([[7]], jnp.int32)))
    >>> page = jnp.array([1])
    >>> change = mmsb.page.digest_change(page, state.rows(page), after.rows(page))
    >>> bool(jnp.all(mmsb.digest(state) + change == mmsb.digest(after)))
    True

    ```
    """
    return digest_rows(page, new) - digest_rows(page, old)


def digest_rows(page: Int32[Array, " n"], words: UInt32[Array, "n words"]) -> UInt32[Array, "2"]:
    """What some pages contribute to the digest of a state: the sum over all pages is the digest.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp
    >>> digest_rows(jnp.array([1]), jnp.array([[7]], jnp.uint32)).tolist()  # as above
    [1147357526, 3003232282]

    ```
    """
    lanes = _hash(words, page, 0), _hash(words, page, 1)
    zero = jnp.uint32(0)
    # One reduction of both lanes: XLA's CPU backend makes vector code of it, and not of a reduction of one (10 times).
    return jnp.stack(jax.lax.reduce(lanes, (zero, zero), lambda a, b: (a[0] + b[0], a[1] + b[1]), (0, 1)))


def _hash(words: UInt32[Array, "n words"], page: Int32[Array, " n"], lane: int) -> UInt32[Array, "n words"]:
    by_page = _mix(page.astype(jnp.uint32) + jnp.uint32(_PAGE_SEEDS[lane]))
    by_word = _mix(jnp.arange(words.shape[1], dtype=jnp.uint32) * jnp.uint32(_WORD_SEEDS[lane]) + jnp.uint32(1))
    return _mix(_mix(words) * ((by_page[:, None] ^ by_word[None, :]) | jnp.uint32(1)))


def _mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
