"""The graph against networkx, its refusals, and how its passes grow."""

import itertools

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
from hypothesis import given

from mmsb_jax import _errors as errors
from mmsb_jax.graph import EdgeKind, ShadowPageGraph, _traverse
from tests.graphs import KINDS, build, edge_lists, oracle


@given(edge_lists())
def test_levels_are_longest_paths_and_the_order_follows_them(case):
    pages, edges = case
    graph, other = build(*case), oracle(*case)
    longest = np.zeros(pages, np.int32)
    for page in nx.topological_sort(other):
        longest[page] = max((longest[p] + 1 for p in other.predecessors(page)), default=0)
    np.testing.assert_array_equal(graph.levels(), longest)
    order = graph.topological_order()
    assert order.dtype == np.int32
    assert sorted(order.tolist()) == list(range(pages))
    place = np.argsort(order)
    assert all(place[a] < place[b] for a, b, _ in edges)


@given(edge_lists(), st.data())
def test_neighbours_and_reach_agree_with_networkx(case, data):
    pages = case[0]
    sources = data.draw(st.lists(st.integers(0, pages - 1), max_size=4))
    kind = data.draw(st.sampled_from([None, *KINDS]))
    graph, other = build(*case), oracle(*case, kind)
    for method, one in [
        (graph.parents, other.predecessors),
        (graph.children, other.successors),
        (graph.ancestors, lambda p: nx.ancestors(other, p)),
        (graph.descendants, lambda p: nx.descendants(other, p)),
    ]:
        found = method(sources, kind)
        assert found.dtype == np.int32
        assert found.tolist() == sorted({page for source in sources for page in one(source)})
    assert graph.in_degree(kind).tolist() == [other.in_degree(p) for p in range(pages)]
    assert graph.out_degree(kind).tolist() == [other.out_degree(p) for p in range(pages)]


@given(edge_lists(acyclic=False))
def test_a_cycle_is_refused_and_named(case):
    edges = case[1]
    if nx.is_directed_acyclic_graph(oracle(*case)):
        assert build(*case).num_edges == len(edges)
        return
    with pytest.raises(errors.GraphCycleError, match="cycle of") as caught:
        build(*case)
    cycle = caught.value.cycle
    pairs = {(a, b) for a, b, _ in edges}
    assert cycle[0] == cycle[-1] == min(cycle)
    assert len(set(cycle)) == len(cycle) - 1 >= 1
    assert all(step in pairs for step in itertools.pairwise(cycle))


@given(edge_lists(), st.randoms(use_true_random=False))
def test_edges_are_sorted_stably_and_keep_their_weights(case, random):
    pages, edges = case
    weights = [float(i) for i in range(len(edges))]
    graph = build(pages, edges, weight=weights)
    expected = sorted(zip(edges, weights, strict=True), key=lambda e: (e[0][1], e[0][0]))
    got = zip(graph.parent.tolist(), graph.child.tolist(), graph.kind.tolist(), graph.weight.tolist(), strict=True)
    assert list(got) == [(a, b, k, w) for (a, b, k), w in expected]
    for page in range(pages):
        into, out = slice(*graph.in_start[page : page + 2]), slice(*graph.out_start[page : page + 2])
        assert (graph.child[into] == page).all()
        assert (graph.parent[graph.out_edge[out]] == page).all()
        assert graph.child[graph.out_edge[out]].tolist() == sorted(b for a, b, _ in edges if a == page)


@given(edge_lists(), st.data())
def test_with_and_without_edges_equal_building_anew(case, data):
    pages, edges = case
    cut = data.draw(st.integers(0, len(edges)))
    first, second = edges[:cut], edges[cut:]
    parent, child, kind = ([e[i] for e in second] for i in range(3))
    assert eqx.tree_equal(build(pages, first).with_edges(parent, child, kind=kind), build(*case))
    chosen = data.draw(st.sampled_from([None, *KINDS]))
    gone = {(a, b) for a, b, k in second if chosen in (None, k)}
    left = [(a, b, k) for a, b, k in edges if (a, b) not in gone or chosen not in (None, k)]
    whole = build(*case)
    assert eqx.tree_equal(whole.without_edges(*_columns(gone), kind=chosen), build(pages, left))
    assert whole.num_edges == len(edges)


def _columns(pairs):
    return [a for a, _ in pairs], [b for _, b in pairs]


@given(edge_lists(max_pages=30, max_edges=80))
def test_narrow_and_wide_frontiers_give_the_same(case):
    narrow = build(*case)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_traverse, "_NARROW", 0)
        wide = build(*case)
        below = wide.descendants(0), wide.ancestors([0, case[0] - 1], "data")
    np.testing.assert_array_equal(narrow.levels(), wide.levels())
    np.testing.assert_array_equal(below[0], narrow.descendants(0))
    np.testing.assert_array_equal(below[1], narrow.ancestors([0, case[0] - 1], "data"))


@pytest.mark.parametrize("kind", ["data", "CONTROL", EdgeKind.DEVICE_SYNC, 3, np.int64(2)])
def test_kinds_by_name_number_and_member(kind):
    graph = ShadowPageGraph.from_edges([0, 1], [1, 2], kind=kind, num_pages=3)
    assert (graph.kind == EdgeKind.parse(kind)).all()
    assert graph.parents(1, kind).tolist() == [0]
    mixed = ShadowPageGraph.from_edges([0, 1], [1, 2], kind=["compiler", "data"], num_pages=3)
    assert mixed.kind.tolist() == [EdgeKind.COMPILER, EdgeKind.DATA]


def test_every_kind_counts_for_a_cycle():
    with pytest.raises(errors.GraphCycleError) as caught:
        ShadowPageGraph.from_edges([0, 1], [1, 0], kind=["compiler", "control"], num_pages=2)
    assert caught.value.cycle == (0, 1, 0)


def test_a_self_loop_is_a_cycle_of_one():
    with pytest.raises(errors.GraphCycleError, match="itself: 7 -> 7;") as caught:
        ShadowPageGraph.from_edges([0, 7], [1, 7], num_pages=8)
    assert caught.value.cycle == (7, 7)


def test_a_long_cycle_is_shown_in_part_and_held_whole():
    ring = np.arange(1000)
    with pytest.raises(errors.GraphCycleError, match=r"1000 pages: 0 -> 1 -> .* -> 8 -> \(991 more\) -> 0;") as caught:
        ShadowPageGraph.from_edges(ring, (ring + 1) % 1000, num_pages=1000)
    assert caught.value.cycle == (*range(1000), 0)
    assert len(str(caught.value)) < 300


REFUSED = {
    "lengths differ": ({"parent": [0, 1], "child": [1]}, errors.InvalidArgumentError, "equally many"),
    "float ids": ({"parent": [0.0]}, errors.InvalidTypeError, "parent has dtype float64"),
    "empty float array": ({"parent": np.zeros(0), "child": []}, errors.InvalidTypeError, "float64"),
    "bool ids": ({"child": [True]}, errors.InvalidTypeError, "child has dtype bool"),
    "names as ids": ({"child": ["a"]}, errors.InvalidTypeError, "page ids are whole numbers"),
    "matrix of ids": ({"parent": [[0]]}, errors.InvalidArgumentError, r"shape \(1, 1\)"),
    "ragged ids": ({"parent": [[0], [0, 1]]}, errors.InvalidArgumentError, "no regular array"),
    "id too large": ({"child": [3]}, errors.PageNotFoundError, r"child\[0\] is page 3, but the graph has 3 pages"),
    "id negative": ({"parent": [-1]}, errors.PageNotFoundError, r"page -1"),
    "id beyond int32": ({"parent": [2**40]}, errors.PageNotFoundError, str(2**40)),
    "num_pages negative": ({"num_pages": -1}, errors.InvalidArgumentError, "num_pages is -1"),
    "num_pages beyond int32": ({"num_pages": 2**31}, errors.InvalidArgumentError, "int32"),
    "weight too long": ({"weight": [1.0, 2.0]}, errors.InvalidArgumentError, r"weight has shape \(2,\)"),
    "weight a matrix": ({"weight": [[1.0]]}, errors.InvalidArgumentError, r"shape \(1, 1\)"),
    "weight complex": ({"weight": [1j]}, errors.InvalidTypeError, "complex128"),
    "weight bool": ({"weight": [True]}, errors.InvalidTypeError, "bool"),
    "weight NaN": ({"weight": [np.nan]}, errors.InvalidArgumentError, "edge 0 is nan"),
    "weight overflows": ({"weight": [1e300]}, errors.InvalidArgumentError, "edge 0 is 1e[+]300"),
    "kind unknown": ({"kind": "date"}, errors.InvalidArgumentError, "unknown edge kind 'date'; .*'device_sync'"),
    "kind number": ({"kind": [4]}, errors.InvalidArgumentError, "unknown edge kind 4"),
    "kind float": ({"kind": [0.5]}, errors.InvalidTypeError, "type float"),
    "kind bool": ({"kind": True}, errors.InvalidTypeError, "type bool"),
    "kinds too many": ({"kind": ["data", "data"]}, errors.InvalidArgumentError, r"kind has shape \(2,\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_edges_are_refused(name):
    change, error, text = REFUSED[name]
    arguments = {"parent": [0], "child": [1], "num_pages": 3} | change
    with pytest.raises(error, match=text):
        ShadowPageGraph.from_edges(arguments.pop("parent"), arguments.pop("child"), **arguments)


def test_num_pages_must_be_whole():
    # Under the tests' type checker a float doesn't get as far as this check; users run without it.
    from mmsb_jax.graph._edges import page_count

    for wrong in (1.5, "3", True, np.array([1, 2]), None):
        with pytest.raises(errors.InvalidTypeError, match="whole number"):
            page_count(wrong)


def test_bad_questions_and_changes_are_refused():
    graph = ShadowPageGraph.from_edges([0], [1], num_pages=3)
    for method in (graph.parents, graph.children, graph.ancestors, graph.descendants):
        with pytest.raises(errors.PageNotFoundError, match=r"pages\[1\] is page 3"):
            method([0, 3])
        with pytest.raises(errors.InvalidTypeError, match="float"):
            method(1.5)
        with pytest.raises(errors.InvalidArgumentError, match="unknown edge kind"):
            method(0, "dta")
    with pytest.raises(errors.GraphCycleError, match="0 -> 1 -> 0"):
        graph.with_edges(1, 0)
    with pytest.raises(errors.InvalidArgumentError, match="leave weight out"):
        graph.with_edges(1, 2, weight=1.0)
    with pytest.raises(errors.InvalidArgumentError, match="pass weight"):
        ShadowPageGraph.from_edges([0], [1], weight=1, num_pages=3).with_edges(1, 2)
    with pytest.raises(errors.InvalidArgumentError, match=r"no edge 1 -> 2 to remove"):
        graph.without_edges([0, 1], [1, 2])
    with pytest.raises(errors.InvalidArgumentError, match="no edge 0 -> 1 of kind CONTROL"):
        graph.without_edges(0, 1, kind="control")
    with pytest.raises(errors.InvalidArgumentError, match="equally many"):
        graph.without_edges([0, 1], [1])
    assert graph.parents(1).tolist() == [0]


def test_weights_of_any_real_dtype_and_one_for_all():
    for weight in ([1, 2], np.array([1, 2], np.int64), jnp.array([1, 2], jnp.bfloat16), np.array([1, 2], np.float16)):
        graph = ShadowPageGraph.from_edges([0, 1], [1, 2], weight=weight, num_pages=3)
        assert graph.weight.dtype == np.float32
        assert graph.weight.tolist() == [1, 2]
    graph = ShadowPageGraph.from_edges([0, 1], [1, 2], weight=np.inf, num_pages=3)
    assert graph.weight.tolist() == [np.inf, np.inf]
    assert graph.with_edges([], []).weight.tolist() == [np.inf, np.inf]


@pytest.mark.parametrize("pages", [0, 1, 3])
def test_a_graph_without_edges(pages):
    graph = ShadowPageGraph.from_edges([], [], num_pages=pages)
    assert (graph.num_pages, graph.num_edges) == (pages, 0)
    assert graph.levels().tolist() == [0] * pages
    assert graph.topological_order().tolist() == list(range(pages))
    assert graph.ancestors([]).tolist() == []
    assert repr(graph) == f"ShadowPageGraph({pages} pages, 0 edges: none; {min(pages, 1)} levels, unweighted)"


def test_it_is_frozen_copies_its_input_and_is_a_pytree():
    parent = np.array([0, 0])
    graph = ShadowPageGraph.from_edges(parent, [1, 2], num_pages=3)
    parent[:] = 2
    assert graph.parents(1).tolist() == [0]
    with pytest.raises(ValueError, match="read-only"):
        graph.parent[0] = 1
    with pytest.raises(AttributeError):
        graph.num_pages = 5
    on_device = jax.tree.map(jnp.asarray, graph)
    assert eqx.tree_equal(on_device, jax.tree.map(jnp.asarray, graph))
    assert repr(on_device).startswith("ShadowPageGraph(3 pages, leaves of type ")
    gathered = jax.jit(lambda g, x: x[g.parent])(graph, jnp.arange(3.0))
    assert gathered.tolist() == [0.0, 0.0]


@pytest.fixture
def counted(monkeypatch):
    """How many elements the passes over the edges have touched."""
    touched = {"wide": 0, "elements": 0, "narrow": 0}
    ranges, narrow = _traverse._ranges, _traverse._narrow_levels

    def counting_ranges(start, pages):
        result = ranges(start, pages)
        touched["wide"] += 1
        touched["elements"] += len(result)
        return result

    def counting_narrow(frontier, depth, *rest):
        touched["narrow"] += 1
        return narrow(frontier, depth, *rest)

    monkeypatch.setattr(_traverse, "_ranges", counting_ranges)
    monkeypatch.setattr(_traverse, "_narrow_levels", counting_narrow)
    return touched


def test_a_graph_of_the_size_of_a_year_of_flights_is_one_pass(counted, rng):
    pages, edges = 370_000, 830_000
    ends = np.sort(rng.integers(0, pages, (2, edges)), axis=0)
    ends = ends[:, ends[0] != ends[1]]
    graph = ShadowPageGraph.from_edges(*ends, num_pages=pages)
    assert counted["elements"] <= ends.shape[1]
    assert counted["wide"] + counted["narrow"] <= 2 * (graph.levels().max() + 1)
    assert (graph.levels()[graph.parent] < graph.levels()[graph.child]).all()


def test_a_long_chain_is_walked_in_one_go(counted):
    pages = 200_000
    graph = ShadowPageGraph.from_edges(np.arange(pages - 1), np.arange(1, pages), num_pages=pages)
    assert (counted["wide"], counted["narrow"]) == (0, 1)
    assert graph.levels()[-1] == pages - 1
    assert len(graph.descendants(0)) == len(graph.ancestors(pages - 1)) == pages - 1
