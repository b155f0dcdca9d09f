"""A leaf of a tree as rows of whole pages, read where they are needed: its pages are never formed all at once."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int32, Shaped, UInt32

from ...physical import Leaf

__all__ = ["Strip"]


@dataclass(frozen=True)
class Strip:
    """The whole pages of a leaf that has pages of its own. What it has beyond them is its tail, less than a page."""

    leaf: Leaf
    page_words: int

    @property
    def first_page(self) -> int:
        """The id of its first page."""
        return self.leaf.first_page

    @property
    def pages(self) -> int:
        """How many pages it fills."""
        elements = self.leaf.words if self.per_page is None or self.leaf.impl is not None else self.leaf.size
        return elements // self._width

    @property
    def per_page(self) -> int | None:
        """How many elements lie on a page; None when an element may straddle two."""
        width = 4 if self.leaf.impl is not None else self.leaf.dtype.itemsize
        return None if 4 * self.page_words % width else 4 * self.page_words // width

    def flat(self, value: Any) -> Shaped[Array, " n"]:
        """A value of the leaf as a row of elements, or of words where those straddle pages."""
        if self.per_page is None:
            return self.leaf.to_words(value)
        if self.leaf.impl is not None:
            value = jax.random.key_data(value)
        return jnp.asarray(value).reshape(-1)

    def rows(self, flat: Shaped[Array, " n"], ids: Int32[Array, " k"]) -> UInt32[Array, "k W"]:
        """Some of its pages, by their numbers within the leaf, which must be below `pages`."""
        width = self._width
        if self.pages * width == len(flat):
            found = flat.reshape(self.pages, width).at[ids].get(mode="promise_in_bounds")
        else:
            found = jax.vmap(lambda at: jax.lax.dynamic_slice(flat, (at * width,), (width,)))(ids)
        return self._as_words(found.reshape(-1), len(ids))

    def all(self, flat: Shaped[Array, " n"]) -> UInt32[Array, "pages W"]:
        """All its pages."""
        return self._as_words(flat[: self.pages * self._width], self.pages)

    def tail(self, flat: Shaped[Array, " n"]) -> UInt32[Array, " words"]:
        """The words beyond its last whole page."""
        rest = flat[self.pages * self._width :]
        return self._words(rest)

    @property
    def _width(self) -> int:
        return self.per_page or self.page_words

    def _as_words(self, flat: Shaped[Array, " n"], rows: int) -> UInt32[Array, "rows W"]:
        return self._words(flat).reshape(rows, self.page_words)

    def _words(self, flat: Shaped[Array, " n"]) -> UInt32[Array, " words"]:
        if self.per_page is None or self.leaf.impl is not None:
            return flat
        return dataclasses.replace(self.leaf, shape=flat.shape).to_words(flat)
