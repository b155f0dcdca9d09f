"""What a caller passed as the entries of a matrix, checked on the host before anything is laid out."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import treedef_is_leaf
from jax.typing import ArrayLike

from .._errors import InvalidArgumentError, InvalidTypeError

_INT32_MAX = int(np.iinfo(np.int32).max)


def as_values(value: Any) -> Any:
    """A tree of arrays as it is; anything else as one array, if it can be one."""
    leaves, structure = jax.tree.flatten(value)
    if value is None or (not treedef_is_leaf(structure) and leaves and all(np.ndim(leaf) for leaf in leaves)):
        return value
    return value if hasattr(value, "dtype") else np.asarray(value)


def on_host(what: str, value: ArrayLike | Any) -> np.ndarray:
    """One dimension, of values that are there."""
    if isinstance(value, jax.core.Tracer):
        raise InvalidTypeError(
            f"{what} is traced, but a SparseMatrix is laid out on the host: build it outside jit, vmap and grad, and "
            "pass it in as an argument"
        )
    array = np.asarray(value)
    if array.ndim != 1:
        raise InvalidArgumentError(f"{what} must have one dimension, [entries]; got shape {array.shape}")
    return array


def whole_numbers(what: str, value: ArrayLike | Any) -> np.ndarray:
    """Integers, as int64."""
    array = on_host(what, value)
    if array.size and array.dtype.kind not in "iu":
        raise InvalidTypeError(
            f"{what} must hold integers; got {array.dtype.name}. Cast it, e.g. {what}.astype(np.int32)"
        )
    return array.astype(np.int64)


def checked_shape(shape: tuple[int, int] | Any) -> tuple[int, int]:
    """A pair that int32 can count."""
    try:
        rows, columns = (int(size) for size in shape)
    except (TypeError, ValueError) as error:
        raise InvalidTypeError(f"shape must be a pair (rows, columns); got {shape!r}") from error
    if not (0 <= rows < _INT32_MAX and 0 <= columns < _INT32_MAX):
        raise InvalidArgumentError(f"shape is {shape!r}; rows and columns must lie in 0 … {_INT32_MAX - 1}")
    return rows, columns


def check_indices(row: np.ndarray, col: np.ndarray, shape: tuple[int, int]) -> None:
    """Raise unless every index lies in the shape."""
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


def checked_values(value: ArrayLike | Any, row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Values in a dtype that JAX holds, without NaN."""
    array = on_host("value", value)
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
