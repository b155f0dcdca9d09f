"""Three of the rewrites, each sound on its own: what every page that is read holds, stays as it is, bit for bit.

Each takes a program and returns another with the number of its changes; 0 when there is nothing to do. `_exactness`
says which semirings, dtypes and weights allow it.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool

from ._program import Program

__all__ = ["chains", "parallel", "unread"]


def parallel(program: Program) -> tuple[Program, int]:
    """Edges between the same two pages become one, by ⊕ of their weights; unweighted ones, where ⊕ is idempotent.

    They stand side by side in a fold, so ⊕ has to associate, not to commute. Neighbours meet in pairs, again and again.
    Returns how many edges went.
    """
    before = len(program.parent)
    while True:
        same = np.zeros(len(program.parent), np.bool_)
        same[1:] = (program.child[1:] == program.child[:-1]) & (program.parent[1:] == program.parent[:-1])
        place = np.arange(len(same))
        since = place - np.maximum.accumulate(np.where(same, 0, place))
        second = np.flatnonzero(same & (since % 2 == 1))
        weight, met = _met(program, second)
        if not met.any():
            return program, before - len(program.parent)
        merged, gone = program.weight.copy(), np.zeros(len(same), np.bool_)
        merged[second[met] - 1], gone[second[met]] = weight[met], True
        program = dataclasses.replace(program, weight=merged).without(gone)


def _met(program: Program, second: np.ndarray) -> tuple[np.ndarray, Bool[np.ndarray, " n"]]:
    """What these edges and those before them weigh together, and where they may be one."""
    weight, ok = program.weight[second - 1], np.zeros(len(second), np.bool_)
    of = program.child_class[second]
    for number, algebra in enumerate(program.classes.algebras):
        here, weighs = program.classes.algebra[of] == number, program.classes.weighs[of]
        ok |= here & ~weighs & algebra.idempotent
        some = np.flatnonzero(here & weighs)
        if some.size:
            met = algebra.parallel(program.weight[second[some] - 1], program.weight[second[some]])
            weight[some], ok[some] = met.weight, met.ok
    return weight, ok


def chains(program: Program) -> tuple[Program, int]:
    """Whoever reads a page that has one parent, and does nothing but weigh or copy it, reads that parent.

    Weights meet in ⊗, the later one on the left: w₂ ⊗ (w₁ ⊗ x) = (w₂ ⊗ w₁) ⊗ x. The page itself goes if nobody else
    needs it, as one that is unread. All edges are led on at once, from then on past twice as many pages: each of these
    equations holds of the contents whatever became of the others, so a chain of n pages takes log n steps.

    Returns how many edges lead from another page now.
    """
    touched = np.zeros(len(program.parent), np.bool_)
    while True:
        start, middle = program.start, program.parent
        outer = np.flatnonzero((program.class_of_page[middle] >= 0) & (np.diff(start)[middle] == 1))
        inner = start[middle[outer]]
        copied = program.copies(inner) & program.covered(program.child_class[outer], program.child_class[inner])
        met = program.in_line(outer, program.weight[outer], inner)
        moved = np.zeros(len(middle), np.bool_)
        moved[outer] = copied | met.ok
        parent, weight = program.parent.copy(), program.weight.copy()
        parent[outer], weight[outer] = program.parent[inner], np.where(copied, weight[outer], met.weight)
        program, moved, order = program.redirected(moved, parent, weight)
        if not moved.any():
            return program, int(touched.sum())
        touched = (touched | moved)[order]


def unread(program: Program) -> tuple[Program, int]:
    """Pages that no path leads from to one that is read are no longer computed. Returns how many pages."""
    gone = (program.class_of_page >= 0) & ~program.needed()
    left = dataclasses.replace(
        program.without(gone[program.child]), class_of_page=np.where(gone, -1, program.class_of_page)
    )
    return left, int(gone.sum())
