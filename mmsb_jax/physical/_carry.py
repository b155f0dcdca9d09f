"""What pages can carry, and what is refused: the judge of a tree's leaves."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import InvalidTypeError
from ._leaf import CARRIED, Leaf

__all__ = ["judge", "named"]


def judge(path: str, value: Any) -> Leaf | None:
    """What a leaf is, without a place: an array, also a number; a typed key; or None for static structure.

    **Raises:** `InvalidTypeError` for what can't be carried without loss.
    """
    match value:
        case jax.Array() | jax.ShapeDtypeStruct():
            return _of_jax(path, value)
        case np.ndarray() | np.generic():
            return _of_numpy(path, value)
        case bool() | int() | float() | complex():
            return _of_number(path, value)
    if not isinstance(value, type) and hasattr(value, "shape") and hasattr(value, "dtype"):
        raise InvalidTypeError(
            f"{named(path)} is a {_type_name(value)}, an array that isn't JAX's or NumPy's; convert it first, for "
            "example by jnp.asarray (a mutable Ref: pass its contents, `ref[...]`)"
        )
    _require_hashable(path, value)
    return None


def named(path: str) -> str:
    """A leaf as errors speak of it."""
    return f"the leaf {path}" if path else "the tree, a single leaf,"


def _of_jax(path: str, value: Any) -> Leaf:
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        found: list[Any] = []
        jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), value)
        return Leaf(path, np.dtype(np.uint32), value.shape, found[0])
    return Leaf(path, _carried(path, value.dtype), value.shape)


def _of_numpy(path: str, value: Any) -> Leaf:
    if isinstance(value, np.ma.MaskedArray):
        raise InvalidTypeError(f"{named(path)} is a masked array, whose mask would be lost; pass data and mask apart")
    dtype = _carried(path, value.dtype)
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        narrow = jax.dtypes.canonicalize_dtype(dtype)
        raise InvalidTypeError(
            f"{named(path)} is a NumPy {dtype}, which JAX would cut to {narrow}; convert it yourself with "
            f"x.astype(np.{narrow}), or set jax_enable_x64"
        )
    return Leaf(path, dtype, value.shape)


def _of_number(path: str, value: Any) -> Leaf:
    try:
        return Leaf(path, jnp.asarray(value).dtype, ())
    except OverflowError as why:
        raise InvalidTypeError(
            f"{named(path)} is {value}, an integer too large for JAX as it is set now; make it a float, or set "
            "jax_enable_x64"
        ) from why


def _carried(path: str, dtype: Any) -> np.dtype:
    if dtype.name not in CARRIED:
        raise InvalidTypeError(
            f"{named(path)} has dtype {dtype}, which has no form as 32-bit words; pages carry bools, integers, "
            "floats and complex numbers as JAX has them, and typed PRNG keys. Encode it as these, or leave it out"
        )
    return CARRIED[dtype.name]


def _require_hashable(path: str, value: Any) -> None:
    # Static structure is part of what a compiled function is looked up by.
    try:
        hash(value)
    except TypeError as why:
        raise InvalidTypeError(
            f"{named(path)} is a {_type_name(value)}, which is neither an array nor hashable ({why}); make it an "
            "array, or keep it out of the tree"
        ) from why


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
