"""A wave equals recomputing everything: 2,000 random graphs, rules and dirty sets, against the model in NumPy."""

import functools

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsb_jax import propagate
from mmsb_jax.propagation import values_after
from tests.plans import PAGES, Case, fresh_state, poke

GRAPHS, EXAMPLES = 20, 100
NEVER = 2**31 - 1
wave = jax.jit(functools.partial(propagate, capacity=3))
everything = jax.jit(values_after)


@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 2**32 - 1), sweep_above=st.sampled_from([0, 1, 3, 6, 9, NEVER]))
def test_a_wave_equals_recomputing_everything(seed, sweep_above):
    rng = np.random.default_rng(seed)
    for number in rng.integers(0, 2**32, GRAPHS):
        case = Case(int(number), sweep_above=sweep_above)
        state, dirty = poke(rng, fresh_state(rng, case), most=6)
        before = np.asarray(state.view()).copy()
        out = wave(case.plan, state, dirty)
        expected = case.everything(before)
        np.testing.assert_array_equal(np.asarray(out.state.view()), expected)
        np.testing.assert_array_equal(np.asarray(everything(case.plan, before)), expected)
        _, recomputed, changed = case.wave(before, np.asarray(dirty)[np.asarray(dirty) < PAGES])
        assert (int(out.report.recomputed), int(out.report.changed)) == (recomputed, changed)
        assert int(out.deltas.dropped) == max(0, changed - 3)
