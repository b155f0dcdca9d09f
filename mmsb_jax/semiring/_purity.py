"""`check_purity`: does a function do nothing but compute, the same each time?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.extend.core import jaxprs_in_params

from .._errors import InvalidTypeError

_CALLBACKS = frozenset({"pure_callback", "io_callback", "debug_callback", "debug_print", "infeed", "outfeed"})


class PurityReport(eqx.Module):
    """What `check_purity` found; `ok` if nothing. Printing it shows all of it.

    >>> PurityReport((), ("debug_callback",), ())
    not pure:
      callback: debug_callback
    """

    effects: tuple[str, ...] = eqx.field(static=True)
    """Effects that JAX knows of in the traced function, such as ordered I/O."""
    callbacks: tuple[str, ...] = eqx.field(static=True)
    """Calls back into Python, by the name of the primitive and of the function where JAX keeps it."""
    differences: tuple[str, ...] = eqx.field(static=True)
    """How a second run, or a second tracing, differed from the first."""

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not (self.effects or self.callbacks or self.differences)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        if self.ok:
            return "pure, as far as can be seen: no effects, no callbacks, the same bits twice"
        found = [f"effect: {text}" for text in self.effects] + [f"callback: {text}" for text in self.callbacks]
        return "\n".join(["not pure:", *(f"  {line}" for line in (*found, *self.differences))])


def check_purity(function: Callable[..., Any] | Any, *args: Any) -> PurityReport:
    """Look for side effects of a function, and for anything but its arguments that decides what it returns.

    Reads effects and callbacks from the jaxpr, those in inner functions and branches too; traces twice, which finds
    what changes from one compilation to the next, such as a clock or NumPy's random numbers; compiles it twice, runs
    that and compares bits.

    **Arguments:** `function`, one that JAX can trace; `args`, its arguments, arrays or trees of them.
    Raises `InvalidTypeError` for what can't be called. What the function itself raises comes through.

    >>> import jax, jax.numpy as jnp, numpy as np
    >>> check_purity(jnp.sin, jnp.ones(3)).ok
    True
    >>> print(check_purity(lambda x: x + np.random.random(), jnp.ones(3)))
    not pure:
      a second tracing gave another program: what it reads besides its arguments has changed
    >>> print(check_purity(lambda x: jax.debug.print("{}", x), jnp.ones(3)).callbacks[0])
    debug_print
    """
    if not callable(function):
        raise InvalidTypeError(f"got a {type(function).__name__}; pass a function, and its arguments behind it")
    first, second = (jax.make_jaxpr(_anew(function))(*args) for _ in range(2))
    callbacks = tuple(dict.fromkeys(_callbacks(first.jaxpr)))
    effects = tuple(sorted(str(effect) for effect in first.effects))
    differences = []
    if str(first.jaxpr) != str(second.jaxpr) or not _same(first.consts, second.consts):
        differences.append("a second tracing gave another program: what it reads besides its arguments has changed")
    if not (callbacks or effects):  # running it might do harm
        compiled, again = jax.jit(_anew(function)), jax.jit(_anew(function))
        once = compiled(*args)
        if not _same(once, compiled(*args)):
            differences.append("a second run gave other bits for the same arguments")
        elif not differences and not _same(once, again(*args)):
            differences.append("compiled once more, it gave other bits for the same arguments")
    return PurityReport(effects, callbacks, tuple(differences))


def _anew(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function as another object, which JAX traces once more."""
    return lambda *args: function(*args)


def _callbacks(jaxpr: Any) -> Iterator[str]:
    for equation in jaxpr.eqns:
        if equation.primitive.name in _CALLBACKS:
            yield equation.primitive.name
        for inner in jaxprs_in_params(equation.params):
            yield from _callbacks(inner)


def _same(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(_bits(a) == _bits(b) for a, b in pairs)


def _bits(leaf: Any) -> bytes:
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf).tobytes()
