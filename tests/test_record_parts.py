"""The parts of recording by themselves: picking rows, leaves by pages, rows of a tape, inputs, pace, meter, signals."""

import io
import signal

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

import mmsb_jax as mmsb
from mmsb_jax.page.recorder._drain import Rows, packed
from mmsb_jax.page.recorder._meter import Meter
from mmsb_jax.page.recorder._pace import Pace
from mmsb_jax.page.recorder._picks import Picks, distinct
from mmsb_jax.page.recorder._signals import held_signals
from mmsb_jax.page.recorder._strip import Strip
from mmsb_jax.page.recorder._xs import Inputs
from mmsb_jax.physical import Paging

picks_of = jax.jit(lambda flags, nth: (Picks.of(flags).ids(nth), Picks.of(flags).total))
distinct_jit = jax.jit(distinct)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 31, 2048, 2049, 5000]), st.sampled_from([0.0, 0.01, 0.5, 1.0]))
def test_picks_are_the_set_flags_in_order(seed, size, share):
    flags = np.random.default_rng(seed).random(size) < share
    ids, count = picks_of(flags, np.arange(5000, dtype=np.int32))
    wanted = np.flatnonzero(flags)
    assert count == len(wanted)
    np.testing.assert_array_equal(ids[: len(wanted)], wanted)
    assert ((ids >= 0) & (ids < 5000)).all()


@given(st.lists(st.lists(st.integers(0, 12), min_size=6, max_size=6), min_size=1, max_size=4))
def test_distinct_ids_come_once_and_only_those_in_range(lists):
    owner = jnp.full(9, -1, jnp.int32)
    for nth, ids in enumerate(lists):
        found, count, owner = distinct_jit(np.int32(ids), owner, np.int32(6 * nth))
        kept = np.asarray(found)[:count].tolist()
        assert sorted(kept) == sorted({i for i in ids if i < 9})


LEAVES = {
    "float32": jnp.arange(100, dtype=jnp.float32),
    "two axes": jnp.arange(90, dtype=jnp.int32).reshape(9, 10),
    "bfloat16": jnp.arange(201, dtype=jnp.bfloat16),
    "bool": jnp.arange(333) % 3 == 0,
    "int4": (jnp.arange(70) % 8).astype(jnp.int4),
    "complex64": jnp.arange(33, dtype=jnp.complex64) * (1 + 2j),
    "keys": jax.random.split(jax.random.key(3), 21),
    "exact": jnp.arange(64, dtype=jnp.uint32),
}


@pytest.mark.parametrize("page_words", [1, 8])
@pytest.mark.parametrize("name", LEAVES)
def test_a_strip_is_its_leaf_by_pages(name, page_words):
    paging, state = Paging.of({"x": LEAVES[name]}, page_bytes=4 * page_words)
    (leaf,), pages = paging.leaves, np.asarray(state.pages)
    strip = Strip(leaf, page_words)
    flat = strip.flat(LEAVES[name])
    np.testing.assert_array_equal(strip.all(flat), pages[: strip.pages])
    ids = np.int32([strip.pages - 1, 0, 1])
    np.testing.assert_array_equal(strip.rows(flat, jnp.asarray(ids)), pages[ids])
    rest = strip.tail(flat)
    np.testing.assert_array_equal(rest, pages.reshape(-1)[strip.pages * page_words : leaf.words])


def test_rows_become_changes():
    old = np.arange(24, dtype=np.uint32).reshape(6, 4)
    new = old.copy()
    new[1, 2], new[4] = 99, 7
    rows = Rows.of_difference(10, 3, old, new)
    assert rows.page.tolist() == [11, 14]
    assert rows.mask.tolist() == [[0b0100], [0b1111]]
    changes = rows.changes(source=5)
    assert changes.words.tolist() == [99, 7, 7, 7, 7]
    assert changes.source.tolist() == [5, 5]
    assert changes.tick is not None
    assert changes.tick.tolist() == [3, 3]
    whole = Rows.joined([rows.at(np.array([1])), Rows.of_difference(0, 4, old, old)]).changes(source=0)
    assert whole.mask is None, "pages that changed throughout are logged whole"
    unchanged = rows._replace(mask=np.uint32([[0], [1]])).changes(source=0)
    assert unchanged.page.tolist() == [14]


@given(st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_packed_masks_are_those_of_the_device(words, seed):
    mask = np.random.default_rng(seed).random((3, words)) < 0.5
    np.testing.assert_array_equal(packed(mask), mmsb.page.pack_mask(jnp.asarray(mask)))


def some_inputs(steps):
    return {"a": np.arange(2 * steps, dtype=np.float32).reshape(steps, 2), "b": (np.arange(steps, dtype=np.int32),)}


def sources(steps):
    xs = some_inputs(steps)

    def part(start, stop):
        return jax.tree.map(lambda leaf: leaf[start:stop], xs)

    yield xs
    yield part
    yield (part(start, min(start + 7, steps)) for start in range(0, steps, 7))


@pytest.mark.parametrize("nth", range(3))
@pytest.mark.parametrize("every", [1, 4])
def test_windows_hold_the_inputs_of_their_steps(nth, every, monkeypatch):
    monkeypatch.setattr("mmsb_jax.page.recorder._xs._WINDOW_STEPS", 10)
    inputs, xs = Inputs(list(sources(45))[nth], 45, every), some_inputs(45)
    assert jax.tree.map(lambda leaf: leaf.shape, inputs.step, is_leaf=lambda x: hasattr(x, "shape")) == {
        "a": (2,),
        "b": ((),),
    }
    shapes = set()
    for tick in (0, 3, 13, 30, 44):
        window = inputs.window(tick)
        assert window.since % every == 0
        assert window.since <= tick < window.until
        for leaf, whole in zip(window.leaves, jax.tree.leaves(xs), strict=True):
            np.testing.assert_array_equal(
                leaf[tick - window.since : window.until - window.since], whole[tick : window.until]
            )
            shapes.add(leaf.shape[0])
        assert inputs.same_window(tick, window.since)
        assert window.until == 45 or not inputs.same_window(tick, window.until)
    assert len(shapes) == 1, "windows of one length compile once"


@pytest.mark.parametrize(
    ("xs", "why"),
    [
        (np.arange(9.0), r"xs has shape \(9,\), but 10 steps are asked for"),
        ({"force": np.zeros(())}, r"xs\['force'\] has shape \(\), but 10 steps"),
        (lambda start, stop: np.zeros(3), r"shape \(3,\) for the steps 0 to 0; it needs a leading axis of 1"),
        (iter([np.zeros(4)]), "xs ended at step 4, but step 9 needs one, too"),
        ((), "xs has no arrays"),
    ],
)
def test_inputs_that_are_too_few(xs, why):
    with pytest.raises(mmsb.InvalidArgumentError, match=why):
        Inputs(xs, 10, 1).window(0)


def test_inputs_that_are_none():
    with pytest.raises(mmsb.InvalidTypeError, match=r"xs\[0\] is a int; pass arrays with a leading axis of steps"):
        Inputs([3], 10, 1)


def test_a_chunk_takes_a_fifth_of_a_second():
    pace = Pace(100)
    assert pace.steps == 1
    for _ in range(6):
        pace.finished(pace.steps, pace.steps * 1e-4)
    assert pace.steps == 2000
    pace.finished(2000, 4.0)
    assert pace.steps == 100
    pace.finished(1, 30.0)
    assert pace.steps == 1


def test_a_digest_takes_a_small_share_of_the_time():
    now = [0.0]
    pace = Pace(int(8e9), clock=lambda: now[0])  # a second for a pass
    due = []
    for now[0] in (1.0, 15.0, 17.0, 18.0, 34.0):
        due.append(pace.digest_due())
    assert due == [False, False, True, False, True]


def test_the_meter_is_quiet_where_nobody_looks():
    stream = io.StringIO()
    with Meter(10, 0, stream) as meter:
        meter.show(10, 100)
    assert stream.getvalue() == ""


def test_the_meter_says_how_far_it_is():
    stream, now = io.StringIO(), iter([0.0, 0.1, 2.0, 4.0])
    with Meter(400, 100, stream, clock=now.__next__, shown=True) as meter:
        meter.show(110, 0)  # too soon
        meter.show(200, 1_500_000)
        meter.show(400, 3_000_000)
    lines = stream.getvalue().split("\r")
    assert lines[1].rstrip() == "step 200 of 400 (50 %), 50 steps/s, 1.5 MB logged, 4 s left"
    assert lines[2].rstrip() == "step 400 of 400 (100 %), 75 steps/s, 3.0 MB logged"
    assert lines[2].endswith("\n")


def test_a_signal_is_noted_and_then_acted_on():
    came, before = [], signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: came.append("old"))
    try:
        with held_signals() as interruption:
            assert interruption.signal is None
            signal.raise_signal(signal.SIGTERM)
            assert interruption.signal == signal.SIGTERM
            assert came == []
        assert came == ["old"]
        with held_signals():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)  # the second one doesn't wait
            assert came == ["old", "old"]
    finally:
        signal.signal(signal.SIGTERM, before)
    with pytest.raises(KeyboardInterrupt), held_signals():
        signal.raise_signal(signal.SIGINT)


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held_signals() as interruption:
            signal.raise_signal(signal.SIGINT)
            assert interruption.signal is None
    finally:
        signal.signal(signal.SIGINT, before)
