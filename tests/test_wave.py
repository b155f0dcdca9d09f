"""Law 7: a wave recomputes each affected page once, in order, and nothing else.

The result equals recomputing everything.
"""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsb_jax as mmsb
from mmsb_jax import DeltaBatch, Rule, RuleGraph, ShadowPageGraph, State, Term, propagate, semiring
from tests.plans import PAGES, WORDS, Case, as_f32, as_u32, fresh_state, poke

GRAPHS = 10
NEVER = 2**31 - 1


@functools.cache
def case_of(seed):
    return Case(seed, sweep_above=(0, 3, 6, 9, NEVER)[seed % 5])


run = jax.jit(functools.partial(propagate, capacity=PAGES))


waves = given(seed=st.integers(0, 2**32 - 1), graph=st.integers(0, GRAPHS - 1))


@waves
def test_law_7_against_the_model(seed, graph):
    rng, case = np.random.default_rng(seed), case_of(graph)
    state, dirty = poke(rng, fresh_state(rng, case))
    before = np.asarray(state.view()).copy()
    out = run(case.plan, state, dirty)
    after = np.asarray(out.state.view())

    real = np.asarray(dirty)[np.asarray(dirty) < PAGES]
    expected, recomputed, changed = case.wave(before, real)
    np.testing.assert_array_equal(after, expected)
    np.testing.assert_array_equal(after, case.everything(before))
    assert (int(out.report.recomputed), int(out.report.changed)) == (recomputed, changed)

    moved = (before != after).any(axis=1)
    np.testing.assert_array_equal(np.asarray(out.state.epoch)[moved], np.full(moved.sum(), 5, np.uint32))
    np.testing.assert_array_equal(np.asarray(out.state.epoch)[~moved], np.asarray(state.epoch)[~moved])
    assert sorted(np.asarray(out.deltas.page)[: moved.sum()].tolist()) == np.flatnonzero(moved).tolist()
    np.testing.assert_array_equal(np.asarray(mmsb.apply(state, out.deltas).view()), after)
    np.testing.assert_array_equal(mmsb.digest(state) + out.digest_change, mmsb.digest(out.state))


@pytest.mark.parametrize(("lanes", "sweep_above"), [(1, NEVER), (64, NEVER), (4, NEVER), (4, 0), (4, 2)])
def test_the_way_a_wave_takes_changes_nothing(lanes, sweep_above, rng):
    for seed in range(5):
        state, dirty = poke(rng, fresh_state(rng, case_of(seed)))
        taken, other = (
            run(Case(seed, lanes=lanes, sweep_above=sweep_above).plan, state, dirty),
            run(case_of(seed).plan, state, dirty),
        )
        chex.assert_trees_all_equal(taken.state, other.state)
        chex.assert_trees_all_equal(taken.digest_change, other.digest_change)
        assert int(taken.report.recomputed) == int(other.report.recomputed)


def test_under_vmap_and_scan(rng):
    case = case_of(1)
    worlds = [poke(rng, fresh_state(rng, case)) for _ in range(3)]
    one_by_one = [run(case.plan, state, dirty) for state, dirty in worlds]
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *worlds)
    together = jax.jit(jax.vmap(run, in_axes=(None, 0, 0)))(case.plan, *stacked)
    chex.assert_trees_all_equal(together, jax.tree.map(lambda *xs: jnp.stack(xs), *one_by_one))

    def step(state, dirty):
        return propagate(case.plan, state, dirty, capacity=PAGES).state, ()

    state, dirty = worlds[0]
    scanned, _ = jax.lax.scan(step, state, jnp.stack([dirty, dirty]))
    chex.assert_trees_all_equal(scanned, one_by_one[0].state)


def test_a_wave_that_overflows_its_capacity_is_whole_all_the_same(rng):
    case = case_of(2)
    state = fresh_state(rng, case)
    everything = jnp.arange(PAGES, dtype=jnp.int32)
    pages = jnp.asarray(rng.integers(0, 2**32, (PAGES, WORDS), np.uint32))
    state = State(pages, state.slot_of_page, state.epoch, state.tick)
    whole = run(case.plan, state, everything)
    short = jax.jit(functools.partial(propagate, capacity=1))(case.plan, state, everything)
    chex.assert_trees_all_equal(whole.state, short.state)
    assert int(whole.deltas.dropped) == 0
    assert int(short.deltas.dropped) == int(whole.report.changed) - 1 > 0


def test_rounding_a_plan_up_changes_nothing(rng):
    case = case_of(5)
    state = fresh_state(rng, case)
    state, dirty = poke(rng, state)
    exact, rounded = case.exact, case.exact.rounded()
    for name in ("in_parent", "in_weight", "out_child", "stage_rule", "sweep_page", "window_stage"):
        assert len(getattr(rounded, name)) in (16, 32, 64)
    assert (rounded.num_windows, len(rounded.in_parent)) > (exact.num_windows, len(exact.in_parent))
    for sweep_above in (0, PAGES):
        ways = [
            run(dataclasses.replace(plan, sweep_above=jnp.int32(sweep_above)), state, dirty)
            for plan in (exact, rounded)
        ]
        chex.assert_trees_all_equal(*ways)


def test_tick_settles_propagates_and_keeps_the_digest(rng):
    case = case_of(3)
    state = fresh_state(rng, case)
    step = jax.jit(chex.assert_max_traces(mmsb.tick, n=2), static_argnames="capacity")
    for capacity in (PAGES, 0):
        expected, current = mmsb.digest(state), state
        for _ in range(4):
            page = rng.integers(0, PAGES, 5, np.int32)
            words = rng.integers(0, 2**32, (5, WORDS), np.uint32)
            deltas = DeltaBatch.make(current, page, words, mask=np.tile([False, True, False], (5, 1)))
            out = step(current, case.plan, deltas, digest_before=expected, capacity=capacity, source=3)
            assert int(out.state.tick) == int(current.tick) + 1
            np.testing.assert_array_equal(np.asarray(out.digest), np.asarray(mmsb.digest(out.state)))
            outside = np.asarray(mmsb.apply(current, deltas).view())
            np.testing.assert_array_equal(np.asarray(out.state.view()), case.everything(outside))
            if capacity:
                np.testing.assert_array_equal(
                    np.asarray(mmsb.apply(current, out.deltas).view()), np.asarray(out.state.view())
                )
            expected, current = out.digest, out.state


def test_tick_counts_impossible_pages():
    state = State.create(3, page_bytes=4)
    good = DeltaBatch.make(state, [0, 3, 1], jnp.ones((3, 1), jnp.uint32))
    bad = DeltaBatch(jnp.asarray([0, -1, 9], jnp.int32), good.words, None, good.source, good.dropped)
    step = jax.jit(mmsb.tick, static_argnames="capacity")
    for deltas, count in ((good, 0), (bad, 2)):
        out = step(state, None, deltas, digest_before=mmsb.digest(state), capacity=0)
        assert int(out.rejected) == count
        assert np.flatnonzero(out.state.view()).tolist() == ([0, 1] if count == 0 else [0])


def test_many_parents_are_folded_in_order(rng):
    parents = 100
    order, weight = rng.permutation(parents), rng.normal(size=parents).astype(np.float32)
    graph = ShadowPageGraph.from_edges(order, np.full(parents, parents), weight=weight, num_pages=parents + 2)
    rule = Rule(
        "sum",
        pages=[parents, parents + 1],
        terms=[Term(semiring.plus_times, lambda p: as_f32(p), weighted=True)],
        update=lambda own, summed: as_u32(summed),
    )
    values = rng.normal(size=(parents + 2, 2)).astype(np.float32)
    state = State.create(parents + 2, page_bytes=8)
    state = mmsb.apply(state, DeltaBatch.make(state, np.arange(parents + 2), values))
    weights = np.empty_like(weight)
    weights[order] = weight
    products = values[:parents] * weights[:, None]  # rounded before they are added: no fused multiply-add
    expected = functools.reduce(np.add, products, np.zeros(2, np.float32))
    for lanes in (1, 32):
        plan = RuleGraph.of(graph, [rule], lanes=lanes)
        out = propagate(plan, state, np.arange(parents + 2), capacity=2)
        np.testing.assert_array_equal(np.asarray(out.state.view(jnp.float32))[parents], expected)
        np.testing.assert_array_equal(np.asarray(out.state.view(jnp.float32))[parents + 1], np.zeros(2, np.float32))


def test_a_long_chain_takes_one_window_a_page():
    pages = 1000  # many more stages than are looked at at once
    graph = ShadowPageGraph.from_edges(np.arange(pages - 1), np.arange(1, pages), num_pages=pages)
    follow = Rule(
        "follow",
        pages=np.arange(1, pages),
        terms=[Term(semiring.plus_times, lambda p: p[0])],
        update=lambda own, before: own.at[0].set(before + 1),
    )
    state = State.create(pages, page_bytes=4)
    plan = RuleGraph.of(graph, [follow])
    out = propagate(plan, state, [0])
    assert out.state.view()[:, 0].tolist() == list(range(pages))
    assert int(out.report.windows) == pages - 1
    last = mmsb.apply(out.state, DeltaBatch.make(state, [pages - 2], np.array([[7]], np.uint32)))
    again = propagate(plan, last, [pages - 2])  # the first stage with anything to do is far away
    assert again.state.view()[-2:, 0].tolist() == [pages - 2, pages - 1]


class TestErrors:
    graph = ShadowPageGraph.from_edges([0, 1], [2, 2], num_pages=3)
    term = Term(semiring.plus_times, lambda p: p[0])

    def rule(self, pages=(2,), update=lambda own, x: own.at[0].set(x), terms=None):
        return Rule("r", pages=pages, terms=[self.term] if terms is None else terms, update=update)

    def test_two_rules_for_a_page(self):
        with pytest.raises(mmsb.InvalidArgumentError, match="page 2 has two rules, 'r' and 'r'"):
            RuleGraph.of(self.graph, [self.rule(), self.rule()])

    def test_page_outside_the_graph(self):
        with pytest.raises(mmsb.InvalidArgumentError, match="names page 3, but the graph has pages 0 to 2"):
            RuleGraph.of(self.graph, [self.rule(pages=[3])])

    def test_no_pages(self):
        with pytest.raises(mmsb.InvalidTypeError, match="at least one"):
            self.rule(pages=[])
        with pytest.raises(mmsb.InvalidTypeError, match="pass the ids"):
            self.rule(pages=[0.5])

    def test_terms_of_a_wrong_type(self):
        with pytest.raises(mmsb.InvalidTypeError, match="needs terms="):
            self.rule(terms=[semiring.plus_times])

    def test_weighted_term_without_weights(self):
        weighted = Term(semiring.plus_times, lambda p: p[0], weighted=True)
        with pytest.raises(mmsb.InvalidArgumentError, match="edges have no weights"):
            RuleGraph.of(self.graph, [self.rule(terms=[weighted])])

    def test_lanes(self):
        with pytest.raises(mmsb.InvalidArgumentError, match="lanes=0"):
            RuleGraph.of(self.graph, [self.rule()], lanes=0)

    def test_rule_of_the_wrong_shape(self):
        plan = RuleGraph.of(self.graph, [self.rule(update=lambda own, x: x)])
        with pytest.raises(mmsb.InvalidTypeError, match=r"must return the page's new words, uint32\[2\]"):
            propagate(plan, State.create(3, page_bytes=8), [0], capacity=1)

    def test_read_of_the_wrong_type(self):
        plan = RuleGraph.of(self.graph, [self.rule(terms=[Term(semiring.plus_times, lambda p: (p, p))])])
        with pytest.raises(mmsb.InvalidTypeError, match="must return one array"):
            propagate(plan, State.create(3, page_bytes=8), [0], capacity=1)

    def test_state_of_another_size(self):
        plan = RuleGraph.of(self.graph, [self.rule()])
        with pytest.raises(mmsb.InvalidArgumentError, match="a graph of 3 pages and a state of 4"):
            propagate(plan, State.create(4, page_bytes=8), [0], capacity=1)

    def test_floats_written_as_if_they_were_words(self):
        floats = Term(semiring.plus_times, as_f32)
        rule = Rule("r", pages=[2], terms=[floats], update=lambda own, x: own.at[0].set(x[0]))
        with jax.numpy_dtype_promotion("standard"), pytest.raises(mmsb.InvalidTypeError, match="as_words"):
            propagate(RuleGraph.of(self.graph, [rule]), State.create(3, page_bytes=8), [0], capacity=1)

    def test_weights_that_integers_would_cut_off(self):
        graph = ShadowPageGraph.from_edges([0, 1], [2, 2], weight=[1, 0.5], num_pages=3)
        plan = RuleGraph.of(graph, [self.rule(terms=[Term(semiring.plus_times, lambda p: p[0], weighted=True)])])
        with pytest.raises(mmsb.InvalidTypeError, match="aren't whole numbers"):
            propagate(plan, State.create(3, page_bytes=8), [0], capacity=1)

    def test_ids_beyond_32_bits(self):
        plan = RuleGraph.of(self.graph, [self.rule()])
        with pytest.raises(mmsb.InvalidArgumentError, match="ids are 32-bit"):
            propagate(plan, State.create(3, page_bytes=8), np.array([2**32]), capacity=1)

    def test_term_without_a_semiring(self):
        with pytest.raises(mmsb.InvalidTypeError, match="a term needs a Semiring and a function; got a str"):
            Term("plus_times", lambda p: p)

    def test_graph_without_rules(self):
        with pytest.raises(mmsb.InvalidTypeError, match=r"pass RuleGraph.of\(graph, rules\)"):
            propagate(self.graph, State.create(3, page_bytes=8), [0], capacity=1)


def test_capacity_and_digest_have_defaults():
    graph = ShadowPageGraph.from_edges([0, 0], [1, 2], num_pages=3)
    plan = RuleGraph.of(graph, [Rule.passthrough("copy", pages=[1, 2])])
    state = State.create(3, page_bytes=8)
    deltas = DeltaBatch.make(state, [0], np.uint32([[5, 6]]))
    given_all = mmsb.tick(state, plan, deltas, digest_before=mmsb.digest(state), capacity=3)
    chex.assert_trees_all_equal(mmsb.tick(state, plan, deltas), given_all)
    assert given_all.state.view().tolist() == [[5, 6]] * 3
