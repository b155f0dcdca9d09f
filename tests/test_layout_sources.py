"""What `optimize` takes beside graphs: states, traces, keys of JAX, and the size of a page."""

import jax
import numpy as np

import mmsb_jax as mmsb
from mmsb_jax import layout as lay

from .test_layout import random_affinity


def test_of_a_state_pages_changed_in_one_tick_belong_together(rng):
    state = mmsb.State.create(12, page_bytes=4)
    groups = rng.permutation(12).reshape(4, 3)
    for group in groups[:3]:  # the last one is never written
        batch = mmsb.DeltaBatch.make(state, group, np.ones((3, 1), np.uint32))
        state = mmsb.apply(state.advance(), batch)
    state = lay.relayout(state, lay.Layout(rng.permutation(12)))
    found = lay.optimize(state, objective="dirty", block=3)
    assert found.report.costs["present"] == lay.Dirty(3, lay.Trace.of(state)).cost(
        lay.Affinity.of(state), np.asarray(state.slot_of_page)
    )
    assert found.report.cost == 1.0  # one block a batch
    assert len({tuple(np.unique(found.layout.slot_of_page[group] // 3)) for group in groups[:3]}) == 3


def test_blocks_of_a_trace_are_counted_batch_by_batch():
    trace = lay.Trace([[0, 3], [1, 2], [0, 3]], num_pages=4)
    found = lay.optimize(trace, objective="dirty", block=2)
    assert found.report.costs["present"] == 2.0
    assert found.report.cost == 1.0


def test_keys_of_jax_are_keys(rng):
    affinity = random_affinity(rng, 30, 60)
    once, again, other = (
        lay.optimize(affinity, objective="log", block=4, budget=0.02, key=jax.random.key(seed)).layout
        for seed in (3, 3, 4)
    )
    assert once == again
    assert len(other) == 30
    old = lay.optimize(affinity, objective="log", block=4, budget=0.02, key=jax.random.PRNGKey(3)).layout
    assert old == once


def test_payback_is_measured_where_a_page_size_is_given(rng):
    chain = rng.permutation(200)
    found = lay.optimize(lay.Affinity(chain[:-1], chain[1:], num_pages=200), budget=0.05, page_bytes=64)
    paid = found.report.payback
    assert paid.spent > 0 < paid.present
    assert paid.waves == (paid.spent / (paid.present - paid.found) if paid.present > paid.found else np.inf)
    assert "earned after" in str(found.report)
