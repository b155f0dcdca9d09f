"""Derivatives of products: forward and reverse, first and second, under vmap and jit, against finite differences."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmsb_jax import semiring as sr
from mmsb_jax._errors import InvalidArgumentError
from mmsb_jax.propagation import (
    SparseMatrix,
    coalesce,
    ewise_add,
    ewise_multiply,
    matmul,
    reduce,
    restrict,
    sparse_product,
    to_dense,
)
from mmsb_jax.propagation._blocks import PIECE

smooth_max = sr.Semiring("smooth_max", lambda a, b: jnp.logaddexp(a * 2, b * 2) / 2, -np.inf, jnp.add, 0.0, kinds="f")
dual = sr.Semiring(  # numbers a + b ε, with ε² = 0
    "dual",
    lambda a, b: (a[0] + b[0], a[1] + b[1]),
    (np.float32(0), np.float32(0)),
    lambda a, b: (a[0] * b[0], a[0] * b[1] + a[1] * b[0]),
    (np.float32(1), np.float32(0)),
)
NUMBERS = [
    *(sr.plus_times, sr.min_plus, sr.max_plus, sr.max_times, sr.min_times, sr.max_min, sr.min_max, sr.log_plus),
    smooth_max,
]
CHOOSING = [s for s in NUMBERS if s.add.selective]
COUNTS, COLUMNS = [3, 0, 1, 4, 3, 0], 9
ROWS, ENTRIES = len(COUNTS), sum(COUNTS)
LONG = [3, 0, PIECE + 3]  # rows of several pieces take long to compile


def matrix_of(rng: np.random.Generator, *, simple: bool = False, counts: list[int] = COUNTS) -> SparseMatrix:
    """Short rows and empty ones; one pair of entries is parallel, unless it is `simple`."""
    columns = max(COLUMNS, *counts)
    row, col = np.repeat(np.arange(len(counts)), counts), [rng.permutation(columns)[:count] for count in counts]
    if not simple:
        col[0][:2] = col[0][0]
    return SparseMatrix.from_coo(row, np.concatenate(col), None, (len(counts), columns))


def apart(rng: np.random.Generator, shape: int | tuple[int, ...]) -> jax.Array:
    """Numbers from 1 to 3, no two of them close to each other."""
    size = int(np.prod(shape))
    return jnp.asarray((1 + 2 * rng.permutation(size) / size).reshape(shape), jnp.float32)


def directional(function: Callable[..., Any], at: Any, along: Any, step: float = 1e-3) -> np.ndarray:
    """A central difference, with each side in float32 and the difference in float64."""
    sides = [function(*(a + np.float32(sign * step) * d for a, d in zip(at, along, strict=True))) for sign in (1, -1)]
    high, low = (np.asarray(jax.tree.leaves(side), np.float64) for side in sides)
    return (high - low) / (2 * step)


def directions(rng: np.random.Generator, at: Any) -> Any:
    return tuple(jnp.asarray(rng.choice([-1.0, 1.0], a.shape), jnp.float32) for a in at)


PARALLEL = [(s, False) for s in (sr.plus_times, sr.min_plus, sr.log_plus)]


@pytest.mark.parametrize(("semiring", "simple"), [*[(s, True) for s in NUMBERS], *PARALLEL], ids=lambda s: str(s))
def test_against_finite_differences(semiring: sr.Semiring, simple: bool, rng: np.random.Generator):
    """In random directions, of the values and of x together; and ⟨u, J v⟩ is the same forward and in reverse."""
    matrix = matrix_of(rng, simple=simple)
    at = apart(rng, ENTRIES), apart(rng, (matrix.shape[1], 2)) * np.float32(1.0371)

    @jax.jit
    def product(values: Any, x: Any) -> Any:
        y = matmul(matrix.with_values(values), x, semiring)
        return jnp.where(jnp.isfinite(y), y, jnp.float32(0))

    forward = jax.jit(lambda at, along: jax.jvp(product, at, along)[1])
    reverse = jax.jit(lambda at, weight: jax.vjp(product, *at)[1](weight))
    weight = jnp.asarray(rng.standard_normal((ROWS, 2)), jnp.float32)
    back = reverse(at, weight)
    for _ in range(4):
        along = directions(rng, at)
        slope = forward(at, along)
        step = 2e-4 if semiring in CHOOSING else 1e-3
        expected = directional(product, at, along, step)[0]
        smooth = np.ones(expected.shape, bool)
        if semiring in CHOOSING:  # two products may be so close that another one wins within the step
            there, here, back_there = (
                np.asarray(product(*(a + np.float32(h) * d for a, d in zip(at, along, strict=True))), np.float64)
                for h in (step, 0, -step)
            )
            smooth = np.abs(there + back_there - 2 * here) < 0.04 * step
            assert smooth.mean() > 0.6
        np.testing.assert_allclose(np.asarray(slope)[smooth], expected[smooth], atol=4e-2, rtol=1e-2)
        both = sum(float(jnp.vdot(g, d)) for g, d in zip(back, along, strict=True))
        np.testing.assert_allclose(both, float(jnp.vdot(weight, slope)), rtol=1e-3, atol=1e-3)


def test_values_that_are_trees(rng: np.random.Generator):
    matrix = matrix_of(rng)
    at = tuple(apart(rng, ENTRIES) for _ in range(2)) + tuple(apart(rng, matrix.shape[1]) for _ in range(2))

    @jax.jit
    def total(a: Any, b: Any, x: Any, y: Any) -> Any:
        real, infinitesimal = matmul(matrix.with_values((a, b)), (x, y), dual)
        return jnp.stack([jnp.sum(real), jnp.sum(infinitesimal)]) / 100

    along = directions(rng, at)
    expected = directional(total, at, along)[0]
    np.testing.assert_allclose(jax.jvp(total, at, along)[1], expected, rtol=1e-2, atol=1e-2)
    rows = jax.jacrev(total, argnums=(0, 1, 2, 3))(*at)
    found = sum(np.asarray(row, np.float64) @ np.asarray(d) for row, d in zip(rows, along, strict=True))
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-2)


def test_a_dual_number_carries_the_derivative(rng: np.random.Generator):
    """The semiring of dual numbers is forward mode by itself: it agrees with JAX's."""
    matrix, (values, moving) = matrix_of(rng), (apart(rng, ENTRIES) for _ in range(2))
    x, moving_x = apart(rng, COLUMNS), apart(rng, COLUMNS)
    found = matmul(matrix.with_values((values, moving)), (x, moving_x), dual)
    expected = jax.jvp(lambda v, x: matmul(matrix.with_values(v), x, sr.plus_times), (values, x), (moving, moving_x))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("semiring", [sr.min_plus, sr.max_plus, sr.max_times, sr.min_times], ids=lambda s: s.name)
def test_ties_go_to_the_lowest_column_and_parallel_entries_share(semiring: sr.Semiring, rng: np.random.Generator):
    """Small whole numbers, so that most rows have several winners. What comes out is a subgradient."""
    row = np.repeat(np.arange(4), [4, 3, 5, 1])
    col = np.concatenate([rng.permutation(6)[:count] for count in (4, 3, 5, 1)])
    values, x = rng.integers(1, 3, 13).astype(np.float32), rng.integers(1, 3, 6).astype(np.float32)
    values[row == 0], x[col[row == 0]] = 1, 1  # at least the first row's terms are all the same
    matrix = SparseMatrix.from_coo(row, col, None, (4, 6))

    def product(values: Any, x: Any) -> Any:
        return matmul(matrix.with_values(values), x, semiring)

    by_values, by_x = jax.jacrev(product, argnums=(0, 1))(values, x)
    term, best = np.asarray(semiring.multiply(jnp.asarray(values), jnp.asarray(x[col]))), np.asarray(product(values, x))
    winner = np.array([min(col[(row == i) & (term == best[i])]) for i in range(4)])
    assert (np.count_nonzero(by_x, axis=1) == 1).all()
    np.testing.assert_array_equal(np.argmax(np.asarray(by_x) != 0, axis=1), winner)
    np.testing.assert_array_equal(col[np.argmax(np.asarray(by_values) != 0, axis=1)], winner)
    step, sides = np.float32(2**-6), []
    for sign in (1, -1):
        moved = jax.vmap(lambda d, sign=sign: product(values, x + sign * d))(step * np.eye(6, dtype=np.float32))
        sides.append((np.asarray(moved) - np.asarray(product(values, x))).T / (sign * step))
    low, high = np.minimum(*sides), np.maximum(*sides)
    assert (low <= by_x).all()
    assert (by_x <= high).all()
    assert (low < high).any(), "no ties: the test says nothing"


def test_parallel_entries_share():
    matrix = SparseMatrix.from_coo([0, 0, 0], [1, 1, 0], np.float32([3, 3, 3]), (1, 2))
    by_x = jax.grad(lambda x: matmul(matrix, x, sr.min_plus)[0])(np.float32([9, 1]))
    np.testing.assert_array_equal(by_x, [0, 1])
    by_values = jax.grad(lambda v: matmul(matrix.with_values(v), np.float32([9, 1]), sr.min_plus)[0])(matrix.values)
    np.testing.assert_array_equal(by_values, [0.5, 0.5, 0])


def test_second_order_of_plus_times(rng: np.random.Generator):
    matrix = matrix_of(rng)
    values, x = apart(rng, ENTRIES), apart(rng, COLUMNS)
    row, col = matrix.row, matrix.col

    def sparse(values: Any, x: Any) -> Any:
        return jnp.sum(jnp.sin(matmul(matrix.with_values(values), x, sr.plus_times)))

    def dense(values: Any, x: Any) -> Any:
        return jnp.sum(jnp.sin(jnp.zeros((ROWS, COLUMNS), jnp.float32).at[row, col].add(values) @ x))

    found, expected = (jax.jit(jax.hessian(f, argnums=(0, 1)))(values, x) for f in (sparse, dense))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-2)
    backwards = jax.jacrev(jax.jacrev(sparse, argnums=1), argnums=1)(values, x)
    np.testing.assert_allclose(backwards, expected[1][1], rtol=2e-3, atol=2e-2)


@pytest.mark.parametrize("semiring", [sr.plus_times, sr.min_plus], ids=lambda s: s.name)
def test_vmap_over_values_and_x(semiring: sr.Semiring, rng: np.random.Generator):
    matrix = matrix_of(rng, simple=True)
    values, x = apart(rng, (3, ENTRIES)), apart(rng, (3, matrix.shape[1]))

    def product(values: Any, x: Any) -> Any:
        return matmul(matrix.with_values(values), x, semiring)

    def total(values: Any, x: Any) -> Any:
        y = product(values, x)
        return jnp.sum(jnp.where(jnp.isfinite(y), jnp.sin(y), jnp.float32(0)))

    slope = jax.jit(jax.grad(total, argnums=(0, 1)))
    for axes in ((0, None), (None, 0), (0, 0)):
        each = [tuple(a[i] if axis == 0 else a[0] for a, axis in zip((values, x), axes, strict=True)) for i in range(3)]
        at = tuple(a if axis == 0 else a[0] for a, axis in zip((values, x), axes, strict=True))
        np.testing.assert_array_equal(jax.vmap(product, axes)(*at), jnp.stack([product(*one) for one in each]))
        if axes[1] is None:
            continue  # the derivatives of the others take long enough to compile
        slopes = [slope(*one) for one in each]
        mapped = jax.jit(jax.vmap(jax.grad(total, argnums=(0, 1)), axes))(*at)
        together = jax.jit(jax.grad(lambda v, x, axes=axes: jnp.sum(jax.vmap(total, axes)(v, x)), argnums=(0, 1)))(*at)
        for nth in range(2):
            expected = np.stack([s[nth] for s in slopes])
            np.testing.assert_allclose(mapped[nth], expected, rtol=1e-4, atol=1e-5)
            summed = expected if axes[nth] == 0 else expected.sum(0)
            np.testing.assert_allclose(together[nth], summed, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("semiring", [sr.plus_times, sr.min_plus], ids=lambda s: s.name)
@pytest.mark.parametrize("simple", [False, True], ids=["parallel", "simple"])
def test_no_scatter_in_the_backward_pass(semiring: sr.Semiring, simple: bool, rng: np.random.Generator):
    matrix = matrix_of(rng, simple=simple)
    values, x = apart(rng, ENTRIES), apart(rng, matrix.shape[1])
    slope = jax.jit(jax.grad(lambda v, x: jnp.sum(matmul(matrix.with_values(v), x, semiring)), argnums=(0, 1)))
    lowered = slope.lower(values, x)
    assert "stablehlo.scatter" not in lowered.as_text()
    assert not re.search(r"\bscatter\b", lowered.compile().as_text())
    assert "stablehlo.gather" in lowered.as_text()
    dense = jax.jit(jax.grad(lambda x: jnp.sum(x[matrix.col])))
    assert "stablehlo.scatter" in dense.lower(x).as_text(), "the check can't fail"


def test_a_matrix_as_an_argument(rng: np.random.Generator):
    matrix = matrix_of(rng)
    matrix, x = matrix.with_values(apart(rng, ENTRIES)), apart(rng, COLUMNS)

    def total(x: Any, matrix: SparseMatrix) -> Any:
        return jnp.sum(matmul(matrix, x, sr.plus_times))

    slope = jax.jit(jax.grad(total))
    with pytest.raises(InvalidArgumentError, match=r"matrix = matrix\.with_transpose\(\)"):
        slope(x, matrix)
    found = slope(x, matrix.with_transpose())
    np.testing.assert_array_equal(found, jax.grad(lambda x: total(x, matrix))(x))
    forward = jax.jit(lambda m: jax.jvp(lambda x: total(x, m), (x,), (x,))[1])(matrix)  # needs no transpose
    np.testing.assert_allclose(forward, jnp.vdot(found, x), rtol=1e-5)
    by_matrix = jax.jit(jax.grad(total, argnums=1, allow_int=True))(x, matrix.with_transpose())
    by_values = jax.grad(lambda v: total(x, matrix.with_values(v)))(matrix.values)
    np.testing.assert_allclose(matrix.with_block_values(by_matrix.block_values).values, by_values, rtol=1e-6)


def test_through_matrices_made_from_matrices(rng: np.random.Generator):
    """Values stay differentiable through all that makes a matrix, or a number, of matrices."""
    place = rng.integers(0, 5, (2, 12))
    one, other = (SparseMatrix.from_coo(*pair, None, (5, 5)) for pair in (place, place[::-1]))
    at = apart(rng, 12), apart(rng, 12)

    @jax.jit
    def everything(a: Any, b: Any) -> Any:
        left, right, s = one.with_values(a), other.with_values(b), sr.plus_times
        made = [
            *(coalesce(left, s), ewise_add(left, right, s), ewise_multiply(left, right, s), left.T),
            *(sparse_product(left, right, s), restrict(left, right), right),
        ]
        sums = [jnp.sum(jnp.sin(matrix.values)) for matrix in made]
        rows = [jnp.sum(jnp.sin(reduce(left, s, axis=axis))) for axis in (0, 1, None)]
        return jnp.stack([*sums, *rows, jnp.sum(jnp.sin(to_dense(left, s)))])

    along = directions(rng, at)
    expected = directional(everything, at, along)[0]
    np.testing.assert_allclose(jax.jvp(everything, at, along)[1], expected, rtol=2e-2, atol=2e-2)
    rows = jax.jacrev(everything, argnums=(0, 1))(*at)
    found = sum(np.asarray(row) @ np.asarray(d) for row, d in zip(rows, along, strict=True))
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("of", ["reduce", "matmul"])
def test_long_rows_go_back(of: str, rng: np.random.Generator):
    matrix, values = matrix_of(rng, simple=True, counts=LONG), apart(rng, sum(LONG))
    if of == "reduce":
        slope = jax.jit(jax.grad(lambda v: jnp.sum(jnp.sin(reduce(matrix.with_values(v), sr.plus_times, axis=1)))))
        sums = np.bincount(matrix.row, np.asarray(values), len(LONG))
        np.testing.assert_allclose(slope(values), np.cos(sums)[matrix.row], rtol=1e-3, atol=1e-3)
        return
    x = apart(rng, matrix.shape[1]) * np.float32(1.0371)
    winner = matmul(matrix.with_values(values), x, sr.arg_min_plus).index
    back = jax.jit(jax.grad(lambda x: jnp.sum(matmul(matrix.with_values(values), x, sr.min_plus)[::2])))
    np.testing.assert_array_equal(back(x), np.bincount(winner[winner >= 0], minlength=len(x)))


def test_padded_slots_have_no_part_in_derivatives(rng: np.random.Generator):
    """A padded slot names the column of the first entry, and so does the term that wins in the short row."""
    matrix = SparseMatrix.from_coo([0, 0, 0, 1], [2, 0, 1, 2], np.float32([1, 5, 6, 4]), (2, 3))
    assert matrix.padding > 1
    x, moving = np.float32([3, 3, 2]), np.float32([0.5, 0, 0, 8])
    for semiring, expected in ((sr.min_plus, [0.5, 8]), (sr.min_times, [1, 16])):
        _, tangent = jax.jvp(lambda v, s=semiring: matmul(matrix.with_values(v), x, s), (matrix.values,), (moving,))
        np.testing.assert_array_equal(tangent, np.float32(expected))
        _, tangent = jax.jvp(lambda x, s=semiring: matmul(matrix, x, s), (x,), (np.float32([0, 0, 1]),))
        np.testing.assert_array_equal(tangent, np.float32([1, 1] if semiring is sr.min_plus else [1, 4]))
