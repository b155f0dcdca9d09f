"""`matmul`: y[i] = ⊕_j A[i, j] ⊗ X[j], in any semiring."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Shaped

from .._errors import InvalidArgumentError, InvalidTypeError
from ..kernels import gather_fold, take_rows
from ..semiring import Semiring
from ._sparse import SparseMatrix


def matmul(matrix: SparseMatrix | Any, x: ArrayLike | Any, semiring: Semiring | Any) -> Shaped[Array, "rows *features"]:
    """The product of a sparse matrix with a vector or a dense matrix: `y[i] = ⊕_j A[i, j] ⊗ X[j]`.

    **Arguments:** `x`, [columns] or [columns, features], of the matrix's dtype (any that the semiring supports, if the
    matrix is a pattern). **Returns** [rows] or [rows, features] of that dtype; `zero` for a row with no entry.

    Works under `jit`, `vmap`, `scan` and `grad`. The terms of a row are folded in a fixed order, each rounded first, so
    that the bits are the same on every run, in a vector or as one of many columns, eager or compiled. (Reverse mode
    goes back through the gathers, by scatter-add: the order of its sums isn't promised; keep it off what is committed.)

    Raises `InvalidArgumentError` for shapes that don't fit, `InvalidTypeError` for dtypes.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> roads = mmsb.SparseMatrix.from_coo([0, 0, 1], [1, 2, 2], np.float32([5, 9, 3]), (3, 3))
    >>> mmsb.matmul(roads, np.float32([np.inf, 3, 0]), mmsb.semiring.min_plus)
    Array([ 8.,  3., inf], dtype=float32)
    """
    array = checked_operand(matrix, x, semiring)
    return _matmul(matrix, array, semiring)


def checked_operand(matrix: SparseMatrix | Any, x: ArrayLike | Any, semiring: Semiring | Any) -> Array:
    """`x` as an array that `matrix` can be multiplied with, or the error that says why not."""
    if not isinstance(matrix, SparseMatrix) or not isinstance(semiring, Semiring):
        raise InvalidTypeError(
            f"needed: a SparseMatrix, an array and a Semiring; got {type(matrix).__name__}, {type(x).__name__} and "
            f"{type(semiring).__name__}. E.g. matmul(SparseMatrix.from_coo(…), x, mmsb.semiring.min_plus)"
        )
    array = jnp.asarray(x)
    if array.ndim not in (1, 2) or array.shape[0] != matrix.shape[1]:
        raise InvalidArgumentError(
            f"x has shape {array.shape}; a matrix of shape {matrix.shape} takes [{matrix.shape[1]}] or "
            f"[{matrix.shape[1]}, features]. For more dimensions reshape, or use jax.vmap"
        )
    semiring.require(array.dtype)
    if matrix.dtype is not None and matrix.dtype != array.dtype:
        raise InvalidTypeError(
            f"the matrix holds {matrix.dtype.name} and x {array.dtype.name}; they must be the same, e.g. "
            f"x.astype(jnp.{matrix.dtype.name})"
        )
    return array


@jax.jit
def _matmul(matrix: SparseMatrix, x: Array, semiring: Semiring) -> Array:
    if not matrix.levels:
        return jnp.full((matrix.shape[0], *x.shape[1:]), jnp.asarray(semiring.zero(x.dtype)))
    pieces, source = [], x
    for blocks in matrix.levels:
        source = _end_to_end(
            [
                gather_fold(
                    block.columns,
                    block.values,
                    block.lengths,
                    block.shortest,
                    source,
                    semiring.add,
                    semiring.multiply,
                )
                for block in blocks
            ]
        )
        pieces.append(source)
    if matrix.home is None:
        return pieces[0]
    nothing = jnp.full((1, *x.shape[1:]), jnp.asarray(semiring.zero(x.dtype)))
    return take_rows(_end_to_end([*pieces, nothing]), matrix.home)


def _end_to_end(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)
