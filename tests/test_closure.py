"""`closure` against Floyd-Warshall, scipy and networkx; what it says when there is no fixpoint."""

import chex
import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csgraph

from mmsb_jax import semiring as sr
from mmsb_jax._errors import InvalidArgumentError, InvalidTypeError
from mmsb_jax.propagation import Closure, SparseMatrix, closure

N = 9
COUNTS = np.array([2, 0, 3, 1, 2, 4, 0, 1, 3])  # one structure for all examples: one compilation


def random_edges(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Child, parent and a whole weight of each edge; every child has its `COUNTS` parents."""
    child = np.repeat(np.arange(N), COUNTS)
    return child, rng.integers(0, N, len(child)), rng.integers(1, 20, len(child))


def from_source(zero: np.generic, source: int = 0) -> np.ndarray:
    x = np.full(N, zero)
    x[source] = 0
    return x


@given(st.integers(0, 2**32))
def test_shortest_paths_agree_with_scipy(seed: int):
    child, parent, weight = random_edges(np.random.default_rng(seed))
    matrix = SparseMatrix.from_coo(child, parent, weight.astype(np.float32), (N, N))
    found = closure(matrix, from_source(np.float32(np.inf)), sr.min_plus)
    dense = np.full((N, N), np.inf)
    np.minimum.at(dense, (parent, child), weight)
    graph = csgraph.csgraph_from_dense(dense, null_value=np.inf)
    np.testing.assert_array_equal(found.value, csgraph.dijkstra(graph, indices=0))
    assert found.converged
    assert found.steps <= N


@given(st.integers(0, 2**32))
def test_shortest_paths_in_integers_agree_with_networkx(seed: int):
    child, parent, weight = random_edges(np.random.default_rng(seed))
    graph = nx.MultiDiGraph()
    graph.add_nodes_from(range(N))
    graph.add_weighted_edges_from(zip(parent, child, weight, strict=True))
    matrix = SparseMatrix.from_coo(child, parent, weight.astype(np.int32), (N, N))
    found = np.asarray(closure(matrix, from_source(sr.min_plus.zero(np.int32)), sr.min_plus).value)
    expected = nx.single_source_dijkstra_path_length(graph, 0)
    assert {i: int(d) for i, d in enumerate(found) if d != sr.min_plus.zero(np.int32)} == expected


@given(st.integers(0, 2**32))
def test_critical_paths_agree_with_networkx(seed: int):
    child, parent, weight = random_edges(np.random.default_rng(seed))
    parent = np.where(child > 0, parent % np.maximum(child, 1), 0)  # acyclic: parents come before
    weight = np.where(child > 0, weight, -1)  # a cycle through 0 itself that doesn't improve
    matrix = SparseMatrix.from_coo(child, parent, weight.astype(np.float32), (N, N))
    found = closure(matrix, np.zeros(N, np.float32), sr.max_plus)
    graph = nx.DiGraph()
    graph.add_nodes_from(range(N))
    for i, j, w in zip(child, parent, weight, strict=True):
        if i and (not graph.has_edge(j, i) or graph[j][i]["weight"] < w):
            graph.add_edge(j, i, weight=w)
    longest = max(nx.dag_longest_path_length(graph.subgraph({i} | nx.ancestors(graph, i))) for i in range(N))
    assert float(jnp.max(found.value)) == longest


def test_reachability_of_32_sources_in_one_word():
    child, parent, _ = random_edges(np.random.default_rng(1))
    graph = nx.DiGraph(zip(parent.tolist(), child.tolist(), strict=True))
    graph.add_nodes_from(range(N))
    matrix = SparseMatrix.from_coo(child, parent, None, (N, N))
    words = np.asarray(closure(matrix, np.uint32(1) << np.arange(N, dtype=np.uint32), sr.or_and).value)
    for i in range(N):
        assert {j for j in range(N) if words[i] >> np.uint32(j) & np.uint32(1)} == nx.ancestors(graph, i) | {i}


def test_features_are_solved_together_and_alone_with_the_same_bits(rng: np.random.Generator):
    child, parent, weight = random_edges(rng)
    matrix = SparseMatrix.from_coo(child, parent, (weight / 7).astype(np.float32), (N, N))
    x = np.stack([from_source(np.float32(np.inf), source) for source in range(N)], axis=1)
    together = closure(matrix, x, sr.min_plus).value
    assert together.shape == (N, N)
    alone = [closure(matrix, column, sr.min_plus).value for column in x.T]
    np.testing.assert_array_equal(together, np.stack(alone, axis=1))
    vmapped = jax.vmap(lambda column: closure(matrix, column, sr.min_plus).value, in_axes=1, out_axes=1)(x)
    np.testing.assert_array_equal(together, vmapped)


CYCLE = SparseMatrix.from_coo([1, 2, 1, 3], [0, 1, 2, 2], np.float32([1, -3, 2, 1]), (4, 4))
START = np.float32([0, np.inf, np.inf, np.inf])


def test_negative_cycle_is_an_error_that_names_its_rows():
    with pytest.raises(
        InvalidArgumentError, match="no fixpoint of min_plus: the cycle 1 -> 2 -> 1 improves with each round"
    ):
        closure(CYCLE, START, sr.min_plus)


def test_negative_cycle_is_a_flag_in_compiled_code():
    found = jax.jit(closure)(CYCLE, START, sr.min_plus)
    assert not found.converged
    quiet = closure(CYCLE, START, sr.min_plus, throw=False)
    assert not quiet.converged
    assert quiet.steps == 4
    chex.assert_trees_all_equal(found, quiet)


def test_max_steps_limits_the_length_of_paths():
    chain = SparseMatrix.from_coo([1, 2, 3], [0, 1, 2], np.float32([1, 1, 1]), (4, 4))
    for steps in range(4):
        found = closure(chain, START, sr.min_plus, max_steps=steps, throw=False)
        expected = np.where(np.arange(4) <= steps, np.arange(4), np.inf)
        np.testing.assert_array_equal(found.value, expected)
        assert not found.converged
    assert closure(chain, START, sr.min_plus).converged
    assert closure(chain, START, sr.min_plus).steps == 4


def test_nothing_to_do():
    empty = SparseMatrix.from_coo([], [], None, (0, 0))
    found = closure(empty, np.zeros(0, np.float32), sr.min_plus)
    assert isinstance(found, Closure)
    assert found.converged
    assert found.steps == 0
    still = closure(SparseMatrix.from_coo([], [], None, (3, 3)), np.float32([1, 2, 3]), sr.min_plus)
    np.testing.assert_array_equal(still.value, np.float32([1, 2, 3]))


def test_second_call_compiles_nothing():
    solve = jax.jit(chex.assert_max_traces(closure, n=1))
    for seed in range(3):
        child, parent, weight = random_edges(np.random.default_rng(seed))
        matrix = SparseMatrix.from_coo(child, parent, weight.astype(np.float32), (N, N))
        solve(matrix, from_source(np.float32(np.inf), seed), sr.min_plus)


def test_refusals():
    square = SparseMatrix.from_coo([0], [1], np.float32([1]), (2, 2))
    x = np.zeros(2, np.float32)
    with pytest.raises(InvalidArgumentError, match=r"plus_times isn't idempotent"):
        closure(square, x, sr.plus_times)
    with pytest.raises(InvalidArgumentError, match=r"square matrix, \[n, n\]; got shape \(3, 2\)"):
        closure(SparseMatrix.from_coo([0], [1], np.float32([1]), (3, 2)), x, sr.min_plus)
    with pytest.raises(InvalidArgumentError, match="max_steps is -1"):
        closure(square, x, sr.min_plus, max_steps=-1)
    with pytest.raises(InvalidArgumentError, match=r"x has shape \(3,\)"):
        closure(square, np.zeros(3, np.float32), sr.min_plus)
    with pytest.raises(InvalidTypeError, match="the matrix holds float32 and x int32"):
        closure(square, x.astype(np.int32), sr.min_plus)
    own = sr.Semiring("least", lambda a, b: jnp.minimum(a, b), jnp.inf, jnp.add, 0.0, kinds="f")
    with pytest.raises(InvalidArgumentError, match="least isn't idempotent"):
        closure(square, x, own)
