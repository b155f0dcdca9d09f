"""Orders and paths through a whole graph: reverse postorder, a longest path, what paths of several edges imply."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32

from .._errors import CapacityError
from ._arrays import EdgeArrays

# Bits in each of the two sets of the pages below, over all pages: 64 MiB; and how many a block has at least.
_BITS, _LEAST = 2**29, 64


def reverse_postorder(graph: EdgeArrays) -> Int32[np.ndarray, " pages"]:
    """Pages in the opposite of the order in which a depth-first search leaves them."""
    far, end = graph.child[graph.out_edge].data, graph.out_start[1:].data
    following = graph.out_start[:-1].copy().data  # by page: the next of its edges to go along
    order = np.empty(graph.num_pages, np.int32)
    place, left = order.data, graph.num_pages
    seen = bytearray(graph.num_pages)
    for start in range(graph.num_pages):
        way = [] if seen[start] else [start]
        seen[start] = True
        while way:
            page = way[-1]
            edge = following[page]
            if edge == end[page]:
                left -= 1
                place[left] = way.pop()
                continue
            following[page] = edge + 1
            if not seen[far[edge]]:
                seen[far[edge]] = True
                way.append(far[edge])
    return order


def longest_path(graph: EdgeArrays) -> Int32[np.ndarray, " way"]:
    """Pages along a path of as many edges as there is any; from the far end on, each time the smallest id."""
    level = graph.levels()
    if not level.size:
        return np.zeros(0, np.int32)
    way = [int(level.argmax())]
    while level[way[-1]]:
        above = graph.parent[slice(*graph.in_start[way[-1] : way[-1] + 2])]
        way.append(int(above[level[above].argmax()]))
    return np.array(way[::-1], np.int32)


class _Block(NamedTuple):
    """Of the pages from `first` on, those below each page: bit b of an integer stands for page `first + b`."""

    first: int
    width: int
    below: dict[int, int]
    """By page with children: pages that a path of one edge or more leads to."""
    further: dict[int, int]
    """The same for two edges or more."""


def _blocks(graph: EdgeArrays) -> Iterator[_Block]:
    """Python's integers are the sets: to join two costs a pass over their words, in C, and no set is longer than the
    last page in it. Pages are taken in blocks, so that memory stays bounded whatever the graph."""
    far, start = graph.child[graph.out_edge].data, graph.out_start.data
    above = np.flatnonzero(np.diff(graph.out_start))
    upwards = above[np.argsort(-graph.levels()[above], kind="stable")].tolist()
    width = max(_LEAST, min(graph.num_pages, _BITS // max(1, len(upwards))))
    for first in range(0, graph.num_pages, width):
        below: dict[int, int] = {}
        further: dict[int, int] = {}
        for page in upwards:
            own = beyond = 0
            for child in far[start[page] : start[page + 1]]:
                beyond |= below.get(child, 0)
                if 0 <= child - first < width:
                    own |= 1 << child - first
            below[page], further[page] = own | beyond, beyond
        yield _Block(first, width, below, further)


def implied(graph: EdgeArrays) -> Bool[np.ndarray, " edges"]:
    """Edges whose ends a path of two edges or more connects as well."""
    found = np.zeros(graph.num_edges, np.bool_)
    level = graph.levels()
    doubtful = np.flatnonzero(level[graph.child] > level[graph.parent] + 1)  # a longer way passes a level between
    if doubtful.size:
        child = graph.child[doubtful]
        for block in _blocks(graph):
            some = doubtful[slice(*np.searchsorted(child, [block.first, block.first + block.width]))]
            ends = zip(some.tolist(), graph.parent[some].tolist(), graph.child[some].tolist(), strict=True)
            for edge, parent, page in ends:
                found[edge] = block.further[parent] >> (page - block.first) & 1
    return found


def pairs_below(graph: EdgeArrays, limit: int) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Each page with each of its descendants. Raises `CapacityError` when there are more than `limit` such pairs."""
    left = limit
    parents, children = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for block in _blocks(graph):
        for page, bits in block.below.items():
            left -= bits.bit_count()
            if left < 0:
                raise CapacityError(
                    f"the transitive closure has more than {limit:,} edges, the limit that was declared; pass a larger "
                    "limit= (an edge takes 13 bytes or more), take the closure of a subgraph(pages), or ask "
                    "descendants(pages) for the pages that matter"
                )
            if bits:
                packed = np.frombuffer(bits.to_bytes(-(-bits.bit_length() // 8), "little"), np.uint8)
                found = block.first + np.flatnonzero(np.unpackbits(packed, bitorder="little"))
                parents.append(np.full(len(found), page))
                children.append(found)
    return np.concatenate(parents), np.concatenate(children)
