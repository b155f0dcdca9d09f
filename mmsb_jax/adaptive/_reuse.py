"""Exact reuse distances of a trace of accesses, offline, in NumPy."""

import numpy as np
from jaxtyping import Int64

__all__ = ["previous_access", "stack_distances"]

IntArray = Int64[np.ndarray, " accesses"]


def previous_access(page: np.ndarray) -> IntArray:
    """When each access's page was accessed before; −1 for never."""
    order = np.argsort(page, kind="stable")
    before = np.full(len(page), -1, np.int64)
    same = page[order[1:]] == page[order[:-1]]
    before[order[1:][same]] = order[:-1][same]
    return before


def stack_distances(page: np.ndarray) -> IntArray:
    """How many other pages were accessed since a page was accessed last; −1 at its first access.

    An LRU cache of c pages hits exactly the accesses with 0 ≤ distance < c (Mattson et al., Evaluation techniques for
    storage hierarchies, IBM Systems Journal 9, 1970, section 3). Between access p and the next one, i, of a page, those
    accesses count that are the first of their page after p: j in (p, i) with previous(j) < p. All of them are counted
    at once, by sorting: O(n log² n) time, O(n) memory.
    """
    before = previous_access(page)
    again = np.flatnonzero(before >= 0)
    distance = np.full(len(page), -1, np.int64)
    # Of the j < i with previous(j) < p, those up to p all have it.
    distance[again] = _smaller_before(before)[again] - before[again] - 1
    return distance


def _smaller_before(value: np.ndarray) -> IntArray:
    """For each i, the j < i with value[j] < value[i].

    Bit by bit of the position: where the positions differ first, j lies in the left half of a block and i in the right
    one. Sorted by value within blocks, a cumulative sum over the left halves tells how many are smaller.
    """
    count = len(value)
    found = np.zeros(count, np.int64)
    if count < 2:
        return found
    # Rank with ties broken so that an equal value before doesn't count as smaller.
    by_value = np.lexsort([-np.arange(count), value])
    for bit in range((count - 1).bit_length()):
        block = by_value >> (bit + 1)
        order = by_value[np.argsort(block, kind="stable")]  # by block, within it by value
        left = (order >> bit & 1) == 0
        seen = np.cumsum(left)
        start = np.concatenate([[True], np.diff(order >> (bit + 1)) != 0])
        first = np.flatnonzero(start)
        base = np.repeat((seen - left)[first], np.diff(np.append(first, count)))
        right = ~left
        found[order[right]] += (seen - base)[right]
    return found
