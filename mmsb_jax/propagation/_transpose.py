"""Where the entries of a laid out matrix lie, read back from its arrays; and from that, all that derivatives need.

NumPy, on the host, once per structure. A *slot* is a place in level 0: block by block, within a block one slot of every
piece after the other, as `kernels.gather_fold` reads them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Int

from .._device import on_device
from ..graph._traverse import group
from ._blocks import BlockPlan, Plan, plan
from ._links import Block, Fold, Links, Winners

IntArray = Int[np.ndarray, "..."]


class Slots(NamedTuple):
    """The slots that hold an entry: their numbers, and the row and column of each."""

    slot: IntArray
    row: IntArray
    column: IntArray


def slots_of(levels: Sequence[Sequence[Block]], home: Any, rows: int) -> Slots:
    """Read back where every entry lies."""
    column, piece = _entries(levels[0])
    return Slots(_slot_numbers(levels[0]), np.concatenate(rows_of_pieces(levels, home, rows))[piece], column)


def rows_of_pieces(levels: Sequence[Sequence[Block]], home: Any, rows: int) -> list[IntArray]:
    """The row of each piece of level 0, block by block."""
    sizes = [sum(len(block.columns) for block in blocks) for blocks in levels]
    base = np.concatenate([[0], np.cumsum(sizes)])
    row_of = np.full(base[-1] + 1, -1, np.int32)
    row_of[np.arange(rows) if home is None else np.asarray(home)] = np.arange(rows)
    for depth in range(len(levels) - 1, 0, -1):
        read, reader = _entries(levels[depth])
        row_of[base[depth - 1] + read] = row_of[base[depth] + reader]
    ends = np.cumsum([0, *(len(block.columns) for block in levels[0])])
    return [row_of[start:end] for start, end in itertools.pairwise(ends)]


def _entries(blocks: Sequence[Block]) -> tuple[IntArray, IntArray]:
    """What the used slots of a level read, and the number of the piece that does, in the order of the slots."""
    read, reader, done = [], [], 0
    for block in blocks:
        columns = np.asarray(block.columns)
        used = _used(block)
        piece = np.broadcast_to(np.arange(done, done + len(columns)), used.shape)
        read.append(columns.T[used])
        reader.append(piece[used])
        done += len(columns)
    return np.concatenate(read), np.concatenate(reader)


def _slot_numbers(blocks: Sequence[Block]) -> IntArray:
    found, done = [], 0
    for block in blocks:
        used = _used(block)
        found.append(done + np.flatnonzero(used.reshape(-1)))
        done += used.size
    return np.concatenate(found).astype(np.int32)


def _used(block: Block) -> np.ndarray:
    """bool[width, pieces]"""
    rows, width = block.columns.shape
    if block.lengths is None:
        return np.ones((width, rows), np.bool_)
    return np.arange(width)[:, None] < np.asarray(block.lengths)


def links_of(levels: Sequence[Sequence[Block]], home: Any, shape: tuple[int, int]) -> Links:
    """Lay out what goes back from rows to columns. Sums over a column run through its rows in ascending order."""
    slots = slots_of(levels, home, shape[0])
    by_row = group(slots.row, shape[0])[1]
    by_column = group(slots.column[by_row], shape[1])[1]
    order = by_row[by_column]
    layout = plan(np.bincount(slots.column, minlength=shape[1]))
    slot, row = slots.slot[order], slots.row[order]
    first = layout.levels[0]
    owner = np.repeat(np.arange(shape[1]), np.bincount(slots.column, minlength=shape[1]))
    columns = Winners(
        _fold(layout, slot, shape[1]),
        tuple(_device(row[block.entry]) for block in first),
        tuple(_device(owner[block.entry[:, 0]]) for block in first),
    )
    upper, size = [], [sum(len(block.columns) for block in blocks) for blocks in levels]
    for depth in range(1, len(levels)):
        read, _ = _entries(levels[depth])
        upper.append(_once(read, _slot_numbers(levels[depth]), size[depth - 1]))
    last = None
    if home is not None:
        full = np.flatnonzero(np.asarray(home) < sum(size))  # what stands for nothing is a constant
        last = _once(np.asarray(home)[full], full, sum(size) + 1)
    simple = not np.any((owner[1:] == owner[:-1]) & (row[1:] == row[:-1]))
    return Links(columns, tuple(upper), last, simple)


def _once(read: IntArray, reader: IntArray, size: int) -> Fold:
    """A source of which each row is read by one slot, or none."""
    count = np.bincount(read, minlength=size)
    ordered = np.empty(len(read), np.int64)
    ordered[np.cumsum(count)[read] - 1] = reader
    return _fold(plan(count), ordered, size)


def _fold(layout: Plan, slot: IntArray, size: int) -> Fold:
    levels = tuple(
        tuple(block_of(block, slot if depth == 0 else None) for block in blocks)
        for depth, blocks in enumerate(layout.levels)
    )
    in_order = np.array_equal(layout.home, np.arange(layout.pieces))
    return Fold(levels, None if in_order else _device(layout.home), size)


def block_of(block: BlockPlan, columns: IntArray | None) -> Block:
    """A planned block on the device; `columns` says what its entries read, None: just their numbers."""
    return Block(
        columns=_device(block.entry if columns is None else columns[block.entry]),
        values=None,
        lengths=_device(block.lengths) if block.padded else None,
        shortest=int(block.lengths.min(initial=block.entry.shape[1])),
    )


def _device(array: IntArray) -> Array:
    return on_device(array, np.int32)
