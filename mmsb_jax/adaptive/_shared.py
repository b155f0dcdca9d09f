"""Common sub-expressions: pages that compute the same from the same, found by value numbering."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, Int32, UInt32, UInt64

from ._program import Program

__all__ = ["shared"]

_ROUNDS = 2  # So far up a page is looked at before it counts as one that may have a double.


def shared(program: Program) -> tuple[Program, int]:
    """Of pages that compute the same, whoever reads only what they compute reads one; the others may become unread.

    The same is: rules of one class, the same parents by the same weights, where of parents that compute the same each
    stands for the other; in any order where the order of terms doesn't matter. Level by level, so that parents are
    known before their children. Hashes find candidates, comparison decides. The one that stands for all is a page of
    the lowest level among them, so no cycle can come about.

    Returns how many edges lead from another page now.
    """
    stands = _representatives(program)
    parent = _stood_for(program, stands, slice(None))
    moved = parent != program.parent
    after, moved, _ = program.redirected(moved, parent, program.weight)
    return after, int(moved.sum())


def _representatives(program: Program) -> Int[np.ndarray, " pages"]:
    known = program.class_of_page >= 0
    stands = np.arange(program.num_pages, dtype=np.int32)
    start = program.start
    degree = np.diff(start)
    # A copy of nothing holds what was written into it.
    copy = np.zeros(program.num_pages, np.bool_)
    copy[known] = program.classes.algebra[program.class_of_page[known]] < 0
    may = np.flatnonzero(known & ~(copy & (degree != 1)))
    if not may.size:
        return stands
    told, depth = _told_apart(program), program.levels(everything=False)
    code = _mixed(told ^ _mixed(depth.astype(np.uint64)))[may]
    _, number, times = np.unique(code, return_inverse=True, return_counts=True)
    may = may[times[number] > 1]
    may = may[np.argsort(depth[may], kind="stable")]
    height = program.levels(everything=True)
    for pages in np.split(may, np.flatnonzero(np.diff(depth[may])) + 1) if may.size else []:
        order = np.lexsort((pages, ~program.read[pages], height[pages]))
        group = _leaders(program, start, pages[order], stands)
        stands[pages[order]] = pages[order][group]
    return stands


def _told_apart(program: Program) -> UInt64[np.ndarray, " pages"]:
    """A number for each page: equal for pages that compute the same, for others rarely."""
    known = program.class_of_page >= 0
    degree = np.bincount(program.child, minlength=program.num_pages)
    own = _mixed(program.class_of_page.astype(np.uint64) ^ (degree.astype(np.uint64) << np.uint64(32)))
    found = np.where(known, own, _mixed(np.arange(program.num_pages, dtype=np.uint64)))
    bits, start = _mixed(_weight_bits(program).astype(np.uint64)), program.start
    for _ in range(_ROUNDS):
        total = _sums(_mixed(found[program.parent] ^ bits), start)
        found = np.where(known, _mixed(own ^ total), found)
    return found


def _leaders(program: Program, start: np.ndarray, pages: np.ndarray, stands: np.ndarray) -> Int[np.ndarray, " n"]:
    """For each of some pages of one level, the number of the first of them that computes the same: maybe its own."""
    of, size = program.class_of_page[pages], (start[pages + 1] - start[pages]).astype(np.int64)
    first = np.concatenate([[0], np.cumsum(size)])
    owner = np.repeat(np.arange(len(pages)), size)
    place = np.arange(first[-1]) - first[owner]
    edge = start[pages][owner] + place
    parent, bits = _stood_for(program, stands, edge), _weight_bits(program, edge)
    strict = program.classes.strict[of][owner]
    order = np.lexsort((np.where(strict, 0, bits), np.where(strict, place, parent), owner))
    term = np.stack([parent[order].astype(np.uint64), bits[order].astype(np.uint64)], axis=1)
    total = _sums(_mixed(_mixed(term[:, 0] ^ (place.astype(np.uint64) << np.uint64(32))) ^ term[:, 1]), first)
    # Sorting is stable: of equal pages, the first comes first.
    ranked = np.lexsort((total, size, of))
    begins = np.ones(len(pages), np.bool_)
    begins[1:] = np.any([part[ranked][1:] != part[ranked][:-1] for part in (of, size, total)], axis=0)
    leader = np.empty(len(pages), np.int64)
    leader[ranked] = ranked[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
    differs = (term != term[first[leader[owner]] + place]).any(axis=1)
    same = np.bincount(owner[differs], minlength=len(pages)) == 0
    return np.where(same, leader, np.arange(len(pages)))


def _stood_for(program: Program, stands: np.ndarray, edges: np.ndarray | slice) -> Int32[np.ndarray, " n"]:
    """The page that stands for the parent, where the child reads nothing but what the parent computes."""
    parent = program.parent[edges]
    covered = program.covered(program.child_class[edges], program.class_of_page[parent])
    return np.where(covered, stands[parent], parent)


def _weight_bits(program: Program, edges: np.ndarray | slice = slice(None)) -> UInt32[np.ndarray, " n"]:
    """Of weights that count; 0 for the others."""
    weighs = program.classes.weighs[program.class_of_page[program.child[edges]]]
    return np.where(weighs, program.weight[edges].view(np.uint32), np.uint32(0))


def _sums(values: UInt64[np.ndarray, " n"], start: np.ndarray) -> UInt64[np.ndarray, " groups"]:
    """Of the values from each start to the next, modulo 2⁶⁴: they don't depend on the order."""
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(values, dtype=np.uint64)])
    return np.asarray(running[start[1:]] - running[start[:-1]])


def _mixed(number: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """SplitMix64's finaliser."""
    number = (number + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return number ^ (number >> np.uint64(31))
