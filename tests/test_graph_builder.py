"""Graphs written by hand: the notation, with names and on a bus, and what is said of slips."""

import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax import GraphCycleError, InvalidArgumentError, InvalidTypeError, PageNotFoundError
from mmsb_jax.graph import EdgeKind, GraphBuilder


def edges(named):
    graph, names = named
    name = {page: name for name, page in names.items()}
    return {
        (name.get(a, a), name.get(b, b), EdgeKind(k).name.lower())
        for a, b, k in zip(graph.parent.tolist(), graph.child.tolist(), graph.kind.tolist(), strict=True)
    }


def test_arrows_between_names():
    build = GraphBuilder("tea", "milk", "total", "report", "spare")
    build["tea", "milk"] >> build["total"] >> "report"
    build["tea"].to(("total", "report"), kind="control")
    named = build.build()
    assert edges(named) == {
        ("tea", "total", "data"),
        ("milk", "total", "data"),
        ("total", "report", "data"),
        ("tea", "total", "control"),
        ("tea", "report", "control"),
    }
    assert named.names == {"tea": 0, "milk": 1, "total": 2, "report": 3, "spare": 4}
    assert named.graph.num_pages == 5
    assert repr(build) == "GraphBuilder(5 pages, 5 edges: 3 data, 2 control)"
    assert repr(build["tea", "milk"]) == "PageGroup(ids 0, 1)"


def test_weights_are_those_of_the_arrow_or_of_the_builder():
    build = GraphBuilder("a", "b", "c", "d", weight=1, kind="compiler")
    build["a"] >> build["b"]
    build["a", "b"].to(["c"][0], weight=[2, 3])
    build["a"].to("d", weight=4, kind="data")
    graph = build.build().graph
    assert graph.weight.tolist() == [1, 2, 3, 4]
    assert graph.kind.tolist() == [3, 3, 3, 0]


def test_pages_may_be_declared_later_and_a_graph_stays_as_it_was():
    build = GraphBuilder("a")
    first = build.build().graph
    build.declare("b")
    build["a"] >> build["b"]
    assert (first.num_pages, first.num_edges) == (1, 0)
    assert edges(build.build()) == {("a", "b", "data")}
    assert GraphBuilder("a", num_pages=7).build().graph.num_pages == 7


def test_pages_of_a_bus():
    with mmsb.start(page_bytes=64, capacity=16) as bus:
        spare = bus.create_page(4)
        wind = bus.create_page(100, name="wind")  # spans two fixed-size pages
        rain, total = bus.create_page(100, name="rain"), bus.create_page(4, name="total")
        build = GraphBuilder(spare, wind, rain, total, num_pages=bus.graph.num_pages)
        build["wind"] >> build[rain] >> build["total"]
        build[spare] >> build[total]
        graph, names = build.build()
        assert names == {"wind[0]": 1, "wind[1]": 2, "rain[0]": 3, "rain[1]": 4, "total": 5}
        assert {*zip(graph.parent.tolist(), graph.child.tolist(), strict=True)} == {
            (1, 3),
            (2, 4),
            (3, 5),
            (4, 5),
            (0, 5),
        }
        bus.add_dependency(graph.parent, graph.child)
        np.testing.assert_array_equal(bus.graph.levels(), graph.levels())
        with pytest.raises(PageNotFoundError, match="isn't declared"):
            build[bus.create_page(4, name="late")]
        with pytest.raises(InvalidTypeError, match="one or the other"):
            build.declare("tea")
        long = bus.create_page(200, name="long")
        build.declare(long)
        with pytest.raises(InvalidArgumentError, match="a page of 2 fixed-size pages and one of 4"):
            build[wind] >> build[long]


SLIPS = {
    "typo": (lambda b: b["tee"], PageNotFoundError, "no page is named 'tee'; did you mean 'tea'?"),
    "typo on the right": (lambda b: b["tea"] >> "totl", PageNotFoundError, "did you mean 'total'"),
    "unknown": (lambda b: b["xyz"], PageNotFoundError, "declare it first .names so far: 'tea', 'milk', 'total'"),
    "number": (lambda b: b[0], InvalidTypeError, "got a int for a page"),
    "right side": (lambda b: b["tea"] >> 3, InvalidTypeError, "got a int for a page"),
    "list": (lambda b: b[["tea"]], InvalidTypeError, "got a list"),
    "cycle": (lambda b: b["total"] >> b["tea"], GraphCycleError, "2 pages: tea -> total -> tea;"),
    "itself": (lambda b: b["tea", "milk"] >> b["milk"], GraphCycleError, "itself: milk -> milk;"),
    "again": (lambda b: b["tea"] >> b["total"], InvalidArgumentError, "tea -> total is a data edge already"),
    "twice": (lambda b: b["milk", "milk"] >> b["tea"], InvalidArgumentError, "milk -> tea is a data edge already, or"),
    "weight of some": (lambda b: b["milk"].to("total", weight=1), InvalidArgumentError, "some edges have a weight"),
    "kind": (lambda b: b["milk"].to("total", kind="dta"), InvalidArgumentError, "unknown edge kind 'dta'"),
    "other builder": (lambda b: b["milk"] >> GraphBuilder("x")["x"], InvalidArgumentError, "belong to two"),
    "declared twice": (lambda b: b.declare("new", "tea"), InvalidArgumentError, "'tea' is declared already"),
    "declared number": (lambda b: b.declare("new", 3), InvalidTypeError, "got a int for a page"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_named_and_changes_nothing(slip):
    act, error, text = SLIPS[slip]
    build = GraphBuilder("tea", "milk", "total")
    build["tea"] >> build["total"]
    before = build.build()
    with pytest.raises(error, match=text):
        act(build)
    assert build.build().graph is before.graph
    assert build.build().names == before.names


def test_too_few_pages_and_bad_defaults_are_named():
    with pytest.raises(InvalidArgumentError, match="needs num_pages=2 or more, but 1"):
        GraphBuilder("a", "b", num_pages=1)
    with pytest.raises(InvalidTypeError, match="num_pages is a str"):
        GraphBuilder("a", num_pages="b")
    with pytest.raises(InvalidArgumentError, match="unknown edge kind"):
        GraphBuilder("a", kind="b")
    build = GraphBuilder("a", "b", weight=np.nan)
    with pytest.raises(InvalidArgumentError, match="nan"):
        build["a"] >> build["b"]
    with pytest.raises(InvalidArgumentError, match="weight has shape"):
        build["a"].to("b", weight=[1, 2])
