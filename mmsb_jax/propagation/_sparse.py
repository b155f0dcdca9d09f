"""`SparseMatrix`: a sparse operator, laid out once on the host for products in any semiring."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.typing import ArrayLike
from jaxtyping import Array, Int32, Shaped

from .._errors import InvalidArgumentError, InvalidTypeError
from ._blocks import BlockPlan, plan

_INT32_MAX = int(np.iinfo(np.int32).max)


class Block(eqx.Module):
    """Pieces of rows, all of one width. See `kernels.gather_fold` for what the arrays mean."""

    columns: Int32[Array, "rows width"]
    values: Shaped[Array, "rows width"] | None
    lengths: Int32[Array, "rows"] | None
    shortest: int = eqx.field(static=True)


class SparseMatrix(eqx.Module):
    """A sparse matrix for `matmul` and `closure`, in any semiring. Immutable; a pytree; pass it to jitted functions.

    Built on the host by `from_coo` or `from_scipy`. What isn't stored is the `zero` of whatever semiring uses it, and
    an entry that is stored counts, be it 0. Entries of one row and column are kept apart; a product combines them by
    its ⊕. Within a row, entries are taken in the order in which they were given, in pieces of 64 (see `_blocks`), so
    that the same entries give the same bits always. `values` of its blocks are differentiable leaves; its structure
    isn't.

    >>> import jax.numpy as jnp, numpy as np
    >>> roads = SparseMatrix.from_coo([0, 0, 1], [1, 2, 2], np.float32([5, 9, 3]), (3, 3))
    >>> roads
    SparseMatrix(shape=(3, 3), entries=3, dtype=float32)
    """

    levels: tuple[tuple[Block, ...], ...]
    home: Int32[Array, "rows"] | None  # where each row's value lies among all pieces; None: rows in order, none empty
    shape: tuple[int, int] = eqx.field(static=True)
    entries: int = eqx.field(static=True)

    @classmethod
    def from_coo(
        cls,
        row: ArrayLike | Any,
        col: ArrayLike | Any,
        value: ArrayLike | Any | None,
        shape: tuple[int, int] | Any,
    ) -> SparseMatrix:
        """Entry k is `value[k]` in row `row[k]`, column `col[k]`.

        With `value=None` it is a pattern: every weight is `one`, and ⊗ is left out.

        `row`, `col`: integers [entries]; `value`: [entries], finite or infinite, of any dtype that JAX holds.
        Raises `InvalidArgumentError` for lengths, shapes, indices and values (NaN) that can't be; `InvalidTypeError`
        for wrong dtypes and for traced arrays.

        >>> SparseMatrix.from_coo([0, 1], [1, 0], None, (2, 2)).dtype is None
        True
        """
        rows, columns = _whole_numbers("row", row), _whole_numbers("col", col)
        size = _checked_shape(shape)
        _check_indices(rows, columns, size)
        values = None if value is None else _checked_values(value, rows, columns)
        if np.any(rows[1:] < rows[:-1]):
            order = np.argsort(rows, kind="stable")
            rows, columns = rows[order], columns[order]
            values = None if values is None else values[order]
        layout = plan(np.bincount(rows, minlength=size[0]))
        levels = tuple(
            tuple(_block(block, columns, values) if depth == 0 else _block(block, None, None) for block in blocks)
            for depth, blocks in enumerate(layout.levels)
        )
        in_order = np.array_equal(layout.home, np.arange(layout.pieces))
        home = None if in_order else jnp.asarray(layout.home, jnp.int32)
        return cls(levels, home, size, len(rows))

    @classmethod
    def from_scipy(cls, matrix: Any) -> SparseMatrix:
        """From any `scipy.sparse` matrix or array, entry by entry: stored zeros stay, duplicates aren't summed.

        Raises `InvalidTypeError` for anything else, and what `from_coo` raises.

        >>> import scipy.sparse
        >>> SparseMatrix.from_scipy(scipy.sparse.eye_array(3, dtype="float32"))
        SparseMatrix(shape=(3, 3), entries=3, dtype=float32)
        """
        if not scipy.sparse.issparse(matrix) or matrix.ndim != 2:
            raise InvalidTypeError(
                f"from_scipy takes a two-dimensional scipy.sparse matrix or array; got {type(matrix).__name__}. "
                "For arrays of indices use from_coo; for a dense array, scipy.sparse.csr_array(array)"
            )
        entries = matrix.tocoo()
        return cls.from_coo(entries.row, entries.col, entries.data, entries.shape)

    @property
    def dtype(self) -> np.dtype | None:
        """The dtype of the values; None for a pattern, or without entries."""
        values = self.levels[0][0].values if self.levels else None
        return None if values is None else np.dtype(values.dtype)

    @property
    def padding(self) -> float:
        """Slots laid out per entry: 1.0 is none to spare."""
        slots = sum(block.columns.size for block in self.levels[0]) if self.levels else 0
        return slots / self.entries if self.entries else 1.0

    def __repr__(self) -> str:
        dtype = "pattern" if self.dtype is None else f"dtype={self.dtype.name}"
        return f"SparseMatrix(shape={self.shape}, entries={self.entries}, {dtype})"


def _block(block: BlockPlan, columns: np.ndarray | None, values: np.ndarray | None) -> Block:
    return Block(
        columns=jnp.asarray(block.entry if columns is None else columns[block.entry], jnp.int32),
        values=None if values is None else jnp.asarray(values[block.entry]),
        lengths=jnp.asarray(block.lengths, jnp.int32) if block.padded else None,
        shortest=int(block.lengths.min()),
    )


def _on_host(what: str, value: ArrayLike | Any) -> np.ndarray:
    if isinstance(value, jax.core.Tracer):
        raise InvalidTypeError(
            f"{what} is traced, but a SparseMatrix is laid out on the host: build it outside jit, vmap and grad, and "
            "pass it in as an argument"
        )
    array = np.asarray(value)
    if array.ndim != 1:
        raise InvalidArgumentError(f"{what} must have one dimension, [entries]; got shape {array.shape}")
    return array


def _whole_numbers(what: str, value: ArrayLike | Any) -> np.ndarray:
    array = _on_host(what, value)
    if array.size and array.dtype.kind not in "iu":
        raise InvalidTypeError(
            f"{what} must hold integers; got {array.dtype.name}. Cast it, e.g. {what}.astype(np.int32)"
        )
    return array.astype(np.int64)


def _checked_shape(shape: tuple[int, int] | Any) -> tuple[int, int]:
    try:
        rows, columns = (int(size) for size in shape)
    except (TypeError, ValueError) as error:
        raise InvalidTypeError(f"shape must be a pair (rows, columns); got {shape!r}") from error
    if not (0 <= rows < _INT32_MAX and 0 <= columns < _INT32_MAX):
        raise InvalidArgumentError(f"shape is {shape!r}; rows and columns must lie in 0 … {_INT32_MAX - 1}")
    return rows, columns


def _check_indices(row: np.ndarray, col: np.ndarray, shape: tuple[int, int]) -> None:
    if len(row) != len(col):
        raise InvalidArgumentError(f"row has {len(row)} entries and col {len(col)}; they must have as many")
    for what, index, size in (("row", row, shape[0]), ("col", col, shape[1])):
        wrong = np.flatnonzero((index < 0) | (index >= size))
        if wrong.size:
            k = int(wrong[0])
            raise InvalidArgumentError(
                f"{what}[{k}] is {index[k]}, outside 0 … {size - 1} ({wrong.size} such entries). Indices count from 0; "
                f"enlarge shape={shape}, or drop these entries"
            )


def _checked_values(value: ArrayLike | Any, row: np.ndarray, col: np.ndarray) -> np.ndarray:
    array = _on_host("value", value)
    if len(array) != len(row):
        raise InvalidArgumentError(
            f"value has {len(array)} entries and row {len(row)}; they must have as many. "
            "For one weight everywhere use np.full(len(row), weight), for none value=None"
        )
    held = jax.dtypes.canonicalize_dtype(array.dtype)
    with np.errstate(over="ignore"):
        cast = array.astype(held)
    if jnp.issubdtype(held, jnp.integer) and not np.array_equal(cast, array):
        raise InvalidArgumentError(f"value holds integers that {held.name} can't; scale them, or enable x64 in JAX")
    if jnp.issubdtype(held, jnp.floating) and np.isnan(cast).any():
        k = int(np.flatnonzero(np.isnan(cast))[0])
        raise InvalidArgumentError(
            f"value[{k}], at row {row[k]}, column {col[k]}, is NaN, which belongs to no semiring; drop the entry, "
            "or put a number there"
        )
    return cast
