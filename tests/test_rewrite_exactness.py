"""Which laws hold to the last bit: each that a rewriting relies on is held against the arithmetic of a fold."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmsb_jax import semiring
from mmsb_jax.adaptive._exactness import Algebra
from tests.superfluous import CONTENTS, WEIGHTS

NUMBERS = {
    "f": np.concatenate(
        [
            WEIGHTS["floats"],
            CONTENTS["floats"].view(np.float32),
            np.float32([1.1, 3.3e-38, 2.1e-38, -2.0e-38, 1e-20, 0.7, 16777217, 3]),
        ]
    ),
    "i": np.concatenate([CONTENTS["integers"].view(np.int32), np.int32([-7, 5, 2**24, -3, 2**23 + 1])]),
    "u": np.concatenate([CONTENTS["integers"], np.uint32([7, 5, 2**24, 2**23 + 1])]),
}
WEIGHED = {"f": NUMBERS["f"][~np.isnan(NUMBERS["f"])], "i": WEIGHTS["integers"], "u": WEIGHTS["integers"]}
DTYPES = [np.dtype(name) for name in ("float32", "int32", "uint32")]
PAIRS = [
    (each, dtype) for each in semiring.registered() if not each.argument for dtype in DTYPES if each.supports(dtype)
]


@functools.partial(jax.jit, static_argnums=(0, 1))
def folded(of, how, *numbers):
    """What some terms come to, one way and another; as words, of a NaN without the sign."""
    zero = jnp.full(numbers[0].shape, of.zero(numbers[0].dtype))

    def weighed(weight, x):
        product = of.multiply(weight, x)
        return jnp.where(product == product, product, jnp.nan) if product.dtype == jnp.float32 else product

    def words(value):
        found = jax.lax.bitcast_convert_type(value, jnp.uint32)
        return jnp.where(value == value, found, jnp.uint32(0x7FC00000))

    return tuple(words(value) for value in how(of, zero, weighed, *numbers))


def _order(of, zero, weighed, a, b, c):
    return of.add(of.add(of.add(zero, a), b), c), of.add(of.add(of.add(zero, c), a), b)


def _twice(of, zero, weighed, a, b, c):
    return of.add(of.add(of.add(zero, a), b), a), of.add(of.add(zero, a), b)


def _parallel(of, zero, weighed, a, x, one, other, both):
    start = of.add(zero, a)
    return of.add(of.add(start, weighed(one, x)), weighed(other, x)), of.add(start, weighed(both, x))


def _in_line(outer_weighs, inner_weighs, of, zero, weighed, a, x, outer, inner, both):
    start = of.add(zero, a)
    middle = of.add(zero, weighed(inner, x) if inner_weighs else x)
    last = weighed(outer, middle) if outer_weighs else middle
    return of.add(start, last), of.add(start, weighed(both, x) if outer_weighs else x)


IN_LINE = {(o, i): functools.partial(_in_line, o, i) for o in (False, True) for i in (False, True)}


def grid(*parts):
    return [part.ravel() for part in np.meshgrid(*parts, indexing="ij")]


@pytest.mark.parametrize(("of", "dtype"), PAIRS, ids=[f"{of.name}, {dtype}" for of, dtype in PAIRS])
def test_every_law_that_is_used_holds_in_every_bit(of, dtype):
    numbers, weights = NUMBERS[dtype.kind], WEIGHED[dtype.kind]
    algebra = Algebra(of, dtype, exact=True, whole=False)
    canonical = np.where(numbers == numbers, numbers, numbers.dtype.type(np.nan if dtype.kind == "f" else 0))
    three = grid(canonical, canonical, canonical)
    for claim, how in ((algebra.order_free, _order), (algebra.idempotent, _twice)):
        if claim:
            np.testing.assert_array_equal(*folded(of, how, *three))
    if algebra.faithful:
        assert (np.asarray(of.add(np.full_like(numbers, of.zero(dtype)), numbers)) == numbers).all()
    if dtype.kind == "i":
        weights = np.unique(np.concatenate([weights, np.float32([-1, -2, 2**24 - 1])]))
    one, other = grid(weights, weights)
    met = algebra.parallel(one, other)
    _hold(_parallel, of, dtype, canonical, met, one, other)
    absorbed = algebra.absorbs(one, other)
    _hold(_parallel, of, dtype, canonical, (other, absorbed), one, other)
    for (outer, inner), how in IN_LINE.items():
        met = algebra.in_line(one, other, np.full(len(one), outer), np.full(len(one), inner))
        _hold(how, of, dtype, canonical, met, one, other)


def _hold(how, of, dtype, numbers, met, one, other):
    ok = np.flatnonzero(met[1])
    own, x, chosen = grid(np.resize(numbers[::3], 9), numbers, ok if ok.size else np.zeros(1, int))
    # Arrays of one size compile once; where nothing is claimed nothing is computed.
    if ok.size:
        room = len(one) * 9 * len(numbers)
        weights = [np.resize(weight[chosen], room).astype(dtype) for weight in (one, other, met[0])]
        np.testing.assert_array_equal(*folded(of, how, np.resize(own, room), np.resize(x, room), *weights))
