"""Types are views of words: the way from 4-byte dtypes to 32-bit words, and back."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped, UInt32

from .._errors import InvalidTypeError

__all__ = ["WORD_DTYPES", "from_words"]

WORD_DTYPES = tuple(map(jnp.dtype, (jnp.uint32, jnp.int32, jnp.float32)))


def from_words(words: UInt32[Array, "*shape"] | Any, dtype: jax.typing.DTypeLike) -> Shaped[Array, "*shape"]:
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
    if jnp.dtype(dtype) not in WORD_DTYPES:
        raise InvalidTypeError(f"got dtype {jnp.dtype(dtype)}; words can be seen as uint32, int32 or float32")
    return jax.lax.bitcast_convert_type(words, dtype)
