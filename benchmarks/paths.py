"""Paths from one source: an RMAT graph, a weighted grid, and levels, against scipy's Dijkstra and GraphBLAS.

Ours is called as a user calls it, the matrix laid out before; the compile time is that of the solver alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.sparse
from scipy.sparse import csgraph

import mmsb_jax.semiring as sr
from mmsb_jax.propagation import SparseMatrix, breadth_first_levels, closure, shortest_paths

from ._harness import Case, Peer, Program
from .spmv import rmat


class Network(NamedTuple):
    """Entry k leads from `parent[k]` to `child[k]`. The source has entries."""

    size: int
    parent: np.ndarray
    child: np.ndarray
    weight: np.ndarray
    source: int
    matrix: SparseMatrix


def _network(size: int, parent: np.ndarray, child: np.ndarray, weight: np.ndarray) -> Network:
    matrix = SparseMatrix.from_coo(child, parent, weight, (size, size))
    return Network(size, parent, child, weight, int(parent[0]), matrix)


@cache
def skewed(quick: bool) -> Network:
    graph = rmat(quick)
    return _network(graph.size, graph.col, graph.row, graph.value)


@cache
def grid(quick: bool) -> Network:
    """Four neighbours, each way with a weight of its own, from 0.1 to 1."""
    side = 16 if quick else 512
    ids = np.arange(side * side).reshape(side, side)
    a = np.concatenate([ids[:, :-1].ravel(), ids[:-1].ravel()])
    b = np.concatenate([ids[:, 1:].ravel(), ids[1:].ravel()])
    weight = np.random.default_rng(0).uniform(0.1, 1, 2 * len(a)).astype(np.float32)
    return _network(side * side, np.concatenate([a, b]), np.concatenate([b, a]), weight)


def _program(solve: Callable[[], Any]) -> Program:
    """Compiled by its first run; what that took is the difference to the second."""
    start = time.perf_counter()
    jax.block_until_ready(solve())
    middle = time.perf_counter()
    jax.block_until_ready(solve())
    again = time.perf_counter() - middle
    return Program(lambda: jax.block_until_ready(solve()), compile_s=max(0.0, middle - start - again))


def _lengths(network: Network) -> Program:
    x = sr.min_plus.full((network.size,), "zero", np.float32).at[network.source].set(0)
    return _program(lambda: closure(network.matrix, x, sr.min_plus).value)


def _sweeps(network: Network) -> Program:
    x = sr.min_plus.full((network.size,), "zero", np.float32).at[network.source].set(0)
    return _program(lambda: closure(network.matrix, x, sr.min_plus, frontier=0).value)


def _with_parents(network: Network) -> Program:
    return _program(lambda: shortest_paths(network.matrix, network.source).value)


def _levels(network: Network) -> Program:
    return _program(lambda: breadth_first_levels(network.matrix, network.source))


def _dijkstra(network: Network) -> Program:
    shape = (network.size, network.size)
    graph = scipy.sparse.csr_matrix((network.weight, (network.parent, network.child)), shape)
    return Program(lambda: csgraph.dijkstra(graph, indices=network.source))


def _dijkstra_with_parents(network: Network) -> Program:
    shape = (network.size, network.size)
    graph = scipy.sparse.csr_matrix((network.weight, (network.parent, network.child)), shape)
    return Program(lambda: csgraph.dijkstra(graph, indices=network.source, return_predecessors=True)[0])


def _graphblas(network: Network) -> Program:
    """Level after level: the rows that the newest lead to and that have no level yet, by a complemented mask."""
    import graphblas

    graphblas.ss.config["nthreads"] = os.cpu_count()
    size = network.size
    ones = np.ones(len(network.parent), np.bool_)
    matrix = graphblas.Matrix.from_coo(network.parent, network.child, ones, nrows=size, ncols=size, dtype=bool)
    step, replace = graphblas.semiring.any_pair, {"replace": True}

    def run() -> Any:
        level = graphblas.Vector(int, size)
        newest = graphblas.Vector(bool, size)
        newest[network.source] = True
        depth = 0
        while newest.nvals:
            level(newest.S)[:] = depth
            newest(~level.S, **replace) << newest.vxm(matrix, step)
            depth += 1
        level.wait()
        return level

    return Program(run)


def _same(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-5)


def _same_levels(ours: Any, theirs: Any) -> None:
    np.testing.assert_array_equal(np.asarray(ours), theirs.to_dense(fill_value=-1))


def _case(name: str, make: Any, ours: Any, *peers: Peer) -> Case:
    return Case(f"paths/{name}", make, ours, peers, items=lambda network: len(network.parent), unit="entries")


_SWEPT = Peer("sweeps alone", _sweeps, _same)
CASES = (
    _case("lengths/rmat", skewed, _lengths, Peer("scipy Dijkstra", _dijkstra, _same, target=3.0), _SWEPT),
    _case("lengths/grid", grid, _lengths, Peer("scipy Dijkstra", _dijkstra, _same, target=1.0)),
    _case("parents/rmat", skewed, _with_parents, Peer("scipy Dijkstra", _dijkstra_with_parents, _same)),
    _case("parents/grid", grid, _with_parents, Peer("scipy Dijkstra", _dijkstra_with_parents, _same)),
    *(
        _case(f"levels/{name}", make, _levels, Peer("GraphBLAS", _graphblas, _same_levels, 1.0, "graphblas"))
        for name, make in (("rmat", skewed), ("grid", grid))
    ),
)
