"""The standard semirings. Adding one to `_STANDARD` enrols it everywhere: in lookup by name and in every test."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import InvalidArgumentError
from ._algebra import Interval, Semiring, kind_of


def _saturating_add(a: jax.Array, b: jax.Array) -> jax.Array:
    """a + b, held at the ends of the integer type where it would wrap."""
    limits = jnp.iinfo(a.dtype)
    low, high = a.dtype.type(limits.min), a.dtype.type(limits.max)
    nothing = a.dtype.type(0)
    # `high - b` and `low - b` are read only for the sign of b for which they can't wrap themselves.
    positive = jnp.where(a > high - b, high, a + b)
    negative = jnp.where(a < low - b, low, a + b)
    return jnp.where(b > nothing, positive, negative)


def _plus_absorbing(zero: Any) -> Any:
    """⊗ = + on integers that play the part of numbers with an infinity, `zero(dtype)`, which absorbs."""

    def plus(a: jax.Array, b: jax.Array) -> jax.Array:
        a, b = jnp.asarray(a), jnp.asarray(b)
        if kind_of(a.dtype) == "f":
            return a + b
        absorbed = (a == zero(a.dtype)) | (b == zero(a.dtype))
        return jnp.where(absorbed, zero(a.dtype), _saturating_add(a, b))

    return plus


def _highest(dtype: np.dtype) -> np.generic:
    return dtype.type(np.inf if kind_of(dtype) == "f" else jnp.iinfo(dtype).max)


def _lowest(dtype: np.dtype) -> np.generic:
    return dtype.type(-np.inf if kind_of(dtype) == "f" else jnp.iinfo(dtype).min)


def _tropical_carrier(dtype: np.dtype) -> Interval:
    # Float: far enough from overflow that three summands stay finite. Integer: of one sign, where sums that
    # saturate still associate.
    if kind_of(dtype) == "f":
        bound = float(jnp.finfo(dtype).max) / 8
        return (-bound, bound)
    return (0, int(jnp.iinfo(dtype).max))


def _every_bit(dtype: np.dtype) -> np.generic:
    return dtype.type(True if kind_of(dtype) == "b" else jnp.iinfo(dtype).max)


min_plus = Semiring(
    "min_plus", jnp.minimum, _highest, _plus_absorbing(_highest), 0, kinds="fiu", carrier=_tropical_carrier
)
max_plus = Semiring(
    "max_plus", jnp.maximum, _lowest, _plus_absorbing(_lowest), 0, kinds="fi", carrier=_tropical_carrier
)
plus_times = Semiring("plus_times", jnp.add, 0, jnp.multiply, 1, kinds="fiu")
or_and = Semiring("or_and", jnp.bitwise_or, 0, jnp.bitwise_and, _every_bit, kinds="bu")

_STANDARD = (min_plus, max_plus, plus_times, or_and)


def registered() -> tuple[Semiring, ...]:
    """All standard semirings, in a fixed order.

    >>> [semiring.name for semiring in registered()]
    ['min_plus', 'max_plus', 'plus_times', 'or_and']
    """
    return _STANDARD


def get(name: str) -> Semiring:
    """The standard semiring called `name` (⊕ before ⊗, as in GraphBLAS).

    Raises `InvalidArgumentError` with the known names for any other.

    >>> get("min_plus") is min_plus
    True
    """
    for semiring in _STANDARD:
        if semiring.name == name:
            return semiring
    raise InvalidArgumentError(
        f"no standard semiring is called {name!r}; there are {', '.join(s.name for s in _STANDARD)}. "
        "Make your own: mmsb.semiring.Semiring(name, add=…, zero=…, multiply=…, one=…)"
    )
