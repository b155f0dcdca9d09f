"""Exact moves for the linear arrangement: windows of 8 blocks of slots, each put in its best order, all at once.

Blocks of s slots keep their inner order. For one window the cost of an order of its blocks is a sum over the cuts
between them, plus what each pair of blocks and each block with the pages outside costs where it stands; so the best of
8! orders comes out of dynamic programming over the 2⁸ subsets (Held and Karp, A dynamic programming approach to
sequencing problems, J. SIAM 10, 1962). Windows don't overlap, so that their gains add up.
"""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32

from ._affinity import Affinity
from ._objective import Linear

__all__ = ["improve"]

_BLOCKS = 8
_SUBSETS = 1 << _BLOCKS
_CHUNK = 1024  # Windows that are put in order side by side: their tables then stay in cache.

_member = (np.arange(_SUBSETS)[:, None] >> np.arange(_BLOCKS) & 1).astype(np.float32)
_pairs = list(itertools.combinations(range(_BLOCKS), 2))
_is_cut = np.stack([_member[:, a] != _member[:, b] for a, b in _pairs], 1).astype(np.float32)
_without = np.arange(_SUBSETS)[:, None] & ~(1 << np.arange(_BLOCKS))
_not_in = np.where(_member > 0, 0, np.inf).astype(np.float32)


def improve(affinity: Affinity, page_of_slot: Int32[np.ndarray, " pages"], rounds: int) -> Int32[np.ndarray, " pages"]:
    """An order of pages at most as costly: windows of large blocks first, down to single slots, so many times."""
    order, cost = page_of_slot, _cost(affinity, page_of_slot)
    for _ in range(rounds):
        before = cost
        size = max(1, len(order) // _BLOCKS)
        while size >= 1:
            for shift in sorted({0, 4 * size, 2 * size, 6 * size}):
                moved = _moved(affinity, order, size, shift)
                if moved is not None and (now := _cost(affinity, moved)) < cost:
                    order, cost = moved, now
            size //= 2
        if cost >= before * (1 - 1e-4):
            break
    return order


def _cost(affinity: Affinity, order: np.ndarray) -> float:
    slots = np.empty(len(order), np.int64)
    slots[order] = np.arange(len(order))
    return Linear().cost(affinity, slots)


def _moved(affinity: Affinity, order: np.ndarray, size: int, shift: int) -> np.ndarray | None:
    """The order after every window's best; None where there is no window, or nothing to gain."""
    width = _BLOCKS * size
    windows = (len(order) - shift) // width
    if windows < 1:
        return None
    sums = _sums(affinity, order, size, shift, windows)
    # In floating point a gain may be an error of rounding: then the order stays.
    chunk = min(_CHUNK, 1 << (windows - 1).bit_length())
    room = -windows % chunk
    padded = [np.pad(part.astype(np.float32), [(0, room)] + [(0, 0)] * (part.ndim - 1)) for part in sums]
    best, gain, scale = (np.asarray(part)[:windows] for part in _best_orders(*padded, np.float32(size), chunk=chunk))
    better = gain > 1e-5 * scale
    if not better.any():
        return None
    best = np.where(better[:, None], best, np.arange(_BLOCKS))
    inside = order[shift : shift + windows * width].reshape(windows, _BLOCKS, size)
    ordered = np.take_along_axis(inside, best[:, :, None], 1).reshape(-1)
    return np.concatenate([order[:shift], ordered, order[shift + windows * width :]])


def _sums(
    affinity: Affinity, order: np.ndarray, size: int, shift: int, windows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each window: weights between its blocks [28]; what it costs more if a lies before b than the other way round,
    by where pages lie within blocks [8, 8]; how much more weight pulls a block to the left than to the right [8]."""
    slot = np.empty(len(order), np.int64)
    slot[order] = np.arange(len(order)) - shift
    inside = (slot >= 0) & (slot < windows * _BLOCKS * size)
    window = np.where(inside, slot // (_BLOCKS * size), -1)
    block = np.where(inside, slot // size % _BLOCKS, 0)
    one, other, weight = affinity.one, affinity.other, affinity.weight.astype(np.float64)
    same = (window[one] == window[other]) & inside[one] & (block[one] != block[other])
    a, b, w = one[same], other[same], weight[same]
    swap = block[a] > block[b]
    a, b = np.where(swap, b, a), np.where(swap, a, b)
    key = (window[a] * _BLOCKS + block[a]) * _BLOCKS + block[b]
    cells = windows * _BLOCKS * _BLOCKS
    between = np.bincount(key, w, cells).reshape(windows, _BLOCKS, _BLOCKS)
    offset = np.bincount(key, w * (slot[b] % size - slot[a] % size), cells).reshape(between.shape)
    apart = window[one] != window[other]
    a, b, w = one[apart], other[apart], weight[apart]
    pull = np.where(slot[a] > slot[b], w, -w)
    to_left = np.zeros(windows * _BLOCKS)
    for page, force in ((a, pull), (b, -pull)):
        here = inside[page]
        to_left += np.bincount(window[page[here]] * _BLOCKS + block[page[here]], force[here], windows * _BLOCKS)
    cut = np.stack([between[:, i, j] for i, j in _pairs], 1)
    return cut, offset - offset.transpose(0, 2, 1), to_left.reshape(windows, _BLOCKS)


@partial(jax.jit, static_argnames="chunk")
def _best_orders(
    between: Float32[Array, "windows pairs"],
    offset: Float32[Array, "windows a b"],
    to_left: Float32[Array, "windows blocks"],
    size: Float32[Array, ""],
    *,
    chunk: int,
) -> tuple[Int32[Array, "windows blocks"], Float32[Array, " windows"], Float32[Array, " windows"]]:
    """The best order of each window's blocks, what it gains, and the cost that the gain is a part of."""

    def some(sums: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        return _by_subsets(sums[0].T, jnp.moveaxis(sums[1], 0, -1), sums[2].T, size)

    parts = (part.reshape(-1, chunk, *part.shape[1:]) for part in (between, offset, to_left))
    order, gain, scale = jax.lax.map(some, tuple(parts))
    return jnp.moveaxis(order, 1, 2).reshape(-1, _BLOCKS), gain.reshape(-1), scale.reshape(-1)


def _by_subsets(
    between: Float32[Array, "pairs c"],
    offset: Float32[Array, "a b c"],
    to_left: Float32[Array, "blocks c"],
    size: Float32[Array, ""],
) -> tuple[Int32[Array, "blocks c"], Float32[Array, " c"], Float32[Array, " c"]]:
    count = between.shape[1]
    cut = jnp.asarray(_is_cut) @ between * size
    behind = (jnp.asarray(_member) @ offset.reshape(_BLOCKS, -1)).reshape(_SUBSETS, _BLOCKS, count)
    filled = jnp.sum(jnp.asarray(_member), axis=1)
    blocks = jnp.arange(_BLOCKS)

    def add(subset: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        least, last = carry
        rest = jnp.asarray(_without)[subset]
        cost = least[rest] + behind[rest, blocks] + to_left * ((filled[subset] - 1) * size)
        cost = cost + jnp.asarray(_not_in)[subset][:, None]
        least = least.at[subset].set(jnp.min(cost, axis=0) + cut[subset])
        return least, last.at[subset].set(jnp.argmin(cost, axis=0).astype(jnp.int32))

    empty = (jnp.zeros((_SUBSETS, count)), jnp.zeros((_SUBSETS, count), jnp.int32))
    least, last = jax.lax.fori_loop(1, _SUBSETS, add, empty)
    left = jnp.full(count, _SUBSETS - 1)
    order = []
    for _ in range(_BLOCKS):
        order.append(jnp.take_along_axis(last, left[None], 0)[0])
        left = left & ~(1 << order[-1])
    now = jnp.zeros(count)
    for block in range(_BLOCKS):
        placed = (1 << block) - 1
        now = now + behind[placed, block] + to_left[block] * (block * size) + cut[2 * placed + 1]
    scale = jnp.sum(cut, axis=0) + jnp.sum(jnp.abs(to_left), axis=0) * size + 1
    return jnp.stack(order[::-1]), now - least[-1], scale
