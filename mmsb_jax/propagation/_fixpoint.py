"""Derivatives of a fixpoint, by the implicit function theorem along its tree of parents.

At the fixpoint every row has the value of one term, y[i] = A[i, p(i)] ⊗ y[p(i)], or that of x. Both sides
differentiated give dy[i] = ∂₁⊗ · dA[i, p(i)] + ∂₂⊗ · dy[p(i)], a linear system whose matrix is a tree: solved by
following it level by level, in reverse from its leaves. So a derivative takes as many products as the tree is deep, and
none of the steps that led to the fixpoint is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from .._errors import InvalidArgumentError
from ..semiring import Semiring
from ._links import select
from ._matmul import of_winners
from ._parents import entries_of, parents
from ._sparse import SparseMatrix

_PARALLEL = (
    "the derivative of a closure needs a matrix without parallel entries, to know which of them a path takes; merge "
    "them first: coalesce(matrix, semiring)"
)


def differentiable(matrix: SparseMatrix, x: Array, y: Array, semiring: Semiring) -> Array:
    """`y`, the closure of x, with its derivatives by x and by the values of the matrix, whose structure is known."""
    linked = matrix.linked()
    bare = linked.with_block_values((None,) * len(linked.first))

    @jax.custom_jvp
    def value(values: Any, x: Array, y: Array) -> Array:
        del values, x
        return y

    @value.defjvp
    def _(primals: Any, tangents: Any) -> tuple[Array, Array]:
        assert bare.links is not None
        if not bare.links.simple:
            raise InvalidArgumentError(_PARALLEL)
        values, x, y = primals
        # The tree is read off numbers alone; a second derivative is that of the tree as it is.
        fixed = bare.with_block_values(jax.tree.map(lax.stop_gradient, values))
        parent = _parents(fixed, lax.stop_gradient(x), lax.stop_gradient(y), semiring)

        def term(values: Any, x: Array, y: Array) -> Array:
            return _along(bare.with_block_values(values), x, y, parent, semiring)

        _, moved = jax.jvp(lambda values, x: term(values, x, y), (values, x), tuple(tangents[:2]))
        _, follow = jax.linearize(lambda y: term(values, x, y), y)
        return y, _solved(follow, moved)

    return value(matrix.block_values, x, lax.stop_gradient(y))


def _parents(matrix: SparseMatrix, x: Array, y: Array, semiring: Semiring) -> Array:
    entries = entries_of(matrix)
    if y.ndim == 1:
        return parents(entries, x, y, semiring)
    found: Array = jax.vmap(lambda x, y: parents(entries, x, y, semiring), in_axes=1, out_axes=1)(x, y)
    return found


def _along(matrix: SparseMatrix, x: Array, y: Array, parent: Array, semiring: Semiring) -> Array:
    """For each row the term of its parent, or x."""
    assert matrix.links is not None
    before = select(y, parent, matrix.links.columns)
    if matrix.block_values[0] is not None:
        before = semiring.multiply(of_winners(matrix, parent), before)
    return jnp.where(parent >= 0, before, x)


def _solved(follow: Callable[[Array], Array], b: Array) -> Array:
    """z = b + follow(z). `follow` leads down a tree, so that its powers end in 0."""
    back = jax.linear_transpose(follow, b)

    def summed(step: Callable[[Array], Array], b: Array) -> Array:
        def more(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            total, last = carry
            last = step(last)
            return total + last, last

        return lax.while_loop(lambda carry: jnp.any(carry[1] != 0), more, (b, b))[0]

    found: Array = lax.custom_linear_solve(
        lambda z: z - follow(z),
        b,
        solve=lambda _, b: summed(follow, b),
        transpose_solve=lambda _, b: summed(lambda z: back(z)[0], b),
    )
    return found
