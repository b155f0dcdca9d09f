"""Deltas: rows of new words for some pages, as a monoid under `merge`."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Int32, UInt32

from .._errors import InvalidArgumentError, InvalidDeltaError, InvalidTypeError
from .._require import require_instance
from ..physical import State, as_words

__all__ = ["DeltaBatch", "merge", "pack_mask", "unpack_mask"]


def pack_mask(mask: Bool[Array, "*n words"]) -> UInt32[Array, "*n packed"]:
    """A mask of words as bits: bit `i` of element `j` stands for word `32 * j + i`.

    ```python
    >>> import jax.numpy as jnp
    >>> pack_mask(jnp.array([[True, False, True]]))
    Array([[5]], dtype=uint32)

    ```
    """
    words = mask.shape[-1]
    packed = -(-words // 32)
    padded = jnp.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, 32 * packed - words)])
    bits = padded.reshape(*mask.shape[:-1], packed, 32).astype(jnp.uint32)
    return jnp.sum(bits << _bit_numbers(bits.ndim), axis=-1, dtype=jnp.uint32)


def unpack_mask(packed: UInt32[Array, "*n packed"], words: int) -> Bool[Array, "*n words"]:
    """The inverse of `pack_mask`.

    ```python
    >>> import jax.numpy as jnp
    >>> unpack_mask(jnp.array([[5]], jnp.uint32), 3).tolist()
    [[True, False, True]]

    ```
    """
    bits = (packed[..., None] >> _bit_numbers(packed.ndim + 1)) & jnp.uint32(1)
    return bits.reshape(*packed.shape[:-1], 32 * packed.shape[-1])[..., :words] != 0


def _bit_numbers(ndim: int) -> UInt32[Array, "..."]:
    return jnp.arange(32, dtype=jnp.uint32).reshape((1,) * (ndim - 1) + (32,))


class DeltaBatch(eqx.Module):
    """Changes to some pages, row by row. The rows apply in their order; the last writer of a word wins.

    A row whose page is the sentinel `num_pages` is empty: batches of one static size hold any number of changes.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp
    >>> state = mmsb.State.create(4, page_bytes=8)
    >>> deltas = mmsb.DeltaBatch.make(state, page=[2, 2], words=jnp.array([[1., 2.], [3., 4.]]),
    ...                               mask=[[True, True], [False, True]])
    >>> mmsb.apply(state, deltas).view(jnp.float32)[2]
    Array([1., 4.], dtype=float32)

    ```
    """

    page: Int32[Array, " n"]
    """Page id, or the sentinel `num_pages` for an empty row."""
    words: UInt32[Array, "n words"]
    """New contents, where the mask is set."""
    mask: UInt32[Array, "n packed"] | None
    """Which words change, bit-packed (see `pack_mask`); None: all of them, in every row."""
    source: Int32[Array, " n"]
    """Who says so: index into the log's table of names."""
    dropped: Int32[Array, ""]
    """How many rows did not fit when a capacity was declared. Anything but 0: the batch is incomplete."""

    @classmethod
    def make(
        cls,
        state: State,
        page: ArrayLike | Any,
        words: ArrayLike | Any,
        *,
        mask: ArrayLike | Any | None = None,
        source: ArrayLike | Any = 0,
    ) -> "DeltaBatch":
        """A batch that fits `state`.

        **Arguments:**

        - `page`: int[n], ids in `[0, num_pages]`; `num_pages` marks an empty row.
        - `words`: uint32, int32 or float32 `[n, page_words]`; one row may be given as `[page_words]`.
        - `mask`: bool `[n, page_words]`, or None for whole pages.
        - `source`: int, or int[n].

        **Raises:** `InvalidDeltaError` for a shape or an id that doesn't fit, `InvalidTypeError` for a dtype.
        Inside jit an id can't be looked at: there, a row with an id out of range changes nothing, and `tick`
        counts it as rejected.
        """
        require_instance(state, State, "the first argument of DeltaBatch.make says what the batch has to fit")
        ids = _page_ids(state, page)
        rows = as_words(words)
        rows = rows[None] if rows.ndim == 1 else rows
        wanted = (len(ids), state.page_words)
        if rows.shape != wanted:
            raise InvalidDeltaError(
                f"got words of shape {rows.shape} for {len(ids)} pages of {state.page_words} words; "
                f"pass an array of shape {wanted}, one row a page"
            )
        return cls(
            page=ids,
            words=rows,
            mask=None if mask is None else pack_mask(_checked_mask(mask, wanted)),
            source=_sources(source, len(ids)),
            dropped=jnp.zeros((), jnp.int32),
        )

    @classmethod
    def empty(cls, state: State, rows: int = 0) -> "DeltaBatch":
        """A batch that changes nothing: the identity of `merge` (with `rows` empty rows)."""
        if rows < 0:
            raise InvalidArgumentError(f"got rows={rows}; a batch has 0 rows or more")
        return cls(
            page=jnp.full(rows, state.num_pages, jnp.int32),
            words=jnp.zeros((rows, state.page_words), jnp.uint32),
            mask=None,
            source=jnp.zeros(rows, jnp.int32),
            dropped=jnp.zeros((), jnp.int32),
        )

    def __len__(self) -> int:
        return self.page.shape[-1]

    @property
    def page_words(self) -> int:
        """Words in a page (static)."""
        return self.words.shape[-1]

    def dense_mask(self) -> Bool[Array, "n words"]:
        """The mask, one bool a word."""
        if self.mask is None:
            return jnp.ones(self.words.shape, jnp.bool_)
        return unpack_mask(self.mask, self.page_words)


def merge(a: DeltaBatch, b: DeltaBatch) -> DeltaBatch:
    """First `a`, then `b`: `apply(apply(s, a), b) == apply(s, merge(a, b))`. Associative; `empty` is the identity.

    **Raises:** `InvalidDeltaError` when the two are for pages of different sizes.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp
    >>> state = mmsb.State.create(2, page_bytes=4)
    >>> a = mmsb.DeltaBatch.make(state, [0], jnp.array([[1]]))
    >>> b = mmsb.DeltaBatch.make(state, [0], jnp.array([[2]]))
    >>> mmsb.apply(state, mmsb.merge(a, b)).view(jnp.int32)[0, 0]
    Array(2, dtype=int32)

    ```
    """
    for deltas in (a, b):
        require_instance(deltas, DeltaBatch, "DeltaBatch.make and DeltaBatch.empty make them")
    if a.page_words != b.page_words:
        raise InvalidDeltaError(
            f"got batches for pages of {a.page_words} and {b.page_words} words; only deltas of one state can be merged"
        )
    if len(a) == 0 or len(b) == 0:
        whole = b if len(a) == 0 else a
        return eqx.tree_at(lambda d: d.dropped, whole, a.dropped + b.dropped)
    mask = None
    if a.mask is not None or b.mask is not None:
        mask = jnp.concatenate([_packed(a), _packed(b)])
    return DeltaBatch(
        page=jnp.concatenate([a.page, b.page]),
        words=jnp.concatenate([a.words, b.words]),
        mask=mask,
        source=jnp.concatenate([a.source, b.source]),
        dropped=a.dropped + b.dropped,
    )


def _packed(deltas: DeltaBatch) -> UInt32[Array, "n packed"]:
    return pack_mask(deltas.dense_mask()) if deltas.mask is None else deltas.mask


def _is_concrete(array: object) -> bool:
    return not isinstance(array, jax.core.Tracer)


def _integers(values: Any, what: str) -> Int32[Array, "..."]:
    array = values if isinstance(values, jax.Array) else _as_array(values, what)
    if array.size and not jnp.issubdtype(array.dtype, jnp.integer):
        raise InvalidTypeError(f"got {what} of dtype {array.dtype}; pass integers")
    if isinstance(array, np.ndarray) and array.size and (array.max() >= 2**31 or array.min() < -(2**31)):
        raise InvalidDeltaError(f"got {what} between {array.min()} and {array.max()}; they are 32-bit integers")
    return jnp.asarray(array, jnp.int32)


def _as_array(values: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as why:
        raise InvalidTypeError(f"got {what} that are no regular array ({why})") from why


def _page_ids(state: State, page: Any) -> Int32[Array, " n"]:
    ids = jnp.atleast_1d(_integers(page, "page ids"))
    if ids.ndim != 1:
        raise InvalidDeltaError(f"got page ids of shape {ids.shape}; pass one id a row, shape (n,)")
    if _is_concrete(ids) and ids.size:
        host = np.asarray(ids)
        wrong = host[(host < 0) | (host > state.num_pages)]
        if wrong.size:
            raise InvalidDeltaError(
                f"got page id {wrong[0]}, but this state has pages 0 to {state.num_pages - 1} "
                f"({state.num_pages} marks an empty row)"
            )
    return ids


def _checked_mask(mask: Any, wanted: tuple[int, int]) -> Bool[Array, "n words"]:
    array = mask if isinstance(mask, jax.Array) else _as_array(mask, "mask bits")
    if array.dtype != jnp.bool_:
        raise InvalidTypeError(f"got a mask of dtype {array.dtype}; pass bool, True for each word that changes")
    array = jnp.asarray(array)
    array = array[None] if array.ndim == 1 else array
    if array.shape != wanted:
        raise InvalidDeltaError(f"got a mask of shape {array.shape}; pass one bool for each word, shape {wanted}")
    return array


def _sources(source: Any, rows: int) -> Int32[Array, " n"]:
    array = _integers(source, "sources")
    if array.shape not in ((), (rows,)):
        raise InvalidDeltaError(f"got sources of shape {array.shape}; pass one integer, or one for each of {rows} rows")
    return jnp.broadcast_to(array, (rows,))
