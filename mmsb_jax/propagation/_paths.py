"""Paths by name: `paths` in any semiring that selects, and those that everybody looks for."""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int32, Shaped

from .._errors import InvalidArgumentError, InvalidTypeError
from .._require import require_instance, whole_number
from ..semiring import Semiring
from ..semiring import max_min as _max_min
from ..semiring import max_plus as _max_plus
from ..semiring import max_times as _max_times
from ..semiring import min_plus as _min_plus
from ..semiring import or_and as _or_and
from ._closure import check_closable, closure
from ._matmul import _matmul, checked_operand, matmul
from ._parents import entries_of, parents
from ._sparse import SparseMatrix

_MATRIX = "SparseMatrix.from_coo(to, from, weight, (n, n))"
_SWEPT_LEVELS = 12  # After so many levels by sweeps a graph is a deep one, and its frontier is followed.


class Paths(eqx.Module):
    """The best paths to every row, all arrays, also inside `jit`: see `paths`.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> roads = mmsb.SparseMatrix.from_coo([1, 2, 2], [0, 0, 1], np.float32([5, 9, 3]), (3, 3))
    >>> mmsb.propagation.shortest_paths(roads, 0).parent
    Array([-1,  0,  1], dtype=int32)
    """

    value: Shaped[Array, " n"]
    """Of the best path to each row; the semiring's zero where there is none."""
    parent: Int32[Array, " n"]
    """The row before it on such a path; −1 where a path begins, and where there is none."""
    steps: Int32[Array, ""]
    converged: Bool[Array, ""]


def paths(
    matrix: SparseMatrix | Any,
    sources: ArrayLike | Any,
    semiring: Semiring | Any,
    *,
    frontier: int | Any | None = None,
    throw: bool = True,
) -> Paths:
    """The best paths from `sources` to every row, where ⊕ selects (min, max); `A[i, j]` leads from j to i.

    **Arguments:** `matrix`, [n, n], not traced itself (its values may be); `sources`, one row or several, [k], also
    traced; `frontier`, `throw` as for `closure`.

    **Returns** `Paths`. Parents form a tree (a forest, of several sources) whose paths have just these values, also
    where weights are zero; of equal paths, the tree takes the lowest parent with a strictly better prefix.

    Raises what `closure` raises; `InvalidArgumentError` for sources that aren't rows and for a ⊕ that doesn't select.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> pipes = mmsb.SparseMatrix.from_coo([1, 2, 2], [0, 0, 1], np.float32([5, 1, 3]), (3, 3))
    >>> mmsb.propagation.paths(pipes, 0, mmsb.semiring.max_min).value
    Array([inf,  5.,  3.], dtype=float32)
    """
    x = _start(matrix, sources, semiring)
    return _from(matrix, x, semiring, frontier, throw)


def _start(matrix: Any, sources: Any, semiring: Any) -> Array:
    require_instance(matrix, SparseMatrix, _MATRIX)
    require_instance(semiring, Semiring, "e.g. mmsb.semiring.min_plus")
    check_closable(matrix, semiring)
    rows = _rows(matrix, sources)
    dtype = matrix.dtype or np.dtype(np.float32 if semiring.supports(np.float32) else np.uint32)
    return _ones_at(rows, matrix.shape[0], semiring, dtype.name)


@partial(jax.jit, static_argnums=(1, 2, 3))
def _ones_at(rows: Array, n: int, semiring: Semiring, dtype: str) -> Array:
    zeros: Array = semiring.full((n,), "zero", np.dtype(dtype))
    return zeros.at[rows].set(jnp.asarray(semiring.one(np.dtype(dtype))))


def _rows(matrix: SparseMatrix, sources: Any) -> Array:
    rows = jnp.asarray(sources)
    if rows.ndim > 1 or not jnp.issubdtype(rows.dtype, jnp.integer):
        raise InvalidTypeError(
            f"sources must be a row, or several, [k], as integers; got {rows.dtype.name}{rows.shape}"
        )
    if not isinstance(rows, jax.core.Tracer):
        wrong = np.asarray(rows)[(np.asarray(rows) < 0) | (np.asarray(rows) >= matrix.shape[0])]
        if wrong.size:
            raise InvalidArgumentError(f"source {wrong.flat[0]} is no row of the matrix: 0 … {matrix.shape[0] - 1}")
    return rows


def _from(matrix: SparseMatrix, x: Array, semiring: Semiring, frontier: Any, throw: bool) -> Paths:
    if semiring.element is not None or semiring.add.scatter(x.dtype) not in ("min", "max"):
        raise InvalidArgumentError(
            f"{semiring.name}: ⊕ must be jnp.minimum or jnp.maximum for one path to be the best; use closure, which "
            "needs no parents"
        )
    entries = entries_of(matrix)
    found = closure(matrix, x, semiring, frontier=frontier, throw=throw)
    return Paths(found.value, _parents(entries, x, found.value, semiring), found.steps, found.converged)


_parents = jax.jit(parents)


def shortest_paths(matrix: SparseMatrix | Any, sources: ArrayLike | Any, **options: Any) -> Paths:
    """`paths` in `min_plus`: lengths add up. Weights may be negative, as long as no cycle is.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> roads = mmsb.SparseMatrix.from_coo([1, 2, 2], [0, 0, 1], np.float32([5, 9, 3]), (3, 3))
    >>> mmsb.propagation.shortest_paths(roads, 0).value
    Array([0., 5., 8.], dtype=float32)
    """
    return paths(matrix, sources, _min_plus, **options)


def widest_paths(matrix: SparseMatrix | Any, sources: ArrayLike | Any, **options: Any) -> Paths:
    """`paths` in `max_min`: a path is as wide as its narrowest entry.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> pipes = mmsb.SparseMatrix.from_coo([1, 2, 2], [0, 0, 1], np.float32([5, 1, 3]), (3, 3))
    >>> mmsb.propagation.widest_paths(pipes, 0).parent
    Array([-1,  0,  1], dtype=int32)
    """
    return paths(matrix, sources, _max_min, **options)


def most_reliable_paths(matrix: SparseMatrix | Any, sources: ArrayLike | Any, **options: Any) -> Paths:
    """`paths` in `max_times`: probabilities, from 0 to 1, multiply.

    Raises `InvalidArgumentError` for a weight outside 0 … 1, unless it is traced.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> links = mmsb.SparseMatrix.from_coo([1, 2, 2], [0, 0, 1], np.float32([0.5, 0.25, 1]), (3, 3))
    >>> mmsb.propagation.most_reliable_paths(links, 0).value
    Array([1. , 0.5, 0.5], dtype=float32)
    """
    require_instance(matrix, SparseMatrix, _MATRIX)
    for held in matrix.block_values:
        if held is not None and not isinstance(held, jax.core.Tracer):
            array = np.asarray(held)
            wrong = array[(array < 0) | (array > 1)]
            if wrong.size:
                raise InvalidArgumentError(f"got the weight {wrong[0]}; a probability lies in 0 … 1")
    return paths(matrix, sources, _max_times, **options)


def critical_path(matrix: SparseMatrix | Any, **options: Any) -> Paths:
    """The longest paths in an acyclic graph, wherever they begin: `max_plus` from every row at 0.

    `A[i, j]` is how long after j begins i may: `value` is the earliest start of each row, `parent` what it waits for,
    and `path_to(parent, value.argmax())` the critical path. Weights below 0 count as a delay of their own.

    Raises what `paths` raises; for a cycle of positive length an `InvalidArgumentError` that names its rows.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> tasks = mmsb.SparseMatrix.from_coo([1, 2, 2], [0, 0, 1], np.float32([5, 9, 3]), (3, 3))
    >>> found = mmsb.propagation.critical_path(tasks)
    >>> found.value, mmsb.propagation.path_to(found.parent, found.value.argmax())
    (Array([0., 5., 9.], dtype=float32), [0, 2])
    """
    x = _start(matrix, np.arange(matrix.shape[0]) if isinstance(matrix, SparseMatrix) else 0, _max_plus)
    return _from(matrix, x, _max_plus, options.get("frontier"), options.get("throw", True))


def path_to(parents: ArrayLike | Any, target: int | Any) -> list[int]:
    """The rows of the path that ends at `target`, first the one where it begins. On the host.

    A row that wasn't reached has a path of itself alone: its value tells.

    Raises `InvalidArgumentError` for a target that is no row, and for parents that go round in a circle.

    >>> path_to([-1, 0, 1], 2)
    [0, 1, 2]
    """
    before, row = np.asarray(parents), whole_number(target)
    if row is None or before.ndim != 1 or not 0 <= row < len(before):
        raise InvalidArgumentError(
            f"got target={target!r} and parents of shape {before.shape}; pass a row and [n] parents"
        )
    way = [row]
    while (row := int(before[row])) >= 0:
        if len(way) == len(before):
            raise InvalidArgumentError(f"the parents of {target} go round in a circle; pass those of `paths`")
        way.append(row)
    return way[::-1]


def reachable(matrix: SparseMatrix | Any, sources: ArrayLike | Any) -> Bool[Array, " n"]:
    """Which rows a path leads to from `sources`, and those themselves. Weights don't matter.

    >>> import mmsb_jax as mmsb
    >>> mmsb.propagation.reachable(mmsb.SparseMatrix.from_coo([1, 0], [0, 2], None, (3, 3)), 0)
    Array([ True,  True, False], dtype=bool)
    """
    return breadth_first_levels(matrix, sources) >= 0


def breadth_first_levels(matrix: SparseMatrix | Any, sources: ArrayLike | Any) -> Int32[Array, " n"]:
    """How many entries lead to each row from the nearest of `sources`; −1 for a row that none leads to.

    >>> import mmsb_jax as mmsb
    >>> one_way = mmsb.SparseMatrix.from_coo([1, 2, 2], [0, 0, 1], None, (4, 4))
    >>> mmsb.propagation.breadth_first_levels(one_way, 0)
    Array([ 0,  1,  1, -1], dtype=int32)
    """
    require_instance(matrix, SparseMatrix, _MATRIX)
    check_closable(matrix, _or_and)
    rows = _rows(matrix, sources)
    hops = _hops(matrix)
    deep = matrix.shape[0] if hops is None else _SWEPT_LEVELS
    level, waiting = _levels(_pattern(matrix), rows, jnp.int32(deep))
    if hops is not None and (isinstance(waiting, jax.core.Tracer) or waiting):
        level = closure(hops, level, _min_plus).value
    return _unreached(level)


_FAR = np.int32(np.iinfo(np.int32).max)


_unreached = jax.jit(lambda level: jnp.where(level == _FAR, -1, level))


def _pattern(matrix: SparseMatrix) -> SparseMatrix:
    return matrix.with_block_values((None,) * len(matrix.first))


def _hops(matrix: SparseMatrix) -> SparseMatrix | None:
    """The same structure with 1 for every entry, kept beside the matrix; None if that is traced."""
    if isinstance(matrix.slot, jax.core.Tracer) or not matrix.entries:
        return None
    known: SparseMatrix | None = matrix.__dict__.get("_hops")
    if known is None:
        with jax.ensure_compile_time_eval():
            ones = tuple(jnp.ones(block.columns.shape, jnp.int32) for block in matrix.first)
            known = matrix.with_block_values(ones)
        object.__setattr__(matrix, "_hops", known)
    return known


@jax.jit
def _levels(pattern: SparseMatrix, sources: Array, deep: Array) -> tuple[Array, Array]:
    """Level after level, by products of bits; also whether any are left."""

    def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        level, newest, depth = carry
        found = _matmul(pattern, newest, _or_and) & (level == _FAR)
        return jnp.where(found, depth + 1, level), found, depth + 1

    n = pattern.shape[0]
    newest = jnp.zeros(n, jnp.bool_).at[sources].set(True)
    start = (jnp.where(newest, jnp.int32(0), _FAR), newest, jnp.int32(0))
    level, newest, _ = lax.while_loop(lambda carry: jnp.any(carry[1]) & (carry[2] < deep), step, start)
    return level, jnp.any(newest)


def k_step(matrix: SparseMatrix | Any, x: ArrayLike | Any, semiring: Semiring | Any, k: int | Any) -> Any:
    """Aᵏ ⊗ x: the sum over all paths of exactly `k` entries, in any semiring; k products.

    **Arguments:** `x`, [n] or [n, features]; `k`, a whole number, which may be traced (but then not under `grad`).

    >>> import mmsb_jax as mmsb, numpy as np
    >>> walk = mmsb.SparseMatrix.from_coo([1, 0], [0, 1], np.float32([2, 3]), (2, 2))
    >>> k_step(walk, np.float32([1, 0]), mmsb.semiring.plus_times, 2)
    Array([6., 0.], dtype=float32)
    """
    array = checked_operand(matrix, x, semiring)
    if matrix.shape[0] != matrix.shape[1]:
        raise InvalidArgumentError(f"k_step needs a square matrix, [n, n]; got shape {matrix.shape}")
    count = k if isinstance(k, jax.core.Tracer) else whole_number(k)
    if count is None or (not isinstance(count, jax.core.Tracer) and count < 0):
        raise InvalidArgumentError(f"got k={k!r}; pass how many steps, 0 or more")
    if semiring.argument:
        raise InvalidArgumentError(
            f"{semiring.name} says who won, and has no place for it here; leave out the argument"
        )
    return lax.fori_loop(0, count, lambda _, y: matmul(matrix, y, semiring), array)


def all_pairs(
    matrix: SparseMatrix | Any, semiring: Semiring | Any, *, block: int | Any = 64
) -> Shaped[np.ndarray, "n n"]:
    """The best value over all paths from every row to every row: `[i, j]` from j to i, on the host.

    `block` sources at a time go through `closure` together, so that the device never holds more than n × block values.

    Raises what `closure` raises.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> roads = mmsb.SparseMatrix.from_coo([1, 2, 2], [0, 0, 1], np.float32([5, 9, 3]), (3, 3))
    >>> all_pairs(roads, mmsb.semiring.min_plus)
    array([[ 0., inf, inf],
           [ 5.,  0., inf],
           [ 8.,  3.,  0.]], dtype=float32)
    """
    _start(matrix, np.zeros(0, np.int32), semiring)
    width = whole_number(block)
    if width is None or width < 1:
        raise InvalidArgumentError(f"got block={block!r}; pass how many sources are solved together, 1 or more")
    n = matrix.shape[0]
    dtype = matrix.dtype or np.dtype(np.float32 if semiring.supports(np.float32) else np.uint32)
    width, zero, one = min(width, max(1, n)), semiring.zero(dtype), semiring.one(dtype)
    found = np.empty((n, n), dtype)
    for begin in range(0, n, width):
        first = min(begin, n - width)  # the last block repeats a few sources rather than compile another width
        x = np.full((n, width), zero, dtype)
        x[np.arange(first, first + width), np.arange(width)] = one
        found[:, first : first + width] = closure(matrix, x, semiring).value
    return found
