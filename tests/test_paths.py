"""Paths against networkx and scipy on 500 random graphs; parents, the frontier, cycles, refusals."""

import itertools

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
from scipy import sparse
from scipy.sparse import csgraph

from mmsb_jax import semiring as sr
from mmsb_jax._errors import InvalidArgumentError, InvalidTypeError
from mmsb_jax.propagation import (
    Paths,
    SparseMatrix,
    all_pairs,
    breadth_first_levels,
    closure,
    critical_path,
    k_step,
    matmul,
    most_reliable_paths,
    path_to,
    paths,
    reachable,
    shortest_paths,
    widest_paths,
)
from mmsb_jax.propagation._frontier import drain, fits, listed, outgoing

BLOCK, BLOCKS = 12, 100  # A hundred graphs of twelve rows are one matrix, and one call.
COUNTS = np.array([2, 1, 3, 1, 2, 4, 0, 1, 3, 2, 0, 5])  # one structure for all: one compilation
N = BLOCK * BLOCKS
TO = np.repeat(np.arange(N), np.tile(COUNTS, BLOCKS))
STARTS = BLOCK * np.arange(BLOCKS) + np.arange(BLOCKS) % BLOCK  # one source in each graph


def origins(rng: np.random.Generator, *, acyclic: bool = False) -> np.ndarray:
    """Where each edge comes from, within its graph; no two are parallel. Acyclic: −1 for none."""
    found = []
    for base in range(0, N, BLOCK):
        for i, count in enumerate(COUNTS):
            came = rng.permutation(i if acyclic else BLOCK)[:count] + base
            found += [came, np.full(count - len(came), -1)]
    return np.concatenate(found).astype(int)


def made(came: np.ndarray, weight: np.ndarray | None) -> SparseMatrix:
    return SparseMatrix.from_coo(TO, np.maximum(came, 0), weight, (N, N))


def directed(came: np.ndarray, weight: np.ndarray) -> nx.DiGraph:
    graph = nx.DiGraph()
    graph.add_nodes_from(range(N))
    graph.add_weighted_edges_from((int(a), int(b), w) for a, b, w in zip(came, TO, weight, strict=True) if a >= 0)
    return graph


def check_tree(found: Paths, came: np.ndarray, weight: np.ndarray, start: float, through) -> None:
    """Every path leads to a source along edges, and its weights come to the value."""
    held = {(int(a), int(b)): w for a, b, w in zip(came, TO, weight, strict=True)}
    parent, values, sources = np.asarray(found.parent), np.asarray(found.value), set(STARTS.tolist())
    assert np.sum(parent >= 0) > N // 4
    for row in range(N):
        way = path_to(parent, row)
        if len(way) > 1:
            assert way[0] in sources
            value = start
            for edge in itertools.pairwise(way):
                value = through(value, held[edge])
            np.testing.assert_allclose(values[row], value, rtol=1e-6)


@pytest.mark.parametrize("lightest", [0, 1])  # where weights are zero, not all that is tight is a tree
def test_shortest_paths_agree_with_scipy(rng: np.random.Generator, lightest: int):
    came, weight = origins(rng), rng.integers(lightest, lightest + 3, len(TO)).astype(np.float32)
    found = shortest_paths(made(came, weight), STARTS)
    graph = sparse.coo_array((weight, (came, TO)), shape=(N, N)).tocsr()  # what is stored counts, be it 0
    np.testing.assert_array_equal(found.value, csgraph.dijkstra(graph, indices=STARTS, min_only=True))
    check_tree(found, came, weight, 0, lambda a, w: a + w)
    assert np.sum(np.isfinite(found.value)) == np.sum(np.asarray(found.parent) >= 0) + BLOCKS


def test_widest_paths_agree_with_networkx(rng: np.random.Generator):
    came, weight = origins(rng), rng.permutation(len(TO)).astype(np.float32) + 1
    found = widest_paths(made(came, weight), STARTS)
    width = np.full(N, -np.inf)
    width[STARTS] = np.inf
    graph = directed(came, weight)
    for block, start in enumerate(STARTS.tolist()):
        own = [(a, b, w) for a, b, w in graph.edges(range(block * BLOCK, (block + 1) * BLOCK), data="weight")]
        wide = nx.DiGraph()
        wide.add_node(start)
        for a, b, w in sorted(own, key=lambda edge: -edge[2]):  # the widest first, until a row is reached
            wide.add_edge(a, b)
            for row in nx.descendants(wide, start):
                width[row] = max(width[row], w)
    np.testing.assert_array_equal(found.value, width)
    check_tree(found, came, weight, np.inf, min)


def test_most_reliable_paths_agree_with_networkx(rng: np.random.Generator):
    came, weight = origins(rng), rng.uniform(0.1, 1, len(TO)).astype(np.float32)
    found = most_reliable_paths(made(came, weight), STARTS)
    lengths = nx.multi_source_dijkstra_path_length(directed(came, -np.log(weight)), set(STARTS.tolist()))
    np.testing.assert_allclose(found.value, [np.exp(-lengths.get(i, np.inf)) for i in range(N)], rtol=1e-5)
    check_tree(found, came, weight, 1, lambda a, w: a * w)


def test_critical_paths_agree_with_networkx(rng: np.random.Generator):
    came = origins(rng, acyclic=True)
    weight = np.where(came < 0, -np.inf, rng.integers(1, 9, len(TO))).astype(np.float32)
    found = critical_path(made(came, weight))
    graph = directed(came, weight)
    for block in range(BLOCKS):
        rows = range(block * BLOCK, (block + 1) * BLOCK)
        values = np.asarray(found.value)[rows.start : rows.stop]
        assert values.max() == nx.dag_longest_path_length(graph.subgraph(rows))
        way = path_to(found.parent, rows.start + int(values.argmax()))
        assert nx.path_weight(graph, way, "weight") == values.max()


def test_levels_and_reachability_agree_with_networkx(rng: np.random.Generator):
    came = origins(rng)
    matrix, graph = made(came, None), directed(came, np.ones(len(TO)))
    lengths = nx.multi_source_dijkstra_path_length(graph, set(STARTS.tolist()))
    np.testing.assert_array_equal(breadth_first_levels(matrix, STARTS), [lengths.get(i, -1) for i in range(N)])
    np.testing.assert_array_equal(reachable(matrix, STARTS), [i in lengths for i in range(N)])


# The frontier.


def grid(side: int, weight: np.ndarray) -> SparseMatrix:
    """A grid of four neighbours; `weight` of its 4 side (side − 1) edges."""
    ids = np.arange(side * side).reshape(side, side)
    a = np.concatenate([ids[:, :-1].ravel(), ids[:-1].ravel()])
    b = np.concatenate([ids[:, 1:].ravel(), ids[1:].ravel()])
    return SparseMatrix.from_coo(np.concatenate([a, b]), np.concatenate([b, a]), weight, (side**2, side**2))


SIDE = 40
GRID_EDGES = 4 * SIDE * (SIDE - 1)


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    return np.random.default_rng(7).uniform(0.01, 1, GRID_EDGES).astype(np.float32)


@pytest.mark.parametrize("capacity", [1, 40, 2000])
@pytest.mark.parametrize("semiring", [sr.min_plus, sr.max_min], ids=lambda s: s.name)
def test_the_frontier_comes_to_the_bits_of_sweeps_whatever_its_capacity(weights, capacity, semiring):
    matrix = grid(SIDE, weights)
    swept, followed = (paths(matrix, 5, semiring, frontier=held) for held in (0, capacity))
    np.testing.assert_array_equal(swept.value, followed.value)
    np.testing.assert_array_equal(swept.parent, followed.parent)
    assert followed.converged
    assert int((np.asarray(followed.parent) < 0).sum()) == 1
    if semiring is sr.min_plus:
        graph = sparse.coo_array((weights, (matrix.col, matrix.row))).tocsr()
        np.testing.assert_allclose(swept.value, csgraph.dijkstra(graph, indices=5), rtol=1e-5)


def test_the_frontier_lists_a_row_once_however_many_paths_are_equal():
    matrix = grid(SIDE, np.ones(GRID_EDGES, np.int32))
    x = sr.min_plus.full((SIDE**2,), "zero", np.int32).at[0].set(0)
    expected = np.add.outer(np.arange(SIDE), np.arange(SIDE)).ravel()
    np.testing.assert_array_equal(closure(matrix, x, sr.min_plus, frontier=200).value, expected)
    edges = outgoing(matrix)
    start = listed(edges, x == 0, x, 200, sr.min_plus.add)
    followed = jax.jit(drain)(edges, start, sr.min_plus, jnp.int32(1000))
    assert fits(followed)  # twice as many in every step would be too many soon
    np.testing.assert_array_equal(followed.y[:-1], expected)


def test_a_column_with_many_entries_is_left_to_sweeps():
    n = 300
    star = SparseMatrix.from_coo(np.r_[0, 2:n], np.r_[1, np.zeros(n - 2, int)], np.ones(n - 1, np.float32), (n, n))
    assert outgoing(star).long.sum() == 1
    for source, capacity in ((1, 64), (0, 64), (1, 0)):
        value = paths(star, source, sr.min_plus, frontier=capacity).value
        np.testing.assert_array_equal(value[2:], np.full(n - 2, 1 + source))


def test_deep_graphs_have_levels_too():
    chain = SparseMatrix.from_coo(np.arange(1, 40), np.arange(39), None, (40, 40))
    np.testing.assert_array_equal(breadth_first_levels(chain, 0), np.arange(40))
    np.testing.assert_array_equal(jax.jit(breadth_first_levels)(chain, 0), np.arange(40))
    np.testing.assert_array_equal(breadth_first_levels(chain, [0, 20]), np.r_[np.arange(20), np.arange(20)])


def test_a_negative_cycle_is_named_also_by_the_frontier():
    cycle = SparseMatrix.from_coo([1, 2, 1, 3], [0, 1, 2, 2], np.float32([1, -3, 2, 1]), (4, 4))
    for capacity in (0, 4):
        with pytest.raises(InvalidArgumentError, match="no fixpoint of min_plus: the cycle 1 -> 2 -> 1 improves"):
            shortest_paths(cycle, 0, frontier=capacity)
        assert not shortest_paths(cycle, 0, frontier=capacity, throw=False).converged
    columns = np.full((4, 2), np.inf, np.float32)
    columns[0, 1] = 0
    with pytest.raises(InvalidArgumentError, match="the cycle 1 -> 2 -> 1"):
        closure(cycle, columns, sr.min_plus)
    with pytest.raises(InvalidArgumentError, match="no fixpoint of max_plus: the cycle 0 -> 2 -> 1 -> 0"):
        critical_path(SparseMatrix.from_coo([1, 0, 2], [2, 1, 0], np.float32([1, 1, 1]), (3, 3)))


# Transforms, the rest.


def little(rng: np.random.Generator) -> tuple[SparseMatrix, np.ndarray]:
    """A matrix of 12 rows, and the same, dense."""
    table = rng.integers(1, 9, (BLOCK, BLOCK)).astype(np.float32) * (rng.random((BLOCK, BLOCK)) < 0.2)
    return SparseMatrix.from_scipy(sparse.coo_array(table)), table


def test_jit_vmap_and_several_sources(rng: np.random.Generator):
    matrix, table = little(rng)
    expected = csgraph.floyd_warshall(np.ascontiguousarray(table.T)).T
    alone = [shortest_paths(matrix, source) for source in range(BLOCK)]
    for capacity in (0, 3):
        mapped = jax.jit(jax.vmap(lambda s, c=capacity: shortest_paths(matrix, s, frontier=c)))(np.arange(BLOCK))
        np.testing.assert_array_equal(mapped.value, expected.T)
        np.testing.assert_array_equal(mapped.parent, np.stack([each.parent for each in alone]))
    np.testing.assert_array_equal(all_pairs(matrix, sr.min_plus, block=5), expected)
    np.testing.assert_array_equal(shortest_paths(matrix, [1, 4]).value, expected[:, [1, 4]].min(axis=1))


def test_a_walk_of_k_steps(rng: np.random.Generator):
    matrix, table = little(rng)
    x = rng.integers(0, 9, BLOCK).astype(np.float32)
    np.testing.assert_array_equal(k_step(matrix, x, sr.plus_times, 3), np.linalg.matrix_power(table, 3) @ x)
    np.testing.assert_array_equal(k_step(matrix, x, sr.min_first, 1), matmul(matrix, x, sr.min_first))
    np.testing.assert_array_equal(k_step(matrix, x, sr.plus_times, 0), x)
    slope = jax.grad(lambda x: k_step(matrix, x, sr.plus_times, 3).sum())(x)
    np.testing.assert_array_equal(slope, np.linalg.matrix_power(table.T, 3) @ np.ones(BLOCK))


def test_refusals():
    matrix = SparseMatrix.from_coo([1, 0], [0, 1], np.float32([1, 2]), (2, 2))
    x = np.zeros(2, np.float32)
    for call, text in {
        lambda: closure(matrix, x, sr.min_first): "min_first is no true semiring.*lacks: one is the identity",
        lambda: closure(matrix, x, sr.min_plus, frontier=-1): "frontier is -1",
        lambda: closure(matrix, x, sr.arg_min_plus): "not which path: close with min_plus",
        lambda: closure(matrix, x, sr.min_plus, frontier=0.5): "frontier is 0.5",
        lambda: shortest_paths(matrix, 2): r"source 2 is no row of the matrix: 0 … 1",
        lambda: shortest_paths(matrix, -1): "source -1",
        lambda: paths(SparseMatrix.from_coo([1], [0], None, (2, 2)), 0, sr.or_and): "or_and: ⊕ must be jnp.minimum",
        lambda: paths(matrix, 0, sr.plus_times): "plus_times isn't idempotent",
        lambda: most_reliable_paths(matrix, 0): r"got the weight 2.0; a probability lies in 0 … 1",
        lambda: path_to([1, 0], 0): "round in a circle",
        lambda: path_to([-1, 0], 2): "target=2",
        lambda: k_step(matrix, x, sr.min_plus, -1): "k=-1",
        lambda: k_step(matrix, x, sr.arg_min_plus, 1): "arg_min_plus says who won",
        lambda: all_pairs(matrix, sr.min_plus, block=0): "block=0",
        lambda: k_step(SparseMatrix.from_coo([0], [1], None, (1, 2)), x, sr.min_plus, 1): "square matrix",
    }.items():
        with pytest.raises(InvalidArgumentError, match=text):
            call()
    for call, text in {
        lambda: matrix @ x: r"A @ x names no semiring: mmsb.matmul\(A, x, mmsb.semiring.plus_times\)",
        lambda: x @ matrix: "names no semiring",
        lambda: shortest_paths(None, 0): "SparseMatrix is needed",
        lambda: breadth_first_levels(None, 0): "SparseMatrix is needed",
        lambda: shortest_paths(matrix, 0.5): "sources must be a row",
        lambda: paths(matrix, 0, "min_plus"): "Semiring is needed",
        lambda: jax.jit(lambda a: shortest_paths(a, 0))(matrix): "traced",
    }.items():
        with pytest.raises(InvalidTypeError, match=text):
            call()
    assert jnp.isfinite(shortest_paths(matrix, 0).value).all()
