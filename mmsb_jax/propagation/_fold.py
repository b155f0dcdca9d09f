"""The arithmetic of a wave: gather a page's parents, fold their messages, update the page."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float32, Int32, Shaped

from .._errors import InvalidTypeError
from ..kernels import rounded, take_rows
from ._plan import RuleGraph
from ._recipe import Recipe, message_of
from ._rule import Term

__all__ = ["Contents", "Where", "recompute"]

# So many parents are folded by straight-line code; longer lists go round a loop. A narrow window's time goes into
# starting the loop; a wide one's into gathering, also for parents that aren't there. And where a total is used twice,
# jaxlib 0.12 takes a time to compile that is exponential in the chain: 16 under vmap never ended, 4 take two seconds.
_MANY, _FEW, _WIDE = 16, 4, 256


class Where(NamedTuple):
    """The row of each page, by its number in a graph."""

    page: Int32[Array, " pages"] | None
    """The id of each number; None: the same."""
    table: Int32[Array, " pages"] | None
    """The row of each id; None: the same."""
    numbered: Bool[Array, ""] | None
    """Whether a page's number is its row, so that neither is needed; None: not known."""

    @classmethod
    def of(cls, graph: RuleGraph, table: Int32[Array, " pages"]) -> "Where":
        """With a state's page table."""
        if graph.number is None:
            return cls(None, table, None)
        return cls(graph.page, table, jnp.array_equal(table, graph.number))

    def slot(self, number: Int32[Array, "..."]) -> Int32[Array, "..."]:
        """The rows of some numbers."""
        # Not a branch: XLA would copy whole tables in each round of a loop. Reading element 0 again and again is free.
        found = number if self.numbered is None else jnp.where(self.numbered, 0, number)
        if self.page is not None:
            found = take_rows(self.page, found)
        if self.table is not None:
            if self.numbered is not None:
                found = jnp.where(self.numbered, 0, found)
            found = take_rows(self.table, found)
        return found if self.numbered is None else jnp.where(self.numbered, number, found)


class Contents(NamedTuple):
    """Where pages are read."""

    rows: Shaped[Array, "slots words"]
    """Of a 4-byte dtype."""
    where: "Where"

    def read(self, page: Int32[Array, "..."]) -> Shaped[Array, "... words"]:
        """The rows of some pages."""
        return take_rows(self.rows, self.slot(page))

    def slot(self, page: Int32[Array, "..."]) -> Int32[Array, "..."]:
        """The rows in which they lie."""
        return self.where.slot(page)


class _Lanes(NamedTuple):
    """Pages side by side: where their incoming edges begin, how many these are, what the pages hold."""

    start: Int32[Array, " lanes"]
    parents: Int32[Array, " lanes"]
    own: Shaped[Array, "lanes words"]


def recompute(
    graph: RuleGraph,
    rule: Int32[Array, ""],
    contents: Contents,
    page: Int32[Array, " lanes"],
    valid: Bool[Array, " lanes"],
    own: Shaped[Array, "lanes words"],
    *,
    fixed: bool = False,
) -> Shaped[Array, "lanes words"]:
    """New words of some pages, by their numbers, that share a rule. Lanes that aren't valid come out as anything.

    `fixed`: loops of a length known to the compiler, which reverse-mode differentiation needs, and nothing but zeros
    in lanes that don't count, so that no derivative of theirs is infinite.
    """
    start, parents = in_edges(graph, page, valid)
    if fixed:
        own = jnp.where(valid[:, None], own, jnp.zeros((), own.dtype))

    def run(recipe: Recipe) -> Shaped[Array, "lanes words"]:
        return _in_batches(
            partial(_new_words, graph, recipe, contents, fixed), recipe.batch, _Lanes(start, parents, own)
        )

    if len(graph.recipes) == 1:
        return run(graph.recipes[0])
    return jax.lax.switch(rule, [partial(run, recipe) for recipe in graph.recipes])


def in_edges(
    graph: RuleGraph, page: Int32[Array, " lanes"], valid: Bool[Array, " lanes"]
) -> tuple[Int32[Array, " lanes"], Int32[Array, " lanes"]]:
    """Where the incoming edges of each page begin, and how many there are; none for lanes that aren't valid."""
    start = take_rows(graph.in_start, page)
    parents = take_rows(graph.in_start, page + 1) - start
    return start, jnp.where(valid, parents, 0)


def _in_batches(
    function: Callable[[_Lanes], Shaped[Array, "batch words"]], size: int, lanes: _Lanes
) -> Shaped[Array, "lanes words"]:
    """`function` of so many lanes at a time."""
    count, words = lanes.own.shape
    if count <= size:
        return function(lanes)
    batches = -(-count // size)
    room = batches * size - count
    padded = (jnp.pad(x, [(0, room)] + [(0, 0)] * (x.ndim - 1)).reshape(batches, size, *x.shape[1:]) for x in lanes)
    return jax.lax.map(function, _Lanes(*padded)).reshape(-1, words)[:count]


def _new_words(
    graph: RuleGraph, recipe: Recipe, contents: Contents, fixed: bool, lanes: _Lanes
) -> Shaped[Array, "lanes words"]:
    inputs: list[Any]
    if recipe.gathers:
        inputs = list(_gathered(graph, recipe, contents, lanes))
    else:
        inputs = [_fold(graph, recipe, term, contents, lanes, fixed) for term in recipe.terms]
    new = jax.vmap(recipe.new)(_seen_as(lanes.own, recipe.dtype), *inputs)
    return _seen_as(new, lanes.own.dtype)


def _seen_as(words: Shaped[Array, "..."], dtype: DTypeLike | None) -> Shaped[Array, "..."]:
    # Not through uint32 when nothing is to be done: gradients would end there.
    return words if dtype is None or words.dtype == dtype else jax.lax.bitcast_convert_type(words, dtype)


def _gathered(
    graph: RuleGraph, recipe: Recipe, contents: Contents, lanes: _Lanes
) -> tuple[Shaped[Array, "lanes most words"], Bool[Array, "lanes most"], Float32[Array, "lanes most"]]:
    """The parents themselves, which of them exist, and their weights."""
    offset = jnp.arange(recipe.max_parents, dtype=jnp.int32)[None, :]
    exists = offset < lanes.parents[:, None]
    edge = jnp.where(exists, lanes.start[:, None] + offset, 0)
    rows = contents.read(take_rows(graph.in_parent, edge))
    seen = _seen_as(rows, recipe.dtype)
    seen = jnp.where(exists[..., None], seen, jnp.zeros((), seen.dtype))
    weight = jnp.ones((), jnp.float32)
    if graph.in_weight is not None:
        weight = take_rows(graph.in_weight, edge)
    return seen, exists, jnp.where(exists, weight, jnp.float32(0))


# Indices and rows of a wide window are better written out than computed anew for every word. The barrier says so.
_apart = jax.lax.optimization_barrier


def _as_it_is(array: Array) -> Array:
    return array


def _fold(
    graph: RuleGraph, recipe: Recipe, term: Term, contents: Contents, lanes: _Lanes, fixed: bool
) -> Shaped[Array, "lanes ..."]:
    """⊕ over each page's parents, strictly from left to right: the same bits however many pages run side by side."""
    message = message_of(recipe, term, lanes.own.shape[1])
    count = len(lanes.start)
    zero = jnp.broadcast_to(jnp.asarray(term.semiring.zero(message.dtype)), (count, *message.shape))
    # A derivative may go to one of two equal messages: it must find none that stands for nothing.
    neutral = None if fixed else term.semiring.add.neutral(message.dtype)
    slots = min(recipe.max_parents, _FEW if neutral is None or count > _WIDE else _MANY)
    if slots == 0:
        return zero

    def fold_some(carry: tuple[Int32[Array, ""], Array]) -> tuple[Int32[Array, ""], Array]:
        done, total = carry
        for k in range(slots):
            # One gather a slot; one of all slots takes several times as long.
            exists = done + k < lanes.parents
            edge = jnp.where(exists, lanes.start + done + k, 0)
            found = _messages(graph, recipe, term, contents, edge, exists, message, fixed)
            here = exists.reshape(-1, *[1] * len(message.shape))
            if neutral is None:
                total = jnp.where(here, term.semiring.add(total, found), total)
            else:
                total = term.semiring.add(total, jnp.where(here, found, neutral))
        return done + slots, total

    first = (jnp.zeros((), jnp.int32), zero)
    if recipe.max_parents <= slots:
        return fold_some(first)[1]
    if fixed:
        rounds = -(-recipe.max_parents // slots)
        return jax.lax.fori_loop(0, rounds, lambda _, carry: fold_some(carry), first)[1]
    most = jnp.max(lanes.parents)
    return jax.lax.while_loop(lambda carry: carry[0] < most, fold_some, first)[1]


def _messages(
    graph: RuleGraph,
    recipe: Recipe,
    term: Term,
    contents: Contents,
    edge: Int32[Array, " lanes"],
    exists: Bool[Array, " lanes"],
    message: jax.ShapeDtypeStruct,
    fixed: bool,
) -> Shaped[Array, "lanes ..."]:
    apart = _apart if len(edge) > _WIDE and not fixed else _as_it_is
    slot = apart(contents.slot(take_rows(graph.in_parent, edge)))
    rows = _seen_as(apart(take_rows(contents.rows, slot)), recipe.dtype)
    if fixed:
        rows = jnp.where(exists[:, None], rows, jnp.zeros((), rows.dtype))
    messages = jax.vmap(term.read)(rows)
    if not term.weighted or graph.in_weight is None:
        return rounded(messages)
    if not graph.whole_weights and not jnp.issubdtype(message.dtype, jnp.inexact):
        raise InvalidTypeError(
            f"rule {recipe.name!r} weighs messages of dtype {message.dtype}, but some weights aren't whole numbers "
            "up to 2**24 and would be cut off; let `read` return floats, or round the weights"
        )
    weight = apart(take_rows(graph.in_weight, edge))
    if fixed:
        weight = jnp.where(exists, weight, jnp.float32(0))
    weight = weight.astype(message.dtype).reshape(-1, *[1] * len(message.shape))
    return rounded(term.semiring.multiply(jnp.broadcast_to(weight, messages.shape), messages))
