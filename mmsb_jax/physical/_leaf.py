"""A leaf of a tree as 32-bit words, and back, bit for bit: in JAX for use inside `jit`, and in NumPy without it.

Types of 4 bytes are seen as words as they are. Those of 8 bytes are two words each, the low one first; narrower ones
fill words from the low end, with zeros behind the last. Complex numbers are pairs of their parts, bools and 2- and
4-bit integers take a byte each, and a typed key is the words of its `key_data`.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped, UInt32

from .._errors import InvalidTypeError

__all__ = ["CARRIED", "Leaf", "key_words"]

_PLAIN = """
    bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64 complex128
    float8_e3m4 float8_e4m3 float8_e4m3b11fnuz float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu
"""
_UNSIGNED = {1: np.uint8, 2: np.uint16}
_AS_BYTES = {"bool": np.uint8, "int2": np.int8, "int4": np.int8, "uint2": np.uint8, "uint4": np.uint8}

CARRIED: dict[str, np.dtype] = {name: np.dtype(getattr(jnp, name)) for name in [*_PLAIN.split(), *_AS_BYTES]}
"""The dtypes that pages can carry, by name."""


@dataclass(frozen=True)
class Leaf:
    """What a leaf of a tree is, and where its words lie.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp
    >>> paging, _ = mmsb.Paging.of({"x": jnp.zeros((3, 100)), "n": 0}, page_bytes=512)
    >>> [(leaf.path, leaf.dtype.name, leaf.shape, leaf.words, leaf.pages, leaf.offset) for leaf in paging.leaves]
    [("['n']", 'int32', (), 1, range(0, 1), 0), ("['x']", 'float32', (3, 100), 300, range(1, 4), 0)]

    ```
    """

    path: str
    """Where it stands in the tree, as `jax.tree_util.keystr` writes it; empty for a tree that is a single leaf."""
    dtype: np.dtype
    """Its dtype; of a typed key uint32, that of its data."""
    shape: tuple[int, ...]
    """Its shape; of a typed key that of the array of keys."""
    impl: Any = None
    """Of a typed key, its implementation, such as `"threefry2x32"`; otherwise None."""
    pages: range = range(0)
    """The ids of its pages; none when it has no words."""
    offset: int = 0
    """Where it begins in the first of them, in words."""

    @property
    def kind(self) -> Literal["array", "key"]:
        """`"key"` for a typed PRNG key or an array of them."""
        return "array" if self.impl is None else "key"

    @property
    def first_page(self) -> int:
        """The first of its pages."""
        return self.pages.start

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def words(self) -> int:
        """How many words it takes."""
        if self.impl is not None:
            return self.size * key_words(self.impl)
        return -(-self.size * self.dtype.itemsize // 4)

    def to_words(self, value: Shaped[Array, "..."] | Any) -> UInt32[Array, " words"]:
        """The bits of a value of this leaf's dtype and shape."""
        if isinstance(value, jax.ShapeDtypeStruct):
            raise InvalidTypeError(f"the leaf {self.path} has a shape but no contents; pass an array")
        if self.impl is not None:
            return jax.random.key_data(value).reshape(-1)
        array = jnp.asarray(value, self.dtype)
        if self.dtype.name in _AS_BYTES:
            array = array.astype(_AS_BYTES[self.dtype.name])
        if self.dtype.kind == "c":
            array = jnp.stack([jnp.real(array), jnp.imag(array)], axis=-1)
        return _words_of(array)

    def from_words(self, words: UInt32[Array, " words"]) -> Shaped[Array, "..."]:
        """The inverse of `to_words`. Raises `InvalidTypeError` for 64 bits when JAX is set to 32."""
        if self.impl is not None:
            return jax.random.wrap_key_data(words.reshape(*self.shape, key_words(self.impl)), impl=self.impl)
        self._require_width()
        if self.dtype.kind == "c":
            parts = _seen_as(words, np.dtype(f"float{4 * self.dtype.itemsize}"), (*self.shape, 2))
            return jax.lax.complex(parts[..., 0], parts[..., 1])
        return _seen_as(words, np.dtype(_AS_BYTES.get(self.dtype.name, self.dtype)), self.shape).astype(self.dtype)

    def to_numpy(self, words: np.ndarray) -> Any:
        """The same on the host, as a NumPy array, or as a key: a view of `words` where that is possible."""
        if self.impl is not None:
            data = jnp.array(words.reshape(*self.shape, key_words(self.impl)))
            return jax.random.wrap_key_data(data, impl=self.impl)
        raw = np.ascontiguousarray(words).view(np.uint8)[: self.size * self.dtype.itemsize]
        if stored := _AS_BYTES.get(self.dtype.name):
            return raw.view(stored).reshape(self.shape).astype(self.dtype)
        return np.require(raw.view(self.dtype).reshape(self.shape), requirements="A")

    def _require_width(self) -> None:
        if jax.dtypes.canonicalize_dtype(self.dtype) != self.dtype:
            raise InvalidTypeError(
                f"the leaf {self.path} is {self.dtype}, which JAX would cut to 32 bits as it is set now; set "
                "jax_enable_x64, or read it on the host with Paging.from_pages"
            )


@functools.cache
def key_words(impl: Any) -> int:
    """How many words a key of this implementation has. Raises `ValueError` when JAX knows none of this name."""
    make: Callable[[], Any] = functools.partial(jax.random.key, 0, impl=impl)
    return int(jax.eval_shape(lambda: jax.random.key_data(make())).size)


# Floats narrower than a word are never touched but by a bitcast to integers of their width: CPUs compute with them by
# way of float32, which turns signalling NaNs into quiet ones even when all that is asked for is padding.


def _words_of(array: Shaped[Array, "..."]) -> UInt32[Array, " words"]:
    per_word = 4 // array.dtype.itemsize
    if per_word > 1:
        flat = jax.lax.bitcast_convert_type(array, _UNSIGNED[array.dtype.itemsize]).reshape(-1)
        array = jnp.pad(flat, (0, -len(flat) % per_word)).reshape(-1, per_word)
    return jax.lax.bitcast_convert_type(array, jnp.uint32).reshape(-1)


def _seen_as(words: UInt32[Array, " words"], dtype: np.dtype, shape: tuple[int, ...]) -> Shaped[Array, "..."]:
    if dtype.itemsize == 8:
        words = words.reshape(*shape, 2)
    elif dtype.itemsize < 4:
        words = jax.lax.bitcast_convert_type(words, _UNSIGNED[dtype.itemsize]).reshape(-1)[: math.prod(shape)]
    return jax.lax.bitcast_convert_type(words, dtype).reshape(shape)
