"""How local accesses are: reuse distances, hit ratios, working sets, entropy, blocks touched. Exact, on the host."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Int64
from numpy.typing import ArrayLike

from .._errors import InvalidArgumentError
from .._require import require_instance, whole_number
from ._layout import Layout
from ._reuse import previous_access, stack_distances
from ._trace import Trace

__all__ = ["Locality", "entropy", "locality"]


@dataclasses.dataclass(frozen=True)
class Locality:
    """What `locality` finds. Prints as a table."""

    accesses: int
    blocks: int
    """Blocks that were touched at all."""
    block: int
    """Slots in one."""
    distances: Int64[np.ndarray, " accesses"]
    """How many other blocks were touched since a block was touched last; −1 the first time."""
    blocks_per_batch: float
    """Blocks that a batch touches, on average."""
    entropy: float
    """Of the distribution of accesses over pages, in bits."""
    _gaps: Int64[np.ndarray, " accesses"]

    def hit_ratio(self, capacity: ArrayLike) -> Float64[np.ndarray, "..."]:
        """The part of accesses that an LRU cache of so many blocks would hit; of one capacity or several.

        >>> locality(Trace([[0, 1, 0, 1, 2, 0]], num_pages=3)).hit_ratio([1, 2, 3])
        array([0.        , 0.33333333, 0.5       ])
        """
        again = np.sort(self.distances[self.distances >= 0])
        return np.asarray(np.searchsorted(again, np.asarray(capacity), side="left") / max(self.accesses, 1))

    def working_set(self, window: ArrayLike) -> Float64[np.ndarray, "..."]:
        """How many blocks are touched within so many consecutive accesses, on average over all such windows.

        By the times between accesses to the same block (Denning and Schwartz, Properties of the working-set model,
        CACM 15, 1972). A window may reach over either end of the trace.

        >>> locality(Trace([[0, 1, 0, 1]], num_pages=2)).working_set([1, 2]).tolist()
        [1.0, 1.6]
        """
        size = np.asarray(window)[..., None]
        covered = np.minimum(self._gaps, size).sum(axis=-1, dtype=np.float64)
        return np.asarray(covered / np.maximum(self.accesses + size[..., 0] - 1, 1))

    def __str__(self) -> str:
        first = int((self.distances < 0).sum())
        again = self.distances[self.distances >= 0]
        middle = "none" if not len(again) else f"{np.median(again):g}"
        return "\n".join(
            [
                f"{self.accesses} accesses to {self.blocks} blocks of {self.block} slots",
                f"  blocks a batch touches    {self.blocks_per_batch:.4g}",
                f"  first accesses            {first}",
                f"  median reuse distance     {middle}",
                f"  hit ratio of 16, 256      {self.hit_ratio(16):.3f}, {self.hit_ratio(256):.3f}",
                f"  entropy of pages          {self.entropy:.3f} bits",
            ]
        )


def locality(trace: Trace | Any, *, layout: Layout | Any | None = None, block: int | Any = 1) -> Locality:
    """Look at a trace as a memory does that holds `block` slots together, under a layout (by default ids are slots).

    Takes n log² n steps for n accesses: a second for a million.

    Raises `InvalidTypeError`, `InvalidArgumentError`.

    >>> print(locality(Trace([[0, 2], [1, 3], [0, 2]], num_pages=4), layout=Layout([0, 2, 1, 3]), block=2))
    6 accesses to 2 blocks of 2 slots
      blocks a batch touches    1
      first accesses            2
      median reuse distance     0
      hit ratio of 16, 256      0.667, 0.667
      entropy of pages          1.918 bits
    """
    require_instance(trace, Trace, "Trace(batches, num_pages=…) makes one")
    size = whole_number(block)
    if size is None or size < 1:
        raise InvalidArgumentError(f"got block={block!r}; pass how many slots lie in one, 1 or more")
    where = Layout.identity(trace.num_pages) if layout is None else layout
    require_instance(where, Layout, "mmsb.layout.optimize(…) finds one")
    if len(where) != trace.num_pages:
        raise InvalidArgumentError(f"got a layout of {len(where)} pages for a trace of {trace.num_pages}")
    touched = where.slot_of_page[trace.page] // size
    return Locality(
        accesses=len(touched),
        blocks=len(np.unique(touched)),
        block=size,
        distances=stack_distances(touched),
        blocks_per_batch=trace.distinct(touched) / max(len(trace), 1),
        entropy=float(entropy(trace.hits())),
        _gaps=_gaps(touched),
    )


def entropy(counts: Float[Array, " n"] | ArrayLike) -> Any:
    """Shannon entropy of a distribution in bits, from counts or weights of any sum, 0 or more. Differentiable.

    Its gradient is by the counts, as they are: of a uniform distribution it is 0, a page that is used less than others
    has a positive one. Where a count is 0, so is its part of the gradient.

    >>> import jax, jax.numpy as jnp
    >>> entropy(jnp.float32([1, 1, 2])), jax.grad(entropy)(jnp.float32([1, 1, 2]))
    (Array(1.5, dtype=float32), Array([ 0.125,  0.125, -0.125], dtype=float32))
    """
    array = jnp.asarray(counts)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(jnp.float32)
    total = jnp.sum(array)
    part = array / jnp.where(total > 0, total, 1)
    inside = jnp.where(part > 0, part, 1)  # the branch not taken must have a derivative, too
    found: jax.Array = -jnp.sum(jnp.where(part > 0, part * jnp.log2(inside), 0))
    return found


def _gaps(touched: np.ndarray) -> np.ndarray:
    """From each access to the next of the same block, or to the end and beyond it, as far as a window may reach."""
    gaps = np.full(len(touched), np.iinfo(np.int64).max)
    before = previous_access(touched)
    again = np.flatnonzero(before >= 0)
    gaps[before[again]] = again - before[again]
    return gaps
