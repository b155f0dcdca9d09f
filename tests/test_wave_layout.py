"""Graphs that are laid out for a page table: for that one and for any other, a wave comes to the same bits."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsb_jax as mmsb
from mmsb_jax.propagation import pages_needed, values_after

from .plans import PAGES, WORDS, Case, fresh_state, poke

NEVER = 2**31 - 1
SWEEP_ABOVE = (0, 3, 6, NEVER)
TABLES = [np.random.default_rng(seed).permutation(PAGES).astype(np.int32) for seed in range(3)]
run = jax.jit(functools.partial(mmsb.propagate, capacity=PAGES))


@functools.cache
def case_of(seed, table=None):
    how = {"sweep_above": SWEEP_ABOVE[seed % 4]}
    return Case(seed, **how) if table is None else Case(seed, slot_of_page=TABLES[table], **how)


def lying(state, table):
    return mmsb.layout.relayout(state, mmsb.layout.Layout(TABLES[table]))


def rows(deltas):
    """Of a batch, by page: the order of its rows is the layout's."""
    page = np.asarray(deltas.page)
    order = np.argsort(page, kind="stable")
    return page[order], np.asarray(deltas.words)[order][page[order] < PAGES], np.asarray(deltas.mask)[order]


@given(
    seed=st.integers(0, 2**32 - 1),
    graph=st.integers(0, 7),
    meant=st.integers(0, 2),
    real=st.one_of(st.none(), st.integers(0, 2)),
)
def test_a_wave_comes_to_the_same_bits(seed, graph, meant, real):
    rng, plain = np.random.default_rng(seed), case_of(graph)
    state, dirty = poke(rng, fresh_state(rng, plain))
    state = state if real is None else lying(state, real)
    expected, found = run(plain.plan, state, dirty), run(case_of(graph, meant).plan, state, dirty)
    chex.assert_trees_all_equal(found.state, expected.state)
    chex.assert_trees_all_equal(found.digest_change, expected.digest_change)
    assert int(found.report.recomputed) == int(expected.report.recomputed)
    assert int(found.report.changed) == int(expected.report.changed)
    for one, other in zip(rows(found.deltas), rows(expected.deltas), strict=True):
        np.testing.assert_array_equal(one, other)


def test_under_vmap_each_state_may_have_its_own_table(rng):
    case = case_of(1, 0)
    worlds = [poke(rng, lying(fresh_state(rng, case), table)) for table in (0, 1, 0)]
    one_by_one = [run(case_of(1).plan, state, dirty) for state, dirty in worlds]
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *worlds)
    together = jax.jit(jax.vmap(run, in_axes=(None, 0, 0)))(case.plan, *stacked)
    chex.assert_trees_all_equal(together.state, jax.tree.map(lambda *xs: jnp.stack(xs), *[o.state for o in one_by_one]))


@pytest.mark.parametrize("graph", range(4))
def test_values_and_reach_are_by_id(graph, rng):
    values = rng.integers(0, 2**32, (PAGES, WORDS), np.uint32)
    plain, laid_out = case_of(graph), case_of(graph, 1)
    after = jax.jit(values_after)
    np.testing.assert_array_equal(after(laid_out.plan, values), after(plain.plan, values))
    for page in range(PAGES):
        dirty = np.array([page], np.int32)
        np.testing.assert_array_equal(pages_needed(laid_out.exact, dirty), pages_needed(plain.exact, dirty))


def test_graphs_of_different_tables_share_what_is_compiled(rng):
    state, dirty = poke(rng, fresh_state(rng, case_of(2)))
    for table in range(3):
        run(case_of(2, table).plan, state, dirty)
    before = run._cache_size()
    run(case_of(3, 2).plan, lying(state, 1), dirty)
    assert run._cache_size() == before


def test_the_table_that_ids_give_anyway_is_none_at_all():
    graph = mmsb.ShadowPageGraph.from_edges([0], [1], num_pages=2)
    copy = mmsb.Rule.passthrough("copy", pages=[1])
    assert mmsb.RuleGraph.of(graph, [copy], slot_of_page=[0, 1]).number is None


@pytest.mark.parametrize("table", [[0, 0], [0, 1, 2], [[0, 1]], [0.0, 1.0], [1, 2], ["a", "b"]])
def test_what_is_no_page_table_is_refused(table):
    graph = mmsb.ShadowPageGraph.from_edges([0], [1], num_pages=2)
    with pytest.raises(mmsb.InvalidArgumentError, match="permutation of the slots 0 to 1"):
        mmsb.RuleGraph.of(graph, [mmsb.Rule.passthrough("copy", pages=[1])], slot_of_page=table)


@pytest.mark.parametrize("table", range(3))
def test_parents_are_folded_in_the_order_of_their_ids(table):
    rng = np.random.default_rng(0)
    parents = np.arange(1, PAGES)
    graph = mmsb.ShadowPageGraph.from_edges(parents, np.zeros_like(parents), num_pages=PAGES)
    total = mmsb.Rule.semiring("total", pages=[0], semiring=mmsb.semiring.plus_times)
    values = (rng.normal(size=(PAGES, 1)) * 10.0 ** rng.integers(-4, 5, (PAGES, 1))).astype(np.float32)
    expected = np.float32(0)
    for value in values[1:, 0]:
        expected += value
    backwards = functools.reduce(np.add, values[:0:-1, 0])
    assert expected != backwards, "these numbers don't tell one order from another"
    plan = mmsb.RuleGraph.of(graph, [total], slot_of_page=TABLES[table])
    assert values_after(plan, values)[0, 0] == expected
