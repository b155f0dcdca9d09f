"""Gathers whose transposes are gathers too.

The derivative of a gather, in reverse mode, adds what comes back for each row of its source. JAX does that by
scatter-add, in whatever order the device likes. Here the places that read a row are known when a matrix is laid out,
so that adding up is a fold in a fixed order over those places, as in any product:

    spread      u[slot] = x[column[slot]]                     collect    x[j] = Σ u[slot] over the slots with column j
    select      y[i] = x[winner[i]]                           deliver    x[j] = Σ y[i] over the rows i with winner j

Each is the transpose of the other, so that derivatives of any order, forward and reverse, come out of JAX's own rules.
They are primitives of JAX for this alone: its `custom_vjp` has no forward mode, its `linear_call` no `vmap`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Int32

from .._errors import InvalidArgumentError
from ..kernels import fold_terms, gather_fold, take_rows

_UNKNOWN = (
    "the derivative with respect to x, in reverse mode, needs the matrix's transpose, which isn't there: the matrix is "
    "an argument of a transformed function, where it can't be laid out. Do so before: matrix = matrix.with_transpose()"
)


class Block(eqx.Module):
    """Pieces of rows, all of one width. See `kernels.fold_terms` for what lengths and shortest mean."""

    columns: Int32[Array, "rows width"]
    values: Any
    """[rows, width], or a tree of such arrays, or None."""
    lengths: Int32[Array, " rows"] | None
    shortest: int = eqx.field(static=True)


class Fold(eqx.Module):
    """How to sum up slots by what they read, in a fixed order: levels of blocks, and where each sum lies then."""

    levels: tuple[tuple[Block, ...], ...]
    home: Int32[Array, " n"] | None
    size: int = eqx.field(static=True)

    @property
    def first(self) -> tuple[Block, ...]:
        """The blocks of level 0."""
        return self.levels[0]

    def up(self, pieces: list[Array], like: Array) -> Array:
        """The sums of all, from those of the pieces of level 0, block by block; 0 for what has no slot."""
        found = [end_to_end(pieces)]
        for blocks in self.levels[1:]:
            folded = [gather_fold(b.columns, b.lengths, b.shortest, found[-1], jnp.add) for b in blocks]
            found.append(end_to_end(folded))
        if self.home is None:
            return found[0]
        return take_rows(end_to_end([*found, jnp.zeros((1, *like.shape[1:]), like.dtype)]), self.home)


class Winners(eqx.Module):
    """The same slots, for sums over those that won: see `select`."""

    slots: Fold
    rows: tuple[Int32[Array, "_ _"], ...]
    """The rows of the matrix in which the slots lie, block by block."""
    column: tuple[Int32[Array, "_"], ...]
    """The column that each piece is of, block by block."""


class Links(eqx.Module):
    """What derivatives need besides a matrix. `_transpose.links_of` lays it out."""

    columns: Winners
    """Of each column, the slots that read it."""
    upper: tuple[Fold, ...]
    """Of each piece of one level, the slot of the next that reads it."""
    last: Fold | None
    """Of each piece of all levels, and the one that stands for nothing, the rows whose value it is."""
    simple: bool = eqx.field(static=True)
    """Whether no two entries have the same row and column."""


def end_to_end(parts: list[Array]) -> Array:
    """The parts, one after the other."""
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


def spread(x: Array, columns: Sequence[Array], back: Fold | None) -> list[list[Array]]:
    """`x[columns[b][:, k]]` for every block b and slot k, each an array [rows, …]."""
    leaves, tree = jax.tree.flatten((tuple(columns), back))
    found = iter(spread_p.bind(x, *leaves, tree=tree, size=x.shape[0]))
    return [[next(found) for _ in range(block.shape[1])] for block in columns]


def collect(slots: list[list[Array]], columns: Sequence[Array], back: Fold, size: int) -> Array:
    """Sums of the slots by what they read: the transpose of `spread`."""
    leaves, tree = jax.tree.flatten((tuple(columns), back))
    (found,) = collect_p.bind(*(slot for block in slots for slot in block), *leaves, tree=tree, size=size)
    return found


def select(x: Array, winner: Array, winners: Winners) -> Array:
    """`x[winner[i]]` for every row i (and feature), 0 where `winner` is −1; x and winner are [n, …] and [rows, …]."""
    leaves, tree = jax.tree.flatten(winners)
    (found,) = select_p.bind(x, winner, *leaves, tree=tree, size=x.shape[0])
    return found


def _spread(x: Array, *leaves: Array, tree: Any, size: int) -> list[Array]:
    del size
    columns, _ = jax.tree.unflatten(tree, leaves)
    return [take_rows(x, block[:, k]) for block in columns for k in range(block.shape[1])]


def _collect(*args: Array, tree: Any, size: int) -> list[Array]:
    count = len(args) - tree.num_leaves
    _, back = jax.tree.unflatten(tree, args[count:])
    if back is None:
        raise InvalidArgumentError(_UNKNOWN)
    source = end_to_end(list(args[:count]))
    return [back.up([gather_fold(b.columns, b.lengths, b.shortest, source, jnp.add) for b in back.first], source)]


def _select(x: Array, winner: Array, *leaves: Array, tree: Any, size: int) -> list[Array]:
    del leaves, tree, size
    if not x.shape[0]:
        return [jnp.zeros(winner.shape, x.dtype)]
    there = winner >= 0
    index = jnp.where(there, winner, 0)
    found = take_rows(x, index) if x.ndim == 1 else jnp.take_along_axis(x, index, axis=0, mode="promise_in_bounds")
    return [jnp.where(there, found, jnp.zeros((), x.dtype))]


def _deliver(y: Array, winner: Array, *leaves: Array, tree: Any, size: int) -> list[Array]:
    del size
    winners: Winners = jax.tree.unflatten(tree, leaves)
    pieces = []
    for block, rows, column in zip(winners.slots.first, winners.rows, winners.column, strict=True):

        def term(k: int, rows: Array = rows, column: Array = column) -> Array:
            won = take_rows(winner, rows[:, k]) == column.reshape(column.shape + (1,) * (y.ndim - 1))
            return jnp.where(won, take_rows(y, rows[:, k]), jnp.zeros((), y.dtype))

        pieces.append(fold_terms(term, rows.shape[1], block.lengths, block.shortest, jnp.add))
    return [winners.slots.up(pieces, y)]


# The rules. Index arrays come last among the operands; the first `linear` of them are what it is linear in.


def _primitive(name: str, does: Callable[..., list[Array]]) -> Any:
    primitive = Primitive(f"mmsb_{name}")
    primitive.multiple_results = True
    primitive.def_impl(jax.jit(does, static_argnames=("tree", "size")))
    primitive.def_abstract_eval(
        lambda *args, **params: [
            jax.core.ShapedArray(out.shape, out.dtype)
            for out in jax.eval_shape(
                lambda *given: does(*given, **params), *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in args)
            )
        ]
    )
    mlir.register_lowering(primitive, mlir.lower_fun(does, multiple_results=True))
    return primitive


spread_p, collect_p = _primitive("spread", _spread), _primitive("collect", _collect)
select_p, deliver_p = _primitive("select", _select), _primitive("deliver", _deliver)


def _linear_operands(primitive: Any, count: int, tree: Any) -> int:
    return count - tree.num_leaves if primitive is collect_p else 1


def _register(primitive: Any, transposed: Any) -> None:
    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        linear = _linear_operands(primitive, len(primals), params["tree"])
        out = primitive.bind(*primals, **params)
        moving = [not isinstance(t, ad.Zero) for t in tangents[:linear]]
        if not any(moving) or not jnp.issubdtype(primals[0].dtype, jnp.inexact):
            return out, [_no_tangent(value) for value in out]
        moved = primitive.bind(*map(ad.instantiate_zeros, tangents[:linear]), *primals[linear:], **params)
        return out, moved

    def transpose(cotangents: Sequence[Any], *operands: Any, **params: Any) -> list[Any]:
        linear = _linear_operands(primitive, len(operands), params["tree"])
        if all(isinstance(ct, ad.Zero) for ct in cotangents):
            return [None] * len(operands)
        found = transposed.bind(*map(ad.instantiate_zeros, cotangents), *operands[linear:], **params)
        return [*found, *[None] * (len(operands) - linear)]

    def batch(args: Sequence[Any], dims: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        """A batch is one more feature, behind the others."""
        indices = params["tree"].num_leaves
        if any(dim is not None for dim in dims[len(args) - indices :]):
            raise InvalidArgumentError("vmap over the structure of a SparseMatrix isn't possible; map over its values")
        size = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
        count = len(args) - indices
        moved = [_batched_last(a, d, size) for a, d in zip(args[:count], dims[:count], strict=True)]
        out = primitive.bind(*moved, *args[count:], **params)
        return out, [each.ndim - 1 for each in out]

    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = batch


def _no_tangent(value: Any) -> Any:
    return ad.Zero.from_primal_value(value)  # type: ignore[attr-defined]


def _batched_last(array: Array, dim: Any, size: int) -> Array:
    if dim is None:
        return jnp.broadcast_to(array[..., None], (*array.shape, size))
    return jnp.moveaxis(array, dim, -1)


_register(spread_p, collect_p)
_register(collect_p, spread_p)
_register(select_p, deliver_p)
_register(deliver_p, select_p)
