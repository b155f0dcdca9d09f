"""Sparse products: uniform, skewed (RMAT), a grid and the graph of the demo; vectors, 16 and 64 features; gradients.

RMAT: Chakrabarti, Zhan, Faloutsos, "R-MAT: A Recursive Model for Graph Mining" (SDM 2004), with the parameters of
Graph500.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.sparse
from jax.experimental import sparse as jax_sparse

import mmsb_jax.semiring as sr
from demo import _board, _flights
from mmsb_jax.propagation import SparseMatrix, matmul

from ._harness import Case, Peer, Program, compiled


class Graph(NamedTuple):
    """Entries without duplicates, row after row, and the dense operands."""

    size: int
    row: np.ndarray
    col: np.ndarray
    value: np.ndarray

    def operand(self, features: int, dtype: Any) -> np.ndarray:
        """A vector, or a matrix of so many columns."""
        shape = (self.size, features) if features else self.size
        x = np.random.default_rng(2).random(shape, dtype=np.float32)
        return x if dtype == np.float32 else (x < 0.01).astype(dtype)

    def values(self, dtype: Any) -> np.ndarray:
        return self.value if dtype == np.float32 else np.ones(len(self.row), dtype)


def _graph(size: int, row: np.ndarray, col: np.ndarray) -> Graph:
    return Graph(size, row, col, np.random.default_rng(1).uniform(0.1, 1, len(row)).astype(np.float32))


@cache
def uniform(quick: bool) -> Graph:
    """Every row has `degree` different columns, drawn evenly."""
    size, degree = (2**8, 4) if quick else (2**18, 16)
    rng = np.random.default_rng(0)
    col = np.sort(rng.integers(0, size, (size, degree)), axis=1)
    while len(again := np.flatnonzero((col[:, 1:] == col[:, :-1]).any(axis=1))):
        col[again] = np.sort(rng.integers(0, size, (len(again), degree)), axis=1)
    return _graph(size, np.repeat(np.arange(size), degree), col.ravel())


@cache
def rmat(quick: bool, scale: int = 18) -> Graph:
    """a, b, c, d = 0.57, 0.19, 0.19, 0.05; edges drawn twice are kept once."""
    scale, factor = (8, 4) if quick else (scale, 16)
    rng = np.random.default_rng(0)
    row = np.zeros(factor << scale, np.int64)
    col = np.zeros_like(row)
    for _ in range(scale):
        quarter = np.searchsorted([0.57, 0.76, 0.95], rng.random(len(row)), side="right")
        row, col = 2 * row + quarter // 2, 2 * col + quarter % 2
    row, col = np.divmod(np.unique(row << scale | col), 1 << scale)
    return _graph(1 << scale, row, col)


@cache
def grid(quick: bool) -> Graph:
    """A square of cells, each joined with its four neighbours."""
    side = 16 if quick else 1024
    cell = np.arange(side * side).reshape(side, side)
    pairs = [(cell[1:], cell[:-1]), (cell[:-1], cell[1:]), (cell[:, 1:], cell[:, :-1]), (cell[:, :-1], cell[:, 1:])]
    row, col = (np.concatenate([pair[k].ravel() for pair in pairs]) for k in (0, 1))
    order = np.lexsort((col, row))
    return _graph(side * side, row[order], col[order])


@cache
def flights(quick: bool) -> Graph:
    """The graph of the demo: each flight's next one, its airport's hour and its carrier's day depend on it."""
    if quick:
        return grid(True)
    year = _flights.load()
    layout = _board.Layout.of(year)
    before, after, _ = year.rotations()
    hour, day = layout.hours[year.origin, year.scheduled // 60], layout.days[year.carrier, year.scheduled // 1440]
    parent = np.concatenate([layout.flights[before], layout.flights, layout.flights])
    child = np.concatenate([layout.flights[after], hour, day])
    size = layout.capacity
    row, col = np.divmod(np.unique(child.astype(np.int64) * size + parent), size)
    return _graph(size, row, col)


GRAPHS: dict[str, Callable[[bool], Graph]] = {
    "uniform": uniform,
    "rmat-18": rmat,
    "rmat-20": lambda quick: rmat(quick, 20),
    "grid 1024²": grid,
    "flights": flights,
}


class Inputs(NamedTuple):
    graph: Graph
    matrix: SparseMatrix
    semiring: sr.Semiring
    operand: np.ndarray


def _inputs(graph: str, semiring: sr.Semiring, features: int, quick: bool) -> Inputs:
    made, dtype = GRAPHS[graph](quick), np.bool_ if semiring is sr.or_and else np.float32
    matrix = SparseMatrix.from_coo(made.row, made.col, made.values(dtype), (made.size, made.size))
    return Inputs(made, matrix, semiring, made.operand(features, dtype))


def _ours(inputs: Inputs) -> Program:
    return compiled(matmul, inputs.matrix, inputs.operand, inputs.semiring)


_AS_IN_GRAPHBLAS = {"or_and": "lor_land"}


def _graphblas(inputs: Inputs) -> Program:
    import graphblas

    graphblas.ss.config["nthreads"] = os.cpu_count()
    graph, dtype = inputs.graph, "BOOL" if inputs.operand.dtype == np.bool_ else "FP32"
    values = graph.values(inputs.operand.dtype)
    matrix = graphblas.Matrix.from_coo(graph.row, graph.col, values, nrows=graph.size, ncols=graph.size, dtype=dtype)
    x = graphblas.Vector.from_dense(inputs.operand)
    operator = getattr(graphblas.semiring, _AS_IN_GRAPHBLAS.get(inputs.semiring.name, inputs.semiring.name))

    def run() -> Any:
        y = matrix.mxv(x, operator).new(dtype=dtype)
        y.wait()  # SuiteSparse may leave work undone until it is asked for
        return y

    return Program(run)


def _csr(graph: Graph) -> scipy.sparse.csr_matrix:
    return scipy.sparse.csr_matrix((graph.value, (graph.row, graph.col)), (graph.size, graph.size))


def _scipy(inputs: Inputs) -> Program:
    csr, operand = _csr(inputs.graph), inputs.operand.astype(np.float32)
    return Program(lambda: csr @ operand)


def _bcoo(inputs: Inputs, *, promised: bool = False) -> Program:
    """As its own constructor makes it from scipy, and with the promise that indices are sorted and unique."""
    matrix = jax_sparse.BCOO.from_scipy_sparse(_csr(inputs.graph))
    if promised:
        matrix = jax_sparse.BCOO(
            (matrix.data, matrix.indices), shape=matrix.shape, indices_sorted=True, unique_indices=True
        )
    return compiled(lambda a, x: a @ x, matrix, inputs.operand.astype(np.float32))


def _segments(inputs: Inputs) -> Program:
    graph, semiring = inputs.graph, inputs.semiring
    by_rows = jax.ops.segment_sum if semiring is sr.plus_times else jax.ops.segment_min

    def product(row: jax.Array, col: jax.Array, value: jax.Array, x: jax.Array) -> jax.Array:
        return by_rows(semiring.multiply(value, x[col]), row, graph.size, indices_are_sorted=True)

    return compiled(product, graph.row.astype(np.int32), graph.col.astype(np.int32), graph.value, inputs.operand)


def _equal(ours: jax.Array, theirs: Any) -> None:
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def _close(ours: jax.Array, theirs: Any) -> None:
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-4)


def _same(semiring: sr.Semiring) -> Callable[[jax.Array, Any], None]:
    def check(ours: jax.Array, theirs: Any) -> None:
        zero = semiring.zero(ours.dtype)
        (_close if semiring is sr.plus_times else _equal)(ours, theirs.to_dense(fill_value=zero))

    return check


def _vector(graph: str, semiring: sr.Semiring) -> Case:
    # BCOO and scipy know plus-times only: beside another semiring they are timed on that, unchecked.
    check = _close if semiring is sr.plus_times else None
    peers = [
        Peer("SuiteSparse:GraphBLAS", _graphblas, _same(semiring), target=1.0, needs="graphblas"),
        Peer("BCOO", _bcoo, check, target=15.0),
        Peer("scipy", _scipy, check),
    ]
    if semiring in (sr.min_plus, sr.plus_times):
        peers.append(Peer("BCOO, promised sorted", partial(_bcoo, promised=True), check))
        peers.append(Peer("segment_sum" if check else "segment_min", _segments, check or _equal))
    return Case(
        name=f"spmv/{graph}/{semiring.name}",
        make=lambda quick: _inputs(graph, semiring, 0, quick),
        ours=_ours,
        peers=tuple(peers),
        items=lambda inputs: inputs.matrix.entries,
        unit="entries",
    )


def _matrix(graph: str, semiring: sr.Semiring, features: int) -> Case:
    check = _close if semiring is sr.plus_times else None
    return Case(
        name=f"spmv/{features} features/{graph}/{semiring.name}",
        make=lambda quick: _inputs(graph, semiring, features, quick),
        ours=_ours,
        peers=(Peer("scipy's plus_times", _scipy, check, target=2.0),),
        items=lambda inputs: inputs.matrix.entries * features,
        unit="entries",
    )


def _gradient(graph: str, semiring: sr.Semiring) -> Case:
    """A product and its derivative in reverse mode, by the values and by x; beside the product alone."""

    def product(values: Any, x: jax.Array, matrix: SparseMatrix) -> jax.Array:
        found: jax.Array = matmul(matrix.with_block_values(values), x, semiring)
        return found

    def both(values: Any, x: jax.Array, matrix: SparseMatrix, cotangent: jax.Array) -> Any:
        y, back = jax.vjp(lambda values, x: product(values, x, matrix), values, x)
        return y, back(cotangent)

    def ours(inputs: Inputs) -> Program:
        weights = np.random.default_rng(3).random(inputs.graph.size, dtype=np.float32)
        return compiled(both, inputs.matrix.block_values, inputs.operand, inputs.matrix.with_transpose(), weights)

    def forward(inputs: Inputs) -> Program:
        return compiled(product, inputs.matrix.block_values, inputs.operand, inputs.matrix)

    return Case(
        name=f"spmv/gradient/{graph}/{semiring.name}",
        make=lambda quick: _inputs(graph, semiring, 0, quick),
        ours=ours,
        peers=(
            Peer(
                "the product alone",
                forward,
                lambda ours, theirs: _equal(ours[0], theirs),
                target=1 / 3 if semiring is sr.min_plus else None,
            ),
        ),
        items=lambda inputs: inputs.matrix.entries,
        unit="entries",
    )


SEMIRINGS = (sr.min_plus, sr.max_plus, sr.plus_times, sr.max_min, sr.or_and)
CASES = (
    *(_vector(graph, semiring) for graph in GRAPHS for semiring in SEMIRINGS),
    *(_matrix(graph, semiring, f) for f in (16, 64) for graph in ("uniform", "rmat-18") for semiring in SEMIRINGS),
    *(_gradient(graph, semiring) for graph in ("uniform", "rmat-18") for semiring in (sr.min_plus, sr.plus_times)),
)
