"""From the rows of a tape, as they lie in memory, to the rows of one commit. Copies only where something must go."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, UInt32

from ..log._changes import PageChanges, mask_words
from ._lanes import How, Layout

__all__ = ["Drain", "Rows", "packed"]

_NEARLY_ALL = 7 / 8


class Rows(NamedTuple):
    """Changed pages on the host: all words of each, and which of them changed.

    >>> Rows.of_tape(np.uint32([[7, 8]]), np.uint32([[4, 1, 0b10]])).page
    array([4], dtype=int32)
    """

    page: Int32[np.ndarray, " n"]
    tick: UInt32[np.ndarray, " n"]
    mask: UInt32[np.ndarray, "n m"]
    words: UInt32[np.ndarray, "n W"]

    @classmethod
    def of_tape(cls, words: UInt32[np.ndarray, "n W"], head: UInt32[np.ndarray, "n M"]) -> "Rows":
        """The rows of a tape. `words` is shared, the rest is copied."""
        page, tick, mask = (np.ascontiguousarray(part) for part in (head[:, 0], head[:, 1], head[:, 2:]))
        return cls(page.view(np.int32), tick, mask, words)

    @classmethod
    def of_difference(
        cls, first_page: int, tick: int, old: UInt32[np.ndarray, "n W"], new: UInt32[np.ndarray, "n W"]
    ) -> "Rows":
        """The pages from `first_page` on in which two contents differ."""
        differs = old != new
        found = np.flatnonzero(differs.any(axis=1))
        page = (first_page + found).astype(np.int32)
        return cls(page, np.full(len(found), tick, np.uint32), packed(differs[found]), new[found])

    @classmethod
    def joined(cls, parts: Sequence["Rows"]) -> "Rows":
        """Several, one behind the other."""
        return parts[0] if len(parts) == 1 else cls(*map(np.concatenate, zip(*parts, strict=True)))

    def at(self, chosen: Any) -> "Rows":
        """Some of the rows."""
        return Rows(*(column[chosen] for column in self))

    @property
    def changed(self) -> Bool[np.ndarray, " n"]:
        """In which rows there is a change. By columns: along the short axis NumPy takes ten times as long."""
        found = self.mask[:, 0] != 0
        for column in range(1, self.mask.shape[1]):
            found |= self.mask[:, column] != 0
        return found

    def changes(self, source: int) -> PageChanges:
        """As rows of a commit. Rows without a change are left out.

        When nearly all words changed the rows are logged whole, which is far faster both ways and hardly longer.
        """
        changed = self.changed
        rows = self if changed.all() else self.at(changed)
        count = int(np.bitwise_count(rows.mask).sum(dtype=np.int64))
        mask = rows.mask if count < _NEARLY_ALL * rows.words.size else None
        sources = np.full(len(rows.page), source, np.int32)
        return PageChanges.from_rows(rows.page, rows.words, mask, sources, rows.tick)


def packed(differs: Bool[np.ndarray, "n W"]) -> UInt32[np.ndarray, "n m"]:
    """A mask of words as bits, as `PageChanges` has it.

    >>> packed(np.array([[True, False, True]])).tolist()
    [[5]]
    """
    rows, words = differs.shape
    as_bytes = np.zeros((rows, 4 * mask_words(words)), np.uint8)
    as_bytes[:, : -(-words // 8)] = np.packbits(differs, axis=1, bitorder="little")
    return as_bytes.view("<u4")


class Drain:
    """Finds in the rows of a tape what the device left to the host: which words changed in WHOLE lanes."""

    def __init__(self, layout: Layout, pages: UInt32[np.ndarray, "pages W"]) -> None:
        """`pages` is the state behind which the tape starts."""
        strips = [lane.strip for lane in layout.lanes if lane.how is How.WHOLE]
        self._last = {
            strip.first_page: pages[strip.first_page : strip.first_page + strip.pages].copy() for strip in strips
        }

    def compared(self, rows: Rows) -> Rows:
        """The same rows, with the masks of WHOLE lanes set; what the tape says there is overwritten."""
        for first_page, last in self._last.items():
            before = last
            for start in np.flatnonzero(rows.page == first_page):
                here = slice(start, start + len(last))
                now = rows.words[here]
                rows.mask[here] = packed(now != before)
                before = now
            if before is not last:
                last[:] = before
        return rows
