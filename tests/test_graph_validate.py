"""The report on edges, of graphs and of what never becomes one."""

import itertools
from collections import Counter

import equinox as eqx
import hypothesis.strategies as st
import networkx as nx
import numpy as np
import pytest
from hypothesis import given

from mmsb_jax import GraphCycleError, InvalidArgumentError, InvalidTypeError, PageNotFoundError
from mmsb_jax.graph import ShadowPageGraph, validate_edges
from tests.graphs import build, edge_lists, oracle

COUNTS = ["dangling", "cycles", "duplicates", "orphans"]


def expected(pages, edges):
    """By networkx and by counting, in the order of COUNTS."""
    whole = [(a, b, k) for a, b, k in edges if 0 <= a < pages and 0 <= b < pages]
    other = oracle(pages, whole)
    knots = [c for c in nx.strongly_connected_components(other) if len(c) > 1 or other.has_edge(*[*c] * 2)]
    doubles = sum(count - 1 for count in Counter(whole).values())
    return len(edges) - len(whole), len(knots), doubles, len([page for page in other if other.degree(page) == 0])


@given(edge_lists(acyclic=False, max_edges=16), st.integers(0, 3))
def test_any_edges_are_judged_without_an_error(case, lost):
    pages, edges = case[0] - lost, case[1]
    pages = max(pages, 0)
    report = validate_edges(*([e[i] for e in edges] for i in (0, 1)), kind=[e[2] for e in edges], num_pages=pages)
    assert tuple(report[name].count for name in COUNTS) == expected(pages, edges)
    try:
        build(pages, edges)
    except (GraphCycleError, PageNotFoundError):
        assert not report.ok
    else:
        assert report.ok
    steps = {(a, b) for a, b, _ in edges}
    for cycle in report["cycles"].examples:
        assert cycle[0] == cycle[-1]
        assert {*itertools.pairwise(cycle)} <= steps
    assert len({frozenset(cycle) for cycle in report["cycles"].examples}) == min(5, report["cycles"].count)
    assert all(pair in steps for name in ("dangling", "duplicates") for pair in report[name].examples)


@given(edge_lists())
def test_a_graph_is_reported_like_its_edges(case):
    graph = build(*case)
    report, raw = graph.validate(), validate_edges(graph.parent, graph.child, kind=graph.kind, num_pages=case[0])
    assert report.ok
    for name in COUNTS:
        assert (report[name].count, report[name].examples) == (raw[name].count, raw[name].examples)


def test_the_report_is_a_table():
    report = validate_edges([0, 1, 2, 0, 0, 9], [1, 2, 0, 3, 3, 4], num_pages=6)
    lines = [" ".join(line.split()) for line in str(report).splitlines()]
    assert lines[0].startswith("6 pages, 6 edges: NOT A GRAPH (")
    assert lines[1] == "check found ms for example"
    assert [line.split(".")[0] for line in lines[2:]] == [
        "dangling ERROR 1 0",
        "cycles ERROR 1 " + lines[3].split()[3].split(".")[0],
        "duplicates allowed 1 0",
        "orphans allowed 2 0",
    ]
    assert lines[3].endswith("0 -> 1 -> 2 -> 0")
    assert report["dangling"].examples == ((9, 4),)
    assert report["orphans"].examples == ((4,), (5,))
    assert report.seconds == sum(check.seconds for check in report.checks) > 0
    assert repr(report) == str(report)


def test_many_findings_are_counted_and_a_few_are_shown():
    ring = np.arange(40)
    report = validate_edges(ring, ring, num_pages=100)
    assert (report["cycles"].count, len(report["cycles"].examples)) == (40, 5)
    assert (report["orphans"].count, report["orphans"].examples[0]) == (60, (40,))
    assert str(report).count("…") == 2
    long = validate_edges(ring, (ring + 1) % 40, num_pages=40)
    assert long["cycles"].examples == ((*range(40), 0),)
    assert "0 -> 1 -> 2 -> 3 -> (36 more) -> 0" in str(long)


@pytest.mark.parametrize("where", ["child", "parent"])
def test_an_array_that_somebody_changed_is_found(where):
    graph = ShadowPageGraph.from_edges([0, 1], [1, 2], num_pages=3)
    for value, name in [(7, "dangling"), (-1, "dangling"), ({"child": 0, "parent": 2}[where], "cycles")]:
        wrong = getattr(graph, where).copy()
        wrong[1 if where == "child" else 0] = value
        report = eqx.tree_at(lambda g: getattr(g, where), graph, wrong).validate()
        assert not report.ok
        assert report[name].count == 1


def test_what_are_no_edges_is_refused():
    with pytest.raises(InvalidTypeError, match="parent has dtype float64"):
        validate_edges([0.5], [1], num_pages=2)
    with pytest.raises(InvalidArgumentError, match="equally many"):
        validate_edges([0], [1, 1], num_pages=2)
    with pytest.raises(InvalidArgumentError, match="num_pages is -1"):
        validate_edges([0], [1], num_pages=-1)
    with pytest.raises(InvalidTypeError, match="num_pages is a str"):
        validate_edges([0], [1], num_pages="2")
    with pytest.raises(InvalidArgumentError, match="kind has shape"):
        validate_edges([0], [1], kind=["data"] * 2, num_pages=2)
    with pytest.raises(InvalidArgumentError, match="no check named 'cycle'"):
        validate_edges([], [], num_pages=0)["cycle"]
    big = validate_edges(np.array([2**40]), np.array([0], np.uint64), num_pages=2)
    assert big["dangling"].examples == ((2**40, 0),)
