"""Memory, and steps in place, as the compiled programs say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmsb_jax as mmsb
from benchmarks import memory
from benchmarks._harness import BenchmarkError
from mmsb_jax.physical import begin_partial, enter, leave


def test_memory_above_a_limit_is_an_error():
    size, over = memory.SIZES[False], {"state": 2**30, "peak": int(1.2 * 2**30)}
    with pytest.raises(BenchmarkError, match=r"memory/donated: 1.200 GiB, and at most 1.1 are allowed"):
        memory._check("donated", size, 2**30, over)
    memory._check("kept", size, 2**30, over)
    with pytest.raises(BenchmarkError, match=r"memory/state: 1.100 GiB, and at most 1 are allowed"):
        memory._check("kept", size, 2**30, {"state": int(1.1 * 2**30), "peak": 2**30})


def test_apply_in_a_loop_works_in_place():
    """As the compiled program says: the state's memory is the result's, and nothing of its size is needed beside it."""
    state = mmsb.State.create(20_000, page_bytes=256)
    batch = mmsb.DeltaBatch.make(state, np.arange(32), np.zeros((32, 64), np.uint32), mask=np.ones((32, 64), bool))
    batches = jax.tree.map(lambda x: jnp.stack([x] * 4), batch)
    size = state.pages.nbytes

    def run(state, batches):
        return jax.lax.scan(lambda s, deltas: (mmsb.apply(s.advance(), deltas), None), state, batches)[0]

    def compiled(**options):
        return jax.jit(run, **options).lower(state, batches).compile()

    donated, kept = compiled(donate_argnums=0), compiled()
    assert donated.memory_analysis().alias_size_in_bytes >= size
    assert donated.memory_analysis().temp_size_in_bytes < size / 10
    assert kept.memory_analysis().alias_size_in_bytes == 0  # the check can fail
    rows = f"u32[{state.num_pages},64]"
    copies = [line for line in donated.as_text().splitlines() if rows in line.split("=")[-1] and " copy(" in line]
    assert copies == []


def test_moving_pages_copies_no_other_page():
    state = begin_partial(5000, 64, epoch=np.zeros(9000, np.uint32))
    ids, rows = np.arange(100, dtype=np.int32), np.ones((100, 64), np.uint32)
    for lowered in (enter.lower(state, ids, ids, rows), leave.lower(state, ids)):
        asked = lowered.compile().memory_analysis()
        assert asked.alias_size_in_bytes >= state.pages.nbytes
        assert asked.temp_size_in_bytes < state.pages.nbytes / 10
