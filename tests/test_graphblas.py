"""Products, sums and parts of sparse matrices against SuiteSparse:GraphBLAS, for every semiring that it has."""

import os
from typing import Any, NamedTuple

import graphblas as gb
import numpy as np
import pytest

from mmsb_jax import semiring as sr
from mmsb_jax.propagation import (
    SparseMatrix,
    coalesce,
    ewise_add,
    ewise_multiply,
    matmul,
    reduce,
    restrict,
    sparse_product,
)

SEMIRINGS = [s for s in sr.registered() if not s.argument]
DTYPES = [np.float32, np.int32, np.bool_]
SUPPORTED = [(s, np.dtype(d)) for s in SEMIRINGS for d in DTYPES if s.supports(d)]
FEW = [(s, d) for s, d in SUPPORTED if d.name == ("bool" if "b" in s.kinds else "float32")]
ROWS, COLUMNS, FEATURES = 30, 24, 3
COUNTS = [0, 0, 1, 2, 3, 24, *[4] * 24]


class Theirs(NamedTuple):
    """The same in GraphBLAS: ⊕ as a monoid, ⊗ as a function of two numbers, and both together."""

    add: Any
    multiply: Any
    both: Any


def theirs(semiring: sr.Semiring, dtype: np.dtype) -> Theirs:
    if semiring is sr.log_plus:
        return Theirs(gb.monoid.numpy.logaddexp, gb.binary.plus, gb.semiring.numpy.logaddexp_add)
    add, multiply = semiring.name.split("_")
    if multiply == "and":
        prefix = "l" if dtype == np.bool_ else "b"
        add, multiply = prefix + add, prefix + multiply
    chosen = "max" if add == "any" else add  # of any values GraphBLAS takes any, and mmsb_jax the largest
    return Theirs(
        getattr(gb.monoid, chosen), getattr(gb.binary, multiply), getattr(gb.semiring, f"{add}_{multiply}")[dtype]
    )


def numbers(rng: np.random.Generator, shape: int | tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Small whole numbers, on which nothing rounds, saturates or wraps."""
    return rng.random(shape) < 0.5 if dtype == np.bool_ else rng.integers(1, 5, shape).astype(dtype)


def entries(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns in no order, no pair twice; always as many of each length, so that little is compiled."""
    row = np.repeat(rng.permutation(ROWS), COUNTS)
    col = np.concatenate([rng.permutation(COLUMNS)[:count] for count in COUNTS])
    order = rng.permutation(len(row))
    return row[order], col[order]


@pytest.fixture(scope="module")
def places() -> list[tuple[np.ndarray, np.ndarray]]:
    """Two structures of this run: what shapes their sums and products have is compiled once."""
    rng = np.random.default_rng(int(os.environ["MMSB_SEED"]))
    return [entries(rng), entries(rng)]


def pair(
    rng: np.random.Generator, dtype: np.dtype, place: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[SparseMatrix, Any]:
    row, col = entries(rng) if place is None else place
    value = numbers(rng, len(row), dtype)
    reference = gb.Matrix.from_coo(row, col, value, nrows=ROWS, ncols=COLUMNS)
    return SparseMatrix.from_coo(row, col, value, (ROWS, COLUMNS)), reference


def same_numbers(found: Any, expected: Any, semiring: sr.Semiring) -> None:
    if semiring is sr.log_plus:
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    else:
        np.testing.assert_array_equal(found, expected)


def same_matrix(found: SparseMatrix, expected: gb.Matrix, semiring: sr.Semiring, dtype: np.dtype) -> None:
    row, col, value = expected.to_coo(sort=True)
    assert found.shape == (expected.nrows, expected.ncols)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.row, row)
    np.testing.assert_array_equal(found.col, col)
    same_numbers(found.values, value, semiring)


def _name(case: object) -> str:
    return case.name if isinstance(case, sr.Semiring | np.dtype) else str(case)


@pytest.mark.parametrize(("semiring", "dtype"), SUPPORTED, ids=_name)
def test_products_with_arrays(semiring: sr.Semiring, dtype: np.dtype, rng: np.random.Generator):
    zero, op = semiring.zero(dtype), theirs(semiring, dtype)
    for _ in range(3):
        matrix, reference = pair(rng, dtype)
        x = numbers(rng, (COLUMNS, FEATURES), dtype)
        found, vector = matmul(matrix, x, semiring), matmul(matrix, x[:, 0], semiring)
        assert found.dtype == vector.dtype == dtype
        expected = reference.mxm(gb.Matrix.from_dense(x), op.both).new(dtype).to_dense(fill_value=zero)
        same_numbers(found, expected, semiring)
        expected = reference.mxv(gb.Vector.from_dense(x[:, 0]), op.both).new(dtype).to_dense(fill_value=zero)
        same_numbers(vector, expected, semiring)


@pytest.mark.parametrize(("semiring", "dtype"), FEW, ids=_name)
def test_matrices_from_matrices(semiring: sr.Semiring, dtype: np.dtype, places: Any, rng: np.random.Generator):
    op = theirs(semiring, dtype)
    (one, a), (other, b) = (pair(rng, dtype, place) for place in places)
    same_matrix(ewise_add(one, other, semiring), a.ewise_add(b, op.add).new(dtype), semiring, dtype)
    same_matrix(ewise_multiply(one, other, semiring), a.ewise_mult(b, op.multiply).new(dtype), semiring, dtype)
    same_matrix(sparse_product(one, other.T, semiring), a.mxm(b.T, op.both).new(dtype), semiring, dtype)
    zero = semiring.zero(dtype)
    same_numbers(reduce(one, semiring, axis=1), a.reduce_rowwise(op.add).new().to_dense(fill_value=zero), semiring)
    same_numbers(reduce(one, semiring, axis=0), a.reduce_columnwise(op.add).new().to_dense(fill_value=zero), semiring)
    same_numbers(reduce(one, semiring), a.reduce_scalar(op.add).new().value, semiring)


@pytest.mark.parametrize("semiring", [sr.min_plus, sr.plus_times, sr.max_times], ids=_name)
def test_parallel_entries(semiring: sr.Semiring, rng: np.random.Generator):
    dtype, op = np.dtype(np.int32), theirs(semiring, np.dtype(np.int32))
    row, col = rng.integers(0, 5, 60), rng.integers(0, 4, 60)
    value = numbers(rng, 60, dtype)
    a = gb.Matrix.from_coo(row, col, value, nrows=5, ncols=4, dup_op=op.add)
    matrix = SparseMatrix.from_coo(row, col, value, (5, 4))
    same_matrix(coalesce(matrix, semiring), a, semiring, dtype)
    x = numbers(rng, 4, dtype)
    same_numbers(matmul(matrix, x, semiring), a.mxv(gb.Vector.from_dense(x), op.both).new().to_dense(), semiring)


def test_masks(places: Any, rng: np.random.Generator):
    dtype = np.dtype(np.float32)
    (one, a), (other, b) = (pair(rng, dtype, place) for place in places)
    mask, m = pair(rng, dtype)
    for complement in (False, True):
        chosen = gb.Matrix(dtype, ROWS, COLUMNS)
        chosen(~m.S if complement else m.S) << a
        same_matrix(coalesce(restrict(one, mask, complement=complement), sr.plus_times), chosen, sr.plus_times, dtype)
    places = np.nonzero(rng.random((ROWS, ROWS)) < 0.3)
    product = gb.Matrix(dtype, ROWS, ROWS)
    product(gb.Matrix.from_coo(*places, True, nrows=ROWS, ncols=ROWS).S) << a.mxm(b.T, gb.semiring.min_plus)
    wanted = SparseMatrix.from_coo(*places, None, (ROWS, ROWS))
    same_matrix(matmul(one, other.T, sr.min_plus, mask=wanted), product, sr.min_plus, dtype)
    rows = np.flatnonzero(rng.random(ROWS) < 0.5)
    product = gb.Matrix(dtype, ROWS, ROWS)
    product[rows, :] << gb.semiring.min_plus(a[rows, :].new() @ b.T)
    same_matrix(matmul(one, other.T, sr.min_plus, mask=np.isin(np.arange(ROWS), rows)), product, sr.min_plus, dtype)
