"""How each part of a recorded tree is looked after: which pages it has, and how its changes are found. Static.

    leaf of many pages                          treatment of its whole pages
    --------------------------------------------------------------------------------------------------
    the step never touches it                   FIXED     nothing to do
    the step names the places that it writes    LISTED    candidates are a short list of pages
    the step says by flags what it writes       FLAGGED   candidates are a flag for each page
    nothing is known                            COMPARED  every page is compared with the last recorded one
    most of it changes every time               WHOLE     recorded as it is; the host compares

The *small pages*, those of small leaves and of the tails of large ones, are few: they are formed and compared at every
recorded step.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, UInt32

from ...physical import Paging
from .._digest import digest_rows
from ._strip import Strip

__all__ = ["How", "Lane", "Layout"]

_BLOCK_WORDS = 16384


class How(enum.Enum):
    """How the changes of a leaf's whole pages are found."""

    FIXED = "fixed"
    LISTED = "listed"
    FLAGGED = "flagged"
    COMPARED = "compared"
    WHOLE = "whole"


@dataclass(frozen=True)
class Lane:
    """The whole pages of one large leaf, and how their changes are found."""

    number: int
    """Of the leaf, among the paging's."""
    strip: Strip
    how: How
    most: int = 0
    """LISTED: how many candidates a recorded step has, repetitions included."""
    sifted: bool = True
    """LISTED: whether a page may occur twice among them, or the leaf's tail, which is no page of the lane."""


@dataclass(frozen=True)
class _Piece:
    """Part of a small page: a small leaf, or the tail of a large one."""

    number: int
    offset: int
    is_tail: bool


@dataclass(frozen=True)
class Layout:
    """What a tape holds, and in how many rows. Hashable.

    Behind its `rows` rows the buffer has `slack` more: rows may be written in blocks of which only the first count, and
    what lies behind these is overwritten by the next.
    """

    paging: Paging
    lanes: tuple[Lane, ...]
    fixed: frozenset[int]
    """The numbers of the leaves that never change."""
    rows: int
    block: int
    """Rows of an open lane that are gathered together."""
    looped: bool = True
    """Whether an open lane may take several blocks in a step. Under `vmap` a loop copies the tape in every round."""

    @classmethod
    def of(
        cls,
        paging: Paging,
        lanes: Sequence[Lane],
        fixed: frozenset[int] = frozenset(),
        *,
        rows: int = 1,
        block: int | None = None,
    ) -> "Layout":
        """The layout for some lanes; `block` is a bound for the rows that an open lane takes in a step."""
        size = max(16, _BLOCK_WORDS // paging.page_words) if block is None else block
        return cls(paging, tuple(lanes), fixed, rows, size, block is None)

    @property
    def page_words(self) -> int:
        """Words in a page."""
        return self.paging.page_words

    @cached_property
    def slack(self) -> int:
        """Rows behind the last: as many as are ever written together."""
        listed = max((lane.most for lane in self.lanes), default=0)
        return max(len(self.small_ids), self.block if self.open_lanes else 0, listed)

    @cached_property
    def idle(self) -> frozenset[int]:
        """The small pages that never change: all that is on them is FIXED."""
        return frozenset(page for page, pieces in self.small if {piece.number for piece in pieces} <= self.fixed)

    @cached_property
    def small(self) -> tuple[tuple[int, tuple[_Piece, ...]], ...]:
        """The small pages: their ids (the first, of a leaf of several), and what lies on them."""
        pages: dict[int, list[_Piece]] = {}
        large = {lane.number: lane.strip for lane in self.lanes}
        for number, leaf in enumerate(self.paging.leaves):
            if strip := large.get(number):
                if strip.pages * self.page_words < leaf.words:
                    pages.setdefault(leaf.first_page + strip.pages, []).append(_Piece(number, 0, True))
                continue
            if leaf.words:
                pages.setdefault(leaf.first_page, []).append(_Piece(number, leaf.offset, False))
        return tuple((page, tuple(pages[page])) for page in sorted(pages))

    @cached_property
    def small_ids(self) -> np.ndarray:
        """int32: the ids of the small pages that may change."""
        return self._ids_of(idle=False)

    @cached_property
    def static_rows(self) -> int:
        """Rows that every recorded step takes, whatever it changes."""
        whole = sum(lane.strip.pages for lane in self.lanes if lane.how is How.WHOLE)
        return len(self.small_ids) + whole + sum(lane.most for lane in self.lanes if lane.how is How.LISTED)

    @cached_property
    def open_lanes(self) -> tuple[int, ...]:
        """Lanes of which nobody knows how many pages a step changes."""
        return tuple(i for i, lane in enumerate(self.lanes) if lane.how in (How.FLAGGED, How.COMPARED))

    @cached_property
    def shadowed(self) -> tuple[int, ...]:
        """Lanes whose last recorded contents are kept on the device."""
        return tuple(i for i, lane in enumerate(self.lanes) if lane.how not in (How.FIXED, How.WHOLE))

    def flats(self, values: Sequence[Any]) -> list[Array]:
        """The leaves of the lanes as rows of elements."""
        return [lane.strip.flat(values[lane.number]) for lane in self.lanes]

    def small_rows(self, values: Sequence[Any], *, idle: bool = False) -> UInt32[Array, "n W"]:
        """The small pages of a tree, formed; those that may change, or the others."""
        strips = {lane.number: lane.strip for lane in self.lanes}
        rows: list[Array] = []
        for page, pieces in self.small:
            if (page in self.idle) is not idle:
                continue
            at = 0
            for piece in pieces:
                if piece.is_tail:
                    words = strips[piece.number].tail(strips[piece.number].flat(values[piece.number]))
                else:
                    words = self.paging.leaves[piece.number].to_words(values[piece.number])
                rows += [jnp.zeros(piece.offset - at, jnp.uint32), words]
                at = piece.offset + len(words)
            rows.append(jnp.zeros(-at % self.page_words, jnp.uint32))
        return jnp.concatenate([jnp.zeros(0, jnp.uint32), *rows]).reshape(-1, self.page_words)

    def digest(self, values: Sequence[Any], *, fixed: bool = False) -> UInt32[Array, "2"]:
        """What the pages that may change contribute to the tree's digest; or what the others do."""
        parts = [digest_rows(jnp.asarray(self._ids_of(idle=fixed)), self.small_rows(values, idle=fixed))]
        for lane, flat in zip(self.lanes, self.flats(values), strict=True):
            if (lane.how is How.FIXED) is fixed:
                ids = lane.strip.first_page + jnp.arange(lane.strip.pages, dtype=jnp.int32)
                parts.append(digest_rows(ids, lane.strip.all(flat)))
        return jnp.sum(jnp.stack(parts), axis=0, dtype=jnp.uint32)

    def _ids_of(self, *, idle: bool) -> Int32[np.ndarray, " n"]:
        found = [np.zeros(0, np.int32)]
        for page, pieces in self.small:
            if (page in self.idle) is idle:
                leaf = self.paging.leaves[pieces[0].number]
                count = 1 if pieces[0].is_tail else leaf.pages.stop - leaf.pages.start
                found.append(np.arange(page, page + count, dtype=np.int32))
        return np.concatenate(found)
