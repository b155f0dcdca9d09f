"""`Layout`: where each page lies. A permutation of slots."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Int32
from numpy.typing import ArrayLike

from .._device import on_device
from .._errors import InvalidArgumentError, InvalidTypeError
from .._require import require_instance
from ..physical import State, rearrange

__all__ = ["Layout", "relayout"]


class Layout:
    """Which slot each page lies in: a permutation, checked. Immutable; NumPy, on the host. As an array, the slots.

    >>> layout = Layout([2, 0, 1])
    >>> layout, layout.page_of_slot, layout.inverse()
    (Layout(3 pages), array([1, 2, 0], dtype=int32), Layout(3 pages))
    >>> np.asarray(layout)
    array([2, 0, 1], dtype=int32)
    """

    slot_of_page: Int32[np.ndarray, " pages"]

    def __init__(self, slot_of_page: ArrayLike | Any) -> None:
        """Slots by page id, each from 0 on once. Raises `InvalidTypeError`, `InvalidArgumentError`."""
        try:
            slots = np.asarray(slot_of_page)
        except (TypeError, ValueError) as why:
            raise InvalidTypeError(f"got slots that are no regular array ({why}); pass integers, [pages]") from why
        if slots.ndim != 1 or (slots.size and not np.issubdtype(slots.dtype, np.integer)):
            raise InvalidTypeError(f"got slots of dtype {slots.dtype} and shape {slots.shape}; pass integers, [pages]")
        if slots.size and (slots.min() < 0 or slots.max() >= len(slots) or np.bincount(slots).max() > 1):
            raise InvalidArgumentError(
                f"got {len(slots)} slots that are no permutation; each from 0 to {len(slots) - 1} must stand once"
            )
        self.slot_of_page = slots.astype(np.int32)
        self.slot_of_page.flags.writeable = False

    @classmethod
    def of(cls, state: State | Any) -> Layout:
        """The layout that a state has.

        >>> Layout.of(mmsb.State.create(4))
        Layout(4 pages)
        """
        require_instance(state, State, "State.create(…) makes one")
        state.require_whole("a layout")
        return cls(np.asarray(state.slot_of_page))

    @classmethod
    def identity(cls, pages: int) -> Layout:
        """Every page in the slot of its id."""
        return cls(np.arange(pages, dtype=np.int32))

    @classmethod
    def in_order(cls, pages: ArrayLike | Any) -> Layout:
        """The layout in which pages lie in this order: `pages[s]` in slot s.

        >>> Layout.in_order([1, 2, 0]).slot_of_page
        array([2, 0, 1], dtype=int32)
        """
        return cls(pages).inverse()

    @property
    def page_of_slot(self) -> Int32[np.ndarray, " slots"]:
        """The page that lies in each slot."""
        found = np.empty_like(self.slot_of_page)
        found[self.slot_of_page] = np.arange(len(found), dtype=np.int32)
        return found

    def inverse(self) -> Layout:
        """Pages and slots exchanged: what undoes a permutation."""
        return Layout(self.page_of_slot)

    def after(self, first: Layout) -> Layout:
        """Take what lies in slot s after `first` to slot `self.slot_of_page[s]`.

        >>> one = Layout([2, 0, 1])
        >>> one.inverse().after(one) == Layout.identity(3)
        True
        """
        require_instance(first, Layout, "Layout.of(state) is the one that a state has")
        if len(first) != len(self):
            raise InvalidArgumentError(f"got layouts of {len(first)} and {len(self)} pages; they must be of the same")
        return Layout(self.slot_of_page[first.slot_of_page])

    def __len__(self) -> int:
        return len(self.slot_of_page)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.slot_of_page, dtype=dtype, copy=copy)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and np.array_equal(self.slot_of_page, other.slot_of_page)

    def __hash__(self) -> int:
        return hash(self.slot_of_page.tobytes())

    def __repr__(self) -> str:
        return f"Layout({len(self)} pages)"


def relayout(state: State | Any, layout: Layout | Any) -> State:
    """The same state with its pages in other slots: contents, ids, epochs, digest and tick stay as they are.

    One gather of all rows. In a jitted function with the state donated, the old rows are given back.

    Raises `InvalidArgumentError` when the layout isn't one of so many pages, or the state isn't whole.

    >>> import jax.numpy as jnp
    >>> state = mmsb.State.create(3, page_bytes=4)
    >>> state = mmsb.apply(state, mmsb.DeltaBatch.make(state, [0, 1, 2], [[5], [6], [7]]))
    >>> moved = relayout(state, Layout([2, 0, 1]))
    >>> moved.pages.ravel(), moved.view(jnp.int32).ravel()
    (Array([6, 7, 5], dtype=uint32), Array([5, 6, 7], dtype=int32))
    """
    require_instance(state, State, "State.create(…) makes one")
    require_instance(layout, Layout, "mmsb.layout.optimize(…) finds one")
    state.require_whole("relayout")
    if len(layout) != state.num_pages:
        raise InvalidArgumentError(f"got a layout of {len(layout)} pages for a state of {state.num_pages}")
    moved: State = _moved(state, on_device(layout.slot_of_page))
    return moved


_moved = jax.jit(rearrange)
