"""What the pages of a log are called, from its PAGES frames alone: leaves of a recorded tree, or pages of a bus."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int32, UInt32

from ..._errors import InvalidArgumentError, PageNotFoundError
from ..._text import nearest
from ...physical import Leaf, Paging
from ..log._about import About
from ..log._changes import mask_words
from ..log._frame import FrameKind
from ._reader import LogReader
from ._wanted import Wanted, WordsOfPages

__all__ = ["Catalogue"]


class Catalogue:
    """All PAGES frames of a log. `texts` are the names that pages ever had."""

    def __init__(self, reader: LogReader) -> None:
        found = reader.frames(Wanted(kinds=(FrameKind.PAGES,)))
        events = [(frame.sequence, record) for frame in found for record in frame.pages()]
        self.page_words = reader.run.page_words
        about = About.of_records(record for _, record in events)
        self.paging: Paging | None = None if about is None else about.paging
        self.members: int | None = None if about is None else about.members
        if about is not None:
            if about.num_pages > reader.run.capacity:
                raise InvalidArgumentError(
                    f"this run's description tells of {about.num_pages} pages, but it has {reader.run.capacity}"
                )
            self.texts = [", ".join(leaf.path for leaf in group) for group in about.paging.groups]
            self._starts = np.array([group[0].pages.start for group in about.paging.groups], np.int32)
            return
        self.texts = list(dict.fromkeys(r.name or "" for _, r in events if r.op != "delete"))
        number = {text: i for i, text in enumerate(self.texts)}
        self._events = [(s, r.pages, number[r.name or ""] if r.op != "delete" else -1) for s, r in events]
        self._ids = np.unique(np.concatenate([np.empty(0, np.int32), *(pages for _, pages, _ in self._events)]))
        self._now = np.full(len(self._ids) + 1, -1, np.int32)  # the last stands for all other pages
        self._next = 0

    def member_of(self, pages: Int32[np.ndarray, " n"]) -> Int32[np.ndarray, " n"] | None:
        """Which member of an ensemble each page belongs to; None when there are no members."""
        if self.paging is None or self.members is None:
            return None
        return pages // np.int32(self.paging.num_pages)

    def name_of(self, pages: Int32[np.ndarray, " n"], sequence: int) -> Int32[np.ndarray, " n"]:
        """The number in `texts` of each page's name when a frame was written, -1 where it had none.

        Frames must be asked for in their order.
        """
        if self.paging is not None:
            own = pages % np.int32(self.paging.num_pages)
            return (np.searchsorted(self._starts, own, side="right") - 1).astype(np.int32)
        while self._next < len(self._events) and self._events[self._next][0] < sequence:
            _, named, number = self._events[self._next]
            self._now[np.searchsorted(self._ids, named)] = number
            self._next += 1
        at = np.searchsorted(self._ids, pages)
        known = np.append(self._ids, -1)[at] == pages
        return self._now[np.where(known, at, len(self._ids))]

    def words_of(self, leaves: Iterable[str]) -> WordsOfPages:
        """The words of all leaves at or below some tree paths, or all pages that were ever called so.

        Raises:
            PageNotFoundError: there is no such leaf, and no page was ever called so.
        """
        pieces = [piece for leaf in leaves for piece in self._pieces(leaf)]
        pages = np.concatenate([np.empty(0, np.int32), *(ids for ids, _ in pieces)])
        masks = np.concatenate([np.empty((0, mask_words(self.page_words)), np.uint32), *(mask for _, mask in pieces)])
        unique, place = np.unique(pages, return_inverse=True)
        joined = np.zeros((len(unique), masks.shape[1]), np.uint32)
        np.bitwise_or.at(joined, place, masks)
        return WordsOfPages(unique, joined)

    def _pieces(self, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
        if self.paging is None:
            if name not in self.texts:
                raise self._unknown(name, self.texts)
            number = self.texts.index(name)
            return [(pages, _mask(self.page_words, 0, None, len(pages))) for _, pages, n in self._events if n == number]
        leaves = [leaf for leaf in self.paging.leaves if _is_below(leaf.path, name)]
        if not leaves:
            raise self._unknown(name, [leaf.path for leaf in self.paging.leaves])
        firsts = [member * self.paging.num_pages for member in range(self.members or 1)]
        return [piece for leaf in leaves for first in firsts for piece in _piece(leaf, first, self.page_words)]

    @staticmethod
    def _unknown(name: str, known: list[str]) -> PageNotFoundError:
        near = nearest(name, known)
        there = f"did you mean {near!r}?" if near else f"there are {', '.join(map(repr, known[:5])) or 'none'}"
        return PageNotFoundError(f"nothing in this run is called {name!r}; {there}")


def _is_below(path: str, name: str) -> bool:
    """Whether a leaf is the named one or below it; a name at the top may be written without its brackets."""
    for start in (name, f"['{name}']", f".{name}"):
        if path.startswith(start) and path[len(start) :][:1] in ("", "[", "."):
            return True
    return False


def _piece(leaf: Leaf, first: int, page_words: int) -> list[tuple[np.ndarray, np.ndarray]]:
    if not leaf.words:
        return []
    ids = np.arange(first + leaf.pages.start, first + leaf.pages.stop, dtype=np.int32)
    return [(ids, _mask(page_words, leaf.offset, leaf.offset + leaf.words, len(ids)))]


def _mask(page_words: int, start: int, stop: int | None, pages: int) -> UInt32[np.ndarray, "pages mask_words"]:
    """Packed masks of the words from `start` to `stop`, counted from the first of some pages; to the end for None."""

    def row(first: int, last: int) -> np.ndarray:
        bits = np.zeros(32 * mask_words(page_words), np.uint8)
        bits[first:last] = 1
        return np.packbits(bits, bitorder="little").view("<u4")

    masks = np.tile(row(0, page_words), (pages, 1))
    if pages:
        end = pages * page_words if stop is None else stop
        masks[-1] = row(0, end - (pages - 1) * page_words)
        masks[0] &= row(start, page_words)
    return masks
