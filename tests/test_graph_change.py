"""Edges added to a graph and taken out of it, in small batches: equal to building anew, without more work than that."""

import itertools

import equinox as eqx
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from mmsb_jax import GraphCycleError, InvalidArgumentError
from mmsb_jax.graph import EdgeKind, ShadowPageGraph, _change

KINDS = list(EdgeKind)
PAGES = 12


@pytest.fixture(autouse=True, scope="module")
def every_change_is_small():
    """A test's graphs are tiny; each change is to go the way of a small one, whose walk may be cut short anywhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_change, "SMALL", 0)
        yield


@pytest.fixture
def walks(monkeypatch):
    """Passes over all edges that a change made for levels."""
    passes = []
    whole = _change.all_levels
    monkeypatch.setattr(_change, "all_levels", lambda *arrays: passes.append(1) or whole(*arrays))
    return passes


def columns(edges, weighted):
    parent, child, kind, weight = ([e[i] for e in edges] for i in range(4))
    return (parent, child), {"kind": kind, "weight": weight if weighted else None}


def build(edges, weighted):
    ends, more = columns(edges, weighted)
    return ShadowPageGraph.from_edges(*ends, **more, num_pages=PAGES)


@st.composite
def programs(draw):
    """A few edges to begin with, then batches to add and to remove, cycles included; how far a walk may go."""
    ids = st.integers(0, PAGES - 1)
    weight = st.integers(0, 99)
    edge = st.tuples(ids, ids, st.sampled_from(KINDS), weight)
    rank = draw(st.permutations(range(PAGES)))
    first = [
        (*((a, b) if rank[a] < rank[b] else (b, a)), k, w)
        for a, b, k, w in draw(st.lists(edge, min_size=1, max_size=30))
        if a != b
    ]
    batches = st.lists(st.tuples(st.booleans(), st.lists(edge, max_size=4)), max_size=8)
    return first, draw(batches), draw(st.sampled_from([0, 3, 1000, 1000]))


def random_edges(rng, count, rank):
    """Edges from lower to higher rank, as (parent, child, kind, weight)."""
    ends = rank[np.sort(rng.choice(PAGES * PAGES, count)[:, None] // [1, PAGES] % PAGES, axis=1)]
    ends = ends[ends[:, 0] != ends[:, 1]].tolist()
    return [(a, b, KINDS[rng.integers(4)], float(rng.integers(99))) for a, b in ends]


def test_many_random_batches_equal_building_anew(rng, monkeypatch):
    monkeypatch.setattr(_change, "_allowance", lambda graph: 1000)
    for _ in range(150):
        rank = rng.permutation(PAGES)
        edges = random_edges(rng, 20, rank)
        batch = random_edges(rng, 8, rank)
        ends, more = columns(batch, weighted=True)
        graph = build(edges, weighted=True).with_edges(*ends, **more)
        assert eqx.tree_equal(graph, build([*edges, *batch], weighted=True))
        gone = [edges[i] for i in rng.choice(len(edges), 4)]
        graph = graph.without_edges([e[0] for e in gone], [e[1] for e in gone])
        assert eqx.tree_equal(graph, build(_removed([*edges, *batch], gone, None), weighted=True))


def test_edges_of_one_batch_close_a_cycle_together(monkeypatch):
    monkeypatch.setattr(_change, "_allowance", lambda graph: 1000)
    graph = ShadowPageGraph.from_edges([0, 1], [1, 2], num_pages=4)
    with pytest.raises(GraphCycleError) as caught:
        graph.with_edges([3, 2], [1, 3])  # the first leads to a higher level, the second lifts its parent
    assert caught.value.cycle == (1, 2, 3, 1)


def _removed(edges, batch, kind):
    pairs = {(a, b) for a, b, *_ in batch}
    return [e for e in edges if (e[0], e[1]) not in pairs or kind not in (None, e[2])]


@given(programs(), st.data())
def test_any_sequence_of_changes_equals_building_anew(program, data):
    edges, batches, walked = program
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_change, "_allowance", lambda graph: walked)
        weighted = data.draw(st.booleans())
        graph = build(edges, weighted)
        for adds, batch in batches:
            if adds:
                ends, more = columns(batch, weighted)
                before = build(edges, weighted)
                try:
                    wanted = build([*edges, *batch], weighted)
                except GraphCycleError:
                    with pytest.raises(GraphCycleError) as caught:
                        graph.with_edges(*ends, **more)
                    cycle, pairs = caught.value.cycle, {e[:2] for e in [*edges, *batch]}
                    assert cycle[0] == cycle[-1] == min(cycle)
                    assert len(set(cycle)) == len(cycle) - 1 >= 1
                    assert {*itertools.pairwise(cycle)} <= pairs
                    assert eqx.tree_equal(graph, before)
                    continue
                graph = graph.with_edges(*ends, **more)
                edges = [*edges, *batch]
            elif edges:
                kind = data.draw(st.sampled_from([None, *KINDS]))
                batch = data.draw(st.lists(st.sampled_from(edges), max_size=3))
                batch = [e for e in batch if kind in (None, e[2])]
                graph = graph.without_edges([e[0] for e in batch], [e[1] for e in batch], kind=kind)
                edges = _removed(edges, batch, kind)
                wanted = build(edges, weighted)
            else:
                continue
            assert eqx.tree_equal(graph, wanted)
            assert all(not leaf.flags.writeable for leaf in (graph.parent, graph.out_edge, graph.levels()))


def test_a_pair_that_is_not_there_is_named_and_nothing_is_removed():
    graph = ShadowPageGraph.from_edges([0, 1], [1, 2], num_pages=4)
    with pytest.raises(InvalidArgumentError, match=r"no edge 2 -> 3 to remove \(and 1 more"):
        graph.without_edges([0, 2, 1], [1, 3, 3])
    with pytest.raises(InvalidArgumentError, match="no edge 0 -> 1 of kind COMPILER"):
        graph.without_edges(0, 1, kind="compiler")
    assert graph.num_edges == 2


def chain(pages):
    return ShadowPageGraph.from_edges(np.arange(pages - 1), np.arange(1, pages), num_pages=pages)


def test_a_level_that_stays_ends_the_walk(walks):
    graph = chain(1000)
    graph.with_edges([0, 5], [999, 7]).without_edges([0, 5], [999, 7])
    assert not walks
    assert graph.with_edges(0, 999).levels() is graph.levels()


def test_a_walk_that_grows_long_becomes_one_pass(walks):
    graph = chain(1000)
    longer = graph.without_edges(0, 1)
    assert longer.levels().tolist() == [0, *range(999)]
    assert len(walks) == 1
    with pytest.raises(GraphCycleError, match="1000 pages"):
        graph.with_edges(999, 0)
    assert len(walks) == 2
    assert eqx.tree_equal(longer.with_edges(0, 1), graph)
    assert len(walks) == 3


def test_a_short_cycle_is_found_by_the_walk_alone(walks):
    graph = chain(1000)
    with pytest.raises(GraphCycleError) as caught:
        graph.with_edges(501, 500)
    assert caught.value.cycle == (500, 501, 500)
    with pytest.raises(GraphCycleError) as caught:  # two new edges make it together
        graph.with_edges([999, 3], [998, 3])
    assert caught.value.cycle in [(998, 999, 998), (3, 3)]
    assert not walks


def test_the_edges_between_pages():
    graph = ShadowPageGraph.from_edges(
        [0, 0, 0, 1], [1, 1, 2, 2], kind=["data", "control", "data", "compiler"], num_pages=3
    )
    assert graph.has_edge([0, 0, 1, 2], [1, 2, 2, 0]).tolist() == [True, True, True, False]
    assert graph.has_edge([0, 0], [1, 2], "control").tolist() == [True, False]
    assert graph.has_edge(1, 2, "data").tolist() == [False]
    assert graph.has_edge([], []).tolist() == []
