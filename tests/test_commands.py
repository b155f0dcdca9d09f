"""The command buffer: what jitted code leaves for the host; against a list that is appended to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsb_jax as mmsb
from mmsb_jax import DeltaBatch, State
from mmsb_jax.page import unpack_mask
from mmsb_jax.propagation import CommandBuffer, drain

PAGES, WORDS, ROOM, ROWS = 6, 3, 5, 3
STATE = State.create(PAGES, page_bytes=4 * WORDS)
push = jax.jit(lambda buffer, deltas, when: buffer.push(deltas).ring(when))
drained = jax.jit(drain)


def batch(rng):
    page = rng.choice([0, 1, 2, PAGES], ROWS).astype(np.int32)
    words, mask = rng.integers(0, 2**32, (ROWS, WORDS), np.uint32), rng.random((ROWS, WORDS)) < 0.5
    mask = None if rng.random() < 0.3 else mask
    return DeltaBatch.make(STATE, page, words, mask=mask, source=rng.integers(0, 9, ROWS).astype(np.int32))


def rows_of(deltas):
    mask = np.ones((len(deltas), WORDS), bool) if deltas.mask is None else np.asarray(unpack_mask(deltas.mask, WORDS))
    rows = zip(*map(np.asarray, (deltas.page, deltas.words, mask, deltas.source)), strict=True)
    return [(int(p), w.tolist(), m.tolist(), int(s)) for p, w, m, s in rows if p != PAGES]


@given(seed=st.integers(0, 2**32 - 1), batches=st.integers(0, 4))
def test_against_a_list(seed, batches):
    rng = np.random.default_rng(seed)
    buffer = CommandBuffer.create(STATE, ROOM)
    for _ in range(2):  # a drained buffer is as good as a new one
        expected, rung = [], False
        for _ in range(batches):
            deltas, when = batch(rng), bool(rng.random() < 0.3)
            buffer = push(buffer, deltas, when)
            expected += rows_of(deltas)
            rung |= when or len(expected) > ROOM
        assert (int(buffer.used), int(buffer.dropped)) == (min(len(expected), ROOM), max(0, len(expected) - ROOM))
        assert bool(buffer.rung) == rung
        deltas, buffer = drained(buffer)
        assert len(deltas) == ROOM
        assert rows_of(deltas) == expected[:ROOM]
        assert int(deltas.dropped) == max(0, len(expected) - ROOM)
        assert (int(buffer.used), int(buffer.dropped), bool(buffer.rung)) == (0, 0, False)
        assert rows_of(drain(buffer)[0]) == []


def test_rows_missing_in_what_is_pushed_are_missing_here():
    cut = mmsb.diff(STATE, STATE, capacity=1)
    cut = DeltaBatch(cut.page, cut.words, cut.mask, cut.source, jnp.int32(2))
    buffer = CommandBuffer.create(STATE, ROOM).push(cut)
    assert (int(buffer.dropped), bool(buffer.rung)) == (2, True)


def test_in_scan_and_under_vmap(rng):
    words = rng.integers(0, 2**32, (3, 4, 1, WORDS), np.uint32)

    def world(words):
        def step(buffer, words):
            page = (words[0, :1] % 3).astype(jnp.int32)
            return buffer.push(DeltaBatch.make(STATE, page, words)), ()

        return jax.lax.scan(step, CommandBuffer.create(STATE, ROOM), words)[0]

    together, _ = jax.jit(jax.vmap(drain))(jax.jit(jax.vmap(world))(words))
    for number in range(3):
        alone = CommandBuffer.create(STATE, ROOM)
        for row in words[number]:
            alone = alone.push(DeltaBatch.make(STATE, (row[0, :1] % 3).astype(np.int32), row))
        assert rows_of(jax.tree.map(lambda x, n=number: x[n], together)) == rows_of(drain(alone)[0])


def test_a_simulation_commands_a_bus():
    with mmsb.start(page_bytes=16, capacity=4) as bus:
        alarm = bus.create_page(16, name="alarm")
        source = bus.source_id("simulation")

        @jax.jit
        def simulate(buffer, height):
            def step(carry, _):
                buffer, height = carry
                height = height * jnp.float32(1.5)
                page = jnp.where(height > 10, alarm.id, bus.state.num_pages)[None].astype(jnp.int32)
                deltas = DeltaBatch.make(bus.state, page, jnp.full((1, 4), height), source=source)
                return (buffer.push(deltas).ring(height > 20), height), ()

            return jax.lax.scan(step, (buffer, height), length=8)[0]

        buffer, height = simulate(CommandBuffer.create(bus.state, 8), jnp.float32(1))
        assert bool(buffer.rung)
        deltas, buffer = drain(buffer)
        bus.apply(deltas, intent="the doorbell rang")
        assert bus.query_page("alarm", dtype=np.float32)[0] == height
        buffer, _ = simulate(simulate(buffer, height)[0], height)
        assert int(buffer.dropped) == 8
        before = bus.digest()
        with pytest.raises(mmsb.InvalidDeltaError):
            bus.apply(drain(buffer)[0])
        assert bus.digest() == before


class TestRefusals:
    buffer = CommandBuffer.create(STATE, ROOM)

    def test_what_is_no_batch_and_no_buffer(self):
        with pytest.raises(mmsb.InvalidTypeError, match="where a DeltaBatch is needed"):
            self.buffer.push([1])
        with pytest.raises(mmsb.InvalidTypeError, match="where a CommandBuffer is needed"):
            drain(STATE)
        with pytest.raises(mmsb.InvalidTypeError, match="where a State is needed"):
            CommandBuffer.create(7, ROOM)

    def test_pages_of_another_size(self):
        other = State.create(PAGES, page_bytes=4)
        with pytest.raises(mmsb.InvalidDeltaError, match="pages of 1 words, but this buffer's have 3"):
            self.buffer.push(DeltaBatch.make(other, [0], np.uint32([[1]])))

    def test_capacity(self):
        with pytest.raises(mmsb.InvalidArgumentError, match="capacity=-1"):
            CommandBuffer.create(STATE, -1)
        full = CommandBuffer.create(STATE, 0).push(DeltaBatch.make(STATE, [0], np.uint32([[1, 2, 3]])))
        assert int(full.dropped) == 1

    @pytest.mark.parametrize("when", [1, np.ones(2, bool), 0.5])
    def test_a_bell_that_is_no_bool(self, when):
        with pytest.raises(mmsb.InvalidTypeError, match="single bool"):
            self.buffer.ring(when)
