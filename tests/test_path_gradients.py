"""Derivatives of closures and paths: against finite differences, along the paths, in every way of asking."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmsb_jax import semiring as sr
from mmsb_jax._errors import InvalidArgumentError
from mmsb_jax.propagation import SparseMatrix, closure, path_to, paths, shortest_paths
from mmsb_jax.semiring import Semiring

N = 24


def roads(rng: np.random.Generator) -> SparseMatrix:
    """No parallel entries; weights between 0.2 and 0.9, all different."""
    row, col = np.divmod(rng.choice(N * N, 120, replace=False), N)
    row, col = row[row != col], col[row != col]
    return SparseMatrix.from_coo(row, col, rng.permutation(np.linspace(0.2, 0.9, len(row), dtype=np.float32)), (N, N))


def reached(y: jax.Array, semiring: Semiring) -> jax.Array:
    """A number that depends on every row in its own way; rows that aren't reached don't count."""
    there = (y != semiring.zero(y.dtype)) & jnp.isfinite(y)
    return jnp.sum(jnp.where(there, y, 0) * jnp.arange(1, N + 1, dtype=y.dtype))


@pytest.mark.parametrize("semiring", [sr.min_plus, sr.max_times, sr.max_min], ids=lambda s: s.name)
def test_against_finite_differences(semiring: Semiring, rng: np.random.Generator):
    matrix = roads(rng)
    x = np.full(N, semiring.zero(np.float32))
    x[:2] = 0.95, 0.92  # above every weight: of the widest paths, too, the entries decide

    def total(values: jax.Array, x: jax.Array) -> jax.Array:
        return reached(closure(matrix.with_values(values), x, semiring).value, semiring)

    values = matrix.values
    by_values, by_x = jax.jit(jax.grad(total, argnums=(0, 1)))(values, x)
    # Some slope is there, so that the comparison says something.
    assert (by_values != 0).any()
    here = total(values, x)
    for _ in range(20):
        moved = rng.standard_normal(len(values)).astype(np.float32) * np.float32(3e-4)
        shifted = np.where(np.arange(N) < 2, rng.standard_normal(N), 0).astype(np.float32) * np.float32(3e-4)
        forth, back = total(values + moved, x + shifted) - here, here - total(values - moved, x - shifted)
        if abs(forth - back) < 0.02 * abs(forth) + 3e-4:  # no other path became the best one on the way
            break
    else:
        pytest.fail("every direction has a kink")
    there = forth + back
    slope = 2 * (jnp.dot(by_values, moved) + jnp.dot(jnp.where(np.arange(N) < 2, by_x, 0), shifted))
    np.testing.assert_allclose(slope, there, rtol=0.03, atol=5e-4)
    _, tangent = jax.jvp(total, (values, jnp.asarray(x)), (jnp.asarray(moved), jnp.asarray(shifted)))
    np.testing.assert_allclose(2 * tangent, slope, rtol=1e-3, atol=1e-5)


def test_the_gradient_of_a_length_is_the_path(rng: np.random.Generator):
    matrix = roads(rng)
    found = shortest_paths(matrix, 0)
    target = int(np.argmax(np.where(np.isfinite(found.value), found.value, -1)))
    way = path_to(found.parent, target)
    assert len(way) > 2
    slope = jax.grad(lambda values: shortest_paths(matrix.with_values(values), 0).value[target])(matrix.values)
    taken = set(zip(way[1:], way[:-1], strict=True))
    expected = [(i, j) in taken for i, j in zip(matrix.row, matrix.col, strict=True)]
    np.testing.assert_array_equal(slope, np.float32(expected))


def test_many_at_once_and_a_tie(rng: np.random.Generator):
    matrix = roads(rng)
    x = np.full((N, 3), np.inf, np.float32)
    x[[0, 1, 2], [0, 1, 2]] = 0

    def total(values: jax.Array, x: jax.Array) -> jax.Array:
        return reached(closure(matrix.with_values(values), x, sr.min_plus).value, sr.min_plus)

    one_by_one = [jax.grad(total)(matrix.values, column) for column in x.T]
    mapped = jax.vmap(jax.grad(total), in_axes=(None, 1))(matrix.values, x)
    np.testing.assert_allclose(mapped, jnp.stack(one_by_one), rtol=1e-5)

    def of_features(values: jax.Array) -> jax.Array:
        y = closure(matrix.with_values(values), x, sr.min_plus).value
        return sum(reached(y[:, f], sr.min_plus) for f in range(3))

    np.testing.assert_allclose(jax.grad(of_features)(matrix.values), sum(one_by_one), rtol=1e-5)
    # Two ways of length 2, and parents that a weight of zero ties to each other: a tree all the same.
    tied = SparseMatrix.from_coo([1, 2, 3, 3, 4, 3], [0, 0, 1, 2, 3, 4], np.float32([1, 1, 1, 1, 0, 0]), (5, 5))
    slope = jax.grad(lambda values: shortest_paths(tied.with_values(values), 0).value[4])(tied.values)
    np.testing.assert_array_equal(slope, np.float32([1, 0, 1, 0, 1, 0]))


def test_patterns_have_slopes_by_x():
    chain = SparseMatrix.from_coo([1, 2], [0, 1], None, (3, 3))
    slope = jax.grad(lambda x: closure(chain, x, sr.min_plus).value[2])(jnp.float32([1, 5, 9]))
    np.testing.assert_array_equal(slope, np.float32([1, 0, 0]))


def test_parallel_entries_are_refused_where_slopes_are_asked_for():
    twice = SparseMatrix.from_coo([1, 1], [0, 0], np.float32([1, 2]), (2, 2))
    assert paths(twice, 0, sr.min_plus).value[1] == 1
    with pytest.raises(InvalidArgumentError, match="merge them first: coalesce"):
        jax.grad(lambda values: shortest_paths(twice.with_values(values), 0).value[1])(twice.values)
