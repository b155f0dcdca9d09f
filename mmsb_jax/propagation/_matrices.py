"""Sparse matrices from sparse matrices: element by element, products, sums along rows, parts.

Structures are worked out on the host, with NumPy; values stay on the device and stay differentiable. Where several
values meet in one entry they are folded by ⊕ in a fixed order, as in a product with a vector.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.typing import ArrayLike
from jaxtyping import Bool, Int64

from .._errors import CapacityError, InvalidArgumentError, InvalidTypeError
from .._require import require_instance, whole_number
from ..kernels import rounded
from ..semiring import Semiring
from ..semiring._element import describe, kind_of
from ._entries import on_host
from ._links import Block, spread
from ._sparse import SparseMatrix
from ._terms import fold_first, fold_up, weights_of

Keys = Int64[np.ndarray, " entries"]


def coalesce(matrix: SparseMatrix | Any, semiring: Semiring | Any) -> SparseMatrix:
    """Merge parallel entries, those of one row and column, by ⊕; entries are then in order of row and column.

    Raises `InvalidArgumentError` for a pattern with parallel entries where one ⊕ one isn't one.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> twice = SparseMatrix.from_coo([0, 0], [1, 1], np.float32([5, 3]), (1, 2))
    >>> coalesce(twice, mmsb.semiring.min_plus).values, coalesce(twice, mmsb.semiring.plus_times).values
    (Array([3.], dtype=float32), Array([8.], dtype=float32))
    """
    _check(semiring, matrix)
    keys = _keys(matrix)
    if np.all(keys[1:] > keys[:-1]):
        return matrix
    if matrix.values is None and not semiring.idempotent and len(np.unique(keys)) < len(keys):
        raise InvalidArgumentError(
            f"a pattern with parallel entries can't be merged by {semiring.name}, whose ⊕ isn't idempotent; give it "
            "values: matrix.with_values(ones)"
        )
    return _merged(keys, matrix.values, matrix.shape, semiring)


def ewise_add(one: SparseMatrix | Any, other: SparseMatrix | Any, semiring: Semiring | Any) -> SparseMatrix:
    """Element by element, `one ⊕ other`: an entry wherever either has one.

    Raises `InvalidArgumentError` for other shapes, `InvalidTypeError` for other dtypes.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> a = SparseMatrix.from_coo([0, 1], [0, 1], np.float32([5, 3]), (2, 2))
    >>> b = SparseMatrix.from_coo([0, 0], [0, 1], np.float32([4, 7]), (2, 2))
    >>> ewise_add(a, b, mmsb.semiring.min_plus).values
    Array([4., 7., 3.], dtype=float32)
    """
    _check_pair(semiring, one, other)
    one, other = coalesce(one, semiring), coalesce(other, semiring)
    values = None if one.values is None else jax.tree.map(lambda *v: jnp.concatenate(v), one.values, other.values)
    return _merged(np.concatenate([_keys(one), _keys(other)]), values, one.shape, semiring)


def ewise_multiply(one: SparseMatrix | Any, other: SparseMatrix | Any, semiring: Semiring | Any) -> SparseMatrix:
    """Element by element, `one ⊗ other`: an entry wherever both have one. Raises as `ewise_add` does.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> a = SparseMatrix.from_coo([0, 1], [0, 1], np.float32([5, 3]), (2, 2))
    >>> b = SparseMatrix.from_coo([0, 0], [0, 1], np.float32([4, 7]), (2, 2))
    >>> ewise_multiply(a, b, mmsb.semiring.min_plus).values
    Array([9.], dtype=float32)
    """
    _check_pair(semiring, one, other)
    one, other = coalesce(one, semiring), coalesce(other, semiring)
    keys, mine, theirs = np.intersect1d(_keys(one), _keys(other), assume_unique=True, return_indices=True)
    values = None
    if one.values is not None:
        values = semiring.multiply(_taken(one.values, mine), _taken(other.values, theirs))
    return _laid_out(keys, values, one.shape)


def sparse_product(
    one: SparseMatrix | Any,
    other: SparseMatrix | Any,
    semiring: Semiring | Any,
    *,
    mask: SparseMatrix | ArrayLike | Any | None = None,
    capacity: int | Any = 1 << 28,
) -> SparseMatrix:
    """`one ⊗ other`, sparse times sparse, sparse: C[i, j] = ⊕_k one[i, k] ⊗ other[k, j]. `matmul` calls it.

    **Arguments**

    - `mask`: which entries of the result are wanted, as a matrix of its shape, or which rows, as bool[rows].
    - `capacity`: the most products of two entries that may be formed; each takes memory for a while, 24 bytes on the
      host and its value on the device.

    Gustavson's algorithm ("Two fast algorithms for sparse matrices", ACM TOMS 4(3), 1978), all rows at once.
    Raises `CapacityError`, which says how many there would be; `InvalidArgumentError`, `InvalidTypeError` for operands
    that don't fit together, and for a semiring that carries the argument.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> roads = SparseMatrix.from_coo([1, 2], [0, 1], np.float32([5, 3]), (3, 3))
    >>> two_steps = mmsb.matmul(roads, roads, mmsb.semiring.min_plus)
    >>> two_steps.row, two_steps.col, two_steps.values
    (array([2], dtype=int32), array([0], dtype=int32), Array([8.], dtype=float32))
    """
    _check_pair(semiring, one, other, same_shape=False)
    if one.shape[1] != other.shape[0]:
        raise InvalidArgumentError(f"shapes {one.shape} and {other.shape} don't fit: columns must be as many as rows")
    if semiring.argument:
        raise InvalidArgumentError(
            f"{semiring.name} tells the winners of a product with an array; two sparse matrices are multiplied "
            "without: use the semiring that it was made from"
        )
    most = whole_number(capacity)
    if most is None:
        raise InvalidTypeError(f"got capacity={capacity!r}; pass the most products of entries that may be formed")
    shape = (one.shape[0], other.shape[1])
    if mask is not None and not isinstance(mask, SparseMatrix):
        one, mask = restrict(one, _of_rows(one, mask)), None
    order = np.argsort(other.row, kind="stable")
    count = np.bincount(other.row, minlength=other.shape[0])
    start = np.cumsum(count) - count
    repeats = count[one.col]
    total = int(repeats.sum())
    if total > most:
        raise CapacityError(f"this product forms {total:,} products of entries, and capacity={most:,}; raise it")
    mine = np.repeat(np.arange(one.entries), repeats)
    nth = np.arange(total) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    theirs = order[start[one.col[mine]] + nth]
    keys = one.row[mine].astype(np.int64) * max(shape[1], 1) + other.col[theirs]
    if mask is not None:
        _check_shapes("the mask and the product", mask.shape, shape)
        wanted = np.isin(keys, _keys(mask))
        keys, mine, theirs = keys[wanted], mine[wanted], theirs[wanted]
    if one.values is None:
        if not semiring.idempotent:
            raise InvalidArgumentError(
                f"two patterns have no product in {semiring.name}, whose ⊕ isn't idempotent; give them values: "
                "matrix.with_values(ones)"
            )
        return _merged(keys, None, shape, semiring)
    values = semiring.multiply(_taken(one.values, mine), _taken(other.values, theirs))
    return _merged(keys, jax.tree.map(rounded, values), shape, semiring)


def reduce(matrix: SparseMatrix | Any, semiring: Semiring | Any, axis: int | Any | None = None) -> Any:
    """⊕ over the entries of each row (`axis=1`), of each column (`axis=0`), or over all (None).

    **Returns** [rows], [columns] or []; `zero` where there is no entry. Raises `InvalidArgumentError` for a pattern.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> a = SparseMatrix.from_coo([0, 0, 1], [0, 1, 1], np.float32([5, 3, 4]), (2, 2))
    >>> reduce(a, mmsb.semiring.min_plus, axis=1), reduce(a, mmsb.semiring.plus_times)
    (Array([3., 4.], dtype=float32), Array(12., dtype=float32))
    """
    _check(semiring, matrix)
    if axis is not None and whole_number(axis) not in (0, 1):
        raise InvalidArgumentError(f"got axis={axis!r}; it is 1 (along each row), 0 (along each column) or None")
    if matrix.values is None:
        raise InvalidArgumentError("a pattern has no values to reduce; give it some: matrix.with_values(ones)")
    if axis is None:
        return semiring.add.fold(matrix.values)
    if axis == 0:
        matrix = matrix.transpose()
    return _along_rows(matrix.linked(), semiring)


@jax.jit
def _along_rows(matrix: SparseMatrix, semiring: Semiring) -> Any:
    pieces = fold_first(matrix, lambda _, block: weights_of(block).__getitem__, semiring.add)
    return fold_up(matrix, pieces, semiring.add, _nothing(semiring, matrix.dtype))


def restrict(
    matrix: SparseMatrix | Any, mask: SparseMatrix | ArrayLike | Any, *, complement: bool = False
) -> SparseMatrix:
    """The part of a matrix that a mask lets through.

    **Arguments:** `mask`: another matrix, whose entries say which places count, whatever their values; or bool[entries]
    (on the host); `complement`: the other part. Raises `InvalidArgumentError` for a mask of another shape or dtype.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> a = SparseMatrix.from_coo([0, 0, 1], [0, 1, 1], np.float32([5, 3, 4]), (2, 2))
    >>> restrict(a, SparseMatrix.from_coo([0, 1], [1, 0], None, (2, 2))).values
    Array([3.], dtype=float32)
    """
    require_instance(matrix, SparseMatrix, "SparseMatrix.from_coo(…) makes one")
    keep: Bool[np.ndarray, " entries"]
    if isinstance(mask, SparseMatrix):
        _check_shapes("the mask and the matrix", mask.shape, matrix.shape)
        keep = np.isin(_keys(matrix), _keys(mask))
    else:
        keep = on_host("mask", mask)
        if keep.shape != (matrix.entries,) or keep.dtype != np.bool_:
            raise InvalidArgumentError(
                f"the mask is {keep.dtype.name}{list(keep.shape)}; it must be a matrix, or bool[{matrix.entries}]"
            )
    chosen = np.flatnonzero(keep != bool(complement))
    values = None if matrix.values is None else _taken(matrix.values, chosen)
    return _laid_out(_keys(matrix)[chosen], values, matrix.shape)


def to_dense(matrix: SparseMatrix | Any, semiring: Semiring | Any) -> Any:
    """All of a matrix, [rows, columns], with `zero` where nothing is stored; parallel entries are merged by ⊕.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> to_dense(SparseMatrix.from_coo([0], [1], np.float32([5]), (1, 2)), mmsb.semiring.min_plus)
    Array([[inf,  5.]], dtype=float32)
    """
    merged = coalesce(matrix, semiring)
    if merged.values is None:
        raise InvalidArgumentError("a pattern has no values; give it some: matrix.with_values(ones)")
    nothing = semiring.full(merged.shape, "zero", None if semiring.element is not None else merged.dtype)
    row, col = merged.row, merged.col
    return jax.tree.map(lambda full, value: full.at[row, col].set(value), nothing, merged.values)


def to_scipy(matrix: SparseMatrix | Any) -> scipy.sparse.coo_array:
    """The same entries as a `scipy.sparse.coo_array`; those of a pattern are True.

    Raises `InvalidTypeError` for values that SciPy can't hold: trees, and floats of 16 bits.

    >>> to_scipy(SparseMatrix.from_coo([0], [1], [5.0], (1, 2))).toarray()
    array([[0., 5.]], dtype=float32)
    """
    require_instance(matrix, SparseMatrix, "SparseMatrix.from_coo(…) makes one")
    if _holds_trees(matrix) or (
        matrix.dtype is not None and kind_of(matrix.dtype) == "f" and matrix.dtype.itemsize < 4
    ):
        raise InvalidTypeError(
            f"SciPy can't hold {_held(matrix)}; cast first: matrix.with_values(matrix.values.astype(jnp.float32)), or "
            "take one of the arrays of a tree"
        )
    values = np.ones(matrix.entries, np.bool_) if matrix.values is None else np.asarray(matrix.values)
    return scipy.sparse.coo_array((values, (matrix.row, matrix.col)), matrix.shape)


def _check(semiring: Any, *matrices: Any) -> None:
    for matrix in matrices:
        require_instance(matrix, SparseMatrix, "SparseMatrix.from_coo(…) makes one")
    require_instance(semiring, Semiring, "take one of mmsb.semiring, or make one")
    for matrix in matrices:
        if matrix.block_values[0] is not None:
            semiring.require_values(matrix.block_values[0])


def _check_pair(semiring: Any, one: Any, other: Any, *, same_shape: bool = True) -> None:
    _check(semiring, one, other)
    if same_shape:
        _check_shapes("the matrices", one.shape, other.shape)
    if _held(one) != _held(other):
        raise InvalidTypeError(f"the matrices hold {_held(one)} and {_held(other)}; they must hold the same")


def _check_shapes(what: str, one: tuple[int, int], other: tuple[int, int]) -> None:
    if one != other:
        raise InvalidArgumentError(f"{what} have shapes {one} and {other}; they must be the same")


def _held(matrix: SparseMatrix) -> str:
    """What the values are, in words."""
    found = matrix.block_values[0]
    if found is None:
        return "no values (a pattern)"
    return describe(jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((), leaf.dtype), found)).replace("[]", "")


def _holds_trees(matrix: SparseMatrix) -> bool:
    return matrix.dtype is None and matrix.block_values[0] is not None


def _of_rows(matrix: SparseMatrix, mask: Any) -> Bool[np.ndarray, " entries"]:
    """A mask of rows, as one of entries."""
    rows = on_host("mask", mask)
    if rows.shape != matrix.shape[:1] or rows.dtype != np.bool_:
        raise InvalidArgumentError(
            f"the mask is {rows.dtype.name}{list(rows.shape)}; it must be a matrix, or bool[{matrix.shape[0]}], one "
            "for each row"
        )
    chosen: Bool[np.ndarray, " entries"] = rows[matrix.row]
    return chosen


def _keys(matrix: SparseMatrix) -> Keys:
    return matrix.row.astype(np.int64) * max(matrix.shape[1], 1) + matrix.col


def _taken(values: Any, index: np.ndarray) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], values)


def _laid_out(keys: Keys, values: Any, shape: tuple[int, int]) -> SparseMatrix:
    row, col = np.divmod(keys, max(shape[1], 1))
    made = SparseMatrix.from_coo(row, col, None, shape)
    return made if values is None else made.with_values(values)


def _merged(keys: Keys, values: Any, shape: tuple[int, int], semiring: Semiring) -> SparseMatrix:
    """Entries in order of their keys, those of one key folded by ⊕ in the order in which they stand."""
    found, first, group = np.unique(keys, return_index=True, return_inverse=True)
    if values is None:
        return _laid_out(found, None, shape)
    if len(found) == len(keys):
        return _laid_out(found, _taken(values, first), shape)
    pattern = SparseMatrix.from_coo(group.reshape(-1), np.arange(len(keys)), None, (len(found), len(keys))).linked()
    return _laid_out(found, _folded(pattern, values, semiring), shape)


@jax.jit
def _folded(pattern: SparseMatrix, values: Any, semiring: Semiring) -> Any:
    """⊕ of the values that each row of a pattern with links names."""
    leaves, structure = jax.tree.flatten(values)
    assert pattern.links is not None
    columns, back = [block.columns for block in pattern.first], pattern.links.columns.slots
    gathered = [spread(leaf, columns, back) for leaf in leaves]

    def terms(b: int, _: Block) -> Any:
        return lambda k: jax.tree.unflatten(structure, [leaf[b][k] for leaf in gathered])

    first = fold_first(pattern, terms, semiring.add)
    return fold_up(pattern, first, semiring.add, _nothing(semiring, leaves[0].dtype))


def _nothing(semiring: Semiring, dtype: Any) -> Any:
    """`zero`, [1]."""
    return semiring.full((1,), "zero", None if semiring.element is not None else dtype)
