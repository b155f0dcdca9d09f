"""Sums over the entries of a matrix, of any function of both ends."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float32

from ..kernels import take_rows
from ._links import Block, spread
from ._sparse import SparseMatrix
from ._terms import fold_first, fold_up, weights_of


def pair_sum(
    matrix: SparseMatrix, x: Float32[Array, " n"], pair: Callable[[Array, Array], Array]
) -> Float32[Array, " n"]:
    """`y[i] = Σ_j A[i, j] · pair(x[i], x[j])`, for a square matrix of float32; in a fixed order, as any product.

    What a semiring can't say: its ⊗ sees the entry and x[j] alone.
    """
    gathered = spread(x, [block.columns for block in matrix.first], None)

    def terms(b: int, block: Block) -> Callable[[int], Array]:
        weights, own = weights_of(block), take_rows(x, matrix.row_of_piece[b])

        def term(k: int) -> Array:
            value = pair(own, gathered[b][k])
            return value if weights[k] is None else weights[k] * value

        return term

    found: Array = fold_up(matrix, fold_first(matrix, terms, jnp.add), jnp.add, jnp.zeros(1, jnp.float32))
    return found
