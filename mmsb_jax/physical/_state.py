"""The state: one array of 32-bit words, a page table, and when each page last changed."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int32, Shaped, UInt32

from .._errors import InvalidArgumentError, InvalidTypeError
from .._require import whole_number
from ._words import from_words

__all__ = ["State", "page_words_of"]


class State(eqx.Module):
    """Everything that lives on the bus, as an immutable pytree.

    `pages` holds the contents, row by row, in the order of *slots*; users and logs speak of stable page *ids*, and
    `slot_of_page` translates. It is always a permutation: laying memory out anew moves rows, ids never change.
    Only `apply` writes contents and epochs, only `advance` the tick.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp
    >>> state = mmsb.State.create(4, page_bytes=16)
    >>> state.view(jnp.float32).shape
    (4, 4)

    ```
    """

    pages: UInt32[Array, "slots words"]
    """Contents, one row per slot."""
    slot_of_page: Int32[Array, " pages"]
    """Page table: the slot where a page's row lies."""
    epoch: UInt32[Array, " pages"]
    """The tick at which the page was last written; 0 for never."""
    tick: UInt32[Array, ""]
    """The present moment. Whatever is applied now is stamped with it."""
    whole: bool = eqx.field(static=True, default=True)
    """Whether every page has a row here, which goes for any state that isn't the inside of a bus.

    In one that isn't whole, pages without a row share the last row, which is zero (see `mmsb_jax.physical.enter`)."""

    @classmethod
    def create(cls, pages: int | Any, *, page_bytes: int | Any = 1024) -> "State":
        """A state of `pages` zeroed pages at tick 0, in the order of their ids.

        **Raises:** `InvalidArgumentError` when `pages` isn't positive or `page_bytes` isn't a positive multiple of 4,
        `InvalidTypeError` when one isn't a whole number.
        """
        pages, page_words = _whole("pages", pages), page_words_of(page_bytes)
        if not 0 < pages < 2**31 - 1:
            raise InvalidArgumentError(f"got pages={pages!r}; a state needs between 1 and 2**31 - 2 pages")
        return cls(
            pages=jnp.zeros((pages, page_words), jnp.uint32),
            slot_of_page=jnp.arange(pages, dtype=jnp.int32),
            epoch=jnp.zeros(pages, jnp.uint32),
            tick=jnp.zeros((), jnp.uint32),
        )

    @property
    def num_pages(self) -> int:
        """How many page ids there are."""
        return self.epoch.shape[-1]

    @property
    def page_words(self) -> int:
        """Words in a page (static)."""
        return self.pages.shape[-1]

    @property
    def page_bytes(self) -> int:
        """Bytes in a page (static)."""
        return 4 * self.page_words

    def require_whole(self, what: str) -> None:
        """Raise `InvalidArgumentError` unless every page has a row here; `what` can't do without."""
        if not self.whole:
            raise InvalidArgumentError(
                f"{what} needs a whole state, but some pages of this one lie in host memory; `bus.state` puts a "
                "whole one together"
            )

    def advance(self) -> "State":
        """The same contents, one tick later."""
        return eqx.tree_at(lambda s: s.tick, self, self.tick + jnp.uint32(1))

    def rows(self, page: Int32[Array, "..."]) -> UInt32[Array, "... words"]:
        """Contents of some pages, by id. An id outside `[0, num_pages)` reads as zeros.

        So does a page without a row, in a state that isn't whole: whoever has one knows which pages it holds.
        """
        inside = (page >= 0) & (page < self.num_pages)
        slot = self.slot_of_page.at[jnp.where(inside, page, 0)].get(mode="promise_in_bounds")
        row = self.pages.at[slot].get(mode="promise_in_bounds")
        return jnp.where(inside[..., None], row, jnp.uint32(0))

    def view(self, dtype: jax.typing.DTypeLike | Any = jnp.uint32) -> Shaped[Array, "pages words"]:
        """All pages in the order of their ids, as a 4-byte dtype.

        **Raises:** `InvalidTypeError` for any other dtype, `InvalidArgumentError` for a state that isn't whole.
        """
        self.require_whole("view")
        ordered = self.pages.at[self.slot_of_page].get(mode="promise_in_bounds", unique_indices=True)
        return from_words(ordered, dtype)


def page_words_of(page_bytes: int | Any) -> int:
    """Words in a page of so many bytes. Raises `InvalidArgumentError`, `InvalidTypeError`.

    ```python
    >>> mmsb.physical.page_words_of(1024)
    256

    ```
    """
    page_bytes = _whole("page_bytes", page_bytes)
    if page_bytes <= 0 or page_bytes % 4:
        raise InvalidArgumentError(
            f"got page_bytes={page_bytes!r}; a page is made of 32-bit words, so pass a positive multiple of 4"
        )
    return page_bytes // 4


def _whole(what: str, value: Any) -> int:
    number = whole_number(value)
    if number is None:
        raise InvalidTypeError(f"got {what}={value!r}; pass a whole number")
    return number
