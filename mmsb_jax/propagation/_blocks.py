"""How the entries of a sparse matrix are laid out for the device. NumPy, on the host, once per structure.

    row 7:   a b c d … (134 entries)
             └──────── 64 ───────┘└──────── 64 ───────┘└─ 6 ─┘      level 0: pieces of at most 64 slots
                       p0                   p1            p2
                       └────────────────────┴─────────────┘          level 1: the row's pieces, 64 at a time, and so on

Pieces of one level are sorted into blocks of equal width; widths are chosen so that few slots are padding and the
number of blocks stays small, since each is code to compile and launch. The order in which a row is folded depends on
its number of entries alone. Rows of a single piece are done; the others' pieces are the entries of the next level.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

PIECE = 64  # Of 16, 32 and 64: equal for vectors within 10 %; for 16 features on RMAT 1 : 1.7 : 2.0, and least memory.
MAX_BLOCKS = 12  # 16 save 1.5 % of padding on RMAT, no time, and cost 20 % more compilation.
BLOCK_COST = 4096  # What one more block costs, in padded slots: launching it takes as long as gathering these.

IntArray = Int[np.ndarray, "..."]


class BlockPlan(NamedTuple):
    """Pieces of one width: `entry[r, k]` is the position, in the level's input, of slot k; 0 in a padded slot."""

    entry: IntArray
    lengths: IntArray

    @property
    def padded(self) -> bool:
        return bool((self.lengths < self.entry.shape[1]).any())


class Plan(NamedTuple):
    """Blocks by level, and for each row where its value lies among all pieces; `pieces` for a row with no entry."""

    levels: tuple[tuple[BlockPlan, ...], ...]
    home: IntArray
    pieces: int


class _Pieces(NamedTuple):
    row: IntArray
    start: IntArray
    length: IntArray


def choose_widths(lengths: IntArray) -> list[int]:
    """Widths, largest first, at most `MAX_BLOCKS`, with the least padding (counting `BLOCK_COST` for each).

    Dynamic programming over the histogram: the cheapest cover of all lengths ≤ w by k widths ends in w itself. Where
    there is no piece, one block is left, which holds none: it keeps the dtype of the values.
    """
    count = np.bincount(lengths, minlength=1)
    present = np.flatnonzero(count)
    below = np.concatenate([[0], np.cumsum(count[present])])
    size = len(present)
    cost = np.full((MAX_BLOCKS + 1, size + 1), np.inf)
    cost[:, 0] = 0
    cut = np.zeros((MAX_BLOCKS + 1, size + 1), int)
    for used in range(1, MAX_BLOCKS + 1):
        for end in range(1, size + 1):
            slots = (below[end] - below[:end]) * present[end - 1]
            options = cost[used - 1, :end] + slots + BLOCK_COST
            cut[used, end] = int(np.argmin(options))
            cost[used, end] = options[cut[used, end]]
    widths, used, end = [], MAX_BLOCKS, size
    while end:
        widths.append(int(present[end - 1]))
        used, end = used - 1, cut[used, end]
    return widths or [1]


def _cut(start: IntArray, count: IntArray) -> _Pieces:
    """Cut runs [start, start + count) into pieces of at most `PIECE`, run after run."""
    pieces = -(-count // PIECE)
    row = np.repeat(np.arange(len(count)), pieces)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    return _Pieces(row, start[row] + nth * PIECE, np.minimum(PIECE, count[row] - nth * PIECE))


def _blocks(pieces: _Pieces) -> tuple[tuple[BlockPlan, ...], IntArray]:
    """The blocks of one level, and where each piece comes to lie when their outputs are put end to end."""
    widths = choose_widths(pieces.length)
    place = np.empty(len(pieces.row), np.int64)
    blocks, done = [], 0
    for width, narrower in zip(widths, [*widths[1:], 0], strict=True):
        chosen = np.flatnonzero((pieces.length <= width) & (pieces.length > narrower))
        slot, length = np.arange(width), pieces.length[chosen]
        entry = np.where(slot < length[:, None], pieces.start[chosen, None] + slot, 0)
        blocks.append(BlockPlan(entry, length))
        place[chosen] = done + np.arange(len(chosen))
        done += len(chosen)
    return tuple(blocks), place


def plan(count: IntArray) -> Plan:
    """Lay out rows with `count[i]` entries each, stored row after row."""
    home = np.full(len(count), -1, np.int64)
    rows = np.flatnonzero(count)
    start, left = (np.cumsum(count) - count)[rows], count[rows]
    levels: list[tuple[BlockPlan, ...]] = []
    done, position = 0, None
    while len(rows) or not levels:
        pieces = _cut(start, left)
        blocks, place = _blocks(pieces)
        levels.append(blocks if position is None else tuple(_through(block, position) for block in blocks))
        of_row = np.bincount(pieces.row, minlength=len(rows))
        first = np.cumsum(of_row) - of_row
        single = of_row == 1
        home[rows[single]] = done + place[first[single]]
        rows, start, left, position = rows[~single], first[~single], of_row[~single], place
        done += len(place)
    home[home < 0] = done
    return Plan(tuple(levels), home, done)


def _through(block: BlockPlan, position: IntArray) -> BlockPlan:
    """Entries counted in the order of the level below, as positions in its output."""
    real = np.arange(block.entry.shape[1]) < block.lengths[:, None]
    return BlockPlan(np.where(real, position[block.entry], 0), block.lengths)
