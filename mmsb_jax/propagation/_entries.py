"""What a caller passed as the entries of a matrix, checked on the host before anything is laid out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.tree_util import treedef_is_leaf
from jax.typing import ArrayLike

from .._errors import InvalidArgumentError, InvalidTypeError
from .._require import whole_number
from ..semiring._element import kind_of

_INT32_MAX = int(np.iinfo(np.int32).max)


def as_values(value: Any) -> Any:
    """A tree of arrays as it is; anything else as one array, if it can be one."""
    leaves, structure = jax.tree.flatten(value)
    if value is None or (not treedef_is_leaf(structure) and leaves and all(np.ndim(leaf) for leaf in leaves)):
        return value
    return value if hasattr(value, "dtype") else _as_array("value", value)


def on_host(what: str, value: ArrayLike | Any) -> np.ndarray:
    """One dimension, of values that are there."""
    if isinstance(value, jax.core.Tracer):
        raise InvalidTypeError(
            f"{what} is traced, but a SparseMatrix is laid out on the host: build it outside jit, vmap and grad, and "
            "pass it in as an argument"
        )
    array = _as_array(what, value)
    if array.ndim != 1:
        raise InvalidArgumentError(f"{what} must have one dimension, [entries]; got shape {array.shape}")
    return array


def _as_array(what: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InvalidTypeError(f"{what} must be an array of numbers; got {value!r} ({error})") from error


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
        rows, columns = (whole_number(size) for size in shape)
    except (TypeError, ValueError):
        rows = columns = None
    if rows is None or columns is None:
        raise InvalidTypeError(f"shape must be a pair of whole numbers (rows, columns); got {shape!r}")
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
    cast = np.asarray(held(array))
    if kind_of(cast.dtype) == "f" and np.isnan(cast).any():
        k = int(np.flatnonzero(np.isnan(cast))[0])
        raise InvalidArgumentError(
            f"value[{k}], at row {row[k]}, column {col[k]}, is NaN, which belongs to no semiring; drop the entry, "
            "or put a number there"
        )
    return cast


def held(value: ArrayLike | Any) -> np.ndarray | jax.Array:
    """Numbers in a dtype that JAX holds, none of them cut short; what is on the device or traced is taken as it is."""
    array = value if isinstance(value, jax.Array) else _as_array("value", value)
    kind = kind_of(array.dtype)
    if not kind:
        raise InvalidTypeError(
            f"value holds {array.dtype.name}; a semiring has real numbers or bools. Cast it, e.g. value.real, or "
            "np.asarray(value, np.float32)"
        )
    if isinstance(array, jax.Array):
        return array
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    wrong = np.isinf(cast) & ~np.isinf(array) if kind == "f" else cast != array
    if wrong.any():
        raise InvalidArgumentError(
            f"value holds {array[wrong][0]}, which {dtype.name} can't; scale the values, or enable x64 in JAX"
        )
    return cast


def weights_of(values: Sequence[Any], dtype: Any) -> np.ndarray:
    """Attributes of edges as numbers of a dtype."""
    try:
        given, cast = np.asarray(values), np.asarray(values, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidTypeError(f"the weights can't all be made {dtype!r}: {error}") from error
    if cast.dtype.kind in "iu" and (cast != given).any():
        raise InvalidArgumentError(
            f"the weights aren't all {cast.dtype.name}, such as {given[cast != given][0]}; pass dtype=np.float32"
        )
    return cast
