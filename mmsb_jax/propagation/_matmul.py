"""`matmul`: y[i] = ⊕_j A[i, j] ⊗ X[j], in any semiring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int32, Shaped

from .._errors import InvalidArgumentError, InvalidTypeError
from ..semiring import Semiring
from ._links import Block, Links, select, spread
from ._matrices import sparse_product
from ._sparse import SparseMatrix
from ._terms import fold_up, term_of


class Selected(eqx.Module):
    """What an argument-carrying product returns: the value, and the column whose term it is.

    >>> import jax.numpy as jnp
    >>> Selected(jnp.float32([8]), jnp.int32([1])).index
    Array([1], dtype=int32)
    """

    value: Shaped[Array, "rows *features"]
    index: Int32[Array, "rows *features"]
    """The lowest column of those with this value; −1 for a row with no entry."""


def matmul(
    matrix: SparseMatrix | Any, x: ArrayLike | Any, semiring: Semiring | Any, *, mask: ArrayLike | Any | None = None
) -> Any:
    """The product of a sparse matrix with a vector or a dense matrix: `y[i] = ⊕_j A[i, j] ⊗ X[j]`.

    **Arguments**

    - `x`: [columns] or [columns, features], of the matrix's dtype (any that the semiring supports, if the matrix is a
      pattern); a tree of such arrays where the semiring's values are trees. Or another `SparseMatrix`: the product is
      then one too, laid out on the host (see `sparse_product`).
    - `mask`: bool[rows], which rows are wanted; the others are `zero`.

    **Returns** [rows] or [rows, features] of that dtype; `zero` for a row with no entry. With a semiring that carries
    the argument (`arg_min_plus`): `Selected(value, index)`.

    Works under `jit`, `vmap`, `scan` and `grad`. The terms of a row are folded in a fixed order, each rounded first, so
    that the bits are the same on every run, in a vector or as one of many columns, eager or compiled.

    **Derivatives**, forward and reverse, with respect to x and to the values: where ⊕ selects (min, max), they are
    those of the term that wins, of several equal ones that in the lowest column (where a row has parallel entries, they
    share). Everywhere else they are those of ⊕ and ⊗. Reverse mode sums by the transposed matrix, in a fixed order; it
    lays that out when it is first needed, or takes it along (`SparseMatrix.with_transpose`).

    Raises `InvalidArgumentError` for shapes that don't fit, `InvalidTypeError` for dtypes.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> roads = mmsb.SparseMatrix.from_coo([0, 0, 1], [1, 2, 2], np.float32([5, 9, 3]), (3, 3))
    >>> mmsb.matmul(roads, np.float32([np.inf, 3, 0]), mmsb.semiring.min_plus)
    Array([ 8.,  3., inf], dtype=float32)
    """
    if isinstance(x, SparseMatrix):
        if mask is not None:
            raise InvalidArgumentError("a product of two sparse matrices takes no mask; restrict(product, mask) does")
        return sparse_product(matrix, x, semiring)
    values = checked_operand(matrix, x, semiring)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((values, matrix.block_values))):
        matrix = matrix.linked()
    y: Any = _selected(matrix, values, semiring) if semiring.argument else _matmul(matrix, values, semiring)
    if mask is None:
        return y
    wanted = jnp.asarray(mask)
    if wanted.shape != matrix.shape[:1] or wanted.dtype != jnp.bool_:
        raise InvalidArgumentError(
            f"mask is {wanted.dtype.name}{list(wanted.shape)}; it must be bool[{matrix.shape[0]}], one for each row"
        )
    if isinstance(y, Selected):
        return Selected(_masked(wanted, y.value, semiring.zero(y.value.dtype)), _masked(wanted, y.index, -1))
    zero = semiring.zero(None if semiring.element is not None else y.dtype)
    return jax.tree.map(lambda leaf, nothing: _masked(wanted, leaf, nothing), y, zero)


def _masked(mask: Bool[Array, " rows"], y: Array, zero: Any) -> Array:
    return jnp.where(mask.reshape(mask.shape + (1,) * (y.ndim - 1)), y, jnp.asarray(zero, y.dtype))


def checked_operand(matrix: SparseMatrix | Any, x: ArrayLike | Any, semiring: Semiring | Any) -> Any:
    """`x` as arrays that `matrix` can be multiplied with, or the error that says why not."""
    if not isinstance(matrix, SparseMatrix) or isinstance(x, SparseMatrix) or not isinstance(semiring, Semiring):
        raise InvalidTypeError(
            f"needed: a SparseMatrix, an array and a Semiring; got {type(matrix).__name__}, {type(x).__name__} and "
            f"{type(semiring).__name__}. E.g. matmul(SparseMatrix.from_coo(…), x, mmsb.semiring.min_plus)"
        )
    arrays = jnp.asarray(x) if semiring.element is None else jax.tree.map(jnp.asarray, x)
    for array in jax.tree.leaves(arrays):
        if array.ndim not in (1, 2) or array.shape[0] != matrix.shape[1]:
            raise InvalidArgumentError(
                f"x has shape {array.shape}; a matrix of shape {matrix.shape} takes [{matrix.shape[1]}] or "
                f"[{matrix.shape[1]}, features]. For more dimensions reshape, or use jax.vmap"
            )
    semiring.require_values(arrays)
    held = matrix.block_values[0] if matrix.block_values else None
    if held is None:
        return arrays
    if semiring.element is not None:
        semiring.require_values(held)
    elif not hasattr(held, "dtype") or held.dtype != arrays.dtype:
        what = held.dtype.name if hasattr(held, "dtype") else "trees"
        raise InvalidTypeError(
            f"the matrix holds {what} and x {arrays.dtype.name}; they must be the same: cast x, or the values of the "
            "matrix, matrix.with_values(matrix.values.astype(x.dtype))"
        )
    return arrays


@jax.jit
def _matmul(matrix: SparseMatrix, x: Any, semiring: Semiring) -> Any:
    links = matrix.links
    floating = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(x))
    if floating and semiring.add.selective and semiring.element is None and links is not None and links.simple:
        bare = matrix.with_block_values((None,) * len(matrix.first))
        return _winning(matrix.block_values, x, (bare, semiring))
    return _product(matrix, x, semiring)


@jax.jit
def _selected(matrix: SparseMatrix, x: Array, semiring: Semiring) -> Selected:
    value, index, _ = _with_argument(matrix, x, semiring)
    return Selected(value, index)


def _product(matrix: SparseMatrix, x: Any, semiring: Semiring) -> Any:
    leaves, structure = jax.tree.flatten(x)
    columns = [block.columns for block in matrix.first]
    back = None if matrix.links is None else matrix.links.columns.slots
    gathered = [spread(leaf, columns, back) for leaf in leaves]

    def terms(b: int, block: Block) -> Callable[[int], Any]:
        return lambda k: term_of(block, k, jax.tree.unflatten(structure, [leaf[b][k] for leaf in gathered]), semiring)

    zero = semiring.full((1, *leaves[0].shape[1:]), "zero", None if semiring.element is not None else x.dtype)
    return fold_up(matrix, terms, semiring.add, zero)


# The term that wins, and derivatives that go to it.


def _with_argument(matrix: SparseMatrix, x: Array, semiring: Semiring) -> tuple[Array, Array, Any]:
    """Value, column and weight of each row's winning term; the weight is None for a pattern."""
    gathered = spread(x, [block.columns for block in matrix.first], None)

    def terms(b: int, block: Block) -> Callable[[int], Any]:
        def term(k: int) -> Any:
            shape = gathered[b][k].shape
            spare = (-1, *[1] * (len(shape) - 1))
            column = jnp.broadcast_to(block.columns[:, k].reshape(spare), shape)
            weight = None if block.values is None else jnp.broadcast_to(block.values[:, k].reshape(spare), shape)
            return term_of(block, k, gathered[b][k], semiring), column, weight

        return term

    def better(a: Any, b: Any) -> Any:
        value = semiring.add(a[0], b[0])
        ours = (value == a[0]) & ((value != b[0]) | (a[1] <= b[1]))
        return value, *jax.tree.map(lambda one, other: jnp.where(ours, one, other), a[1:], b[1:])

    shape = (1, *x.shape[1:])
    zero = semiring.full(shape, "zero", x.dtype)
    weight = None if not matrix.levels or matrix.first[0].values is None else jnp.zeros(shape, x.dtype)
    value, column, weight = fold_up(matrix, terms, better, (zero, jnp.full(shape, -1, jnp.int32), weight))
    return value, column, weight


@jax.custom_jvp
def _winning(values: Any, x: Array, how: tuple[SparseMatrix, Semiring]) -> Array:
    matrix, semiring = how
    found: Array = _product(matrix.with_block_values(values), x, semiring)
    return found


@_winning.defjvp
def _winning_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    values, x, (matrix, semiring) = primals
    moving_values, moving_x, _ = tangents
    value, column, weight = _with_argument(matrix.with_block_values(values), x, semiring)
    links = matrix.links
    assert links is not None
    own = select(x, column, links.columns)
    moved = select(moving_x, column, links.columns)
    if weight is None:
        return value, moved
    moved_weight = _of_winners(matrix.with_block_values(moving_values), column, links)
    _, tangent = jax.jvp(semiring.multiply, (weight, own), (moved_weight, moved))
    return value, jnp.where(column >= 0, tangent, jnp.zeros((), tangent.dtype))


def _of_winners(matrix: SparseMatrix, column: Array, links: Links) -> Array:
    """The value that each row holds in a column; 0 for column −1."""

    def terms(b: int, block: Block) -> Callable[[int], Any]:
        winner = spread(column, [links.row_of_piece[b][:, None]], None)[0][0]

        def term(k: int) -> Array:
            spare = (-1, *[1] * (winner.ndim - 1))
            value = jnp.broadcast_to(block.values[:, k].reshape(spare), winner.shape)
            return jnp.where(winner == block.columns[:, k].reshape(spare), value, jnp.zeros((), value.dtype))

        return term

    dtype = matrix.first[0].values.dtype
    found: Array = fold_up(matrix, terms, jnp.add, jnp.zeros((1, *column.shape[1:]), dtype))
    return found
