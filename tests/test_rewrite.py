"""Rewriting a graph: what is read holds the same bits, by full recomputation and by waves, and there is less to do."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsb_jax as mmsb
from mmsb_jax import Rule, ShadowPageGraph, State, Term, semiring
from tests.superfluous import (
    CONTENTS,
    FAMILIES,
    FREE,
    PAGES,
    WORDS,
    Case,
    bits,
    case_of,
    draft,
    everything,
    halved,
    plan_of,
    set_first,
    wave,
)

NAMES = ("unread", "chains", "shared", "parallel", "redundant")


def check(seed, family, only, exact=True):
    case = case_of(seed, family)
    found = mmsb.layout.rewrite(case.graph, case.rules, case.keep, only=only, exact=exact)
    rng = np.random.default_rng(seed)
    values = rng.choice(CONTENTS[family], (PAGES, WORDS))
    plans = [plan_of(case, case.graph, case.rules), plan_of(case, found.graph, found.rules)]
    before, after = (np.asarray(everything(plan, values)) for plan in plans)
    np.testing.assert_array_equal(bits(case, before), bits(case, after))

    dirty = np.resize(rng.choice(PAGES, 4), 4).astype(np.int32)
    changed = before.copy()
    changed[dirty] = rng.choice(CONTENTS[family], (4, WORDS))
    state = State(
        jnp.asarray(changed),
        jnp.arange(PAGES, dtype=jnp.int32),
        jnp.zeros(PAGES, jnp.uint32),
        jnp.asarray(np.uint32(5)),
    )
    one, other = (wave(plan, state, dirty).state.view() for plan in plans)
    np.testing.assert_array_equal(bits(case, one), bits(case, other))

    assert found.graph.num_edges <= case.graph.num_edges
    assert np.isin(found.dropped, case.read).sum() == 0
    again = mmsb.layout.rewrite(found.graph, found.rules, case.keep, only=only, exact=exact)
    assert not any(again.report.counts.values()), again.report
    assert again.graph is found.graph
    assert all(one is other for one, other in zip(again.rules, found.rules, strict=True))
    return found.report.counts


@pytest.mark.parametrize("family", FAMILIES)
@given(seed=st.integers(0, 2**32 - 1), only=st.one_of(st.none(), st.lists(st.sampled_from(NAMES), max_size=2)))
def test_what_is_read_stays_bit_for_bit(family, seed, only):
    """By recomputing everything, and by a wave; and what was rewritten has nothing left to rewrite."""
    check(seed, family, only)


# What each rewrite does, and what none may do.

MIN, SUM = semiring.min_plus, semiring.plus_times


def counts_of(edges, rules, keep=None, weight=None, pages=8, kind=None, **options):
    parent, child = np.array(edges).T
    graph = ShadowPageGraph.from_edges(parent, child, weight=weight, kind=kind, num_pages=pages)
    found = mmsb.layout.rewrite(graph, rules, keep, **options)
    after = found.graph
    weights = [None] * after.num_edges if after.weight is None else after.weight.tolist()
    left = list(zip(after.parent.tolist(), after.child.tolist(), weights, strict=True))
    return {name: count for name, count in found.report.counts.items() if count}, left, found.dropped.tolist()


def fold(pages, of=MIN, **options):
    return Rule.semiring("fold", pages=pages, semiring=of, **options)


def test_parallel_edges_meet_in_plus():
    edges, weight = [(0, 1)] * 5 + [(0, 2)] * 2, [5, 2, 3, 7, 2, 1, 1]
    assert counts_of(edges, [fold([1, 2], weighted=True)], weight=weight) == (
        {"parallel": 5},
        [(0, 1, 2.0), (0, 2, 1.0)],
        [],
    )
    whole = [fold([1, 2], SUM, weighted=True, dtype=jnp.int32)]
    assert counts_of(edges, whole, weight=weight)[1] == [(0, 1, 19.0), (0, 2, 2.0)]
    assert counts_of(edges, [fold([1, 2])]) == ({"parallel": 5}, [(0, 1, None), (0, 2, None)], [])
    # 2²⁴ + 1 is no weight; sums without weights have none to meet in; infinite ones may make NaN.
    assert counts_of([(0, 1)] * 2, [fold([1], SUM, weighted=True, dtype=jnp.int32)], weight=[2**24, 1])[0] == {}
    assert counts_of(edges, [fold([1, 2], SUM, dtype=jnp.int32)])[0] == {}
    assert counts_of([(0, 1)] * 2, [fold([1], weighted=True)], weight=[np.inf, 3])[0] == {}
    # What some devices take for 0, and what no unsigned integer is.
    assert counts_of([(0, 1)] * 2, [fold([1], weighted=True)], weight=[1e-40, 3])[0] == {}
    masks = [fold([1], semiring.or_and, weighted=True, dtype=jnp.uint32)]
    assert counts_of([(0, 1)] * 2, masks, weight=[-1, 3])[0] == {}
    assert counts_of([(0, 1)] * 2, masks, weight=[12, 3])[1] == [(0, 1, 15.0)]
    assert counts_of([(0, 1)] * 2, [fold([1], weighted=True)], weight=[np.inf, np.inf])[0] == {"parallel": 1}


def test_chains_meet_in_times():
    edges, weight = [(0, 1), (1, 2), (2, 3), (3, 4), (3, 5)], [2, 3, 4, 5, 6]
    found = counts_of(edges, [fold(range(1, 6), SUM, weighted=True, dtype=jnp.uint32)], [4, 5], weight)
    assert found == ({"unread": 3, "chains": 4}, [(0, 4, 120.0), (0, 5, 144.0)], [1, 2, 3])
    copies = Rule.passthrough("copy", pages=[1, 2, 3])
    assert counts_of(edges, [copies, fold([4, 5], SUM)], [4, 5])[1] == [(0, 4, None), (0, 5, None)]
    # A copy of a page of which one word alone is a copy.
    first = [Rule.passthrough("first", pages=[1], words=0), Rule.passthrough("copy", pages=[2])]
    assert counts_of([(0, 1), (1, 2)], first, [2])[0] == {}
    # Signs: saturation in between; kept pages are computed on, but read through.
    mixed = [fold(range(1, 6), weighted=True, dtype=jnp.int32)]
    assert counts_of(edges[:2], [fold([1, 2], weighted=True, dtype=jnp.int32)], [2], [2, -3])[0] == {}
    assert counts_of(edges[:3], mixed, [2, 3], [-2, -3, -4]) == (
        {"unread": 3, "chains": 2},
        [(0, 2, -5.0), (0, 3, -9.0)],
        [1, 4, 5],
    )


def test_floats_that_round_are_left_alone():
    edges, weight = [(0, 1), (1, 2), (0, 2), (0, 2)], [0.5, 0.3, 2, 3]
    for of in (SUM, semiring.log_plus):
        rules = [fold([1, 2], of, weighted=True)]
        assert counts_of(edges, rules, [2], weight)[0] == {}
        loose, left, _ = counts_of(edges, rules, [2], weight, exact=False)
        assert loose["chains"] == 1
        assert loose["parallel"] == 2
        np.testing.assert_allclose(left[0][2], 5.15 if of is SUM else np.log(np.exp(0.8) + np.exp(2) + np.exp(3)), 1e-6)
    assert counts_of(edges[:2], [fold([1, 2], weighted=True)], [2], weight[:2])[0] == {}
    assert counts_of(edges[:2], [fold([1, 2], weighted=True)], [2], [0, 0.3])[0] == {"unread": 1, "chains": 1}


def test_redundant_edges_are_those_that_a_longer_path_implies():
    path = [(0, 1), (1, 2), (2, 3), (3, 4)]
    edges = [*path, (0, 4), (1, 3), (0, 2)]
    kept = [(p, c, None) for p, c in path]
    both = {"only": ["redundant"], "pages": 5}
    assert counts_of(edges, [fold(range(1, 5))], **both) == ({"redundant": 3}, kept, [])
    # The only way around has four edges.
    assert counts_of([*path, (0, 4)], [fold(range(1, 5))], **both) == ({"redundant": 1}, kept, [])
    assert counts_of(edges, [fold(range(1, 5), SUM, dtype=jnp.int32)], **both)[0] == {}
    assert counts_of([*path, (0, 4)], [fold([1, 2, 4]), fold([3], words=1)], **both)[0] == {}
    weighed = [fold([1, 2], weighted=True, dtype=jnp.int32)]
    long = [(0, 1), (1, 2), (2, 3), (0, 3)]
    for straight, goes in ((3, True), (2, False)):
        rules = [fold([1, 2, 3], weighted=True, dtype=jnp.int32)]
        assert (counts_of(long, rules, weight=[1, 1, 1, straight], **both)[0] == {"redundant": 1}) == goes, straight
    for straight, goes in ((7, True), (5, True), (4, False)):
        found = counts_of([(0, 1), (1, 2), (0, 2)], weighed, weight=[2, 3, straight], **both)
        assert (found[0] == {"redundant": 1}) == goes, straight


def test_unread_pages_are_dropped():
    edges = [(0, 1), (1, 2), (1, 3), (3, 4)]
    assert counts_of(edges, [fold([1, 2, 3, 4], SUM)], [2]) == ({"unread": 2}, [(0, 1, None), (1, 2, None)], [3, 4])
    assert counts_of(edges, [fold([1, 2, 3, 4], SUM)], only=["unread"])[0] == {}
    # Whoever has no rule, or another kind of edge, counts as read, and so does what an unknown rule reads.
    assert counts_of(edges, [fold([1, 2, 3], SUM)], [])[2] == [2]
    assert counts_of(edges, [fold([1, 2, 3, 4], SUM)], [], kind=["data", "data", "control", "data"])[2] == [2, 4]
    opaque = Rule("opaque", pages=[4], terms=[Term(SUM, halved)], update=set_first, dtype=jnp.float32)
    assert counts_of(edges, [fold([1, 2, 3], SUM), opaque], [])[2] == [2]


def test_common_expressions_are_computed_once():
    edges = [(0, 2), (1, 2), (0, 3), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7)]
    rules = [fold([2, 3], SUM), fold([4, 5], SUM), fold([6, 7], MIN)]
    found = counts_of(edges, rules, [6, 7])
    assert found == (
        {"unread": 2, "shared": 2},
        [(0, 2, None), (1, 2, None), (2, 4, None), (4, 6, None), (4, 7, None)],
        [3, 5],
    )
    assert counts_of(edges, rules)[0] == {"shared": 2}
    assert counts_of(edges, rules, [5, 6, 7])[2] == [3, 4]
    # Sums of floats have an order: 7 may read 2 instead of 3, before 4; but not instead of 6, behind it.
    swapped = [(0, 2), (1, 2), (0, 3), (1, 3), (2, 5), (4, 5), (3, 7), (4, 7)]
    assert counts_of(swapped, [fold([2, 3], SUM), fold([5, 7], SUM)], [5, 7])[0]["shared"] == 1
    behind = [(0, 2), (1, 2), (0, 6), (1, 6), (4, 7), (6, 7), (2, 5)]
    assert counts_of(behind, [fold([2, 6], SUM), fold([5, 7], SUM)], [5, 7])[0] == {}
    assert counts_of(behind, [fold([2, 6], SUM), fold([5, 7], MIN)], [5, 7])[0]["shared"] == 1
    # After 0, 2 and 6 are one: 4, 5, 2 isn't 2, 4, 5.
    three = [(0, 2), (1, 2), (0, 6), (1, 6), (2, 7), (4, 7), (5, 7), (4, 8), (5, 8), (6, 8), (7, 9), (8, 9)]
    for of, count in ((SUM, 0), (MIN, 1)):
        rules = [fold([2, 6], SUM), fold([7, 8], of), fold([9], MIN)]
        assert counts_of(three, rules, [7, 8, 9], only=["shared"], pages=10)[0].get("shared", 0) == 2 * count, of
    # Two of each kind, all of the same parents.
    two = [(p, c) for c in (2, 3, 4, 5) for p in (0, 1)] + [(3, 6), (5, 6)]
    rules = [fold([2, 3], SUM), fold([4, 5], semiring.max_min), fold([6], MIN)]
    assert counts_of(two, rules, [2, 4, 6])[1][-2:] == [(2, 6, None), (4, 6, None)]
    # Copies of pages that only share the words they compute.
    words = [fold([2, 3], SUM), Rule.passthrough("copy", pages=[4, 5])]
    assert counts_of(edges[:6], words)[0] == {}
    assert counts_of(edges[:6], [fold([2, 3], SUM), fold([4, 5], SUM, words=1)])[0] == {}


def test_equal_hashes_prove_nothing(monkeypatch):
    monkeypatch.setattr("mmsb_jax.adaptive._shared._mixed", np.zeros_like)
    weighed = fold([2, 3], weighted=True)
    assert counts_of([(0, 2), (0, 3), (2, 4), (3, 4)], [weighed, fold([4])], weight=[1, 2, 0, 0])[0] == {}
    for family in FAMILIES:
        found = sum(check(seed, family, ["shared"])["shared"] for seed in range(15))
        assert found > 0


def test_no_cycle_comes_of_other_edges():
    """3 waits for 5 by another kind of edge: 5 can't read it instead of 2."""
    edges, kinds = [(0, 2), (0, 3), (2, 5), (5, 3), (3, 6)], ["data"] * 3 + ["control", "data"]
    found = counts_of(edges, [fold([2, 3], SUM), fold([5, 6], MIN)], [3, 5, 6], kind=kinds)
    assert (2, 5, None) in found[1]
    assert (2, 6, None) in found[1]


def test_other_rules_and_edges_stay():
    opaque = Rule("opaque", pages=[1, 2], terms=[Term(MIN, halved)], update=set_first, dtype=jnp.float32)
    assert counts_of([(0, 1), (0, 1), (0, 2), (1, 2)], [opaque], [])[0] == {}
    parents = Rule.of_parents("parents", pages=[1, 2], update=lambda own, parents, mask, weight: own)
    assert counts_of([(0, 1), (0, 1), (1, 2)], [parents], [])[0] == {}
    kinds = ["control", "device_sync", "compiler", "compiler"]
    assert counts_of([(0, 1)] * 4, [fold([1])], [], kind=kinds)[0] == {}
    assert counts_of([(0, 1)] * 3, [fold([2])], [])[0] == {"unread": 1}
    seen = fold([1, 2], dtype=None)  # whatever a caller passes
    assert counts_of([(0, 1), (0, 1), (1, 2)], [seen], [])[0] == {}


def test_fractions_come_about_only_where_no_integers_are_weighed():
    """One weight that is no whole number would make all integers of a plan impossible to weigh."""
    edges, weight = [(0, 1)] * 2 + [(0, 2)], [2**24, 1, 3]
    sums = fold([1], SUM, weighted=True)
    assert counts_of(edges, [sums], weight=weight, exact=False)[0] == {"parallel": 1}
    both = [sums, fold([2], weighted=True, dtype=jnp.int32)]
    found = counts_of(edges, both, weight=[2**24, 2**24, 3], exact=False)
    assert found[0] == {}


def test_without_rounding_counts_it_is_close(rng):
    total = chained = 0
    for seed in range(20):
        made = draft(np.random.default_rng(seed), "floats")
        edges = [(p, c) for c in range(FREE) for p, _ in made.into[c]]
        weight = rng.uniform(0.5, 1.5, len(edges))
        graph = ShadowPageGraph.from_edges(*np.array(edges).T, weight=weight, num_pages=PAGES)
        ruled = [page for page in range(FREE) if made.into[page]]
        groups = [fold([*ruled[::2], FREE], SUM, weighted=True), fold([*ruled[1::2], FREE + 1], SUM, weighted=True)]
        case = Case("floats", graph, groups, None, np.isin(np.arange(PAGES), [*ruled, FREE, FREE + 1]))
        keep = [*ruled[-4:], FREE, FREE + 1]
        found = mmsb.layout.rewrite(graph, groups, keep, exact=False)
        plans = [plan_of(case, graph, groups), plan_of(case, found.graph, found.rules)]
        values = rng.uniform(0.5, 1.5, (PAGES, WORDS)).astype(np.float32)
        before, after = (np.asarray(everything(plan, values))[keep] for plan in plans)
        np.testing.assert_allclose(before, after, rtol=1e-5)
        total += found.report.counts["parallel"]
        chained += found.report.counts["chains"]
    assert total > 20
    assert chained > 20


def test_a_report_says_what_was_done():
    graph = ShadowPageGraph.from_edges([0, 0, 1], [1, 1, 2], num_pages=3)
    found = mmsb.layout.rewrite(graph, [fold([1, 2])], [2], exact=False, only=("parallel", "unread"))
    assert (found.report.edges, found.report.pages) == ((3, 2), (2, 2))
    assert list(found.report.counts) == ["unread", "parallel"]
    assert "3 to 2 edges" in str(found.report)
    assert "but for rounding" in str(found.report)
    assert found.report._repr_html_().startswith("<pre>3 to 2")
    nothing = mmsb.layout.rewrite(ShadowPageGraph.from_edges([], [], num_pages=0), [])
    assert nothing.report.edges == (0, 0)


def test_deep_and_wide_graphs_take_no_time():
    deep = ShadowPageGraph.from_edges(np.arange(20_000), np.arange(1, 20_001), num_pages=20_001)
    found = mmsb.layout.rewrite(deep, [fold(np.arange(1, 20_001))], [20_000])
    assert found.graph.num_edges == 1
    wide = ShadowPageGraph.from_edges(
        np.concatenate([np.zeros(20_000, int), np.arange(1, 20_001), [0]]),
        np.concatenate([np.arange(1, 20_001), np.full(20_001, 20_001)]),
        num_pages=20_002,
    )
    found = mmsb.layout.rewrite(wide, [fold(np.arange(1, 20_002))], only=["redundant"])
    assert found.report.counts == {"redundant": 1}
