"""The inner loop of every sparse product: gather, combine, fold. Plain XLA, complete on every device: the reference.

One block holds rows of one width:

    out[r] = t[r, 0] ⊕ t[r, 1] ⊕ … ⊕ t[r, length[r] - 1],      e.g. t[r, k] = values[r, k] ⊗ source[columns[r, k]]

by halving: with h the largest power of two below the number of terms, t[k] becomes t[k] ⊕ t[k + h], until one is left.

    a b c d e f      h = 4:  a⊕e  b⊕f  c  d      h = 2:  (a⊕e)⊕c  (b⊕f)⊕d      h = 1:  ((a⊕e)⊕c) ⊕ ((b⊕f)⊕d)

This order depends on the length of the row alone: not on the width, the number of features or the device. It is as
fast as the compiler's own reduction, whose order nobody promises, and 1.1 to 1.5 times as fast as from left to right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int32, Shaped

BinaryOp: TypeAlias = Callable[[Any, Any], Any]


def take_rows(source: Shaped[Array, "n *features"], index: Int32[Array, "*shape"]) -> Shaped[Array, "..."]:
    """`source[index]` for indices that the host has checked, without the code that would check or wrap them.

    >>> take_rows(jnp.float32([5, 6, 7]), jnp.int32([2, 0]))
    Array([7., 5.], dtype=float32)
    """
    return source.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def rounded(product: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
    """`product`, as a number of its own: not to be contracted with the addition that takes it.

    Without this, the compiler may fuse ⊗ and ⊕ into one multiply-add that rounds once, for some shapes and not for
    others, and a vector would get other bits than the same vector as one of many columns. A product that is used twice
    isn't contracted, so here it is also asked whether it is NaN, which costs 5 % of a fold. (What doesn't help:
    `reduce_precision`, on jax 0.10.2 `optimization_barrier`, and a selection by anything that is the same for all rows,
    which is moved out of the loop. An xor with a hidden zero does, and takes twice the time.)

    >>> rounded(jnp.float32(0.1) * jnp.float32(3))
    Array(0.3, dtype=float32)
    """
    if not jnp.issubdtype(product.dtype, jnp.floating):
        return product
    return jnp.where(product == product, product, jnp.full((), jnp.nan, product.dtype))


def fold_terms(
    term: Callable[[int], Any], width: int, lengths: Int32[Array, "rows"] | None, shortest: int, add: BinaryOp
) -> Any:
    """`term(0) ⊕ … ⊕ term(lengths[r] - 1)` for every row r, in the order above.

    **Arguments:** `term(k)`, arrays [rows, …] or trees of them, read once for every k below `width`; `lengths`, how
    many terms of a row count, or None if all do; `shortest`, the least of them, at least 1.

    A term that doesn't count is computed and then not taken, never added as a zero: 0 × ∞ and ∞ − ∞ would be NaN.

    >>> fold_terms(lambda k: jnp.float32([k, 10]), 3, None, 3, jnp.add)
    Array([ 3., 30.], dtype=float32)
    """
    terms = [term(k) for k in range(width)]
    while len(terms) > 1:
        half = 1 << ((len(terms) - 1).bit_length() - 1)
        for k in range(half, len(terms)):
            both = add(terms[k - half], terms[k])
            if lengths is not None and k >= shortest:
                both = _choose(lengths > k, both, terms[k - half])
            terms[k - half] = both
        del terms[half:]
    return terms[0]


def _choose(counts: Array, one: Any, other: Any) -> Any:
    def choose(a: Array, b: Array) -> Array:
        return jnp.where(counts.reshape(counts.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, one, other)


def gather_fold(
    columns: Int32[Array, "rows width"],
    lengths: Int32[Array, "rows"] | None,
    shortest: int,
    source: Shaped[Array, "n *features"],
    add: BinaryOp,
) -> Shaped[Array, "rows *features"]:
    """Fold the rows of `source` that a block names.

    **Arguments:** `columns` int32[rows, width], valid rows of `source` in every slot, padded ones too; `lengths` and
    `shortest` as for `fold_terms`; `source` [n, …]. **Returns** [rows, …].

    >>> columns, source = jnp.int32([[0, 1], [1, 0]]), jnp.float32([5, 6])
    >>> gather_fold(columns, jnp.int32([2, 1]), 1, source, jnp.add)
    Array([11.,  6.], dtype=float32)
    """
    # One gather per slot fuses with the fold. One of [rows, width] needs memory of that size, fresh on every eager
    # call, and with features it wouldn't stay in cache.
    return fold_terms(lambda k: take_rows(source, columns[:, k]), columns.shape[1], lengths, shortest, add)
