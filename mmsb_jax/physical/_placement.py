"""Where pages lie: rows of a state on the device, rows in host memory, and the way between.

**Design.** A `State` that a user holds is whole: every page has a row, so no pure function ever meets a page that isn't
there. A bus with pages in host memory works on a state that isn't whole: it has rows for some pages, and one row more,
the *void*, all zeros, where the page table sends every page without a row. `State.whole` is static, so what would need
all pages (`view`, `digest`, `apply`, …) refuses such a state when it is traced, and `Bus.state` puts a whole one
together. The bus knows beforehand which pages a step can touch (those of its deltas, and all that a wave can reach,
with their parents) and brings them in first: one gather on the host, one transfer, one scatter. Rows that leave make
way in the order of their last use: one gather, one transfer, and none when the copy on the host is still current, which
the page's epoch tells. Host memory is a list of *sets* of rows, each an immutable array as it was transferred, pinned
where the backend has such memory. Ids, digest and replay know nothing of all this; the log remembers where a page was
asked to live.

Weighed against it: a second array of pinned pages in the state, with computations on it where it lies, which needs an
experimental interface (`compute_on`) that changed between the versions of JAX that we support; and a row for every page
with rows swapped to files, which saves no device memory at all.
"""

import functools
from collections.abc import Iterable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, UInt32

from .._errors import InvalidArgumentError
from ._state import State

__all__ = [
    "PINNED",
    "UNPINNED",
    "append_void",
    "begin_partial",
    "enter",
    "host_memory",
    "leave",
    "make_whole",
    "rearrange",
]

PINNED = "pinned_host"
"""Memory of the host that the device can read and write by itself."""
UNPINNED = "unpinned_host"
"""Plain memory of the process."""


def host_memory(kinds: Iterable[str]) -> str:
    """The memory for pages that live on the host, given the kinds that a device can address.

    ```python
    >>> from mmsb_jax.physical import host_memory
    >>> host_memory(["device", "pinned_host"]), host_memory(["device"])
    ('pinned_host', 'unpinned_host')

    ```
    """
    return PINNED if PINNED in set(kinds) else UNPINNED


def begin_partial(
    slots: int, page_words: int, *, epoch: UInt32[Array, " pages"] | UInt32[np.ndarray, " pages"], tick: int = 0
) -> State:
    """A state with room for the rows of `slots` pages, and so far with no page's row.

    ```python
    >>> from mmsb_jax.physical import begin_partial
    >>> state = begin_partial(2, 4, epoch=np.zeros(5, np.uint32))
    >>> state.pages.shape, state.slot_of_page.tolist(), state.whole
    ((3, 4), [2, 2, 2, 2, 2], False)

    ```
    """
    return State(
        pages=jnp.zeros((slots + 1, page_words), jnp.uint32),
        slot_of_page=jnp.full(len(epoch), slots, jnp.int32),
        epoch=jnp.array(epoch),
        tick=jnp.asarray(tick, jnp.uint32),
        whole=False,
    )


@jax.jit
def append_void(state: State) -> State:
    """A whole state as one that pages may leave, in memory of its own. See `leave`.

    ```python
    >>> import mmsb_jax as mmsb
    >>> from mmsb_jax.physical import append_void
    >>> append_void(mmsb.State.create(3)).pages.shape
    (4, 256)

    ```
    """
    state.require_whole("append_void")
    void = jnp.zeros((1, state.page_words), jnp.uint32)
    return State(
        pages=jnp.concatenate([state.pages, void]),
        slot_of_page=jnp.copy(state.slot_of_page),
        epoch=jnp.copy(state.epoch),
        tick=jnp.copy(state.tick),
        whole=False,
    )


@functools.partial(jax.jit, donate_argnums=0)
def enter(state: State, page: Int32[Array, " n"], slot: Int32[Array, " n"], rows: UInt32[Array, "n words"]) -> State:
    """Pages get these slots with these contents; the state is used up. The id `num_pages` marks an empty row.

    ```python
    >>> from mmsb_jax.physical import begin_partial, enter
    >>> state = begin_partial(2, 1, epoch=np.zeros(5, np.uint32))
    >>> state = enter(state, np.int32([4]), np.int32([1]), np.uint32([[7]]))
    >>> state.slot_of_page.tolist(), state.rows(jnp.array([3, 4])).ravel().tolist()
    ([2, 2, 2, 2, 1], [0, 7])

    ```
    """
    used = page < state.num_pages
    where = jnp.where(used, slot, jnp.int32(state.pages.shape[0]))
    pages = state.pages.at[where].set(rows, mode="drop")
    table = state.slot_of_page.at[page].set(slot, mode="drop")
    return eqx.tree_at(lambda s: (s.pages, s.slot_of_page), state, (pages, table))


@functools.partial(jax.jit, donate_argnums=0)
def leave(state: State, page: Int32[Array, " n"]) -> State:
    """Pages give up their slots; the state is used up. The id `num_pages` marks an empty row. See `enter`.

    ```python
    >>> from mmsb_jax.physical import begin_partial, leave
    >>> leave(begin_partial(2, 1, epoch=np.zeros(5, np.uint32)), np.int32([4])).slot_of_page.tolist()
    [2, 2, 2, 2, 2]

    ```
    """
    table = state.slot_of_page.at[page].set(state.pages.shape[0] - 1, mode="drop")
    return eqx.tree_at(lambda s: s.slot_of_page, state, table)


@jax.jit
def make_whole(state: State, page: Int32[Array, " n"], rows: UInt32[Array, "n words"]) -> State:
    """A whole state of its own memory: these pages with these contents, the others as they are. See `enter`.

    ```python
    >>> from mmsb_jax.physical import begin_partial, make_whole
    >>> state = begin_partial(2, 1, epoch=np.zeros(5, np.uint32))
    >>> make_whole(state, np.int32([4]), np.uint32([[7]])).view().ravel().tolist()
    [0, 0, 0, 0, 7]

    ```
    """
    there = state.pages.at[state.slot_of_page].get(mode="promise_in_bounds")
    return State(
        pages=there.at[page].set(rows, mode="drop"),
        slot_of_page=jnp.arange(state.num_pages, dtype=jnp.int32),
        epoch=jnp.copy(state.epoch),
        tick=jnp.copy(state.tick),
    )


def rearrange(state: State, slot_of_page: Int32[Array, " pages"] | Int32[np.ndarray, " pages"]) -> State:
    """The same pages in other slots: what layout optimisation does. Contents by id, epochs and digest stay.

    One gather of all rows. In a jitted function with the state donated, the old ones are given back.

    **Arguments:**

    - `slot_of_page`: where each page's row shall lie; a permutation. Outside `jit` this is checked.

    **Raises:** `InvalidArgumentError` for what isn't a permutation of the slots, or a state that isn't whole.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp
    >>> state = mmsb.State.create(3, page_bytes=4)
    >>> state = mmsb.apply(state, mmsb.DeltaBatch.make(state, [2], jnp.array([[7]], jnp.int32)))
    >>> moved = mmsb.physical.rearrange(state, np.int32([1, 2, 0]))
    >>> moved.pages.ravel().tolist(), moved.view().ravel().tolist()
    ([7, 0, 0], [0, 0, 7])

    ```
    """
    state.require_whole("rearrange")
    if not isinstance(slot_of_page, jax.core.Tracer):
        found = np.asarray(slot_of_page)
        if not np.array_equal(np.sort(found), np.arange(state.num_pages)):
            raise InvalidArgumentError(f"got slots that are no permutation of 0 to {state.num_pages - 1}")
    table = jnp.array(slot_of_page, jnp.int32)
    every = jnp.arange(state.num_pages, dtype=jnp.int32)
    page = jnp.zeros_like(table).at[table].set(every, mode="promise_in_bounds", unique_indices=True)
    source = state.slot_of_page.at[page].get(mode="promise_in_bounds", unique_indices=True)
    pages = state.pages.at[source].get(mode="promise_in_bounds", unique_indices=True)
    return eqx.tree_at(lambda s: (s.pages, s.slot_of_page), state, (pages, table))
