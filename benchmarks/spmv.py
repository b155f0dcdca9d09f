"""Sparse products: a uniform and a skewed (RMAT) graph, vectors and 16 features, min-plus and plus-times.

RMAT: Chakrabarti, Zhan, Faloutsos, "R-MAT: A Recursive Model for Graph Mining" (SDM 2004), with the parameters of
Graph500.
"""

from __future__ import annotations

import os
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.sparse
from jax.experimental import sparse as jax_sparse

import mmsb_jax.semiring as sr
from mmsb_jax.propagation import SparseMatrix, matmul

from ._harness import Case, Peer, Program, compiled

FEATURES = 16


class Graph(NamedTuple):
    """Entries without duplicates, row after row, and the dense operands."""

    size: int
    row: np.ndarray
    col: np.ndarray
    value: np.ndarray
    x: np.ndarray
    columns: np.ndarray


def _graph(size: int, row: np.ndarray, col: np.ndarray) -> Graph:
    rng = np.random.default_rng(1)
    value = rng.uniform(0.1, 1, len(row)).astype(np.float32)
    x, columns = rng.random(size, dtype=np.float32), rng.random((size, FEATURES), dtype=np.float32)
    return Graph(size, row, col, value, x, columns)


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
def rmat(quick: bool) -> Graph:
    """a, b, c, d = 0.57, 0.19, 0.19, 0.05; edges drawn twice are kept once."""
    scale, factor = (8, 4) if quick else (18, 16)
    rng = np.random.default_rng(0)
    row = np.zeros(factor << scale, np.int64)
    col = np.zeros_like(row)
    for _ in range(scale):
        quarter = np.searchsorted([0.57, 0.76, 0.95], rng.random(len(row)), side="right")
        row, col = 2 * row + quarter // 2, 2 * col + quarter % 2
    row, col = np.divmod(np.unique(row << scale | col), 1 << scale)
    return _graph(1 << scale, row, col)


@cache
def _matrix(graph: str, quick: bool) -> SparseMatrix:
    made = GRAPHS[graph](quick)
    return SparseMatrix.from_coo(made.row, made.col, made.value, (made.size, made.size))


class Inputs(NamedTuple):
    graph: Graph
    matrix: SparseMatrix
    semiring: sr.Semiring
    operand: np.ndarray


def _inputs(graph: str, semiring: sr.Semiring, features: bool, quick: bool) -> Inputs:
    made = GRAPHS[graph](quick)
    return Inputs(made, _matrix(graph, quick), semiring, made.columns if features else made.x)


def _ours(inputs: Inputs) -> Program:
    return compiled(matmul, inputs.matrix, inputs.operand, inputs.semiring)


def _graphblas(inputs: Inputs) -> Program:
    import graphblas

    graphblas.ss.config["nthreads"] = os.cpu_count()
    graph = inputs.graph
    matrix = graphblas.Matrix.from_coo(
        graph.row, graph.col, graph.value, nrows=graph.size, ncols=graph.size, dtype="FP32"
    )
    x = graphblas.Vector.from_dense(inputs.operand)
    operator = getattr(graphblas.semiring, inputs.semiring.name)

    def run() -> Any:
        y = matrix.mxv(x, operator).new(dtype="FP32")
        y.wait()  # SuiteSparse may leave work undone until it is asked for
        return y

    return Program(run)


def _csr(graph: Graph) -> scipy.sparse.csr_matrix:
    return scipy.sparse.csr_matrix((graph.value, (graph.row, graph.col)), (graph.size, graph.size))


def _scipy(inputs: Inputs) -> Program:
    csr = _csr(inputs.graph)
    return Program(lambda: csr @ inputs.operand)


def _bcoo(inputs: Inputs, *, promised: bool = False) -> Program:
    """As its own constructor makes it from scipy, and with the promise that indices are sorted and unique."""
    matrix = jax_sparse.BCOO.from_scipy_sparse(_csr(inputs.graph))
    if promised:
        matrix = jax_sparse.BCOO(
            (matrix.data, matrix.indices), shape=matrix.shape, indices_sorted=True, unique_indices=True
        )
    return compiled(lambda a, x: a @ x, matrix, inputs.operand)


def _segments(inputs: Inputs) -> Program:
    graph, plus_times = inputs.graph, inputs.semiring is sr.plus_times

    def product(row: jax.Array, col: jax.Array, value: jax.Array, x: jax.Array) -> jax.Array:
        if plus_times:
            return jax.ops.segment_sum(value * x[col], row, graph.size, indices_are_sorted=True)
        return jax.ops.segment_min(value + x[col], row, graph.size, indices_are_sorted=True)

    return compiled(product, graph.row.astype(np.int32), graph.col.astype(np.int32), graph.value, inputs.operand)


def _equal(ours: jax.Array, theirs: Any) -> None:
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def _close(ours: jax.Array, theirs: Any) -> None:
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-4)


def _same_min(ours: jax.Array, theirs: Any) -> None:
    _equal(ours, theirs.to_dense(fill_value=np.float32(np.inf)))


def _same_sum(ours: jax.Array, theirs: Any) -> None:
    _close(ours, theirs.to_dense(fill_value=np.float32(0)))


GRAPHS = {"uniform": uniform, "rmat": rmat}

# BCOO and scipy know plus-times only: beside another semiring they are timed on that, unchecked.
_VECTOR_PEERS = {
    "min_plus": (
        Peer("SuiteSparse:GraphBLAS", _graphblas, _same_min, target=0.9, needs="graphblas"),
        Peer("BCOO", _bcoo, None, target=8.0),
        Peer("BCOO, promised sorted", partial(_bcoo, promised=True), None),
        Peer("segment_min", _segments, _equal),
        Peer("scipy", _scipy, None),
    ),
    "plus_times": (
        Peer("SuiteSparse:GraphBLAS", _graphblas, _same_sum, target=0.9, needs="graphblas"),
        Peer("BCOO", _bcoo, _close, target=8.0),
        Peer("BCOO, promised sorted", partial(_bcoo, promised=True), _close),
        Peer("segment_sum", _segments, _close),
        Peer("scipy", _scipy, _close),
    ),
}


def _case(graph: str, semiring: sr.Semiring, features: bool) -> Case:
    peers = _VECTOR_PEERS[semiring.name]
    if features:
        peers = (Peer("scipy", _scipy, _close if semiring is sr.plus_times else None, target=1.5),)
    return Case(
        name=f"spmv/{graph}/{semiring.name}{f'/{FEATURES} features' if features else ''}",
        make=lambda quick: _inputs(graph, semiring, features, quick),
        ours=_ours,
        peers=peers,
        items=lambda inputs: inputs.matrix.entries * (FEATURES if features else 1),
        unit="entries",
    )


CASES = tuple(
    _case(graph, semiring, features)
    for features in (False, True)
    for graph in GRAPHS
    for semiring in (sr.min_plus, sr.plus_times)
)
