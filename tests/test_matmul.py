"""`matmul`: its bits, its layout, what it refuses. Against oracles: `test_matmul_oracle`, `test_graphblas`."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from mmsb_jax import semiring as sr
from mmsb_jax._errors import InvalidArgumentError, InvalidTypeError
from mmsb_jax.propagation import SparseMatrix, closure, matmul
from mmsb_jax.propagation._blocks import MAX_BLOCKS, PIECE, choose_widths, plan
from tests.operators import OPERATORS, named, oracle, with_counts


@pytest.fixture
def rough(rng: np.random.Generator) -> tuple[SparseMatrix, np.ndarray]:
    """A matrix and columns of floats whose sums round, so that another order or a fused multiply-add shows."""
    entries = with_counts([0, 1, 300, 5, 0, 33] * 20, 50)
    values = rng.standard_normal(len(entries.row)).astype(np.float32)
    matrix = SparseMatrix.from_coo(entries.row, entries.col, values, entries.shape)
    return matrix, rng.standard_normal((50, 5)).astype(np.float32)


def same_bits(a: jax.Array | np.ndarray, b: jax.Array | np.ndarray) -> None:
    a, b = np.asarray(a), np.asarray(b)
    np.testing.assert_array_equal(a.view(np.uint8), b.view(np.uint8), strict=True)


@pytest.mark.parametrize("semiring", [sr.min_plus, sr.plus_times], ids=named)
def test_same_bits_in_every_way_of_calling(rough: tuple[SparseMatrix, np.ndarray], semiring: sr.Semiring):
    matrix, columns = rough
    together = matmul(matrix, columns, semiring)
    by_column = [matmul(matrix, column, semiring) for column in columns.T]
    same_bits(together, jnp.stack(by_column, axis=1))
    same_bits(together, matmul(matrix, columns, semiring))
    same_bits(together, jax.jit(matmul)(matrix, columns, semiring))
    same_bits(together, jax.jit(lambda x: matmul(matrix, x, semiring))(columns))
    same_bits(together, jax.jit(lambda m: matmul(m, columns, semiring))(matrix))
    same_bits(together, jax.vmap(lambda x: matmul(matrix, x, semiring), in_axes=1, out_axes=1)(columns))
    _, scanned = jax.lax.scan(lambda _, x: (None, matmul(matrix, x, semiring)), None, jnp.asarray(columns.T))
    same_bits(together, scanned.T)


def by_halving(terms: np.ndarray) -> np.float32:
    while len(terms) > 1:
        half = 2 ** int(np.ceil(np.log2(len(terms))) - 1)
        low, high = terms[:half].copy(), terms[half:]
        low[: len(high)] += high
        terms = low
    return terms[0]


def test_floats_are_rounded_and_summed_in_the_documented_order():
    """Products are rounded, then summed by halving, in pieces, in NumPy as on the device."""
    rng = np.random.default_rng(5)
    counts, x = [300, 7, 33, 1100, 11, 6], rng.standard_normal(50).astype(np.float32)
    row = np.repeat(np.arange(6), counts)
    col, value = rng.integers(0, 50, len(row)), rng.standard_normal(len(row)).astype(np.float32)
    expected = []
    for i in range(6):
        terms = value[row == i] * x[col[row == i]]
        while len(terms) > 1:
            pieces = [terms[k : k + PIECE] for k in range(0, len(terms), PIECE)]
            terms = np.array([by_halving(piece) for piece in pieces])
        expected.append(terms[0])
        # Alone, a row is a block of its own width; among others it is padded. That must not show.
        alone = SparseMatrix.from_coo(row[row == i] - i, col[row == i], value[row == i], (1, 50))
        same_bits(matmul(alone, x, sr.plus_times), np.array(expected[-1:], np.float32))
    y = matmul(SparseMatrix.from_coo(row, col, value, (6, 50)), x, sr.plus_times)
    same_bits(y, np.array(expected, np.float32))


@pytest.mark.parametrize(
    ("semiring", "bad"), [(sr.min_plus, np.inf), (sr.max_plus, -np.inf), (sr.plus_times, np.inf)], ids=str
)
def test_padding_is_never_computed_into_a_result(semiring: sr.Semiring, bad: float):
    """Padded slots point at x[0] with weight 0: were they counted, 0 × ∞ or a stray minimum would show."""
    counts = np.arange(1, 30)
    row = np.repeat(np.arange(29), counts)
    matrix = SparseMatrix.from_coo(row, np.ones_like(row), np.ones(len(row), np.float32), (29, 3))
    assert matrix.padding > 1
    for first in (bad, -100, np.nan):
        x = np.array([first, 1, 5], np.float32)
        expected = counts.astype(np.float32) if semiring is sr.plus_times else np.full(29, 2, np.float32)
        np.testing.assert_array_equal(matmul(matrix, x, semiring), expected)
        np.testing.assert_array_equal(matmul(matrix, np.stack([x, x], 1), semiring)[:, 1], expected)


def test_infinities_and_signed_noughts_pass_through():
    matrix = SparseMatrix.from_coo([0, 1, 1, 2], [0, 0, 1, 2], np.float32([0, np.inf, 1, -0.0]), (3, 3))
    x = np.float32([np.inf, 2, -0.0])
    same_bits(matmul(matrix, x, sr.min_plus), np.float32([np.inf, 3, -0.0]))
    same_bits(matmul(matrix, np.float32([1, 2, 1]), sr.plus_times), np.float32([0, np.inf, -0.0]))


def test_pattern_folds_what_it_finds():
    entries = OPERATORS["one huge row"]
    x = np.random.default_rng(0).integers(0, 100, 40).astype(np.int32)
    matrix = SparseMatrix.from_coo(entries.row, entries.col, None, entries.shape)
    ones = np.zeros(len(entries.row), np.int32)
    np.testing.assert_array_equal(matmul(matrix, x, sr.min_plus), oracle(entries, ones, x, "min_plus"))
    assert matrix.dtype is None
    assert matmul(matrix, x.astype(np.float32), sr.plus_times).dtype == np.float32


def test_users_own_semiring():
    best = sr.Semiring("max_times_01", add=jnp.maximum, zero=0.0, multiply=jnp.multiply, one=1.0, carrier=(0.0, 1.0))
    matrix = SparseMatrix.from_coo([0, 0, 2], [0, 1, 1], np.float32([0.5, 0.25, 1]), (3, 2))
    np.testing.assert_array_equal(matmul(matrix, np.float32([0.5, 0.75]), best), np.float32([0.25, 0, 0.75]))


def test_second_call_compiles_nothing():
    entries = OPERATORS["square"]
    values = np.ones(len(entries.row), np.float32)
    product = jax.jit(chex.assert_max_traces(matmul, n=1))
    for seed in range(3):
        other = with_counts([0, 1, 2, 3, 4, 5, 0, 7], 8, seed=seed)
        matrix = SparseMatrix.from_coo(other.row, other.col, values * seed, other.shape)
        product(matrix, np.full(8, seed, np.float32), sr.min_plus)


def test_no_scatter_and_few_blocks(rough: tuple[SparseMatrix, np.ndarray]):
    matrix, columns = rough
    lowered = jax.jit(matmul).lower(matrix, columns, sr.plus_times)
    assert " scatter(" not in lowered.compile().as_text()
    assert "stablehlo.scatter" not in lowered.as_text()
    assert "stablehlo.gather" in lowered.as_text()
    assert all(len(blocks) <= MAX_BLOCKS for blocks in matrix.levels)


def test_widths_are_the_best_of_all():
    rng = np.random.default_rng(3)
    for lengths in (rng.integers(1, 7, 20000), rng.geometric(0.3, 50000).clip(1, 8), np.full(9, 5)):
        widths = choose_widths(lengths)

        def cost(chosen: tuple[int, ...], lengths: np.ndarray = lengths) -> int:
            width = np.array(sorted(chosen))
            return int(width[np.searchsorted(width, lengths)].sum()) + 4096 * len(chosen)

        present = np.unique(lengths)
        options = [
            (*some, present[-1]) for size in range(len(present)) for some in itertools.combinations(present[:-1], size)
        ]
        assert cost(tuple(widths)) == min(map(cost, options))


def test_padding_is_bounded_on_skewed_degrees():
    degrees = np.minimum(np.random.default_rng(0).zipf(1.6, 100000), 20000)
    layout = plan(degrees)
    assert sum(block.entry.size for block in layout.levels[0]) <= 1.3 * degrees.sum()
    assert len(layout.levels) <= 3
    assert all(len(blocks) <= MAX_BLOCKS for blocks in layout.levels)


def test_from_scipy_keeps_stored_zeros_and_duplicates():
    coo = scipy.sparse.coo_array((np.float32([2, 3, 0]), ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    matrix = SparseMatrix.from_scipy(coo)
    assert (matrix.entries, matrix.shape, matrix.dtype) == (3, (2, 2), np.float32)
    x = np.float32([5, 1])
    np.testing.assert_array_equal(matmul(matrix, x, sr.plus_times), np.float32([5, 0]))
    np.testing.assert_array_equal(matmul(matrix, x, sr.min_plus), np.float32([3, 5]))
    for made in (coo.tocsr(), coo.tocsc(), scipy.sparse.csr_matrix(coo)):
        np.testing.assert_array_equal(matmul(SparseMatrix.from_scipy(made), x, sr.plus_times), np.float32([5, 0]))


def test_agrees_with_scipy(rng: np.random.Generator):
    csr = scipy.sparse.random_array((60, 40), density=0.2, format="csr", dtype=np.float32, rng=rng)
    x = rng.standard_normal((40, 3)).astype(np.float32)
    np.testing.assert_allclose(matmul(SparseMatrix.from_scipy(csr), x, sr.plus_times), csr @ x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("row", "col", "value", "shape", "error", "text"),
    [
        ([0, 1], [0], [1.0, 2.0], (2, 2), InvalidArgumentError, "row has 2 entries and col 1"),
        ([0], [0], [1.0, 2.0], (2, 2), InvalidArgumentError, "value has 2 entries and row 1"),
        ([0, 2], [0, 0], [1.0, 2.0], (2, 2), InvalidArgumentError, r"row\[1\] is 2, outside 0 … 1"),
        ([0, 1], [-1, 0], [1.0, 2.0], (2, 2), InvalidArgumentError, r"col\[0\] is -1, outside 0 … 1"),
        ([0], [0], [1.0], (0, 0), InvalidArgumentError, "outside 0 … -1"),
        ([0], [0], [np.nan], (1, 1), InvalidArgumentError, r"value\[0\], at row 0, column 0, is NaN"),
        ([0.0], [0], [1.0], (1, 1), InvalidTypeError, "row must hold integers; got float64"),
        ([[0]], [[0]], [[1.0]], (1, 1), InvalidArgumentError, "row must have one dimension"),
        ([0], [0], [[1.0]], (1, 1), InvalidArgumentError, "value must have one dimension"),
        ([0], [0], [1.0], (-1, 1), InvalidArgumentError, "must lie in 0 …"),
        ([0], [0], [1.0], (2**31, 1), InvalidArgumentError, "must lie in 0 …"),
        ([0], [0], [1.0], (1, 1, 1), InvalidTypeError, "shape must be a pair"),
        ([0], [0], [1.0], 3, InvalidTypeError, "shape must be a pair"),
    ],
)
def test_refusals_of_from_coo(row, col, value, shape, error, text):
    with pytest.raises(error, match=text):
        SparseMatrix.from_coo(row, col, value, shape)


def test_integers_are_never_cut_short():
    large = np.array([2**40])
    if jax.config.jax_enable_x64:
        assert SparseMatrix.from_coo([0], [0], large, (1, 1)).dtype == np.int64
    else:
        with pytest.raises(InvalidArgumentError, match="1099511627776, which int32 can't"):
            SparseMatrix.from_coo([0], [0], large, (1, 1))


def test_refusal_of_traced_structure():
    with pytest.raises(InvalidTypeError, match="value is traced"):
        jax.jit(lambda v: SparseMatrix.from_coo([0], [0], v, (1, 1)))(np.float32([1]))


def test_refusals_of_from_scipy():
    with pytest.raises(InvalidTypeError, match=r"two-dimensional scipy\.sparse matrix or array; got ndarray"):
        SparseMatrix.from_scipy(np.eye(3))


def test_refusals_of_matmul():
    matrix = SparseMatrix.from_coo([0], [1], np.float32([1]), (2, 3))
    x = np.ones(3, np.float32)
    with pytest.raises(InvalidArgumentError, match=r"x has shape \(2,\); a matrix of shape \(2, 3\) takes \[3\]"):
        matmul(matrix, x[:2], sr.min_plus)
    with pytest.raises(InvalidArgumentError, match=r"x has shape \(3, 1, 1\)"):
        matmul(matrix, x.reshape(3, 1, 1), sr.min_plus)
    with pytest.raises(InvalidTypeError, match="the matrix holds float32 and x int32"):
        matmul(matrix, x.astype(np.int32), sr.min_plus)
    with pytest.raises(InvalidTypeError, match="or_and is not defined on float32"):
        matmul(matrix, x, sr.or_and)
    with pytest.raises(InvalidTypeError, match="needed: a SparseMatrix, an array and a Semiring; got ndarray"):
        matmul(np.eye(3), x, sr.min_plus)
    with pytest.raises(InvalidTypeError, match="ndarray and str"):
        matmul(matrix, x, "min_plus")
    with pytest.raises(InvalidTypeError, match="got SparseMatrix, SparseMatrix and Semiring"):
        closure(matrix, matrix, sr.min_plus)
    with pytest.raises(InvalidTypeError, match=r"holds int32 and x float32.*with_values"):
        matmul(SparseMatrix.from_coo([0], [1], [1], (2, 3)), x, sr.min_plus)


def test_repr_tells_shape_and_dtype():
    assert repr(SparseMatrix.from_coo([], [], None, (3, 4))) == "SparseMatrix(shape=(3, 4), entries=0, pattern)"
