"""Sparse matrices made from other things, and into them, against dense NumPy; what is refused."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental import sparse
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mmsb_jax import semiring as sr
from mmsb_jax._errors import CapacityError, InvalidArgumentError, InvalidTypeError
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
    to_scipy,
)
from mmsb_jax.propagation._blocks import MAX_BLOCKS

SHAPE = (4, 5)
F32 = np.dtype(np.float32)
OPS = {sr.min_plus: (min, lambda a, b: a + b), sr.plus_times: (lambda a, b: a + b, lambda a, b: a * b)}
Cells = dict[tuple[int, int], float]

entry_lists = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(1, 9)), min_size=0, max_size=8)


def matrix_of(entries: list[tuple[int, int, int]], shape: tuple[int, int] = SHAPE) -> SparseMatrix:
    row, col, value = (np.array([entry[i] for entry in entries], np.int64) for i in range(3))
    return SparseMatrix.from_coo(row, col, value.astype(np.float32), shape)


def cells_of(entries: list[tuple[int, int, int]], semiring: sr.Semiring) -> Cells:
    """What is stored, by place: the model of a sparse matrix."""
    found: Cells = {}
    for i, j, value in entries:
        found[i, j] = OPS[semiring][0](found[i, j], value) if (i, j) in found else value
    return found


def same(found: SparseMatrix, cells: Cells, shape: tuple[int, int] = SHAPE) -> None:
    assert found.shape == shape
    assert found.dtype == F32
    values = np.asarray(found.values).tolist()
    assert dict(zip(zip(found.row.tolist(), found.col.tolist(), strict=True), values, strict=True)) == cells
    assert found.entries == len(cells), "an entry is there twice"


@settings(max_examples=6)
@given(entry_lists, entry_lists, st.sampled_from([sr.min_plus, sr.plus_times]))
def test_against_a_model(first: Any, second: Any, semiring: sr.Semiring):
    add, multiply = OPS[semiring]
    one, other = matrix_of(first), matrix_of(second)
    a, b = cells_of(first, semiring), cells_of(second, semiring)
    same(coalesce(one, semiring), a)
    same(
        ewise_add(one, other, semiring),
        {k: add(a[k], b[k]) if k in a and k in b else a.get(k, b.get(k)) for k in a | b},
    )
    same(ewise_multiply(one, other, semiring), {k: multiply(a[k], b[k]) for k in a.keys() & b.keys()})
    product: Cells = {}
    for (i, k), (j, m) in itertools.product(a, b):
        if k == m:
            term = multiply(a[i, k], b[j, m])
            product[i, j] = add(product[i, j], term) if (i, j) in product else term
    same(sparse_product(one, other.T, semiring), product, (4, 4))
    zero = float(semiring.zero(F32))
    dense = np.full(SHAPE, zero, F32)
    for place, value in a.items():
        dense[place] = value
    np.testing.assert_array_equal(to_dense(one, semiring), dense, strict=True)
    fold = {sr.min_plus: lambda x, axis: x.min(axis, initial=np.inf), sr.plus_times: lambda x, axis: x.sum(axis)}[
        semiring
    ]
    for axis in (0, 1, None):
        np.testing.assert_array_equal(reduce(one, semiring, axis=axis), fold(dense, axis))


@settings(max_examples=12)
@given(entry_lists, entry_lists, st.booleans())
def test_parts_and_ways_back(first: Any, second: Any, complement: bool):
    """What only moves entries keeps them all, and their order."""
    one, mask = matrix_of(first), matrix_of(second)
    row, col, value = (np.array([entry[i] for entry in first], int) for i in range(3))
    kept = [entry for entry in first if (entry[:2] in {e[:2] for e in second}) != complement]
    part = restrict(one, mask, complement=complement)
    assert list(zip(part.row.tolist(), part.col.tolist(), np.asarray(part.values).tolist(), strict=True)) == kept
    by_mask = restrict(one, (value > 4).tolist() if len(value) else np.zeros(0, bool), complement=complement)
    np.testing.assert_array_equal(by_mask.values, value[(value > 4) != complement])
    coo = to_scipy(one)
    for made in (SparseMatrix.from_scipy(coo), one.T.T, one.with_values(value.astype(F32)), one.with_transpose()):
        for found, expected in ((made.row, row), (made.col, col), (made.values, value)):
            np.testing.assert_array_equal(found, expected)
        assert made.shape == SHAPE
    order = np.argsort(row, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=SHAPE[0]))])
    csr = SparseMatrix.from_csr(starts, col[order], value[order].astype(F32), SHAPE)
    np.testing.assert_array_equal(csr.row, row[order])
    np.testing.assert_array_equal(csr.values, value[order])
    np.testing.assert_array_equal(coo.toarray(), to_dense(one, sr.plus_times))


def test_from_bcoo_leaves_padding_out():
    dense = jnp.asarray(np.float32([[0, 2, 0], [3, 0, 4]]))
    padded = sparse.BCOO.fromdense(dense, nse=5)
    matrix = SparseMatrix.from_bcoo(padded)
    assert matrix.entries == 3
    np.testing.assert_array_equal(to_dense(matrix, sr.plus_times), dense)
    with pytest.raises(InvalidTypeError, match="both of its dimensions must be sparse"):
        SparseMatrix.from_bcoo(sparse.BCOO.fromdense(dense, n_dense=1))
    with pytest.raises(InvalidTypeError, match="takes a BCOO matrix"):
        SparseMatrix.from_bcoo(dense)


@pytest.mark.parametrize("kind", [nx.DiGraph, nx.Graph, nx.MultiDiGraph, nx.MultiGraph], ids=lambda k: k.__name__)
def test_from_networkx(kind: Any, rng: np.random.Generator):
    graph = kind()
    graph.add_nodes_from("abcdef")
    for a, b in rng.choice(list("abcde"), (12, 2)):
        graph.add_edge(str(a), str(b), weight=float(rng.integers(1, 9)))
    found = to_dense(SparseMatrix.from_networkx(graph), sr.plus_times)
    np.testing.assert_array_equal(np.asarray(found).T, nx.to_numpy_array(graph, dtype=np.float32))
    assert SparseMatrix.from_networkx(graph, weight=None).dtype is None
    empty = SparseMatrix.from_networkx(kind())
    assert (empty.shape, empty.dtype) == ((0, 0), F32)


@pytest.mark.parametrize(
    ("weight", "dtype", "error", "text"),
    [
        ("far", np.float32, InvalidTypeError, "the weights can't all be made .*float32.*'far'"),
        (1.5, np.int32, InvalidArgumentError, r"the weights aren't all int32, such as 1\.5"),
        (1.5, "none such", InvalidTypeError, "data type 'none such' not understood"),
        (np.nan, np.float32, InvalidArgumentError, r"value\[0\], at row 1, column 0, is NaN"),
    ],
)
def test_refusals_of_from_networkx(weight: Any, dtype: Any, error: type, text: str):
    with pytest.raises(error, match=text):
        SparseMatrix.from_networkx(nx.DiGraph([("a", "b", {"weight": weight})]), dtype=dtype)


pairs = sr.Semiring(  # (length, how many of them)
    "pairs",
    lambda a, b: (
        jnp.minimum(a[0], b[0]),
        jnp.where(a[0] <= b[0], a[1], 0) + jnp.where(b[0] <= a[0], b[1], 0),
    ),
    (np.float32(np.inf), np.int32(0)),
    lambda a, b: (a[0] + b[0], a[1] * b[1]),
    (np.float32(0), np.int32(1)),
)


def test_values_that_are_trees():
    values = (np.float32([5, 5, 3, 1]), np.int32([1, 2, 1, 1]))
    one = SparseMatrix.from_coo([0, 0, 1, 0], [1, 1, 0, 0], values, (2, 2))
    assert "values are trees" in repr(one)

    def listed(tree: Any) -> list[list[float]]:
        return [np.asarray(leaf).tolist() for leaf in tree]

    assert listed(coalesce(one, pairs).values) == [[1, 5, 3], [1, 3, 1]]
    assert listed(ewise_add(one, one, pairs).values) == [[1, 5, 3], [2, 6, 2]]
    assert listed(ewise_multiply(one, one, pairs).values) == [[2, 10, 6], [1, 9, 1]]
    assert listed(sparse_product(one, one, pairs).values) == [[2, 6, 4, 8], [1, 3, 1, 3]]
    assert listed(reduce(one, pairs, axis=1)) == [[1, 3], [1, 1]]
    assert listed(reduce(one, pairs, axis=0)) == [[1, 5], [1, 3]]
    assert listed(reduce(one, pairs)) == [1, 1]
    assert listed(to_dense(one, pairs)) == [[[1, 5], [3, np.inf]], [[1, 3], [1, 0]]]
    assert listed(one.T.values) == listed(one.values) == [list(map(float, values[0])), values[1].tolist()]
    assert listed(restrict(one, [True, False, True, False]).values) == [[5, 3], [1, 1]]


def test_patterns():
    one = SparseMatrix.from_coo([0, 0, 1], [1, 1, 0], None, (2, 2))
    for made, places in [
        (coalesce(one, sr.min_plus), [(0, 1), (1, 0)]),
        (ewise_add(one, one.T, sr.min_plus), [(0, 1), (1, 0)]),
        (ewise_multiply(one, one, sr.min_plus), [(0, 1), (1, 0)]),
        (sparse_product(one, one, sr.or_and), [(0, 0), (1, 1)]),
        (one.T, [(1, 0), (1, 0), (0, 1)]),
    ]:
        assert made.values is None
        assert list(zip(made.row.tolist(), made.col.tolist(), strict=True)) == places
    assert to_scipy(one).dtype == np.bool_
    assert one.with_values(np.float32([1, 2, 3])).with_values(None).values is None
    for call in (lambda: coalesce(one, sr.plus_times), lambda: sparse_product(one, one, sr.plus_times)):
        with pytest.raises(InvalidArgumentError, match="whose ⊕ isn't idempotent; give"):
            call()
    for call in (lambda: reduce(one, sr.min_plus), lambda: to_dense(one, sr.min_plus)):
        with pytest.raises(InvalidArgumentError, match="a pattern has no values"):
            call()


def test_without_entries_a_matrix_keeps_its_dtype():
    none = SparseMatrix.from_coo([], [], np.zeros(0, np.int32), (2, 3))
    assert repr(none) == "SparseMatrix(shape=(2, 3), entries=0, dtype=int32)"
    assert none.T.dtype == none.with_transpose().dtype == np.int32
    some = SparseMatrix.from_coo([1], [2], np.int32([7]), (2, 3))
    for made in (ewise_add(none, some, sr.plus_times), ewise_add(some, none, sr.plus_times)):
        assert made.values.tolist() == [7]
    for made in (ewise_multiply(some, none, sr.plus_times), sparse_product(none, some.T, sr.plus_times)):
        assert (made.entries, made.dtype) == (0, np.int32)
    assert reduce(none, sr.max_times, axis=1).tolist() == [0, 0]
    assert reduce(none, sr.plus_times).dtype == np.int32
    assert to_dense(none, sr.min_plus).tolist() == [[2**31 - 1] * 3] * 2
    with pytest.raises(InvalidTypeError, match="the matrix holds int32 and x float32"):
        matmul(none, np.zeros(3, np.float32), sr.plus_times)
    slope = jax.grad(lambda x: jnp.sum(matmul(none.with_values(np.zeros(0, np.float32)), x, sr.min_plus)))
    assert slope(np.ones(3, np.float32)).tolist() == [0, 0, 0]


A = SparseMatrix.from_coo([0], [1], np.float32([1]), (2, 2))
INTS, PATTERN = A.with_values(np.int32([1])), A.with_values(None)
TREES = A.with_values((np.float32([1]), np.int32([1])))
FROM_COO = SparseMatrix.from_coo
REFUSED = {
    "complex": (lambda: FROM_COO([0], [0], [1j], (1, 1)), InvalidTypeError, "complex128; a semiring has real numbers"),
    "words": (lambda: FROM_COO([0], [0], ["a"], (1, 1)), InvalidTypeError, "a semiring has real numbers"),
    "objects": (lambda: FROM_COO([0], [0], [None], (1, 1)), InvalidTypeError, "value holds object"),
    "ragged": (lambda: FROM_COO([[0], [1, 2]], [0], [1.0], (1, 1)), InvalidTypeError, "row must be an array"),
    "half a row": (lambda: FROM_COO([0], [0], [1.0], (1.5, 1)), InvalidTypeError, "a pair of whole numbers"),
    "text": (lambda: FROM_COO([0], [0], [1.0], "12"), InvalidTypeError, "a pair of whole numbers"),
    "long csr": (lambda: SparseMatrix.from_csr([0, 2], [0], [1.0], (1, 1)), InvalidArgumentError, "from 0 to 1; got 2"),
    "falling csr": (lambda: SparseMatrix.from_csr([0, 2, 1], [0], None, (2, 1)), InvalidArgumentError, "ascending"),
    "few values": (lambda: A.with_values(np.float32([])), InvalidArgumentError, r"the matrix has \[1\] entries"),
    "no values": (lambda: A.with_values(["a"]), InvalidTypeError, "a semiring has real numbers"),
    "other shape": (lambda: ewise_add(A, FROM_COO([], [], [], (3, 2)), sr.min_plus), InvalidArgumentError, "same"),
    "other dtype": (lambda: ewise_multiply(A, INTS, sr.min_plus), InvalidTypeError, "hold float32 and int32"),
    "a pattern": (lambda: ewise_add(A, PATTERN, sr.min_plus), InvalidTypeError, r"float32 and no values \(a pattern\)"),
    "trees": (lambda: coalesce(TREES, sr.min_plus), InvalidTypeError, "are arrays of numbers; got"),
    "numbers": (lambda: coalesce(A, pairs), InvalidTypeError, "the values of pairs are trees"),
    "wrong kind": (lambda: reduce(A, sr.or_and), InvalidTypeError, "or_and is not defined on float32"),
    "no matrix": (lambda: coalesce(np.eye(2), sr.min_plus), InvalidTypeError, "got a ndarray where a SparseMatrix"),
    "no semiring": (lambda: coalesce(A, "min_plus"), InvalidTypeError, "got a str where a Semiring"),
    "axis": (lambda: reduce(A, sr.min_plus, axis=2), InvalidArgumentError, "got axis=2"),
    "no fit": (lambda: matmul(A, FROM_COO([], [], [], (3, 2)), sr.min_plus), InvalidArgumentError, "don't fit"),
    "winners": (
        lambda: matmul(A, A, sr.arg_min_plus),
        InvalidArgumentError,
        "two sparse matrices are multiplied",
    ),
    "capacity": (lambda: sparse_product(A, A.T, sr.min_plus, capacity=0), CapacityError, "forms 1 products"),
    "no capacity": (lambda: sparse_product(A, A, sr.min_plus, capacity="x"), InvalidTypeError, "got capacity='x'"),
    "mask": (
        lambda: restrict(A, [1]),
        InvalidArgumentError,
        r"the mask is int64\[1\]; it must be a matrix, or bool\[1\]",
    ),
    "mask of rows": (lambda: matmul(A, A, sr.min_plus, mask=[True]), InvalidArgumentError, r"bool\[2\], one for each"),
    "mask's shape": (
        lambda: matmul(A, A, sr.min_plus, mask=FROM_COO([], [], None, (1, 1))),
        InvalidArgumentError,
        "mask",
    ),
    "traced mask": (lambda: jax.jit(lambda m: restrict(A, m).values)(np.array([True])), InvalidTypeError, "is traced"),
    "traced": (lambda: jax.jit(lambda m: m.T)(A), InvalidTypeError, "this matrix is traced"),
    "trees in scipy": (lambda: to_scipy(TREES), InvalidTypeError, "SciPy can't hold"),
    "x": (lambda: matmul(A, "ab", sr.min_plus), InvalidTypeError, "x must be an array of numbers; got 'ab'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals(what: str):
    call, error, text = REFUSED[what]
    with pytest.raises(error, match=text):
        call()


@pytest.mark.skipif(jax.config.jax_enable_x64, reason="with x64 these numbers can be held")
def test_numbers_that_the_dtype_cannot_hold():
    for call in (lambda v: FROM_COO([0], [1], v, (2, 2)), A.with_values):
        with pytest.raises(InvalidArgumentError, match=r"value holds 1e\+300, which float32 can't"):
            call([1e300])
        with pytest.raises(InvalidArgumentError, match="value holds 1099511627776, which int32 can't"):
            call(np.array([2**40]))
        assert call([np.inf]).values.tolist() == [np.inf]


@pytest.mark.parametrize("semiring", [sr.min_plus, sr.plus_times], ids=lambda s: s.name)
def test_same_bits_on_1_2_and_8_devices(semiring: sr.Semiring, rng: np.random.Generator):
    """Whether the features are divided among the devices, or all of them have everything."""
    row, col = rng.integers(0, 40, 400), rng.integers(0, 30, 400)
    matrix = SparseMatrix.from_coo(row, col, rng.standard_normal(400).astype(np.float32), (40, 30))
    x = rng.standard_normal((30, 16)).astype(np.float32)
    expected = np.asarray(matmul(matrix, x, semiring))
    for count in (1, 2, 8):
        mesh = Mesh(np.array(jax.devices()[:count]), ("features",))
        for spec in (PartitionSpec(None, "features"), PartitionSpec()):
            everywhere = jax.device_put(matrix, NamedSharding(mesh, PartitionSpec()))
            y = matmul(everywhere, jax.device_put(x, NamedSharding(mesh, spec)), semiring)
            assert len(y.sharding.device_set) == count
            np.testing.assert_array_equal(np.asarray(y).view(np.uint32), expected.view(np.uint32))


def rmat(scale: int, rng: np.random.Generator) -> np.ndarray:
    """Row of each edge of a recursive matrix (Chakrabarti, Zhan and Faloutsos, SDM 2004), 16 edges to a row."""
    edges, row = 16 << scale, 0
    for _ in range(scale):  # of the four quarters, 0.57 and 0.19 are above
        row = 2 * row + (rng.random(edges) >= 0.57 + 0.19)
    return row


def test_padding_and_blocks_are_bounded_on_skewed_graphs(rng: np.random.Generator):
    rows = 1 << 14
    matrix = SparseMatrix.from_coo(rmat(14, rng), rmat(14, rng), None, (rows, rows))
    for each in (matrix, matrix.T):
        assert sum(block.columns.size for block in each.first) == each.padding * each.entries
        assert each.padding <= 1.3
        assert all(len(blocks) <= MAX_BLOCKS for blocks in each.levels)
        assert len(each.levels) <= 3
