"""Which frames and rows are wanted, by ids and bounds: the one place where headers, indexes and rows are compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt32

from ..log._changes import PageChanges
from ..log._frame import TICKS, FrameKind
from ..log._index import Span, Stretch

__all__ = ["Wanted", "WordsOfPages"]

_FOREVER = (0, 2**64 - 1)


@dataclass(frozen=True, eq=False)
class WordsOfPages:
    """Some words of some pages: `pages` ascending, and a packed mask for each, as rows have."""

    pages: Int32[np.ndarray, " p"]
    mask: UInt32[np.ndarray, "p mask_words"]

    def touched(self, changes: PageChanges) -> Bool[np.ndarray, " n"]:
        """Which rows may set one of the words; a row without a mask sets all words of its page."""
        if not len(self.pages):
            return np.zeros(len(changes), np.bool_)
        at = np.minimum(np.searchsorted(self.pages, changes.page), len(self.pages) - 1)
        held = self.pages[at] == changes.page
        return held if changes.mask is None else held & (changes.mask & self.mask[at]).any(axis=1)


@dataclass(frozen=True, eq=False)
class Wanted:
    """Everything must hold; None stands for anything, and bounds are inclusive."""

    ticks: tuple[int, int] = _FOREVER
    times: tuple[int, int] = _FOREVER
    pages: Int32[np.ndarray, " p"] | None = None
    sources: Int32[np.ndarray, " s"] | None = None
    intents: Int32[np.ndarray, " i"] | None = None
    words: WordsOfPages | None = None
    kinds: Sequence[FrameKind] = (FrameKind.CHANGES,)
    flags: int = 0

    @property
    def some_pages(self) -> Int32[np.ndarray, " p"] | None:
        """The pages of which one must be changed."""
        if self.words is None or self.pages is None:
            return self.pages if self.words is None else self.words.pages
        return np.intersect1d(self.pages, self.words.pages)

    @property
    def selective(self) -> bool:
        """Whether spans can tell anything; all hold changes, and those between two ticks are found without them."""
        return self.some_pages is not None or self.times != _FOREVER or FrameKind.CHANGES not in self.kinds

    def may_be_in(self, span: Span, capacity: int) -> bool:
        """Whether a span may hold such a frame."""
        if self.times[1] < span.earliest or self.times[0] > span.latest:
            return False
        if not any(span.kinds >> kind & 1 for kind in self.kinds):
            return False
        pages = self.some_pages
        if pages is None:
            return True
        bit = pages % Span.bits(capacity)
        return bool((span.pages[bit >> 3] >> (bit & 7).astype(np.uint8) & 1).any())

    def positions(self, stretch: Stretch, tick_before: int) -> Int64[np.ndarray, " f"]:
        """The frames of a stretch that may hold such a row, by position; `tick_before`: of the state before it."""
        headers = stretch.headers
        last = headers["tick"].astype(np.int64)
        before = np.concatenate(([tick_before], last[:-1]))
        first = np.where(headers["flags"] & TICKS, before, last)
        found: Bool[np.ndarray, " n"] = (last >= self.ticks[0]) & (first <= self.ticks[1])
        found &= np.isin(headers["kind"], [int(kind) for kind in self.kinds])
        found &= (headers["flags"] & self.flags) == self.flags
        found &= (headers["time_ns"] >= self.times[0]) & (headers["time_ns"] <= self.times[1])
        if self.intents is not None:
            found &= np.isin(headers["intent"], self.intents)
        for column, ids in ((stretch.pages, self.some_pages), (stretch.sources, self.sources)):
            if ids is not None and found.any():
                held = np.zeros(len(found), np.bool_)
                held[column.frames_of(ids)] = True
                found &= held
        return np.flatnonzero(found)

    def rows(self, changes: PageChanges) -> PageChanges:
        """The rows that are wanted, of those of a frame that is."""
        keep: Bool[np.ndarray, " n"] = np.ones(len(changes), np.bool_)
        if changes.tick is not None:
            keep &= (changes.tick >= self.ticks[0]) & (changes.tick <= min(self.ticks[1], 2**32 - 1))
        if self.pages is not None:
            keep &= np.isin(changes.page, self.pages)
        if self.sources is not None:
            keep &= np.isin(changes.source, self.sources)
        if self.words is not None:
            keep &= self.words.touched(changes)
        return changes.take(keep)
