"""Orders, paths, closure, reduction and subgraphs, against networkx."""

import itertools

import hypothesis.strategies as st
import networkx as nx
import numpy as np
import pytest
from hypothesis import given

from mmsb_jax import CapacityError, InvalidArgumentError, InvalidTypeError, PageNotFoundError
from mmsb_jax.graph import ShadowPageGraph, _orders
from tests.graphs import KINDS, build, edge_lists, oracle


def pairs(graph):
    return {*zip(graph.parent.tolist(), graph.child.tolist(), strict=True)}


@given(edge_lists())
def test_reverse_postorder_is_that_of_a_depth_first_search(case):
    pages, edges = case
    other = nx.DiGraph()
    other.add_nodes_from(range(pages))
    other.add_edges_from(sorted({(a, b) for a, b, _ in edges}))
    order = build(*case).reverse_postorder()
    assert order.dtype == np.int32
    assert order.tolist() == list(nx.dfs_postorder_nodes(other))[::-1]


@given(edge_lists())
def test_a_longest_path_is_a_path_and_none_is_longer(case):
    path = build(*case).longest_path().tolist()
    other = oracle(*case)
    assert len(path) == nx.dag_longest_path_length(nx.DiGraph(other)) + 1
    assert all(other.has_edge(*step) for step in itertools.pairwise(path))


@given(edge_lists(), st.sampled_from([None, *KINDS]))
def test_roots_and_leaves(case, kind):
    graph, other = build(*case), oracle(*case, kind)
    assert graph.roots(kind).tolist() == [page for page in other if other.in_degree(page) == 0]
    assert graph.leaves(kind).tolist() == [page for page in other if other.out_degree(page) == 0]


@given(edge_lists(max_pages=14), st.sampled_from([1, 3, 2**29]))
def test_closure_and_reduction(case, bits):
    graph, other = build(*case), nx.DiGraph(oracle(*case))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_orders, "_BITS", bits)
        patch.setattr(_orders, "_LEAST", 1)  # blocks of a few pages
        closure, reduced = graph.transitive_closure(), graph.transitive_reduction()
    assert pairs(closure) == {*nx.transitive_closure_dag(other).edges}
    assert closure.num_edges == len(pairs(closure))
    assert pairs(reduced) == {*nx.transitive_reduction(other).edges}
    kept = [edge for edge in case[1] if edge[:2] in pairs(reduced)]
    assert reduced.num_edges == len(kept)  # all parallel ones, with their kinds
    np.testing.assert_array_equal(reduced.kind, build(case[0], kept).kind)


@given(edge_lists(max_pages=10), st.integers(0, 60))
def test_a_closure_beyond_its_limit_is_refused(case, limit):
    graph = build(*case)
    wanted = sum(len(nx.descendants(oracle(*case), page)) for page in range(case[0]))
    if wanted <= limit:
        assert graph.transitive_closure(limit=limit).num_edges == wanted
    else:
        with pytest.raises(CapacityError, match=f"more than {limit} edges"):
            graph.transitive_closure(limit=limit)


@given(edge_lists(), st.data())
def test_a_subgraph_keeps_ids_kinds_and_weights(case, data):
    pages, edges = case
    chosen = data.draw(st.one_of(st.none(), st.lists(st.integers(0, pages - 1))))
    kind = data.draw(st.sampled_from([None, *KINDS]))
    weight = np.arange(len(edges), dtype=np.float32)
    inside = range(pages) if chosen is None else chosen
    kept = [i for i, (a, b, k) in enumerate(edges) if a in inside and b in inside and kind in (None, k)]
    part = build(*case, weight=weight).subgraph(chosen, kind=kind)
    wanted = build(pages, [edges[i] for i in kept], weight=weight[kept])
    assert repr(part) == repr(wanted)
    np.testing.assert_array_equal(part.weight, wanted.weight)
    np.testing.assert_array_equal(part.kind, wanted.kind)
    assert pairs(part) == pairs(wanted)


def test_a_long_chain_is_no_recursion():
    pages = 20_000
    graph = ShadowPageGraph.from_edges(np.arange(pages - 1), np.arange(1, pages), num_pages=pages)
    assert graph.reverse_postorder().tolist() == graph.longest_path().tolist() == list(range(pages))
    assert graph.transitive_reduction().num_edges == pages - 1
    shortcut = graph.with_edges([0, 0], [5, pages - 1])
    assert shortcut.transitive_reduction().num_edges == pages - 1
    with pytest.raises(CapacityError):
        graph.transitive_closure()


def test_graphs_without_pages_or_edges():
    none = ShadowPageGraph.from_edges([], [], num_pages=0)
    bare = ShadowPageGraph.from_edges([], [], num_pages=2)
    assert none.longest_path().tolist() == none.reverse_postorder().tolist() == []
    assert bare.longest_path().tolist() == [0]
    assert bare.roots().tolist() == bare.leaves().tolist() == [0, 1]
    assert [g.transitive_closure(limit=0).num_edges for g in (none, bare)] == [0, 0]
    assert bare.transitive_reduction().subgraph([]).num_pages == 2


def test_bad_questions_are_refused():
    graph = ShadowPageGraph.from_edges([0], [1], num_pages=3)
    with pytest.raises(InvalidTypeError, match="largest number of edges"):
        graph.transitive_closure(limit="many")
    with pytest.raises(InvalidArgumentError, match="limit=-1"):
        graph.transitive_closure(limit=-1)
    with pytest.raises(PageNotFoundError, match="page 3"):
        graph.subgraph([0, 3])
    with pytest.raises(InvalidArgumentError, match="unknown edge kind"):
        graph.roots("dta")
    with pytest.raises(InvalidArgumentError, match="equally many"):
        graph.has_edge([0, 1], [1])
