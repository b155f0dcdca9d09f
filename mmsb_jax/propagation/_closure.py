"""`closure`: the least y with y = x ⊕ A ⊗ y. Shortest paths, reachability, critical paths."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int32, Shaped

from .._errors import InvalidArgumentError
from ..semiring import Semiring
from ._matmul import _matmul, checked_operand
from ._sparse import SparseMatrix


class Closure(eqx.Module):
    """What `closure` found: `value`, the `steps` it took, and whether it `converged`; all arrays, also inside `jit`.

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
    max_steps: int | None = None,
    throw: bool = True,
) -> Closure:
    """The least y with `y = x ⊕ A ⊗ y`: x ⊕ A x ⊕ A A x ⊕ …, by repeated products until nothing changes.

    The method of Bellman and Ford in any idempotent semiring (a ⊕ a = a). `A[i, j]` leads from j to i.

    **Arguments:** `matrix`, square; `x`, [n] or [n, features]; `max_steps`, by default n, which is enough whenever
    there is a fixpoint: a path without a cycle has fewer than n steps. **Returns** a `Closure`. A cycle that improves
    with each round (of negative length in `min_plus`, positive in `max_plus`) has no fixpoint: `converged` is False
    then. Outside `jit`, with `throw`, that raises `InvalidArgumentError` and names a row that was still changing;
    inside, look at the flag.

    Raises `InvalidArgumentError` for a semiring that isn't idempotent and for shapes, `InvalidTypeError` for dtypes.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> roads = mmsb.SparseMatrix.from_coo([1, 2, 2], [0, 0, 1], np.float32([5, 9, 3]), (3, 3))
    >>> mmsb.closure(roads, np.float32([0, np.inf, np.inf]), mmsb.semiring.min_plus).value
    Array([0., 5., 8.], dtype=float32)
    """
    array = checked_operand(matrix, x, semiring)
    if matrix.shape[0] != matrix.shape[1]:
        raise InvalidArgumentError(f"closure needs a square matrix, [n, n]; got shape {matrix.shape}")
    if not semiring.idempotent:
        raise InvalidArgumentError(
            f"{semiring.name} isn't idempotent (a ⊕ a ≠ a): summing over all paths need not end. Use an idempotent "
            "one such as min_plus, max_plus or or_and; if yours is, say so: Semiring(…, idempotent=True)"
        )
    limit = matrix.shape[0] if max_steps is None else int(max_steps)
    if limit < 0:
        raise InvalidArgumentError(f"max_steps is {limit}; it must be at least 0, or None for the number of rows")
    found, moving = _closure(matrix, array, semiring, jnp.int32(limit))
    if throw and not isinstance(found.converged, jax.core.Tracer) and not found.converged:
        raise InvalidArgumentError(
            f"no fixpoint of {semiring.name} after {limit} steps; row {int(np.argmax(moving))} was still changing. "
            "Look for a cycle that improves with each round and leads there, or raise max_steps; throw=False returns "
            "what there is"
        )
    return found


@jax.jit
def _closure(
    matrix: SparseMatrix, x: Array, semiring: Semiring, limit: Int32[Array, ""]
) -> tuple[Closure, Bool[Array, "n"]]:
    """Also returns which rows changed in the last step."""

    def changing(carry: tuple[Array, Array, Array]) -> Array:
        _, moving, steps = carry
        return jnp.any(moving) & (steps < limit)

    def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        y, _, steps = carry
        better = semiring.add(y, _matmul(matrix, y, semiring))
        return better, jnp.any(better != y, axis=tuple(range(1, y.ndim))), steps + jnp.int32(1)

    start = (x, jnp.ones(len(x), jnp.bool_), jnp.int32(0))
    y, moving, steps = lax.while_loop(changing, step, start)
    return Closure(y, steps, ~jnp.any(moving)), moving
