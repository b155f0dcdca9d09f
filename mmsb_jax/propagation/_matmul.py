"""`matmul`: y[i] = ⊕_j A[i, j] ⊗ X[j], in any semiring."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int32, Shaped

from .._errors import InvalidArgumentError, InvalidTypeError
from ..kernels import fold_terms, take_rows
from ..semiring import Semiring
from ._links import Block, select, spread
from ._matrices import sparse_product
from ._sparse import SparseMatrix
from ._terms import fold_first, fold_up, term_of, weights_of, widened


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
    - `mask`: bool[rows], which rows are wanted; the others are `zero`. Of two sparse matrices see `sparse_product`.

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
        return sparse_product(matrix, x, semiring, mask=mask)
    values = checked_operand(matrix, x, semiring)
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((values, matrix.block_values)))
    if traced:
        matrix = matrix.linked()
    y: Any = _selected(matrix, values, semiring) if semiring.argument else _matmul(matrix, values, semiring)
    if traced and not semiring.argument and matrix.home is None:
        y = _apart(y, jax.tree.leaves(values)[0])
    if mask is None:
        return y
    wanted = _as_array("mask", mask)
    if wanted.shape != matrix.shape[:1] or wanted.dtype != jnp.bool_:
        raise InvalidArgumentError(
            f"mask is {wanted.dtype.name}{list(wanted.shape)}; it must be bool[{matrix.shape[0]}], one for each row"
        )
    if isinstance(y, Selected):
        return Selected(_masked(wanted, y.value, semiring.zero(y.value.dtype)), _masked(wanted, y.index, -1))
    zero = semiring.zero(None if semiring.element is not None else y.dtype)
    return jax.tree.map(lambda leaf, nothing: _masked(wanted, leaf, nothing), y, zero)


def _apart(y: Any, x: Array) -> Any:
    """`y`, not to be fused with what takes it.

    A reduction that is fused with the fold before it runs on one core, and gathers in its inner loop: on the CPU the
    sum over a product of 4 million entries took 14 times the product. A branch ends a fusion; that it is always the
    same one only we know. Where the rows are put in their places in the end, that ends it, too.
    """
    if not x.size or not jnp.issubdtype(x.dtype, jnp.floating):
        return y
    first = lax.stop_gradient(x[(0,) * x.ndim])
    return lax.cond((first <= jnp.inf) | (first != first), lambda y: y, lambda y: jax.tree.map(jnp.zeros_like, y), y)


def _masked(mask: Bool[Array, " rows"], y: Array, zero: Any) -> Array:
    return jnp.where(mask.reshape(mask.shape + (1,) * (y.ndim - 1)), y, jnp.asarray(zero, y.dtype))


def checked_operand(matrix: SparseMatrix | Any, x: ArrayLike | Any, semiring: Semiring | Any) -> Any:
    """`x` as arrays that `matrix` can be multiplied with, or the error that says why not."""
    if not isinstance(matrix, SparseMatrix) or isinstance(x, SparseMatrix) or not isinstance(semiring, Semiring):
        raise InvalidTypeError(
            f"needed: a SparseMatrix, an array and a Semiring; got {type(matrix).__name__}, {type(x).__name__} and "
            f"{type(semiring).__name__}. E.g. matmul(SparseMatrix.from_coo(…), x, mmsb.semiring.min_plus)"
        )
    arrays = _as_array("x", x) if semiring.element is None else jax.tree.map(lambda leaf: _as_array("x", leaf), x)
    for array in jax.tree.leaves(arrays):
        if array.ndim not in (1, 2) or array.shape[0] != matrix.shape[1]:
            raise InvalidArgumentError(
                f"x has shape {array.shape}; a matrix of shape {matrix.shape} takes [{matrix.shape[1]}] or "
                f"[{matrix.shape[1]}, features]. For more dimensions reshape, or use jax.vmap"
            )
    semiring.require_values(arrays)
    held = matrix.block_values[0]
    if held is None:
        return arrays
    semiring.require_values(held)
    if semiring.element is None and held.dtype != arrays.dtype:
        raise InvalidTypeError(
            f"the matrix holds {held.dtype.name} and x {arrays.dtype.name}; they must be the same: cast x, or the "
            "values of the matrix, matrix.with_values(matrix.values.astype(x.dtype))"
        )
    return arrays


def _as_array(what: str, value: Any) -> Array:
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise InvalidTypeError(f"{what} must be an array of numbers; got {value!r}") from error


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
    return Selected(*_with_argument(matrix, x, semiring))


def _product(matrix: SparseMatrix, x: Any, semiring: Semiring) -> Any:
    leaves, structure = jax.tree.flatten(x)
    columns = [block.columns for block in matrix.first]
    back = None if matrix.links is None else matrix.links.columns.slots
    gathered = [spread(leaf, columns, back) for leaf in leaves]

    def terms(b: int, block: Block) -> Callable[[int], Any]:
        weights = weights_of(block)
        return lambda k: term_of(weights[k], jax.tree.unflatten(structure, [leaf[b][k] for leaf in gathered]), semiring)

    zero = semiring.full((1, *leaves[0].shape[1:]), "zero", None if semiring.element is not None else x.dtype)
    return fold_up(matrix, fold_first(matrix, terms, semiring.add), semiring.add, zero)


# The term that wins, and derivatives that go to it.


def _with_argument(matrix: SparseMatrix, x: Array, semiring: Semiring) -> tuple[Array, Array]:
    """Value and column of each row's winning term, −1 for none.

    First the values, then the lowest column whose term has it: twice the gathers, but each pass compiles to as little
    as a product. To carry the column through the fold takes four times a product, and seconds to compile.
    """
    value: Array = _product(matrix, x, semiring)

    @custom_vmap
    def column(bare: SparseMatrix, values: Any, value: Array, x: Array) -> Array:
        # A branch keeps the passes apart: the compiler would make every term that both use an array and a kernel of
        # its own. Where nothing is a number, nothing wins.
        find = partial(_winners, bare.with_block_values(values), semiring)
        found: Array = lax.cond(jnp.any(x == x), find, _nobody, value, x)
        return found

    @column.def_vmap
    def _(size: int, batched: Any, bare: SparseMatrix, values: Any, value: Array, x: Array) -> tuple[Array, bool]:
        """A batch is one more feature; where the values differ, one after the other."""
        if any(jax.tree.leaves(batched[1])):
            every = jax.tree.map(
                lambda leaf, has: leaf if has else jnp.broadcast_to(leaf, (size, *leaf.shape)),
                (values, value, x),
                tuple(batched[1:]),
            )
            return lax.map(lambda each: column(bare, *each), every), True
        wide = (
            jnp.moveaxis(leaf, 0, -1) if has else jnp.broadcast_to(leaf[..., None], (*leaf.shape, size))
            for leaf, has in zip((value, x), batched[2:], strict=True)
        )
        return jnp.moveaxis(column(bare, values, *wide), -1, 0), True

    bare = matrix.with_block_values((None,) * len(matrix.first))
    return value, column(bare, matrix.block_values, value, x)


def _winners(matrix: SparseMatrix, semiring: Semiring, value: Array, x: Array) -> Array:
    """The lowest column of each row whose term is the row's value; −1 for none."""
    none = jnp.int32(np.iinfo(np.int32).max)
    gathered = spread(x, [block.columns for block in matrix.first], None)

    def terms(b: int, block: Block) -> Callable[[int], Any]:
        weights, best = weights_of(block), take_rows(value, matrix.row_of_piece[b])

        def term(k: int) -> Array:
            won = term_of(weights[k], gathered[b][k], semiring) == best
            return jnp.where(won, widened(block.columns[:, k], best), none)

        return term

    pieces = fold_first(matrix, terms, jnp.minimum)
    found: Array = fold_up(matrix, pieces, jnp.minimum, jnp.full((1, *x.shape[1:]), none))
    return jnp.where(found == none, jnp.int32(-1), found)


def _nobody(value: Array, _: Array) -> Array:
    return jnp.full(value.shape, -1, jnp.int32)


@jax.custom_jvp
def _winning(values: Any, x: Array, how: tuple[SparseMatrix, Semiring]) -> Array:
    matrix, semiring = how
    found: Array = _product(matrix.with_block_values(values), x, semiring)
    return found


@_winning.defjvp
def _winning_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    values, x, (matrix, semiring) = primals
    moving_values, moving_x, _ = tangents
    held = matrix.with_block_values(values)
    value = _winning(values, x, (matrix, semiring))  # so that a second derivative comes by here as well
    column = _with_argument(lax.stop_gradient(held), lax.stop_gradient(x), semiring)[1]
    links = matrix.links
    assert links is not None
    own = select(x, column, links.columns)
    moved = select(moving_x, column, links.columns)
    if values[0] is None:
        return value, moved
    weight = of_winners(held, column)
    moved_weight = of_winners(matrix.with_block_values(moving_values), column)
    _, tangent = jax.jvp(semiring.multiply, (weight, own), (moved_weight, moved))
    return value, jnp.where(column >= 0, tangent, jnp.zeros((), tangent.dtype))


def of_winners(matrix: SparseMatrix, column: Array) -> Array:
    """The value that each row holds in a column; 0 for column −1."""
    dtype = matrix.first[0].values.dtype
    nothing = jnp.zeros((), dtype)

    def held(b: int, block: Block) -> Array:
        winner = take_rows(column, matrix.row_of_piece[b])
        if winner.ndim == 1:  # at once: the derivative is then one array, and not put together from slots
            won = winner[:, None] == block.columns
            if block.lengths is not None:  # a padded slot may name the same column
                won &= jnp.arange(block.columns.shape[1])[None, :] < block.lengths[:, None]
            return jnp.sum(jnp.where(won, block.values, nothing), axis=1)
        weights = weights_of(block)

        def term(k: int) -> Array:
            won = winner == widened(block.columns[:, k], winner)
            return jnp.where(won, widened(weights[k], winner), nothing)

        return fold_terms(term, block.columns.shape[1], block.lengths, block.shortest, jnp.add)

    pieces = [held(b, block) for b, block in enumerate(matrix.first)]
    found: Array = fold_up(matrix, pieces, jnp.add, jnp.zeros((1, *column.shape[1:]), dtype))
    return found
