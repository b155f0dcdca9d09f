"""What a tick looks at, and what its phases take."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax import DeltaBatch, Rule, RuleGraph, ShadowPageGraph, State
from mmsb_jax.propagation import Invariant, TickTimes, timed_tick

PLAN = RuleGraph.of(ShadowPageGraph.from_edges([0, 0], [1, 2], num_pages=4), [Rule.passthrough("copy", pages=[1, 2])])
SMALL = Invariant("numbers stay small", lambda state: state.view() < 100)
COPIED = Invariant("page 1 is page 0", lambda state: jnp.all(state.view()[0] == state.view()[1]))


def deltas_of(state, value):
    return DeltaBatch.make(state, [0], np.full((1, 2), value, np.uint32))


def test_broken_invariants_are_data_in_jit_scan_and_vmap():
    state = State.create(4, page_bytes=8)

    def step(state, value):
        deltas = DeltaBatch.make(state, [0], jnp.full((1, 2), value))
        out = mmsb.tick(state, PLAN, deltas, capacity=4, invariants=[SMALL, COPIED])
        return out.state, out.broken

    values = jnp.asarray([5, 100, 99], jnp.uint32)
    last, broken = jax.jit(lambda s: jax.lax.scan(step, s, values))(state)
    assert broken.tolist() == [[False, False], [True, False], [False, False]]
    assert int(last.tick) == 3
    _, broken = jax.jit(jax.vmap(step, in_axes=(None, 0)))(state, values)
    assert broken[:, 0].tolist() == [False, True, False]
    without = mmsb.tick(state, None, deltas_of(state, 7), invariants=(SMALL, COPIED))
    assert without.broken.tolist() == [False, True]
    assert mmsb.tick(state, None, deltas_of(state, 7)).broken.shape == (0,)


def test_an_invariant_passes_through_jit_as_an_argument():
    step = jax.jit(chex.assert_max_traces(mmsb.tick, n=1), static_argnames="capacity")
    state = State.create(4, page_bytes=8)
    for value in (3, 300):
        out = step(state, PLAN, deltas_of(state, value), capacity=4, invariants=[SMALL])
        assert out.broken.tolist() == [value == 300]


def test_what_is_no_invariant():
    state = State.create(4, page_bytes=8)
    with pytest.raises(mmsb.InvalidTypeError, match="needs a function"):
        Invariant("none", 5)
    with pytest.raises(mmsb.InvalidTypeError, match="got a function; pass Invariant"):
        mmsb.tick(state, None, deltas_of(state, 1), invariants=[lambda state: True])
    with pytest.raises(mmsb.InvalidTypeError, match=r"'sum' returned uint32\[\]; it must return bools"):
        mmsb.tick(state, None, deltas_of(state, 1), invariants=[Invariant("sum", lambda state: state.view().sum())])


@pytest.mark.parametrize("plan", [None, PLAN])
def test_phase_by_phase_gives_the_same_bits(plan):
    state = State.create(4, page_bytes=8)
    whole = jax.jit(mmsb.tick, static_argnames="capacity")(
        state, plan, deltas_of(state, 700), capacity=3, source=2, invariants=[SMALL]
    )
    phases, times = timed_tick(state, plan, deltas_of(state, 700), capacity=3, source=2, invariants=[SMALL])
    chex.assert_trees_all_equal(whole, phases)
    assert min(times[:3]) > 0
    assert times.budget_ms == 16
    chex.assert_trees_all_equal(state, State.create(4, page_bytes=8))  # it wasn't used up


def test_the_budget():
    times = TickTimes(1.0, 2.5, 0.5, 4.0)
    assert (times.total_ms, times.within_budget) == (4.0, True)
    assert "4.00 ms, within the budget of 4 ms" in str(times)
    over = times._replace(budget_ms=3.9)
    assert not over.within_budget
    assert "OVER the budget of 3.9 ms" in str(over)
    state = State.create(4, page_bytes=8)
    for budget in (0, -1, float("nan")):
        with pytest.raises(mmsb.InvalidArgumentError, match="budget_ms"):
            timed_tick(state, None, deltas_of(state, 1), budget_ms=budget)
