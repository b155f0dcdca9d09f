"""Which way a fixpoint came about: a tree of parents, read off the values, and cycles that have no fixpoint.

An entry is *tight* if its term is the value of its row, `A[i, j] ⊗ y[j] = y[i]`. Every row that was reached has tight
entries, but not every choice among them is a tree: where weights are zero, two rows may be tight for each other. So a
row takes a parent whose value is strictly less (or strictly greater, whichever holds for more entries of the matrix),
of these the lowest column; rows without such an entry, tied to their parents, follow in rounds, behind those that have
one. A tree then, whatever the weights, and one that depends on the values alone, not on the way to them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32

from .._device import on_device
from ..semiring import Semiring
from ._sparse import SparseMatrix


class Entries(NamedTuple):
    """The entries of a matrix, flat; value None for a pattern."""

    row: Int32[Array, " entries"]
    col: Int32[Array, " entries"]
    value: Any


def entries_of(matrix: SparseMatrix) -> Entries:
    """Read back once, and kept beside the matrix; its values may be traced, its structure not.

    Raises `InvalidTypeError` for a traced structure.
    """
    known: Entries | None = matrix.__dict__.get("_entries")
    if known is not None:
        return known
    held = matrix.block_values
    with jax.ensure_compile_time_eval():
        row, col = on_device(matrix.row), on_device(matrix.col)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(held)):
        flat = jnp.concatenate([block.T.reshape(-1) for block in held])
        return Entries(row, col, flat[matrix.slot])
    value = None
    if held and held[0] is not None:
        value = np.concatenate([np.asarray(block).T.reshape(-1) for block in held])[np.asarray(matrix.slot)]
    with jax.ensure_compile_time_eval():
        known = Entries(row, col, None if value is None else on_device(value))
    object.__setattr__(matrix, "_entries", known)
    return known


def _terms(entries: Entries, y: Array, semiring: Semiring) -> Array:
    own = y[entries.col]
    weight = semiring.full(own.shape, "one", y.dtype) if entries.value is None else entries.value
    found: Array = semiring.multiply(weight, own)
    return found


def parents(entries: Entries, x: Array, y: Array, semiring: Semiring) -> Int32[Array, " n"]:
    """The column that each row's value comes from; −1 for a row whose value is that of x, or zero."""
    row, col, n = entries.row, entries.col, len(y)
    wanted = (y != x) & (y != jnp.asarray(semiring.zero(y.dtype)))
    tight = (_terms(entries, y, semiring) == y[row]) & wanted[row]
    less, more = tight & (y[col] < y[row]), tight & (y[col] > y[row])
    fewer = jnp.sum(less, dtype=jnp.int32) < jnp.sum(more, dtype=jnp.int32)

    def lowest(chosen: Array) -> Array:
        return jnp.full(n, n, jnp.int32).at[row].min(jnp.where(chosen, col, n))

    def tied(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        column, left = carry
        column = jnp.where(left, lowest(tight & left[row] & ~left[col]), column)
        following = left & (column == n)
        return column, following & jnp.any(following != left)  # no more, if a round brought nothing

    column = lowest(jnp.where(fewer, more, less))
    column, _ = lax.while_loop(lambda carry: jnp.any(carry[1]), tied, (column, wanted & (column == n)))
    return jnp.where(column == n, -1, column)


@jax.jit
def _relaxed(entries: Entries, y: Array, semiring: Semiring) -> tuple[Array, Array]:
    """A sweep, and for each row the lowest column of those with its best term."""
    terms = _terms(entries, y, semiring)
    zero = jnp.full(len(y), jnp.asarray(semiring.zero(y.dtype)))
    best = getattr(zero.at[entries.row], str(semiring.add.scatter(y.dtype)))(terms)
    column = jnp.where(terms == best[entries.row], entries.col, len(y))
    return semiring.add(y, best), jnp.full(len(y), len(y), jnp.int32).at[entries.row].min(column)


def improving_cycle(matrix: SparseMatrix, y: Any, semiring: Semiring) -> list[int] | None:
    """The rows of a cycle along which values that are no fixpoint improve for ever; None if there is none. On the host.

    Relaxes on, and remembers where each row that gets better got it from: in no more rounds than there are rows these
    parents close a cycle (Cormen et al., "Introduction to Algorithms", lemma 24.16, read backwards).
    """
    if semiring.element is not None or semiring.add.scatter(y.dtype) not in ("min", "max"):
        return None
    entries = entries_of(matrix)
    for feature in y.T if y.ndim == 2 else (y,):
        if cycle := _cycle_from(entries, feature, semiring):
            return cycle
    return None


def _cycle_from(entries: Entries, y: Array, semiring: Semiring) -> list[int] | None:
    parent = np.full(len(y), -1, np.int32)
    for _ in range(len(y)):
        better, column = _relaxed(entries, y, semiring)
        moved = np.asarray(better != y)
        if not moved.any():
            return None
        parent[moved] = np.asarray(column)[moved]
        y = better
        if cycle := _cycle_above(parent, int(np.argmax(moved))):
            return cycle
    return None


def _cycle_above(parent: np.ndarray, row: int) -> list[int] | None:
    """The cycle that the parents of a row lead into, in the direction of its entries, its lowest row first."""
    path: dict[int, None] = {}
    while row >= 0 and row not in path:
        path[row] = None
        row = int(parent[row])
    if row < 0:
        return None
    way = list(path)
    around = way[way.index(row) :][::-1]
    first = around.index(min(around))
    return around[first:] + around[:first]
