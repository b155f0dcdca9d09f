"""`closure`: the least y with y = x ⊕ A ⊗ y. Shortest paths, reachability, critical paths.

Two ways lead there, and data decides between them. A *sweep* is a product with the whole matrix, `y ⊕ A ⊗ y`. While
few rows change, their *frontier* is followed instead (see `_frontier`), until it ends or outgrows its capacity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int32, Shaped

from .._errors import InvalidArgumentError
from .._require import whole_number
from ..semiring import LAWS, Semiring
from ._fixpoint import differentiable
from ._frontier import STAMPS, Outgoing, drain, fits, listed, outgoing
from ._matmul import _matmul, checked_operand
from ._parents import improving_cycle
from ._sparse import SparseMatrix

_SMALL = 2**14  # Entries that a sweep takes in less time than it takes to launch a window of the frontier.
_WINDOWS = 64  # A full frontier costs about as much as a sweep with so many entries for each of its columns' places.


class Closure(eqx.Module):
    """What `closure` found: `value`, the `steps` it took, and whether it `converged`; all arrays, also inside `jit`.

    A step is a sweep over all entries, or a window of the frontier.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> one_way = mmsb.SparseMatrix.from_coo([1], [0], None, (2, 2))
    >>> found = mmsb.closure(one_way, np.uint32([1, 2]), mmsb.semiring.or_and)
    >>> found.value, int(found.steps), bool(found.converged)
    (Array([1, 3], dtype=uint32), 2, True)
    """

    value: Shaped[Array, "n *features"]
    steps: Int32[Array, ""]
    converged: Bool[Array, ""]


def closure(
    matrix: SparseMatrix | Any,
    x: ArrayLike | Any,
    semiring: Semiring | Any,
    *,
    max_steps: int | Any | None = None,
    frontier: int | Any | None = None,
    throw: bool = True,
) -> Closure:
    """The least y with `y = x ⊕ A ⊗ y`: x ⊕ A x ⊕ A A x ⊕ …, until nothing changes. `A[i, j]` leads from j to i.

    The method of Bellman and Ford in any idempotent semiring (a ⊕ a = a): by products with the whole matrix, and where
    few rows change, by relaxing only what they lead to. Both come to the same bits (but for the sign of a zero).

    **Arguments**

    - `matrix`, square; `x`, [n] or [n, features].
    - `max_steps`: only paths of at most so many entries, by sweeps alone. None: all paths; n sweeps are enough wherever
      there is a fixpoint, since a path without a cycle has fewer than n entries.
    - `frontier`: how many rows the frontier can hold; a larger one is left to sweeps. None: as many as pay for
      themselves, 0: sweeps alone. Sweeps also where ⊕ isn't a minimum or maximum, for several features, and for a
      matrix that is traced: close a jitted function over the matrix to have it follow the frontier.

    **Returns** a `Closure`. A cycle that improves with each round (of negative length in `min_plus`, positive in
    `max_plus`) has no fixpoint: `converged` is False then. Outside `jit`, with `throw`, that raises
    `InvalidArgumentError` and names the rows of such a cycle; inside, look at the flag.

    **Derivatives**, forward and reverse, by x and by the values, where ⊕ is a minimum or maximum: those of the paths
    that win (see `_fixpoint`), of equal ones those that `paths` gives. They take as many products as the longest of
    these paths has entries. The structure must not be traced, nor have parallel entries.

    Raises `InvalidArgumentError` for a semiring that isn't idempotent or lacks a law, and for shapes;
    `InvalidTypeError` for dtypes.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> roads = mmsb.SparseMatrix.from_coo([1, 2, 2], [0, 0, 1], np.float32([5, 9, 3]), (3, 3))
    >>> mmsb.closure(roads, np.float32([0, np.inf, np.inf]), mmsb.semiring.min_plus).value
    Array([0., 5., 8.], dtype=float32)
    """
    array = checked_operand(matrix, x, semiring)
    check_closable(matrix, semiring)
    n = matrix.shape[0]
    limit = n if max_steps is None else whole_number(max_steps)
    if limit is None or limit < 0:
        raise InvalidArgumentError(f"max_steps is {max_steps}; it must be at least 0, or None for the number of rows")
    edges, capacity = None, 0
    if max_steps is None:
        edges, capacity = _strategy(matrix, array, semiring, frontier)
    still = matrix, array
    if slopes := _has_slopes(matrix, array, semiring):
        still = lax.stop_gradient(matrix) if _is_traced(matrix.block_values) else matrix, lax.stop_gradient(array)
    found, moving = _closure(still[0], edges, still[1], semiring, jnp.int32(limit), capacity)
    if slopes and max_steps is None:
        found = Closure(differentiable(matrix, array, found.value, semiring), found.steps, found.converged)
    if throw and not isinstance(found.converged, jax.core.Tracer) and not found.converged:
        raise InvalidArgumentError(_not_converged(matrix, found.value, moving, semiring, limit))
    return found


def _has_slopes(matrix: SparseMatrix, x: Any, semiring: Semiring) -> bool:
    """Whether somebody may ask for derivatives, and the tree of parents, which they take, can be laid out."""
    if not _is_traced((matrix.block_values, x)) or isinstance(matrix.slot, jax.core.Tracer):
        return False
    plain = semiring.element is None and semiring.add.scatter(x.dtype) in ("min", "max")
    return plain and jnp.issubdtype(x.dtype, jnp.floating)


def _is_traced(tree: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def check_closable(matrix: SparseMatrix, semiring: Semiring) -> None:
    """Raise unless a closure is defined."""
    if matrix.shape[0] != matrix.shape[1]:
        raise InvalidArgumentError(f"closure needs a square matrix, [n, n]; got shape {matrix.shape}")
    if semiring.lacks:
        laws = "; ".join(LAWS[law] for law in sorted(semiring.lacks))
        raise InvalidArgumentError(
            f"{semiring.name} is no true semiring, so that a sum over paths isn't defined. It lacks: {laws}. Use it in "
            "matmul and k_step, or a semiring that keeps these laws here"
        )
    if semiring.argument:
        raise InvalidArgumentError(
            f"{semiring.name} says which term of one product wins, not which path: close with "
            f"{semiring.name.removeprefix('arg_')}, or ask mmsb.propagation.paths for the parents, too"
        )
    if not semiring.idempotent:
        raise InvalidArgumentError(
            f"{semiring.name} isn't idempotent (a ⊕ a ≠ a): summing over all paths need not end. Use an idempotent "
            "one such as min_plus, max_plus or or_and; if yours is, say so: Semiring(…, idempotent=True)"
        )


def _strategy(matrix: SparseMatrix, x: Any, semiring: Semiring, frontier: Any) -> tuple[Outgoing | None, int]:
    """The entries by column and the capacity of the frontier, or None and 0 for sweeps alone."""
    capacity = whole_number(frontier) if frontier is not None else None
    if frontier is not None and (capacity is None or capacity < 0):
        raise InvalidArgumentError(f"frontier is {frontier!r}; it must be a number of rows, 0 for none, or left out")
    if semiring.element is not None or x.ndim != 1 or semiring.add.scatter(x.dtype) not in ("min", "max"):
        return None, 0
    if capacity == 0 or not matrix.entries or (capacity is None and matrix.entries < _SMALL):
        return None, 0
    edges = outgoing(matrix)
    if edges is None:
        return None, 0
    return edges, capacity or max(256, matrix.entries // (_WINDOWS * edges.row.shape[1]))


def _not_converged(matrix: SparseMatrix, y: Array, moving: Any, semiring: Semiring, limit: int) -> str:
    cycle = improving_cycle(matrix, y, semiring)
    if cycle:
        around = " -> ".join(map(str, [*cycle, cycle[0]]))
        return (
            f"no fixpoint of {semiring.name}: the cycle {around} improves with each round. Mend one of its entries, or "
            "limit the paths by max_steps; throw=False returns what there is"
        )
    return (
        f"no fixpoint of {semiring.name} after {limit} steps; row {int(np.argmax(moving))} was still changing. "
        "Raise max_steps; throw=False returns what there is"
    )


@eqx.filter_jit
def _closure(
    matrix: SparseMatrix, edges: Outgoing | None, x: Array, semiring: Semiring, limit: Int32[Array, ""], capacity: int
) -> tuple[Closure, Bool[Array, "n"]]:
    """Also returns which rows changed in the last step."""

    def sweep(y: Array) -> tuple[Array, Array]:
        better = semiring.add(y, _matmul(matrix, y, semiring))
        return better, _differs(better, y)

    moving = jnp.ones(len(jax.tree.leaves(x)[0]), jnp.bool_)
    if edges is None:
        return _by_sweeps(sweep, x, moving, limit)
    moving = x != jnp.asarray(semiring.zero(x.dtype))
    return _by_both(sweep, edges, x, moving, semiring, limit, capacity)


def _differs(better: Any, y: Any) -> Bool[Array, "n"]:
    parts = [
        jnp.any(a != b, axis=tuple(range(1, b.ndim))) for a, b in zip(*map(jax.tree.leaves, (better, y)), strict=True)
    ]
    found = parts[0]
    for part in parts[1:]:
        found |= part
    return found


def _by_sweeps(
    sweep: Callable[[Any], tuple[Any, Array]], x: Any, moving: Array, limit: Array
) -> tuple[Closure, Bool[Array, "n"]]:
    def step(carry: tuple[Any, Array, Array]) -> tuple[Any, Array, Array]:
        y, _, steps = carry
        return *sweep(y), steps + jnp.int32(1)

    start = (x, moving, jnp.int32(0))
    y, moving, steps = lax.while_loop(lambda carry: jnp.any(carry[1]) & (carry[2] < limit), step, start)
    return Closure(y, steps, ~jnp.any(moving)), moving


def _by_both(
    sweep: Callable[[Array], tuple[Array, Array]],
    edges: Outgoing,
    x: Array,
    moving: Array,
    semiring: Semiring,
    limit: Array,
    capacity: int,
) -> tuple[Closure, Bool[Array, "n"]]:
    """The frontier where it fits, then a sweep if it ended too early, and so on.

    A frontier may go round an improving cycle for ever: after twice as many windows as rows only sweeps go on, and n of
    them prove it.
    """
    budget = min(STAMPS, 2 * len(x) + 64)

    def follow(y: Array, moving: Array, windows: Array) -> tuple[Array, Array, Array]:
        f = drain(edges, listed(edges, moving, y, capacity, semiring.add), semiring, budget - windows)
        head, tail, far, more = f.counts
        done = fits(f) & (head == tail) & (far == 0)
        return f.y[:-1], jnp.broadcast_to(~done, moving.shape), windows + more

    def step(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        y, moving, sweeps, windows = carry
        small = (jnp.sum(moving, dtype=jnp.int32) <= capacity) & (windows < budget)
        if edges.long is not None:
            small &= ~jnp.any(moving & edges.long[:-1])
        y, moving, windows = _when(small, follow, (y, moving, windows))
        left = jnp.any(moving)
        y, moving = _when(left, lambda y, _: sweep(y), (y, moving))
        return y, moving, sweeps + left.astype(jnp.int32), windows

    start = (x, moving, jnp.int32(0), jnp.int32(0))
    y, moving, sweeps, windows = lax.while_loop(lambda carry: jnp.any(carry[1]) & (carry[2] < limit), step, start)
    return Closure(y, sweeps + windows, ~jnp.any(moving)), moving


def _when(wanted: Array, do: Callable[..., Any], carry: tuple[Any, ...]) -> Any:
    """`do(*carry)` if wanted. A loop of one round: under `vmap`, a `cond` would map over the structure as well."""

    def once(now: tuple[Array, Any]) -> tuple[Array, Any]:
        return jnp.zeros_like(wanted), do(*now[1])

    return lax.while_loop(lambda now: now[0], once, (wanted, carry))[1]
