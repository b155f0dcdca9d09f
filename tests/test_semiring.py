"""Semirings: how they are made, what they refuse, and that every registered one keeps its laws on every dtype."""

import itertools

import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np
import pytest

from mmsb_jax import semiring as sr
from mmsb_jax._errors import InvalidArgumentError, InvalidTypeError, SemiringLawError

DTYPES = (np.float32, np.float16, jnp.bfloat16, np.int32, np.int8, np.uint32, np.uint8, np.bool_)
PLAIN = [s for s in sr.registered() if not s.argument]  # the others differ in what a product returns
SUPPORTED = [(s, np.dtype(d)) for s in PLAIN for d in DTYPES if s.supports(d)]


def _name(case: object) -> str:
    return case.name if isinstance(case, sr.Semiring | np.dtype) else str(case)


@pytest.mark.parametrize(("semiring", "dtype"), SUPPORTED, ids=_name)
def test_registered_semirings_keep_their_laws(semiring: sr.Semiring, dtype: np.dtype):
    for seed in range(2):
        report = sr.check_laws(semiring, dtype, seed=seed, throw=True)
        assert report.ok
        assert report.samples >= 2
        assert len(report.results) == 10 + semiring.idempotent


def test_which_dtypes_each_supports():
    supported = {s.name: "".join(np.dtype(d).name[0] for d in DTYPES if s.supports(d)) for s in sr.registered()}
    assert supported == {
        **dict.fromkeys([s.name for s in sr.registered()], "ffbiiuu"),
        **dict.fromkeys(["max_plus", "arg_max_plus"], "ffbii"),
        **dict.fromkeys(["or_and", "xor_and"], "uub"),
        "log_plus": "ffb",
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
    for _ in range(2):  # JAX dies of the second one
        with pytest.raises(InvalidTypeError, match=r"NumPy's minimum, which JAX can't trace; use jnp\.minimum"):
            sr.Semiring("x", np.minimum, np.inf, jnp.add, 0.0, kinds="f")
    with pytest.raises(InvalidArgumentError, match="failed on two arrays"):
        sr.Semiring("x", lambda a: a, 0.0, jnp.multiply, 1.0)
    with pytest.raises(InvalidArgumentError, match="must keep shape and dtype"):
        sr.Semiring("x", lambda a, b: jnp.sum(a + b), 0.0, jnp.multiply, 1.0)
    with pytest.raises(InvalidArgumentError, match="must keep shape and dtype"):
        sr.Semiring("x", jnp.less, 0.0, jnp.multiply, 1.0)
    with pytest.raises(InvalidTypeError, match="must be a scalar"):
        sr.Semiring("x", jnp.add, "0", jnp.multiply, 1.0)
    with pytest.raises(InvalidTypeError, match="a tree with the leaf '0'"):
        sr.Semiring("x", jnp.add, (0.0, "0"), jnp.multiply, 1.0)
    with pytest.raises(InvalidTypeError, match=r"zero is trees .* and one is numbers"):
        sr.Semiring("x", lambda a, b: (a[0] + b[0],), (0.0,), jnp.multiply, 1.0)
    with pytest.raises(InvalidArgumentError, match="lacks 'luck', which is no law; there are add_associates"):
        sr.Semiring("x", jnp.add, 0.0, jnp.multiply, 1.0, lacks=["luck"])
    with pytest.raises(InvalidArgumentError, match="plus_times: ⊕ must select one of two numbers"):
        sr.arg(sr.plus_times)
    with pytest.raises(InvalidTypeError, match="must be a scalar"):
        sr.Monoid("x", jnp.add, np.zeros(3))
    with pytest.raises(InvalidTypeError, match="without numbers"):
        sr.Monoid("x", jnp.add, ())
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


# Semirings that lack laws, on purpose.


@pytest.mark.parametrize("name", ["any_pair", "plus_pair", "min_first", "min_second"])
def test_what_graphblas_has_besides_lacks_just_what_it_says(name: str):
    semiring = sr.get(name)
    for dtype in (np.float32, np.int32, np.uint8):
        report = sr.check_laws(semiring, dtype, throw=True)
        lacking = {result.law for result in report.results if not result.ok}
        assert lacking == {sr.LAWS[law] for law in semiring.lacks}
        assert lacking
        assert "lacks   " in str(report)


def test_a_law_that_is_said_to_be_lacking_must_be_broken():
    modest = sr.Semiring("modest", jnp.minimum, jnp.inf, jnp.add, 0.0, kinds="f", lacks=["add_commutes"])
    report = sr.check_laws(modest)
    assert not report.ok
    assert "KEPT    ⊕ commutes: a ⊕ b = b ⊕ a, though it is said to be lacking" in str(report)
    with pytest.raises(SemiringLawError, match="or say which laws it lacks"):
        sr.check_laws(modest, throw=True)


# Values that are trees.


def _shorter(a, b):
    least = jnp.minimum(a["length"], b["length"])
    none = jnp.zeros((), jnp.int32)
    ways = (jnp.where(each["length"] == least, each["ways"], none) for each in (a, b))
    return {"length": least, "ways": sum(ways, none)}


def _along(a, b):
    return {"length": a["length"] + b["length"], "ways": a["ways"] * b["ways"]}


COUNTING = sr.Semiring(
    "count_shortest",
    add=_shorter,
    zero={"length": np.float32(np.inf), "ways": np.int32(0)},
    multiply=_along,
    one={"length": np.float32(0), "ways": np.int32(1)},
    carrier={"length": (0, 100), "ways": (0, 9)},
)


def test_values_may_be_trees():
    assert sr.check_laws(COUNTING, throw=True).ok
    assert jax.tree.map(lambda x: x, COUNTING) == COUNTING
    assert hash(COUNTING) == hash(sr.Semiring("count_shortest", _shorter, COUNTING.zero(), _along, COUNTING.one()))
    assert not COUNTING.supports(np.float32)
    with pytest.raises(InvalidTypeError, match="its values are trees"):
        COUNTING.require(np.float32)
    with pytest.raises(InvalidTypeError, match="the values of count_shortest are trees"):
        COUNTING.require_values({"length": jnp.zeros(3), "ways": jnp.zeros(3)})
    samples = {"length": np.float32([1, 2]), "ways": np.int32([0, 5])}
    assert sr.check_laws(COUNTING, samples=jax.tree.map(jnp.asarray, samples)).samples == 4


def test_a_broken_law_of_trees_shows_the_trees():
    wrong = sr.Semiring("twice", lambda a, b: (a[0] - b[0],), (0.0,), lambda a, b: (a[0] * b[0],), (1.0,))
    broken = next(result for result in sr.check_laws(wrong).results if not result.ok)
    assert isinstance(broken.left, tuple)
    assert broken.left != broken.right


def test_dual_numbers_differentiate():
    def times(a, b):
        return a[0] * b[0], a[0] * b[1] + a[1] * b[0]

    dual = sr.Semiring(
        "dual", lambda a, b: (a[0] + b[0], a[1] + b[1]), (0.0, 0.0), times, (1.0, 0.0), carrier=((0, 4), (0, 4))
    )
    assert sr.check_laws(dual, throw=True).ok
    x = jnp.float32(3)
    assert dual.multiply((x, jnp.float32(1)), (x, jnp.float32(1))) == (9, 6)


# Folds.


@pytest.mark.parametrize(("semiring", "dtype"), SUPPORTED, ids=_name)
def test_fold_and_accumulate_agree_with_one_after_the_other(semiring: sr.Semiring, dtype: np.dtype, rng):
    low = 0 if np.dtype(dtype).kind in "ub" else 1
    values = jnp.asarray(rng.integers(low, 2 if dtype == np.bool_ else 4, (7, 2)).astype(dtype))
    for monoid in (semiring.add, semiring.multiply):

        @jax.jit
        def folded(values: jax.Array, monoid: sr.Monoid = monoid) -> tuple[jax.Array, ...]:
            along = monoid.fold(values.T, axis=1)
            return monoid.fold(values), along, monoid.accumulate(values), monoid.fold(values[:0])

        @jax.jit
        def one_after_the_other(values: jax.Array, monoid: sr.Monoid = monoid) -> jax.Array:
            return jnp.stack(list(itertools.accumulate(values, monoid)))

        *found, of_nothing = folded(values)
        running = one_after_the_other(values)
        tolerance = 2e-2 if dtype.itemsize == 2 else 1e-5
        for fold, expected in zip(found, (running[-1], running[-1], running), strict=True):
            assert fold.dtype == dtype
            np.testing.assert_allclose(np.asarray(fold, np.float64), np.asarray(expected, np.float64), rtol=tolerance)
        assert (np.asarray(of_nothing) == np.asarray(monoid.identity(dtype))).all()


def test_folds_of_trees_and_of_nothing():
    values = {"length": jnp.float32([3, 1, 1, 2, 1]), "ways": jnp.int32([1, 2, 3, 4, 5])}
    assert jax.tree.map(float, COUNTING.add.fold(values)) == {"length": 1, "ways": 10}
    assert COUNTING.add.accumulate(values)["ways"].tolist() == [1, 2, 5, 5, 10]
    with pytest.raises(InvalidArgumentError, match="to fold along axis 1"):
        sr.min_plus.add.fold(jnp.ones(3), axis=1)


def test_which_scatter_keeps_the_bits():
    assert sr.min_plus.add.scatter(np.float32) == "min"
    assert sr.plus_times.add.scatter(np.int32) == "add"
    assert sr.plus_times.add.scatter(np.float32) is None
    assert sr.or_and.add.scatter(np.uint32) is None


# Purity.


def _noisy(x):
    return x + np.random.default_rng().random()


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda x: jax.debug.callback(print, x), "callback: debug_callback"),
        (lambda x: jax.pure_callback(np.sin, x, x), "callback: pure_callback"),
        (lambda x: jax.lax.cond(x[0] > 0, lambda: jax.debug.callback(print, x), lambda: None), "callback: debug"),
        (lambda x: jax.experimental.io_callback(np.sin, x, x, ordered=True), "effect: "),
        (_noisy, "a second tracing gave another program"),
    ],
)
def test_impure_functions_are_found_out(function, says: str, capsys):
    report = sr.check_purity(function, jnp.ones(3))
    assert not report.ok
    assert says in str(report)
    assert capsys.readouterr().out == ""  # what has effects isn't run


def test_pure_functions_are_pure():
    def step(tree):
        key, sub = jax.random.split(tree["key"])
        return {"key": key, "x": jax.lax.fori_loop(0, 3, lambda _, x: jnp.sin(x), tree["x"] + jax.random.normal(sub))}

    report = sr.check_purity(step, {"key": jax.random.key(0), "x": jnp.ones(3)})
    assert report.ok
    assert str(report).startswith("pure, as far as can be seen")
    with pytest.raises(InvalidTypeError, match="got a int; pass a function"):
        sr.check_purity(3)


@pytest.mark.parametrize(("semiring", "dtype"), SUPPORTED, ids=_name)
def test_what_is_neutral_moves_no_bit(semiring: sr.Semiring, dtype: np.dtype, rng):
    """In sums that began with the identity: −0, infinities, NaN and what is flushed to zero included."""
    neutral = semiring.add.neutral(dtype)
    if semiring is sr.log_plus:
        assert neutral is None
        return
    assert neutral.dtype == dtype
    values = rng.integers(0, 256, 512 * dtype.itemsize, np.uint8)
    values = values & 1 == 1 if dtype == np.bool_ else values.view(dtype)
    if dtype.kind not in "iub":
        tiny = jnp.finfo(dtype).tiny
        special = [-0.0, 0.0, np.inf, -np.inf, np.nan, -tiny / 2, tiny / 2, tiny, -1.5 * tiny, 1.5 * tiny, -tiny]
        values = np.concatenate([values, np.array(special, dtype)])
    identity = jnp.full(len(values), semiring.zero(dtype))
    one = semiring.add(identity, values)
    for total in (one, semiring.add(one, values[::-1])):
        again = semiring.add(total, jnp.full(len(values), neutral))
        np.testing.assert_array_equal(np.asarray(again).view(np.uint8), np.asarray(total).view(np.uint8))


def test_of_other_operations_nothing_is_known_to_be_neutral():
    assert sr.Monoid("from one", jnp.add, 1).neutral(np.float32) is None
    assert sr.Monoid("of any", lambda a, b: jnp.add(a, b), 0).neutral(np.float32) is None
