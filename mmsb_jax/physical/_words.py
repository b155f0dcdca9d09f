"""Types are views of words: the way from 4-byte dtypes to 32-bit words, and back."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Shaped, UInt32

from .._errors import InvalidTypeError

__all__ = ["as_words", "from_words"]

_WORD_DTYPES = tuple(map(jnp.dtype, (jnp.uint32, jnp.int32, jnp.float32)))


def as_words(values: ArrayLike | Any) -> UInt32[Array, "..."]:
    """The bits of an array of a 4-byte dtype, as 32-bit words.

    **Arguments:**

    - `values`: any shape; dtype uint32, int32 or float32.

    **Returns:** uint32 of the same shape. Inside jit this costs nothing.

    **Raises:** `InvalidTypeError` for a dtype that isn't 4 bytes wide, and for what is no array.

    ```python
    >>> import jax.numpy as jnp
    >>> as_words(jnp.array([1.0, -0.0], jnp.float32))
    Array([1065353216, 2147483648], dtype=uint32)

    ```
    """
    # NumPy's arrays are judged as they are: JAX would cut 64 bits to 32 without a word.
    array = values if isinstance(values, np.ndarray | np.generic) else _as_array(values)
    if array.dtype == jnp.uint32:
        return jnp.asarray(array)
    if array.dtype not in _WORD_DTYPES:
        raise InvalidTypeError(
            f"got an array of dtype {array.dtype}, but a page is made of 32-bit words; "
            "pass uint32, int32 or float32 (cast first, for example `x.astype(jnp.float32)`)"
        )
    return jax.lax.bitcast_convert_type(jnp.asarray(array), jnp.uint32)


def from_words(words: UInt32[Array, "*shape"] | Any, dtype: jax.typing.DTypeLike | Any) -> Shaped[Array, "*shape"]:
    """32-bit words seen as a 4-byte dtype: the inverse of `as_words`. Rules read their parents with it.

    **Raises:** `InvalidTypeError` for any other dtype, and for words that aren't uint32.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp
    >>> mmsb.from_words(mmsb.as_words(jnp.array([1.5, -0.0], jnp.float32)), jnp.float32)
    Array([ 1.5, -0. ], dtype=float32)

    ```
    """
    if getattr(words, "dtype", None) != jnp.uint32:
        raise InvalidTypeError(f"got {getattr(words, 'dtype', type(words).__name__)} instead of words; pass uint32")
    return jax.lax.bitcast_convert_type(words, _word_dtype(dtype))


def _word_dtype(dtype: Any) -> np.dtype:
    wanted = "words can be seen as uint32, int32 or float32, 4 bytes wide"
    try:
        known = jnp.dtype(dtype)
    except TypeError as why:
        raise InvalidTypeError(f"got dtype={dtype!r} ({why}); {wanted}") from why
    if known not in _WORD_DTYPES:
        raise InvalidTypeError(f"got dtype {known}; {wanted}")
    return known


def _as_array(values: Any) -> Array:
    try:
        return jnp.asarray(values)
    except (TypeError, ValueError, OverflowError) as why:
        raise InvalidTypeError(
            f"got a {type(values).__name__} that can't be an array of 32-bit words ({why}); "
            "pass uint32, int32 or float32"
        ) from why
