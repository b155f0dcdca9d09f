"""`matmul` against a dense oracle, for every registered semiring, dtype and shape of operator."""

from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsb_jax import semiring as sr
from mmsb_jax.propagation import SparseMatrix, _blocks, matmul
from mmsb_jax.propagation._blocks import PIECE
from tests.operators import (
    ALL,
    OPERATORS,
    SHORT,
    SMALL,
    SUPPORTED,
    Entries,
    check,
    named,
    numbers,
    oracle,
    oracle_pair,
    together,
    with_counts,
)

FEW = (sr.min_plus, sr.plus_times, sr.or_and)


def _of_pieces(piece: int, entries: Entries, values: np.ndarray) -> SparseMatrix:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_blocks, "PIECE", piece)
        return SparseMatrix.from_coo(entries.row, entries.col, values, entries.shape)


@pytest.mark.parametrize(("semiring", "dtype"), SUPPORTED, ids=named)
def test_matches_the_oracle(semiring: sr.Semiring, dtype: np.dtype, rng: np.random.Generator):
    """All shapes of operator, all patterns of four empty rows; of small ones also jitted, mapped, scanned.

    Rows of several long pieces take long to compile; neither the dtype nor their length makes a difference to how they
    are put together.
    """
    piece = PIECE if semiring in FEW else SHORT
    first = dtype == next(d for s, d in SUPPORTED if s is semiring)
    for entries in (ALL[piece], SMALL) if first else (SMALL,):
        values = numbers(rng, len(entries.row), semiring.name, dtype)
        matrix = _of_pieces(piece, entries, values)
        x = numbers(rng, (entries.shape[1], 2), semiring.name, dtype)
        expected = oracle(entries, values, x, semiring.name)
        product = partial(matmul, matrix, semiring=semiring)
        check(product(x), expected, semiring)
    check(product(x[:, 0]), expected[:, 0], semiring)

    @jax.jit
    def ways(x: jax.Array) -> tuple[jax.Array, ...]:
        mapped = jax.vmap(product, in_axes=1, out_axes=1)(x)
        return product(x), mapped, jax.lax.scan(lambda _, column: (None, product(column)), None, x.T)[1].T

    for way in ways(x):
        check(way, expected, semiring)


@pytest.mark.parametrize("kind", OPERATORS)
def test_each_shape_by_itself(kind: str, rng: np.random.Generator):
    entries, dtype = OPERATORS[kind], np.dtype(np.float32)
    for semiring in (sr.min_plus, sr.plus_times, sr.plus_pair):
        values = numbers(rng, len(entries.row), semiring.name, dtype)
        x = numbers(rng, entries.shape[1], semiring.name, dtype)
        y = matmul(SparseMatrix.from_coo(*entries[:2], values, entries.shape), x, semiring)
        np.testing.assert_array_equal(y, oracle(entries, values, x, semiring.name), strict=True)


ARGUMENTS = [s for s in sr.registered() if s.argument]


@pytest.mark.parametrize("semiring", ARGUMENTS, ids=named)
def test_the_winning_column(semiring: sr.Semiring, rng: np.random.Generator):
    dtype = np.dtype(np.float32)
    entries = together([SMALL, OPERATORS["one huge row"]]) if semiring is sr.arg_min_plus else SMALL
    add, multiply, zero = oracle_pair(semiring.name, dtype)
    values = numbers(rng, len(entries.row), semiring.name, dtype)
    x = numbers(rng, (entries.shape[1], 2), semiring.name, dtype)
    expected = np.full((entries.shape[0], 2), -1)
    best = np.full(expected.shape, zero, object)
    for i, j, value in sorted(zip(entries.row, entries.col, values, strict=True), key=lambda entry: entry[:2]):
        for f in range(2):
            term = multiply(value.item(), x[j, f].item())
            if expected[i, f] < 0 or (add(best[i, f], term) == term and term != best[i, f]):
                best[i, f], expected[i, f] = term, j
    matrix = SparseMatrix.from_coo(entries.row, entries.col, values, entries.shape)
    found = matmul(matrix, x, semiring)
    np.testing.assert_array_equal(found.index, expected)
    np.testing.assert_array_equal(found.value, best.astype(dtype), strict=True)
    mask = rng.random(entries.shape[0]) < 0.5
    masked = matmul(matrix, x, semiring, mask=mask)
    np.testing.assert_array_equal(masked.index, np.where(mask[:, None], expected, -1))
    np.testing.assert_array_equal(masked.value, np.where(mask[:, None], found.value, semiring.zero(dtype)))


COUNTS = [0, 2, 2 * SHORT + 3, 1, 0, 3]


@given(data=st.data(), semiring=st.sampled_from(FEW), features=st.sampled_from([None, 3]))
def test_random_matrices(data: st.DataObject, semiring: sr.Semiring, features: int | None):
    dtype = data.draw(st.sampled_from([d for s, d in SUPPORTED if s is semiring]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    entries = with_counts(COUNTS, 7, seed=int(rng.integers(2**32)))
    values = numbers(rng, len(entries.row), semiring.name, dtype)
    x = numbers(rng, 7 if features is None else (7, features), semiring.name, dtype)
    y = matmul(_of_pieces(SHORT, entries, values), x, semiring)
    check(y, oracle(entries, values, x, semiring.name), semiring)
