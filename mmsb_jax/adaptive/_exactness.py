"""Which laws of a semiring hold to the last bit, for which weights: what a rewriting may do with the edges of a fold.

A page's words are `zero ⊕ (w₁ ⊗ x₁) ⊕ (w₂ ⊗ x₂) ⊕ …`, from left to right. With `exact`, what is answered here holds for
whatever bits a page may contain, not for a carrier:

| ⊕, ⊗ | on | order of terms, a ⊕ a | weights meet in ⊕ | weights meet in ⊗ |
| --- | --- | --- | --- | --- |
| all laws claimed on the whole dtype (`plus_times`, `or_and`, …) | integers | free | always | always |
| min or max, saturating + | integers | free | always | of one sign: sums of two signs saturate midway |
| min and max | floats | free | always | always |
| min or max, + | floats | free | finite | one is 0: two sums round twice |
| max, × from 0 on | floats | free | above 0, finite | one is 1 |
| any other min, max, or, and, xor; + | integers | free | never | never |
| any other min, max | floats | free | never | never |
| everything else, so + and logaddexp of floats | | fixed | never | never |

"Always", "finite": of weights that aren't subnormal, which some devices take for 0, and as long as what they meet in is
a weight: a float32, a whole number up to 2²⁴ wherever integers are weighed. Unweighted terms meet in ⊗ wherever ⊕ makes
nothing of `zero`; there is no weight where there was none, so a weight can only be taken out where it is one.

Minima and maxima order numbers totally, −0 below 0 (the `minimum` of IEEE 754-2019; on CPU XLA's takes subnormal
numbers for zeros of their sign first, in every fold alike), ⊗ doesn't turn that order round, and NaN absorbs all. Of a
NaN the sign isn't kept: on CPU it depends on the order, min(−1, NaN) being negative. All other bits are.

Without `exact`, the laws that the semiring claims are taken at their word, for weights of its carrier.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32

from ..semiring import Semiring, max_min, max_plus, max_times, min_max, min_plus
from ..semiring._element import kind_of

__all__ = ["Algebra", "Met"]

_ORDERED = frozenset({jnp.minimum, jnp.maximum})
_WHOLE = frozenset({*_ORDERED, jnp.add, jnp.bitwise_or, jnp.bitwise_and, jnp.bitwise_xor})
_MOST_WHOLE = 2**24  # Integers may be weighed by whole numbers up to this alone: see `RuleGraph.whole_weights`.
_FAR = np.float32(1e-30)  # A sum with a number of at least this size isn't rounded to −0.
_SMALLEST = np.finfo(np.float32).tiny


class Met(NamedTuple):
    """Weights that others were brought together in, and where that is allowed."""

    weight: Float32[np.ndarray, " n"]
    ok: Bool[np.ndarray, " n"]


class Algebra:
    """A semiring on a dtype, and what of it may be relied on.

    `whole`: no weight may become anything but a whole number.
    """

    def __init__(self, semiring: Semiring, dtype: np.dtype, *, exact: bool, whole: bool) -> None:
        self.semiring, self.dtype, self.exact = semiring, dtype, exact
        self.floats = kind_of(dtype) == "f"
        self.whole = whole or not self.floats
        self.lawful = not semiring.lacks
        self.everywhere = self.lawful and not self.floats and _is_whole(semiring, dtype)
        self.sums = _is_one_of((min_plus, max_plus), semiring, dtype)
        self.lattice = self.floats and _is_one_of((min_max, max_min), semiring, dtype)
        self.products = self.floats and _is_one_of((max_times,), semiring, dtype)

    @property
    def order_free(self) -> bool:
        """Whether the terms of a fold may come in any order."""
        known = self.semiring.add.op in (_ORDERED if self.floats else _WHOLE)
        claimed = not {"add_associates", "add_commutes", "zero_is_neutral"} & self.semiring.lacks
        return known or self.everywhere or (claimed and not self.exact)

    @property
    def idempotent(self) -> bool:
        """Whether a term that stands there already can be left out, wherever it stands."""
        return self.semiring.idempotent and self.order_free

    @property
    def faithful(self) -> bool:
        """Whether `zero ⊕ x` is x, whatever bits x is: the fold of one unweighted term is a copy."""
        return self.everywhere or (self.sums and not self.floats)

    def is_one(self, weight: Float32[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Where `weight ⊗ x` is x."""
        found: Any = weight == np.asarray(self.semiring.one(self.dtype)).astype(np.float32)
        return found & self._usable(weight)

    def parallel(self, one: Float32[np.ndarray, " n"], other: Float32[np.ndarray, " n"]) -> Met:
        """`(one ⊗ x) ⊕ (other ⊗ x)` as one term."""
        met = self._of_both(self.semiring.add, one, other)
        rules = self.everywhere or self.lattice or (self.sums and not self.floats)
        ok = np.full(len(one), rules)
        if self.sums and self.floats:
            ok = np.isfinite(one) & np.isfinite(other)
        elif self.products:
            ok = _positive(one) & _positive(other)
        elif not rules and not self.exact and self.lawful:
            ok = self._in_carrier(one) & self._in_carrier(other)
        same = _same_bits(one, other) & self.idempotent
        return Met(np.where(same, one, met.weight), same | (ok & met.ok))

    def in_line(
        self,
        outer: Float32[np.ndarray, " n"],
        inner: Float32[np.ndarray, " n"],
        outer_weighs: Bool[np.ndarray, " n"],
        inner_weighs: Bool[np.ndarray, " n"],
    ) -> Met:
        """`outer ⊗ (zero ⊕ (inner ⊗ x))` as one term of a fold; a side that doesn't weigh has no ⊗."""
        met = self._of_both(self.semiring.multiply, outer, inner)
        both = outer_weighs & inner_weighs
        ok = np.where(both, met.ok & self._line_of_two(outer, inner), False)
        ok |= outer_weighs & ~inner_weighs & self._line_from_bare(outer)
        ok |= ~outer_weighs & inner_weighs & self._removable & self.is_one(inner)
        bare = self.order_free and (self.semiring.idempotent or self.everywhere or not self.exact)
        ok |= ~outer_weighs & ~inner_weighs & bare
        return Met(np.where(both, met.weight, outer), ok)

    def absorbs(self, weight: Float32[np.ndarray, " n"], by: Float32[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Where a term of `weight` says nothing beside a term of the same page with the weight `by`."""
        met = self.parallel(weight, by)
        return met.ok & _same_bits(met.weight, by)

    @property
    def _removable(self) -> bool:
        """Floats: a product with one or a sum with 0 takes subnormal numbers for 0, and a sum −0."""
        known = self.everywhere or self.lattice or (self.sums and not self.floats)
        return known or (self.lawful and not self.exact)

    def _line_of_two(self, outer: np.ndarray, inner: np.ndarray) -> Bool[np.ndarray, " n"] | bool:
        if self.everywhere or self.lattice:
            return True
        if not self.exact and self.lawful and (self.floats or not self.sums):
            return self._in_carrier(outer) & self._in_carrier(inner)
        if self.sums and not self.floats:
            return (np.sign(outer) * np.sign(inner)) >= 0
        if self.sums:
            size = np.maximum(np.abs(outer), np.abs(inner))
            far = ((size >= _FAR) | (size == 0)) & np.isfinite(size)
            return ((outer == 0) | (inner == 0)) & far
        if self.products:
            return _positive(outer) & _positive(inner) & ((outer == 1) | (inner == 1))
        return False

    def _line_from_bare(self, outer: np.ndarray) -> Bool[np.ndarray, " n"] | bool:
        if self.products:
            return _positive(outer)  # its zero is no bound of what a page may hold
        if self.everywhere or self.lattice or self.sums:
            return self._usable(outer)
        return self._in_carrier(outer) if not self.exact and self.lawful else False

    def _in_carrier(self, weight: np.ndarray) -> Bool[np.ndarray, " n"]:
        bounds = None if self.semiring.multiply.op is jnp.add else self.semiring.interval(self.dtype)
        low, high = (-np.inf, np.inf) if bounds is None else bounds
        return np.isfinite(weight) & (weight >= low) & (weight <= high)

    def _of_both(self, operation: Any, one: np.ndarray, other: np.ndarray) -> Met:
        found = _applied(operation, self._cast(one), self._cast(other))
        weight = found.astype(np.float32)
        whole = weight.astype(np.float64) == found.astype(np.float64)  # 2²⁴ + 1 would become 2²⁴
        return Met(weight, self._usable(one) & self._usable(other) & self._usable(weight) & whole)

    def _cast(self, weight: np.ndarray) -> np.ndarray:
        return np.where(self._usable(weight), weight, np.float32(0)).astype(self.dtype)

    def _usable(self, weight: np.ndarray) -> Bool[np.ndarray, " n"]:
        """Where it is a weight that every device reads alike."""
        ok = ~np.isnan(weight) & ((weight == 0) | (np.abs(weight) >= _SMALLEST))
        if self.whole:
            ok &= (weight == np.floor(weight)) & (np.abs(weight) <= _MOST_WHOLE)
        return ok if kind_of(self.dtype) != "u" else ok & (weight >= 0)


def _is_one_of(standard: tuple[Semiring, ...], semiring: Semiring, dtype: np.dtype) -> bool:
    """By operations and identities, whatever its name is."""
    return any(
        (semiring.add.op, semiring.multiply.op) == (known.add.op, known.multiply.op)
        and known.supports(dtype)
        and _same(semiring.zero(dtype), known.zero(dtype))
        and _same(semiring.one(dtype), known.one(dtype))
        for known in standard
    )


def _same(one: Any, other: Any) -> bool:
    return bool(np.asarray(one) == np.asarray(other))


def _is_whole(semiring: Semiring, dtype: np.dtype) -> bool:
    """Whether its laws are claimed for all numbers of an integer dtype."""
    bounds, limits = semiring.interval(dtype), np.iinfo(dtype)
    return bounds is None or (bounds[0] <= limits.min and bounds[1] >= limits.max)


def _positive(weight: np.ndarray) -> Bool[np.ndarray, " n"]:
    return np.asarray((weight >= _SMALLEST) & np.isfinite(weight))


def _same_bits(one: np.ndarray, other: np.ndarray) -> Bool[np.ndarray, " n"]:
    return np.asarray(one.view(np.uint32) == other.view(np.uint32))


@partial(jax.jit, static_argnums=0)
def _compiled(operation: Any, one: jax.Array, other: jax.Array) -> jax.Array:
    found: jax.Array = operation(one, other)
    return found


def _applied(operation: Any, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A semiring's own operation, in arrays of few sizes, as each is compiled."""
    room = 1 << max(4, -(-len(one).bit_length() // 4) * 4)
    padded = [np.concatenate([part, np.zeros(room - len(part), part.dtype)]) for part in (one, other)]
    return np.asarray(_compiled(operation, *padded))[: len(one)]
