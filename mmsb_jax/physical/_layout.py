"""Where the words of leaves lie on pages. Static, and a function of dtypes, shapes and the order of leaves alone."""

import dataclasses
from collections.abc import Sequence

from ._leaf import Leaf

__all__ = ["place"]


def place(leaves: Sequence[Leaf], page_words: int) -> tuple[tuple[Leaf, ...], int]:
    """Give every leaf its pages, in order: the placed leaves, and how many pages there are (at least one).

    A leaf of at least half a page has pages of its own, so a change of it touches nobody else's. Smaller ones share
    pages and never straddle two: a page is filled until the next small leaf doesn't fit.
    """
    placed: list[Leaf] = []
    end, shared, used = 0, 0, page_words  # the next free page; the page now shared, and how much of it is taken
    for leaf in leaves:
        if not leaf.words:
            placed.append(leaf)
            continue
        if 2 * leaf.words >= page_words:
            pages = range(end, end + -(-leaf.words // page_words))
            placed.append(dataclasses.replace(leaf, pages=pages, offset=0))
            end = pages.stop
            continue
        if used + leaf.words > page_words:
            shared, used, end = end, 0, end + 1
        placed.append(dataclasses.replace(leaf, pages=range(shared, shared + 1), offset=used))
        used += leaf.words
    return tuple(placed), max(end, 1)
