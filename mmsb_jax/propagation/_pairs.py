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
    found: Array = fold_up(matrix, _pieces(matrix, x, pair), jnp.add, jnp.zeros(1, jnp.float32))
    return found


def pair_total(matrix: SparseMatrix, x: Float32[Array, " n"], pair: Callable[[Array, Array], Array]) -> Array:
    """`Σ_ij A[i, j] · pair(x[i], x[j])`. To be differentiated by all but x: rows aren't put together first."""
    return sum((jnp.sum(piece) for piece in _pieces(matrix, x, pair)), jnp.zeros((), jnp.float32))


def _pieces(matrix: SparseMatrix, x: Array, pair: Callable[[Array, Array], Array]) -> list[Array]:
    gathered = spread(x, [block.columns for block in matrix.first], None)

    def terms(b: int, block: Block) -> Callable[[int], Array]:
        weights, own = weights_of(block), take_rows(x, matrix.row_of_piece[b])

        def term(k: int) -> Array:
            value = pair(own, gathered[b][k])
            return value if weights[k] is None else weights[k] * value

        return term

    return fold_first(matrix, terms, jnp.add)
