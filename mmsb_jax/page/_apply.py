"""`state × delta → state′`, and its inverse, `diff`.

The winner of a word is found by an integer scatter-max of row numbers (commutative, so no order of execution can
show), then fetched by one gather: deterministic on every backend.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32, UInt32

from .._errors import CapacityError, InvalidDeltaError, InvalidTypeError
from .._require import require_capacity, require_instance
from ..physical import State
from ._delta import DeltaBatch, pack_mask
from ._digest import digest_change

__all__ = ["apply", "diff", "rejected", "settle"]

# Up to this many rows the last row of each page is found by comparing all pairs, which needs no table of pages.
_PAIRWISE_ROWS = 512


def apply(state: State, deltas: DeltaBatch) -> State:
    """The state after the deltas, row after row; the last writer of a word wins. Pure and total.

    Pages that a row writes are stamped with the state's present tick, whether or not their bits differ. Empty rows,
    rows with an empty mask and rows with an id out of range change nothing.

    **Raises:** `InvalidDeltaError` when the batch is for pages of another size.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp
    >>> state = mmsb.State.create(2, page_bytes=8).advance()
    >>> deltas = mmsb.DeltaBatch.make(state, [1], jnp.array([[7, 8]], jnp.int32))
    >>> after = mmsb.apply(state, deltas)
    >>> after.view(jnp.int32).tolist(), after.epoch.tolist()
    ([[0, 0], [7, 8]], [0, 1])

    ```
    """
    _check_fits(state, deltas)
    state.require_whole("apply")
    if len(deltas) == 0:
        return state
    if len(deltas) >= state.num_pages:
        return _apply_to_all(state, deltas)
    winners = _resolve(state, deltas, state.rows(deltas.page))
    return eqx.tree_at(
        lambda s: (s.pages, s.epoch),
        state,
        (
            state.pages.at[winners.slot].set(winners.new, mode="drop"),
            state.epoch.at[_written_pages(state, deltas)].set(state.tick, mode="drop"),
        ),
    )


def settle(state: State, deltas: DeltaBatch) -> tuple[State, DeltaBatch, UInt32[Array, "2"]]:
    """`apply`, keeping of the deltas only what really changed something: what a log should hold.

    **Returns:** the state after the deltas, where only pages whose bits differ are stamped; and a batch of the same
    size in which every word that changed is set in exactly one row, the one that won it, and rows that changed
    nothing are empty (applying it to `state` gives the same contents); and by how much the digest moved.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp
    >>> state = mmsb.State.create(3, page_bytes=8)
    >>> deltas = mmsb.DeltaBatch.make(state, [1, 2], jnp.array([[0, 0], [0, 9]], jnp.int32))
    >>> mmsb.page.settle(state, deltas)[1].page.tolist()
    [3, 2]

    ```
    """
    _check_fits(state, deltas)
    if len(deltas) == 0:
        return state, deltas, jnp.zeros(2, jnp.uint32)
    rows = jnp.arange(len(deltas), dtype=jnp.int32)
    old = state.rows(deltas.page)
    winners = _resolve(state, deltas, old)
    # What is written has to depend on what was read, or XLA copies all pages to be on the safe side.
    new = jnp.where(winners.row >= 0, winners.new, old)
    won = winners.row.at[winners.last].get(mode="promise_in_bounds") == rows[:, None]
    changed = won & (deltas.words != old) & _valid(state, deltas.page)[:, None]
    page = jnp.where(changed.any(axis=1), deltas.page, jnp.int32(state.num_pages))
    after = eqx.tree_at(
        lambda s: (s.pages, s.epoch),
        state,
        (
            state.pages.at[winners.slot].set(new, mode="drop"),
            state.epoch.at[page].set(state.tick, mode="drop"),
        ),
    )
    settled = DeltaBatch(page, deltas.words, pack_mask(changed), deltas.source, deltas.dropped)
    return after, settled, digest_change(deltas.page, old, jnp.where(changed, deltas.words, old))


def rejected(state: State, deltas: DeltaBatch) -> Int32[Array, ""]:
    """How many rows name a page that can't exist: neither an id of this state nor the sentinel.

    ```python
    >>> import mmsb_jax as mmsb
    >>> state = mmsb.State.create(3)
    >>> int(mmsb.page.rejected(state, mmsb.DeltaBatch.empty(state, rows=2)))
    0

    ```
    """
    return jnp.sum((deltas.page < 0) | (deltas.page > state.num_pages), dtype=jnp.int32)


def diff(old: State, new: State, capacity: int) -> DeltaBatch:
    """The deltas that lead from the contents of `old` to those of `new`, bit for bit: `apply` is the way back.

    Words are compared as bits, so NaN payloads and -0.0 survive.

    **Arguments:**

    - `old`, `new`: states with the same pages (their layouts may differ).
    - `capacity`: how many changed pages there is room for (static).

    **Returns:** a batch of `capacity` rows, pages ascending, the empty rows last. Its `dropped` says how many changed
    pages did not fit.

    **Raises:** `InvalidDeltaError` when the states differ in shape, `InvalidArgumentError` for a negative capacity,
    and `CapacityError` when something did not fit. Inside jit that can't be raised: look at `dropped` outside.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp
    >>> old = mmsb.State.create(8, page_bytes=4)
    >>> new = mmsb.apply(old, mmsb.DeltaBatch.make(old, [5], jnp.array([[1.5]])))
    >>> mmsb.diff(old, new, capacity=2).page.tolist()
    [5, 8]

    ```
    """
    for state in (old, new):
        require_instance(state, State, "diff compares two states")
    require_capacity(capacity)
    if (old.num_pages, old.page_words) != (new.num_pages, new.page_words):
        raise InvalidDeltaError(
            f"got states of {old.num_pages} pages of {old.page_words} words and {new.num_pages} pages of "
            f"{new.page_words} words; a diff needs two states of one shape"
        )
    before, after = old.view(), new.view()
    changed = (before != after).any(axis=1)
    (page,) = jnp.nonzero(changed, size=capacity, fill_value=old.num_pages)
    page = page.astype(jnp.int32)
    here = jnp.minimum(page, old.num_pages - 1)
    words = after.at[here].get(mode="promise_in_bounds")
    mask = (before.at[here].get(mode="promise_in_bounds") != words) & (page < old.num_pages)[:, None]
    dropped = jnp.maximum(jnp.sum(changed, dtype=jnp.int32) - capacity, 0)
    _raise_if_dropped(dropped, capacity)
    return DeltaBatch(page, words, pack_mask(mask), jnp.zeros(capacity, jnp.int32), dropped)


class _Winners(NamedTuple):
    """For every row of a batch: what becomes of its page. Only the last row of a page speaks for it."""

    last: Int32[Array, " n"]
    """The last row with the same page."""
    row: Int32[Array, "n words"]
    """In the last row of a page: which row wins each word, or -1."""
    new: UInt32[Array, "n words"]
    """In the last row of a page: its new contents."""
    slot: Int32[Array, " n"]
    """In the last row of a page: its slot; elsewhere the sentinel `slots`."""


def _resolve(state: State, deltas: DeltaBatch, old: UInt32[Array, "n words"]) -> _Winners:
    rows = jnp.arange(len(deltas), dtype=jnp.int32)
    valid = _valid(state, deltas.page)
    page = jnp.where(valid, deltas.page, jnp.int32(state.num_pages))
    last = _last_rows(page, state.num_pages)
    if deltas.mask is None:
        winner = jnp.broadcast_to(last[:, None], deltas.words.shape)
        new = deltas.words
    else:
        words = jnp.arange(state.page_words, dtype=jnp.int32)
        claim = jnp.where(deltas.dense_mask(), rows[:, None], jnp.int32(-1))
        winner = jnp.full(deltas.words.shape, -1, jnp.int32).at[last[:, None], words[None, :]].max(claim)
        payload = jnp.take_along_axis(deltas.words, jnp.maximum(winner, 0), axis=0, mode="promise_in_bounds")
        new = jnp.where(winner >= 0, payload, old)
    slot = state.slot_of_page.at[jnp.where(valid, page, 0)].get(mode="promise_in_bounds")
    speaks = valid & (last == rows)
    return _Winners(last, winner, new, jnp.where(speaks, slot, jnp.int32(state.pages.shape[0])))


def _last_rows(page: Int32[Array, " n"], pages: int) -> Int32[Array, " n"]:
    """For every row, the number of the last row with the same page."""
    rows = jnp.arange(page.shape[0], dtype=jnp.int32)
    if page.shape[0] <= _PAIRWISE_ROWS:
        return jnp.max(jnp.where(page[:, None] == page[None, :], rows[None, :], jnp.int32(-1)), axis=1)
    return jnp.full(pages + 1, -1, jnp.int32).at[page].max(rows).at[page].get(mode="promise_in_bounds")


def _apply_to_all(state: State, deltas: DeltaBatch) -> State:
    """At least as many rows as pages: look at every page once, instead of at every row."""
    rows = jnp.arange(len(deltas), dtype=jnp.int32)
    valid = _valid(state, deltas.page)
    slot = state.slot_of_page.at[jnp.where(valid, deltas.page, 0)].get(mode="promise_in_bounds")
    slot = jnp.where(valid, slot, jnp.int32(state.num_pages))
    if deltas.mask is None:
        winner = jnp.full(state.num_pages, -1, jnp.int32).at[slot].max(rows, mode="drop")
        payload = deltas.words.at[jnp.maximum(winner, 0)].get(mode="promise_in_bounds")
        written = winner >= 0
        pages = jnp.where(written[:, None], payload, state.pages)
    else:
        words = jnp.arange(state.page_words, dtype=jnp.int32)
        claim = jnp.where(deltas.dense_mask(), rows[:, None], jnp.int32(-1))
        winner = jnp.full(state.pages.shape, -1, jnp.int32).at[slot[:, None], words[None, :]].max(claim, mode="drop")
        payload = jnp.take_along_axis(deltas.words, jnp.maximum(winner, 0), axis=0, mode="promise_in_bounds")
        pages = jnp.where(winner >= 0, payload, state.pages)
        written = (winner >= 0).any(axis=1)
    stamped = written.at[state.slot_of_page].get(mode="promise_in_bounds")
    epoch = jnp.where(stamped, state.tick, state.epoch)
    return eqx.tree_at(lambda s: (s.pages, s.epoch), state, (pages, epoch))


def _valid(state: State, page: Int32[Array, " n"]) -> Bool[Array, " n"]:
    return (page >= 0) & (page < state.num_pages)


def _written_pages(state: State, deltas: DeltaBatch) -> Int32[Array, " n"]:
    """The pages to stamp; the sentinel in rows that write nothing."""
    writes = _valid(state, deltas.page)
    if deltas.mask is not None:
        writes &= deltas.dense_mask().any(axis=1)  # not the packed bits: those beyond the last word mean nothing
    return jnp.where(writes, deltas.page, jnp.int32(state.num_pages))


def _check_fits(state: Any, deltas: Any) -> None:
    if not isinstance(state, State) or not isinstance(deltas, DeltaBatch):
        raise InvalidTypeError(
            f"got a {type(state).__name__} and a {type(deltas).__name__}; pass a State and a DeltaBatch "
            "(`DeltaBatch.make(state, page, words)` makes one)"
        )
    if deltas.page_words != state.page_words:
        raise InvalidDeltaError(
            f"got deltas for pages of {deltas.page_words} words, but this state's pages have {state.page_words}; "
            "make the batch with `DeltaBatch.make(state, …)` for the state that it is applied to"
        )


def _raise_if_dropped(dropped: Int32[Array, ""], capacity: int) -> None:
    if not isinstance(dropped, jax.core.Tracer) and np.asarray(dropped) > 0:
        needed = capacity + int(dropped)
        raise CapacityError(f"{needed} pages differ, but capacity={capacity}; pass capacity={needed} or more")
