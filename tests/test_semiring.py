"""Semirings: how they are made, what they refuse, and that every registered one keeps its laws on every dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmsb_jax import semiring as sr
from mmsb_jax._errors import InvalidArgumentError, InvalidTypeError, SemiringLawError

DTYPES = (np.float32, np.float16, jnp.bfloat16, np.int32, np.int8, np.uint32, np.uint8, np.bool_)
SUPPORTED = [(s, np.dtype(d)) for s in sr.registered() for d in DTYPES if s.supports(d)]


def _name(case: object) -> str:
    return case.name if isinstance(case, sr.Semiring | np.dtype) else str(case)


@pytest.mark.parametrize(("semiring", "dtype"), SUPPORTED, ids=_name)
def test_registered_semirings_keep_their_laws(semiring: sr.Semiring, dtype: np.dtype):
    for seed in range(3):
        report = sr.check_laws(semiring, dtype, seed=seed, throw=True)
        assert report.ok
        assert report.samples >= 2
        assert len(report.results) == 10 + semiring.idempotent


def test_which_dtypes_each_supports():
    supported = {s.name: "".join(np.dtype(d).name[0] for d in DTYPES if s.supports(d)) for s in sr.registered()}
    assert supported == {
        "min_plus": "ffbiiuu",
        "max_plus": "ffbii",
        "plus_times": "ffbiiuu",
        "or_and": "uub",
    }


@pytest.mark.parametrize("semiring", sr.registered(), ids=_name)
def test_every_registered_semiring_is_found_by_name_and_is_public(semiring: sr.Semiring):
    assert sr.get(semiring.name) is semiring
    assert getattr(sr, semiring.name) is semiring
    assert semiring.name in sr.__all__


def test_unknown_name():
    with pytest.raises(InvalidArgumentError, match=r"'max_min_plus'; there are min_plus, max_plus"):
        sr.get("max_min_plus")


@pytest.mark.parametrize(("semiring", "dtype"), SUPPORTED, ids=_name)
def test_identities_have_the_dtype(semiring: sr.Semiring, dtype: np.dtype):
    assert semiring.zero(dtype).dtype == dtype
    assert semiring.one(dtype).dtype == dtype


def test_integers_saturate_and_their_infinity_absorbs():
    top, bottom = np.int32(2**31 - 1), np.int32(-(2**31))
    a = jnp.array([top, top, top - 1, bottom + 1, bottom, 5], jnp.int32)
    b = jnp.array([-7, bottom, 2, -9, 3, -8], jnp.int32)
    np.testing.assert_array_equal(sr.min_plus.multiply(a, b), [top, top, top, bottom, bottom + 3, -3])
    np.testing.assert_array_equal(sr.max_plus.multiply(a, b), [top - 7, bottom, top, bottom, bottom, -3])
    high = jnp.array([2**32 - 1, 2**32 - 2, 3], jnp.uint32)
    np.testing.assert_array_equal(sr.min_plus.multiply(high, jnp.full(3, 5, jnp.uint32)), [2**32 - 1, 2**32 - 1, 8])


def test_saturating_add_is_right_for_all_of_int8():
    a, b = (part.ravel() for part in np.meshgrid(*[np.arange(-128, 128, dtype=np.int8)] * 2))
    expected = np.clip(a.astype(np.int32) + b, -128, 127)
    expected[(a == 127) | (b == 127)] = 127
    np.testing.assert_array_equal(sr.min_plus.multiply(jnp.asarray(a), jnp.asarray(b)), expected)


def test_semirings_are_static_and_hashable():
    mine = sr.Semiring("max_times_01", add=jnp.maximum, zero=0.0, multiply=jnp.multiply, one=1.0)
    same = sr.Semiring("max_times_01", add=jnp.maximum, zero=jnp.float32(0), multiply=jnp.multiply, one=np.float64(1))
    assert mine == same
    assert hash(mine) == hash(same)
    assert len({*sr.registered(), mine, same}) == len(sr.registered()) + 1
    assert jax.tree.leaves(mine) == []
    assert mine.idempotent
    traced = jax.jit(lambda a, b, s: s.add(s.multiply(a, b), s.one(a.dtype)))
    assert traced(jnp.float32(0.5), jnp.float32(0.5), mine) == 1.0
    static = jax.jit(lambda a, s: s.multiply(a, a), static_argnums=1)
    assert static(jnp.float32(0.5), mine) == 0.25


def test_identities_as_functions_of_the_dtype():
    widest = sr.Semiring(
        "max_min", jnp.maximum, lambda d: jnp.iinfo(d).min, jnp.minimum, lambda d: jnp.iinfo(d).max, kinds="iu"
    )
    for dtype in (np.int32, np.int8, np.uint8):
        assert sr.check_laws(widest, dtype, throw=True).ok


def test_user_made_semiring_keeps_its_laws_on_its_carrier():
    made = sr.Semiring(
        "max_times_01", add=jnp.maximum, zero=0.0, multiply=jnp.multiply, one=1.0, kinds="f", carrier=(0.0, 1.0)
    )
    assert sr.check_laws(made, throw=True).ok
    undeclared = sr.Semiring("max_times_01", add=jnp.maximum, zero=0.0, multiply=jnp.multiply, one=1.0)
    assert not sr.check_laws(undeclared).ok
    assert sr.check_laws(undeclared, samples=[0.25, 0.5, 1.0], throw=True).ok


# Each breaks one law on purpose; the report must say which.
WRONG = {
    "zero is the identity": sr.Semiring("min_zero_0", jnp.minimum, 0.0, jnp.add, 0.0),
    "zero annihilates on the left": sr.Semiring("plus_plus", jnp.add, 0.0, jnp.add, 0.0),
    "⊕ associates": sr.Semiring("mean_times", lambda a, b: (a + b) / 2, 0.0, jnp.multiply, 1.0, kinds="f"),
    "⊕ commutes": sr.Semiring("first_plus", lambda a, b: a, jnp.inf, jnp.add, 0.0),
    "⊗ associates": sr.Semiring("min_minus", jnp.minimum, jnp.inf, jnp.subtract, 0.0),
    "one is the identity of ⊗ on the left": sr.Semiring("min_plus_1", jnp.minimum, jnp.inf, jnp.add, 1.0),
    "one is the identity of ⊗ on the right": sr.Semiring("min_second", jnp.minimum, jnp.inf, lambda a, b: b, 0.0),
    "⊗ distributes from the left": sr.Semiring("plus_max", jnp.add, 0.0, jnp.maximum, 0.0),
    "⊗ distributes from the right": sr.Semiring("plus_max", jnp.add, 0.0, jnp.maximum, 0.0),
    "zero annihilates on the right": sr.Semiring("min_first", jnp.minimum, jnp.inf, lambda a, b: a, 0.0),
    "⊕ is idempotent": sr.Semiring("plus_times_i", jnp.add, 0.0, jnp.multiply, 1.0, idempotent=True),
}


@pytest.mark.parametrize("law", WRONG)
def test_broken_laws_are_found(law: str):
    report = sr.check_laws(WRONG[law], np.float32, samples=[1.0, 2.0, 4.0, 3.0])
    broken = [result for result in report.results if not result.ok]
    assert any(result.law.startswith(law) for result in broken)
    assert all(result.left != result.right for result in broken)


def test_counterexample_is_true_and_shown():
    wrong = WRONG["zero is the identity"]
    report = sr.check_laws(wrong, np.float32, samples=[2.0])
    result = next(result for result in report.results if not result.ok)
    assert (result.operands, result.left, result.right) == ((("a", 2.0),), 0.0, 2.0)
    with pytest.raises(SemiringLawError, match=r"a ⊕ zero = a: for a = 2.0 the left side is 0.0, the right side 2.0"):
        sr.check_laws(wrong, np.float32, samples=[2.0], throw=True)


def test_wrong_on_integers_only():
    # Plain + wraps: the highest integer, playing infinity, doesn't absorb.
    wraps = sr.Semiring("min_plus_wraps", jnp.minimum, 2**31 - 1, jnp.add, 0, kinds="i")
    assert not sr.check_laws(wraps).ok


def test_tolerance_is_needed_and_used_for_floating_sums():
    samples = [0.1, 0.7, 1e-3, 123.456]
    assert sr.check_laws(sr.plus_times, np.float32, samples=samples).ok
    assert not sr.check_laws(sr.plus_times, np.float32, samples=samples, rtol=0.0).ok


def test_refusals_of_pieces():
    with pytest.raises(InvalidTypeError, match="must be a function of two arrays"):
        sr.Semiring("x", 3, 0.0, jnp.multiply, 1.0)
    with pytest.raises(InvalidArgumentError, match="failed on two arrays"):
        sr.Semiring("x", lambda a: a, 0.0, jnp.multiply, 1.0)
    with pytest.raises(InvalidArgumentError, match="must keep shape and dtype"):
        sr.Semiring("x", lambda a, b: jnp.sum(a + b), 0.0, jnp.multiply, 1.0)
    with pytest.raises(InvalidArgumentError, match="must keep shape and dtype"):
        sr.Semiring("x", jnp.less, 0.0, jnp.multiply, 1.0)
    with pytest.raises(InvalidTypeError, match="must be a scalar"):
        sr.Semiring("x", jnp.add, [0.0], jnp.multiply, 1.0)
    with pytest.raises(InvalidTypeError, match="must be a scalar"):
        sr.Monoid("x", jnp.add, np.zeros(3))
    with pytest.raises(InvalidTypeError, match="name must be a string"):
        sr.Monoid("", jnp.add, 0)
    with pytest.raises(InvalidArgumentError, match="kinds is 'fz'"):
        sr.Monoid("x", jnp.add, 0, kinds="fz")
    with pytest.raises(InvalidTypeError, match="carrier must be a pair"):
        sr.Semiring("x", jnp.add, 0.0, jnp.multiply, 1.0, carrier=(0.0, 1.0, 2.0))


def test_refusals_of_dtypes():
    with pytest.raises(InvalidTypeError, match="or_and is not defined on float32; it works on bool, unsigned integers"):
        sr.or_and.zero(np.float32)
    with pytest.raises(InvalidTypeError, match="max_plus is not defined on uint32"):
        sr.check_laws(sr.max_plus, np.uint32)
    with pytest.raises(InvalidTypeError, match="not defined on complex64"):
        sr.plus_times.require(np.complex64)
    with pytest.raises(InvalidTypeError, match="is inf, which int32 can't hold"):
        sr.Semiring("x", jnp.minimum, jnp.inf, jnp.add, 0.0).zero(np.int32)
    with pytest.raises(InvalidTypeError, match="is 300, which uint8 can't hold"):
        sr.Monoid("x", jnp.minimum, 300).identity(np.uint8)
    with pytest.raises(InvalidTypeError, match="is 2, which bool can't hold"):
        sr.Monoid("x", jnp.maximum, 2).identity(np.bool_)


def test_check_laws_wants_samples():
    with pytest.raises(InvalidArgumentError, match="samples is empty"):
        sr.check_laws(sr.min_plus, samples=[])


def test_report_prints_every_law():
    text = str(sr.check_laws(sr.or_and, np.bool_))
    assert text.startswith("or_and on bool, ")
    assert text.count("ok  ") == 11
