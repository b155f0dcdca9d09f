"""What the values of a semiring are: numbers of some dtypes, or pytrees of them, always with their identities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import treedef_is_leaf
from jax.typing import DTypeLike

from .._errors import InvalidArgumentError, InvalidTypeError

Scalar: TypeAlias = bool | int | float | np.generic | np.ndarray | jax.Array
Unit: TypeAlias = bool | int | float | Callable[[np.dtype], Any] | tuple[tuple[bool | int | float, str], ...]
BinaryOp: TypeAlias = Callable[[Any, Any], Any] | Any

KIND_NAMES = {"f": "floating", "i": "signed integers", "u": "unsigned integers", "b": "bool"}
PROBE_DTYPES: dict[str, Any] = {"f": np.float32, "i": np.int32, "u": np.uint32, "b": np.bool_}


def kind_of(dtype: DTypeLike) -> str:
    """One letter for a dtype: "f", "i", "u", "b", or "" for what no semiring here can carry."""
    families: dict[str, Any] = {"b": jnp.bool_, "f": jnp.floating, "u": jnp.unsignedinteger, "i": jnp.signedinteger}
    return next((kind for kind, family in families.items() if jnp.issubdtype(dtype, family)), "")


def unit_of(what: str, identity: Any) -> tuple[Unit, jax.tree_util.PyTreeDef | None]:
    """An identity as static data, which can be hashed and compared, and the structure of a pytree (None: a number)."""
    leaves, structure = jax.tree.flatten(identity)
    if leaves and treedef_is_leaf(structure):
        return _static_scalar(what, identity), None
    if not leaves:
        raise InvalidTypeError(f"{what} is {identity!r}, a tree without numbers; give at least one")
    for leaf in leaves:
        if callable(leaf) or np.ndim(leaf) or not kind_of(np.asarray(leaf).dtype):
            raise InvalidTypeError(
                f"{what} is a tree with the leaf {leaf!r}; every leaf must be a scalar, whose dtype is that of the "
                "values, e.g. np.float32(np.inf)"
            )
    arrays = [jnp.asarray(leaf) for leaf in leaves]
    return tuple((array.item(), array.dtype.name) for array in arrays), structure


def _static_scalar(what: str, value: Any) -> bool | int | float | Callable[[np.dtype], Any]:
    """Arrays as Python scalars."""
    if isinstance(value, np.generic | np.ndarray | jax.Array) and np.ndim(value) == 0:
        return value.item()
    if callable(value) or isinstance(value, bool | int | float):
        return value
    raise InvalidTypeError(
        f"{what} must be a scalar, a function dtype -> scalar, or a pytree of scalars; got {value!r}. E.g. 0.0, "
        "jnp.inf, or lambda dtype: jnp.iinfo(dtype).max"
    )


def _fits(number: bool | int | float, dtype: np.dtype) -> bool:
    if kind_of(dtype) == "f":
        return True
    if kind_of(dtype) == "b":
        return number in (0, 1)
    if isinstance(number, float) and not number.is_integer():  # inf and nan are no integers either
        return False
    return bool(jnp.iinfo(dtype).min <= number <= jnp.iinfo(dtype).max)


def as_dtype(what: str, value: Any, dtype: np.dtype) -> np.generic:
    """An identity as a scalar of a dtype. Raises `InvalidTypeError` where that can't hold it."""
    number = np.asarray(value(dtype) if callable(value) else value).item()
    if not _fits(number, dtype):
        raise InvalidTypeError(
            f"{what} is {number!r}, which {dtype.name} can't hold; use a dtype that can, or give it as a "
            "function of the dtype, e.g. lambda dtype: jnp.iinfo(dtype).max"
        )
    return dtype.type(int(number) if kind_of(dtype) in "iu" else number)


def check_op(what: str, op: BinaryOp, probe: Any) -> None:
    """Refuse an operation that isn't (a, b) -> c, element by element, on values such as `probe` describes."""
    if not callable(op):
        raise InvalidTypeError(f"{what} must be a function of two arrays such as jnp.minimum; got {op!r}")
    if isinstance(op, np.ufunc):  # jax.jit refuses one the first time, and crashes the process the second time
        raise InvalidTypeError(f"{what} is NumPy's {op.__name__}, which JAX can't trace; use jnp.{op.__name__}")
    shown = describe(probe)
    try:
        out = jax.eval_shape(op, probe, probe)
    except Exception as error:
        raise InvalidArgumentError(
            f"{what} failed on two arrays {shown}: {error}. It must take two arrays of one shape and dtype, be "
            "traceable by JAX, and return one of the same shape and dtype"
        ) from error
    if describe(out) != shown or str(jax.tree.structure(out)) != str(jax.tree.structure(probe)):
        raise InvalidArgumentError(
            f"{what} must keep shape and dtype: two arrays {shown} gave {describe(out)}. "
            "Cast inside the operation, e.g. .astype(a.dtype), and reduce nothing"
        )


def describe(tree: Any) -> str:
    """Arrays, or a tree of them, by dtype and shape: `float32[2, 3]`."""
    leaves, structure = jax.tree.flatten(tree)
    names = [
        f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}" if hasattr(leaf, "dtype") else repr(leaf) for leaf in leaves
    ]
    return ", ".join(names) if treedef_is_leaf(structure) else str(jax.tree.unflatten(structure, names))


def check_kinds(name: str, kinds: str) -> str:
    """The letters of the dtypes that something is meant for."""
    if not kinds or set(kinds) - set(KIND_NAMES):
        raise InvalidArgumentError(
            f"{name}: kinds is {kinds!r}; it must be made of the letters "
            + ", ".join(f"{letter!r} ({meaning})" for letter, meaning in KIND_NAMES.items())
        )
    return kinds


def check_name(name: str) -> str:
    """A string that isn't empty."""
    if not isinstance(name, str) or not name:
        raise InvalidTypeError(f"the name must be a string that isn't empty, e.g. 'min_plus'; got {name!r}")
    return name
