"""The arithmetic of a wave: fold the messages of a page's parents, then update the page."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32, UInt32

from .._errors import InvalidTypeError
from ..kernels import rounded
from ._rule import Recipe, RuleGraph, Term, message_of

__all__ = ["recompute"]

# So many parents are folded by straight-line code; longer lists go round a loop.
_SLOTS = 16


def recompute(
    graph: RuleGraph,
    rule: Int32[Array, ""],
    pages: UInt32[Array, "slots words"],
    slot_of_page: Int32[Array, " pages"],
    page: Int32[Array, " lanes"],
    valid: Bool[Array, " lanes"],
    own: UInt32[Array, "lanes words"],
) -> UInt32[Array, "lanes words"]:
    """New words of some pages that share a rule. Lanes that aren't valid come out as anything."""
    start = graph.in_start.at[page].get(mode="promise_in_bounds")
    parents = graph.in_start.at[page + 1].get(mode="promise_in_bounds") - start
    parents = jnp.where(valid, parents, 0)

    def run(recipe: Recipe) -> UInt32[Array, "lanes words"]:
        few = slice(recipe.lanes)
        folded = [_fold(graph, recipe, term, pages, slot_of_page, start[few], parents[few]) for term in recipe.terms]
        new = jax.vmap(recipe.update)(own[few], *folded)
        return jnp.concatenate([new, own[recipe.lanes :]])

    if len(graph.recipes) == 1:
        return run(graph.recipes[0])
    return jax.lax.switch(rule, [partial(run, recipe) for recipe in graph.recipes])


def _fold(
    graph: RuleGraph,
    recipe: Recipe,
    term: Term,
    pages: UInt32[Array, "slots words"],
    slot_of_page: Int32[Array, " pages"],
    start: Int32[Array, " lanes"],
    parents: Int32[Array, " lanes"],
) -> Array:
    """⊕ over each page's parents, strictly from left to right: the same bits however many pages run side by side."""
    message = message_of(term, pages.shape[1])
    zero = jnp.broadcast_to(jnp.asarray(term.semiring.zero(message.dtype)), (len(start), *message.shape))
    slots = min(recipe.max_parents, _SLOTS)
    if slots == 0:
        return zero

    def fold_some(carry: tuple[Int32[Array, ""], Array]) -> tuple[Int32[Array, ""], Array]:
        done, total = carry
        offset = done + jnp.arange(slots, dtype=jnp.int32)[None, :]
        exists = offset < parents[:, None]
        edge = jnp.where(exists, start[:, None] + offset, 0)
        messages = _messages(graph, recipe, term, pages, slot_of_page, edge, message)
        for k in range(slots):
            here = exists[:, k].reshape(-1, *[1] * len(message.shape))
            total = jnp.where(here, term.semiring.add(total, messages[:, k]), total)
        return done + slots, total

    first = (jnp.zeros((), jnp.int32), zero)
    if recipe.max_parents <= slots:
        return fold_some(first)[1]
    most = jnp.max(parents)
    return jax.lax.while_loop(lambda carry: carry[0] < most, fold_some, first)[1]


def _messages(
    graph: RuleGraph,
    recipe: Recipe,
    term: Term,
    pages: UInt32[Array, "slots words"],
    slot_of_page: Int32[Array, " pages"],
    edge: Int32[Array, "lanes width"],
    message: jax.ShapeDtypeStruct,
) -> Any:
    parent = graph.in_parent.at[edge].get(mode="promise_in_bounds")
    slot = slot_of_page.at[parent].get(mode="promise_in_bounds")
    rows = pages.at[slot].get(mode="promise_in_bounds")
    messages = jax.vmap(jax.vmap(term.read))(rows)
    if not term.weighted or graph.in_weight is None:
        return rounded(messages)
    if not graph.whole_weights and not jnp.issubdtype(message.dtype, jnp.inexact):
        raise InvalidTypeError(
            f"rule {recipe.name!r} weighs messages of dtype {message.dtype}, but some weights aren't whole numbers "
            "up to 2**24 and would be cut off; let `read` return floats, or round the weights"
        )
    weight = graph.in_weight.at[edge].get(mode="promise_in_bounds").astype(message.dtype)
    weight = jnp.broadcast_to(weight.reshape(*edge.shape, *[1] * len(message.shape)), messages.shape)
    return rounded(term.semiring.multiply(weight, messages))
