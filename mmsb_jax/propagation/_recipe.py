"""A rule without its pages, all static, and the look at its functions before they are used."""

import warnings
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from .._errors import InvalidTypeError, MMSBError
from ..semiring._element import describe
from ._rule import Term

__all__ = ["Recipe", "check_recipe", "message_of"]

_CALLBACKS = ("pure_callback", "io_callback", "debug_callback", "debug_print", "outside_call")


class Recipe(eqx.Module):
    """A rule without its pages: what a compiled wave is specialised on."""

    name: str = eqx.field(static=True)
    terms: tuple[Term, ...]
    gathers: bool = eqx.field(static=True)
    """Whether `update` sees the parents themselves, instead of terms."""
    update: Callable[..., Any] = eqx.field(static=True)
    static: tuple[tuple[str, Hashable], ...] = eqx.field(static=True)
    dtype: np.dtype | None = eqx.field(static=True)
    """As which it sees words; None: as they come."""
    max_parents: int = eqx.field(static=True)
    batch: int = eqx.field(static=True)
    """How many pages are recomputed side by side: the fewer, the more parents they have."""

    def new(self, *inputs: Any) -> Any:
        """`update`, with its parameters."""
        return self.update(*inputs, **dict(self.static))


def message_of(recipe: Recipe, term: Term, page_words: int) -> jax.ShapeDtypeStruct:
    """Shape and dtype of a term's message. Raises `InvalidTypeError` when `read` doesn't return one array."""
    page = jax.ShapeDtypeStruct((page_words,), recipe.dtype or jnp.uint32)
    message = _traced(recipe.name, "read", term.read, page)
    if not isinstance(message, jax.ShapeDtypeStruct):
        raise InvalidTypeError(
            f"rule {recipe.name!r}: a term's read must return one array; it returned {describe(message)}"
        )
    try:
        term.semiring.require(message.dtype)
    except InvalidTypeError as error:
        raise InvalidTypeError(f"rule {recipe.name!r}: read returns {describe(message)}, and {error}") from error
    return message


def check_recipe(recipe: Recipe, page_words: int) -> None:
    """Raise `InvalidTypeError` when a rule doesn't return the words of one page, or does more than that."""
    dtype = recipe.dtype or np.dtype(np.uint32)
    own = jax.ShapeDtypeStruct((page_words,), dtype)
    inputs: list[Any] = [message_of(recipe, term, page_words) for term in recipe.terms]
    if recipe.gathers:
        most = recipe.max_parents
        parents = jax.ShapeDtypeStruct((most, page_words), dtype)
        inputs = [parents, jax.ShapeDtypeStruct((most,), jnp.bool_), jax.ShapeDtypeStruct((most,), jnp.float32)]
    with warnings.catch_warnings(record=True) as raised:
        # JAX only warns when floats are written into words, and cuts off what is behind the point.
        warnings.simplefilter("always", FutureWarning)
        new = _traced(recipe.name, "update", recipe.new, own, *inputs)
    mismatch = next((str(w.message) for w in raised if "incompatible types" in str(w.message)), None)
    if mismatch or getattr(new, "shape", None) != own.shape or getattr(new, "dtype", None) != own.dtype:
        raise InvalidTypeError(
            f"rule {recipe.name!r} "
            + ("writes values of another dtype into words" if mismatch else f"returned {describe(new)}")
            + f"; it must return the page's new words, {dtype}[{page_words}]: start from its first argument, "
            f"and turn what isn't {dtype} into words, as in `own.at[0].set(mmsb.as_words(x))`"
        )


def _traced(rule: str, what: str, function: Callable[..., Any], *inputs: Any) -> Any:
    """What a function returns, as shapes. Raises when it can't be traced, or has effects."""
    try:
        jaxpr, out = jax.make_jaxpr(function, return_shape=True)(*inputs)
    except MMSBError:
        raise
    except Exception as error:
        given = ", ".join(f"{x.dtype}{list(x.shape)}" for x in inputs)
        raise InvalidTypeError(
            f"rule {rule!r}: {what}({given}) fails with {type(error).__name__}: {error}; it must be a function of "
            "these arrays that jax.jit takes"
        ) from error
    calls = sorted({equation.primitive.name for equation in _equations(jaxpr.jaxpr)} & set(_CALLBACKS))
    effects = sorted(type(effect).__name__ for effect in jaxpr.effects)
    if calls or effects:
        raise InvalidTypeError(
            f"rule {rule!r}: {what} has side effects ({', '.join([*calls, *effects])}); a page is computed from its "
            "parents alone, once or not at all, so take out callbacks and prints, and look at the wave's result instead"
        )
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), out)


def _equations(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    for equation in jaxpr.eqns:
        yield equation
        for inner in core.jaxprs_in_params(equation.params):
            yield from _equations(inner)
