"""Places in an array that may have been written: runs of elements, or flags; and the pages on which they lie.

Elements are counted flat, in the order of memory.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32

__all__ = ["Runs", "Touch", "Where", "flags_of", "ids_of", "runs_of_scatter", "runs_of_slice"]


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs of `length` elements.

    >>> Runs(jnp.array([8, 24]), length=4, stride=8, disjoint=True).pages_each(8)
    1
    """

    start: Int32[Array, " n"]
    """Where each begins."""
    length: int
    stride: int
    """A number that divides every start; 0 if all starts are 0."""
    disjoint: bool
    """Whether no two runs share an element."""

    def pages_each(self, per_page: int) -> int:
        """How many pages of `per_page` elements a run may lie on, at most.

        A run that begins `o` elements behind the start of a page reaches the page `(o + length - 1) // per_page`
        behind it, and `o` is a multiple of what divides all starts and the page.
        """
        furthest = per_page - math.gcd(self.stride, per_page)
        return (furthest + self.length - 1) // per_page + 1

    def is_plain(self, per_page: int) -> bool:
        """Whether no page occurs twice among the pages of all runs."""
        return (
            self.disjoint
            and self.pages_each(per_page) == -(-self.length // per_page)
            and (self.stride % per_page == 0 or self.start.size == 1)
        )


@dataclass(frozen=True, eq=False)
class Where:
    """Stretches of `step` elements, of which those are touched whose flag is set; from element 0, without gaps."""

    flags: Bool[Array, " n"]
    step: int

    def divides(self, per_page: int) -> bool:
        """Whether stretches and pages divide each other, so that flags of pages can be made of these."""
        return self.step % per_page == 0 or per_page % self.step == 0


Touch = Runs | Where


def ids_of(touch: Runs, per_page: int) -> Int32[Array, " k"]:
    """The pages of all runs, of `per_page` elements each, in the order of the runs. One may occur several times.

    >>> ids_of(Runs(jnp.array([6, 16]), length=4, stride=2, disjoint=True), per_page=8).tolist()
    [0, 1, 2, 2]
    """
    each = touch.pages_each(per_page)
    first, last = touch.start // per_page, (touch.start + (touch.length - 1)) // per_page
    return jnp.minimum(first[:, None] + jnp.arange(each, dtype=jnp.int32)[None], last[:, None]).reshape(-1)


def flags_of(touch: Touch, per_page: int, pages: int) -> Bool[Array, " pages"]:
    """A flag for each page of `per_page` elements; what lies beyond the last page is left out.

    >>> flags_of(Where(jnp.array([False, True, False, False]), step=4), per_page=8, pages=2).tolist()
    [True, False]
    """
    if isinstance(touch, Runs):
        return jnp.zeros(pages, jnp.bool_).at[ids_of(touch, per_page)].set(True, mode="drop")
    if touch.step % per_page == 0:
        return jnp.repeat(touch.flags, touch.step // per_page)[:pages]
    each = per_page // touch.step
    return touch.flags[: pages * each].reshape(pages, each).any(axis=1)


def runs_of_scatter(
    shape: Sequence[int], indices: Any, updates: Sequence[int], numbers: Any, unique: bool, most: int
) -> Runs | None:
    """What a scatter may write. Windows that lie out of bounds are moved in: that is more than is written, never less.

    **Arguments:**

    - `shape`, `updates`: shapes of the operand and the updates.
    - `indices`: integers [*batch, d].
    - `numbers`: the equation's `ScatterDimensionNumbers`.
    - `unique`: whether the caller promised that windows don't overlap.
    - `most`: give up and return None when there are more runs.
    """
    sizes = iter(updates[axis] for axis in numbers.update_window_dims)
    gone = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    window = [1 if axis in gone else next(sizes) for axis in range(len(shape))]
    batch = indices.shape[:-1]
    at = {
        int(axis): _inside(indices[..., i], shape[axis] - window[axis])
        for i, axis in enumerate(numbers.scatter_dims_to_operand_dims)
    }
    for axis, of_batch in zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True):
        at[int(axis)] = jax.lax.broadcasted_iota(jnp.int32, batch, of_batch)
    return _runs(shape, window, at, batch, unique or math.prod(batch) == 1, most)


def runs_of_slice(shape: Sequence[int], window: Sequence[int], starts: Sequence[Any], most: int) -> Runs | None:
    """What a `dynamic_update_slice` writes."""
    at = {axis: _inside(starts[axis], shape[axis] - window[axis]) for axis in range(len(shape))}
    return _runs(shape, window, at, (), True, most)


def _inside(index: Any, last: int) -> Int32[Array, "..."]:
    index = jnp.asarray(index)
    if index.dtype.itemsize < 4:
        index = index.astype(jnp.int32)
    return jnp.clip(index, 0, last).astype(jnp.int32)


def _runs(
    shape: Sequence[int],
    window: Sequence[int],
    at: Mapping[int, Int32[Array, "..."]],
    batch: Sequence[int],
    disjoint: bool,
    most: int,
) -> Runs | None:
    """Windows as runs: an axis behind which windows span everything is contiguous; axes before it are counted out."""
    if 0 in window or 0 in batch:
        return Runs(jnp.zeros(0, jnp.int32), 1, 0, True)
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    split = len(shape) - 1
    while split > 0 and window[split] == shape[split]:
        split -= 1
    outer = [range(0, window[axis] * strides[axis], strides[axis]) for axis in range(max(split, 0))]
    offsets = np.array([sum(parts) for parts in itertools.islice(itertools.product(*outer), most + 1)], np.int32)
    if len(offsets) * math.prod(batch) > most:
        return None
    starts = sum((at[axis] * strides[axis] for axis in at), jnp.zeros(batch, jnp.int32))
    moving = [strides[axis] for axis in at] + [strides[axis] for axis in range(max(split, 0)) if window[axis] > 1]
    length = window[split] * strides[split] if shape else 1
    return Runs((starts.reshape(-1, 1) + offsets[None]).reshape(-1), length, math.gcd(*moving), disjoint)
