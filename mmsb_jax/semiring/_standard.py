"""The standard semirings. Adding one to `_STANDARD` enrols it everywhere: in lookup by name and in every test."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import InvalidArgumentError
from ._algebra import Interval, Semiring, arg
from ._element import kind_of


def _saturating_add(a: jax.Array, b: jax.Array) -> jax.Array:
    """a + b, held at the ends of the integer type where it would wrap."""
    limits = jnp.iinfo(a.dtype)
    low, high = a.dtype.type(limits.min), a.dtype.type(limits.max)
    nothing = a.dtype.type(0)
    # `high - b` and `low - b` are read only for the sign of b for which they can't wrap themselves.
    positive = jnp.where(a > high - b, high, a + b)
    negative = jnp.where(a < low - b, low, a + b)
    return jnp.where(b > nothing, positive, negative)


def _saturating_times(a: jax.Array, b: jax.Array) -> jax.Array:
    """a × b for a and b that aren't negative, held at the upper end of the integer type where it would wrap."""
    high, nothing = a.dtype.type(jnp.iinfo(a.dtype).max), a.dtype.type(0)
    divisor = jnp.where(b == nothing, a.dtype.type(1), b)
    return jnp.where(a > high // divisor, high, a * b)


def _plus_absorbing(zero: Any) -> Any:
    """⊗ = + on integers that play the part of numbers with an infinity, `zero(dtype)`, which absorbs."""

    def plus(a: jax.Array, b: jax.Array) -> jax.Array:
        a, b = jnp.asarray(a), jnp.asarray(b)
        if kind_of(a.dtype) == "f":
            return a + b
        absorbed = (a == zero(a.dtype)) | (b == zero(a.dtype))
        return jnp.where(absorbed, zero(a.dtype), _saturating_add(a, b))

    return plus


def _times(a: jax.Array, b: jax.Array) -> jax.Array:
    a, b = jnp.asarray(a), jnp.asarray(b)
    return a * b if kind_of(a.dtype) == "f" else _saturating_times(a, b)


def _log_add(a: jax.Array, b: jax.Array) -> jax.Array:
    """log(exp a + exp b)."""
    found: jax.Array = jnp.logaddexp(a, b)
    return found


def _pair(a: jax.Array, b: jax.Array) -> jax.Array:
    del b
    return jnp.ones_like(a)


def _first(a: jax.Array, b: jax.Array) -> jax.Array:
    del b
    return a


def _second(a: jax.Array, b: jax.Array) -> jax.Array:
    del a
    return b


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


def _log_carrier(dtype: np.dtype) -> Interval:
    # Sums keep their relative precision, but a logarithm near 0 of a sum near 1 has none to keep.
    return (1.0, float(jnp.finfo(dtype).max) / 8)


def _nonnegative(dtype: np.dtype) -> Interval:
    # Float: products of three stay far from overflow.
    return (0, 2.0 ** (int(jnp.finfo(dtype).maxexp) // 4) if kind_of(dtype) == "f" else int(jnp.iinfo(dtype).max))


def _positive(dtype: np.dtype) -> Interval:
    if kind_of(dtype) == "f":
        return (2.0 ** -(int(jnp.finfo(dtype).maxexp) // 4), _nonnegative(dtype)[1])
    return (1, int(jnp.iinfo(dtype).max))


def _every_bit(dtype: np.dtype) -> np.generic:
    return dtype.type(True if kind_of(dtype) == "b" else jnp.iinfo(dtype).max)


min_plus = Semiring(
    "min_plus", jnp.minimum, _highest, _plus_absorbing(_highest), 0, kinds="fiu", carrier=_tropical_carrier
)
max_plus = Semiring(
    "max_plus", jnp.maximum, _lowest, _plus_absorbing(_lowest), 0, kinds="fi", carrier=_tropical_carrier
)
plus_times = Semiring("plus_times", jnp.add, 0, jnp.multiply, 1, kinds="fiu")
max_times = Semiring("max_times", jnp.maximum, 0, _times, 1, kinds="fiu", carrier=_nonnegative)
min_times = Semiring("min_times", jnp.minimum, _highest, _times, 1, kinds="fiu", carrier=_positive)
max_min = Semiring("max_min", jnp.maximum, _lowest, jnp.minimum, _highest, kinds="fiu")
min_max = Semiring("min_max", jnp.minimum, _highest, jnp.maximum, _lowest, kinds="fiu")
or_and = Semiring("or_and", jnp.bitwise_or, 0, jnp.bitwise_and, _every_bit, kinds="bu")
xor_and = Semiring("xor_and", jnp.bitwise_xor, 0, jnp.bitwise_and, _every_bit, kinds="bu")
log_plus = Semiring("log_plus", _log_add, -np.inf, jnp.add, 0, kinds="f", carrier=_log_carrier)

# What GraphBLAS has besides, although they are no semirings.
_NO_ONE = ("one_is_neutral_on_the_left", "one_is_neutral_on_the_right")
_NO_ZERO = ("zero_annihilates_on_the_left", "zero_annihilates_on_the_right")
_NO_SUMS = ("distributes_from_the_left", "distributes_from_the_right")
any_pair = Semiring(
    "any_pair", jnp.maximum, 0, _pair, 1, kinds="fiu", carrier=_nonnegative, lacks=(*_NO_ONE, *_NO_ZERO)
)
plus_pair = Semiring("plus_pair", jnp.add, 0, _pair, 1, kinds="fiu", lacks=(*_NO_ONE, *_NO_ZERO, *_NO_SUMS))
min_first = Semiring("min_first", jnp.minimum, _highest, _first, 1, kinds="fiu", lacks=(_NO_ONE[0], _NO_ZERO[1]))
min_second = Semiring("min_second", jnp.minimum, _highest, _second, 1, kinds="fiu", lacks=(_NO_ONE[1], _NO_ZERO[0]))

arg_min_plus, arg_max_plus = arg(min_plus), arg(max_plus)
arg_max_times, arg_min_times = arg(max_times), arg(min_times)
arg_max_min, arg_min_max = arg(max_min), arg(min_max)

_STANDARD = (
    *(min_plus, max_plus, plus_times, max_times, min_times, max_min, min_max, or_and, xor_and, log_plus),
    *(any_pair, plus_pair, min_first, min_second),
    *(arg_min_plus, arg_max_plus, arg_max_times, arg_min_times, arg_max_min, arg_min_max),
)


def registered() -> tuple[Semiring, ...]:
    """All standard semirings, in a fixed order.

    >>> [semiring.name for semiring in registered()][:3]
    ['min_plus', 'max_plus', 'plus_times']
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
