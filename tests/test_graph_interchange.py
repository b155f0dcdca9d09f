"""To other packages and back: nothing is lost; what can't be read is named."""

import sys

import equinox as eqx
import hypothesis.strategies as st
import networkx as nx
import numpy as np
import pytest
import rustworkx as rx
import scipy.sparse as sparse
from hypothesis import given

from mmsb_jax import GraphCycleError, InvalidArgumentError, InvalidTypeError, MissingPackageError, PageNotFoundError
from mmsb_jax.graph import (
    GraphBuilder,
    ShadowPageGraph,
    from_networkx,
    from_rustworkx,
    from_scipy,
    to_dot,
    to_mermaid,
    to_networkx,
    to_rustworkx,
    to_scipy,
    to_svg,
)
from tests.graphs import build, edge_lists, oracle

NAMES = st.one_of(st.text(max_size=3), st.tuples(st.integers(0, 9), st.text(max_size=1)))


@st.composite
def named_graphs(draw):
    """A graph with weights or without, and names of some of its pages."""
    case = draw(edge_lists())
    count = len(case[1])
    weight = draw(st.one_of(st.none(), st.lists(st.floats(width=32, allow_nan=False), min_size=count, max_size=count)))
    pages = draw(st.lists(st.integers(0, case[0] - 1), unique=True))
    names = draw(st.lists(NAMES, min_size=len(pages), max_size=len(pages), unique=True))
    return build(*case, weight=weight if count else None), dict(zip(names, pages, strict=True))


def completed(graph, names):
    """Names of all pages: the ids where there is none."""
    known = {page: name for name, page in names.items()}
    return {known.get(page, page): page for page in range(graph.num_pages)}


@given(named_graphs())
def test_through_networkx_and_back(named):
    graph, names = named
    back = from_networkx(to_networkx(graph, names))
    assert back.names == completed(graph, names)
    assert eqx.tree_equal(back.graph, graph)


@given(named_graphs())
def test_through_a_digraph_and_back(named):
    graph, names = named
    pairs = [*zip(graph.parent.tolist(), graph.child.tolist(), strict=True)]
    if len(pairs) == len({*pairs}):
        back = from_networkx(to_networkx(graph, names, multigraph=False))
        assert eqx.tree_equal(back.graph, graph)
    else:
        with pytest.raises(InvalidArgumentError, match="parallel edges"):
            to_networkx(graph, names, multigraph=False)


@given(named_graphs())
def test_through_rustworkx_and_back(named):
    graph, names = named
    back = from_rustworkx(to_rustworkx(graph, names))
    assert back.names == completed(graph, names)
    assert eqx.tree_equal(back.graph, graph)


@given(edge_lists(), st.booleans())
def test_through_scipy_and_back(case, weighted):
    case = case[0], [(a, b, 0) for a, b, _ in case[1]]
    weight = np.arange(len(case[1]), dtype=np.float32) if weighted else None
    graph = build(*case, weight=weight)
    matrix = to_scipy(graph)
    assert eqx.tree_equal(from_scipy(matrix), graph)
    dense = np.zeros((case[0], case[0]))
    for i, (a, b, _) in enumerate(case[1]):
        dense[a, b] += i if weighted else 0 if dense[a, b] else 1
    np.testing.assert_array_equal(matrix.toarray(), dense)


def test_scipy_has_one_kind_if_asked():
    graph = ShadowPageGraph.from_edges([0, 0], [1, 2], kind=["data", "control"], weight=[3, 4], num_pages=3)
    assert to_scipy(graph, "control").tocoo().data.tolist() == [4]
    assert from_scipy(sparse.csr_array([[0, 2.0], [0, 0]]), kind="compiler").kind.tolist() == [3]


@given(edge_lists())
def test_nodes_get_ids_in_their_order_or_keep_them(case):
    other = oracle(*case)
    assert from_networkx(other).names == {page: page for page in range(case[0])}
    shuffled = nx.MultiDiGraph()
    shuffled.add_nodes_from(reversed(range(case[0])))
    shuffled.add_edges_from(other.edges)
    graph, names = from_networkx(shuffled)
    assert names == {page: page for page in range(case[0])}
    np.testing.assert_array_equal(graph.levels(), build(*case).levels())
    renamed = from_networkx(nx.relabel_nodes(shuffled, lambda page: f"n{page}"))
    assert [*renamed.names] == [f"n{page}" for page in reversed(range(case[0]))]


def test_foreign_attributes_and_payloads():
    source = nx.DiGraph()
    source.add_edge("a", "b", cost=2, sort="control")
    source.add_edge("b", "c", cost=np.float32(0.5), sort=3, colour="red")
    graph = from_networkx(source, weight="cost", kind="sort").graph
    assert (graph.weight.tolist(), graph.kind.tolist()) == ([2, 0.5], [1, 3])
    assert from_networkx(source).graph.weight is None
    other = rx.PyDiGraph()
    other.add_nodes_from([["no", "hash"], "b", "b"])
    other.add_edges_from([(0, 1, 4), (1, 2, {"weight": 5, "kind": "compiler"})])
    graph, names = from_rustworkx(other)
    assert (names, graph.weight.tolist(), graph.kind.tolist()) == ({0: 0, 1: 1, 2: 2}, [4, 5], [0, 3])
    other.remove_node(0)
    graph, names = from_rustworkx(other)  # indices with a gap; equal payloads
    assert (names, graph.num_pages, graph.parent.tolist()) == ({1: 0, 2: 1}, 2, [0])


def test_a_cycle_is_named_by_nodes():
    with pytest.raises(GraphCycleError, match="tea -> total -> tea;") as caught:
        from_networkx(nx.DiGraph([("tea", "total"), ("total", "tea")]))
    assert caught.value.cycle == (0, 1, 0)
    looped = rx.PyDiGraph()
    looped.add_nodes_from(["tea", "total"])
    looped.add_edges_from([(0, 1, None), (1, 0, None)])
    with pytest.raises(GraphCycleError, match="tea -> total -> tea;"):
        from_rustworkx(looped)
    with pytest.raises(GraphCycleError, match="1 -> 1;"):
        from_scipy(sparse.eye_array(3).tocsr()[[1, 1, 1]])


def test_what_cannot_be_read_is_refused():
    half = nx.DiGraph([("a", "b")])
    half.add_edge("b", "c", weight=1)
    with pytest.raises(InvalidArgumentError, match="'a' -> 'b' has no 'weight', others have"):
        from_networkx(half)
    with pytest.raises(InvalidTypeError, match="got a Graph; pass a networkx"):
        from_networkx(nx.Graph([("a", "b")]))
    with pytest.raises(InvalidTypeError, match="got a list"):
        from_networkx([(0, 1)])
    with pytest.raises(InvalidTypeError, match="got a PyGraph; pass a rustworkx"):
        from_rustworkx(rx.PyGraph())
    strange = rx.PyDiGraph()
    strange.add_nodes_from([0, 1])
    strange.add_edge(0, 1, object())
    with pytest.raises(InvalidTypeError, match="0 -> 1 carries a object"):
        from_rustworkx(strange)
    with pytest.raises(InvalidArgumentError, match="unknown edge kind 'dta'"):
        from_networkx(nx.DiGraph([("a", "b", {"kind": "dta"})]))
    with pytest.raises(InvalidArgumentError, match="nan"):
        from_networkx(nx.DiGraph([("a", "b", {"weight": float("nan")})]))
    with pytest.raises(InvalidTypeError, match="got a ndarray; pass a matrix of scipy"):
        from_scipy(np.eye(2))
    with pytest.raises(InvalidArgumentError, match=r"shape \(2, 3\)"):
        from_scipy(sparse.coo_array((2, 3)))
    with pytest.raises(InvalidTypeError, match="complex"):
        from_scipy(sparse.coo_array(([1j], ([0], [1])), shape=(2, 2)))


BAD_NAMES = {
    "a list": (["a", "b"], InvalidTypeError, "names of type list"),
    "no id": ({"a": "b"}, InvalidTypeError, "'b' for the page named 'a'"),
    "beyond": ({"a": 9}, PageNotFoundError, "page 9, but the graph has 3 pages"),
    "twice": ({"a": 1, "b": 1}, InvalidArgumentError, "page 1 has two names, 'a' and 'b'"),
    "another's id": ({2: 0}, InvalidArgumentError, "page 0 is named 2, which is the id of a page without a name"),
}


@pytest.mark.parametrize("case", BAD_NAMES)
@pytest.mark.parametrize("write", [to_networkx, to_rustworkx, to_dot, to_svg])
def test_names_that_do_not_fit_are_refused(case, write):
    names, error, text = BAD_NAMES[case]
    with pytest.raises(error, match=text):
        write(ShadowPageGraph.from_edges([0], [1], num_pages=3), names)


@pytest.mark.parametrize("write", [to_networkx, to_rustworkx, to_scipy, to_dot, to_mermaid, to_svg])
def test_a_graph_with_its_names_is_passed_as_two(write):
    with pytest.raises(InvalidTypeError, match=r"got a NamedGraph .* pass both: to_dot\(\*named\)"):
        write(GraphBuilder("a").build())


@pytest.mark.parametrize("package", ["networkx", "rustworkx"])
def test_a_package_that_is_not_there_is_named(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    graph = ShadowPageGraph.from_edges([0], [1], num_pages=2)
    write, read = {"networkx": (to_networkx, from_networkx), "rustworkx": (to_rustworkx, from_rustworkx)}[package]
    for call in (lambda: write(graph), lambda: read(None)):
        with pytest.raises(MissingPackageError, match=rf"{package} isn't installed .*pip install 'mmsb-jax\[graphs\]'"):
            call()


def test_neither_package_is_needed_to_import(run_python):
    code = (
        "import sys, mmsb_jax as m; m.graph.to_dot; print([n for n in ('networkx', 'rustworkx') if n in sys.modules])"
    )
    assert run_python(code).strip() == "[]"
