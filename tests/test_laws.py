"""Laws 1, 2, 3 and 5, over random programs, against a plain NumPy model; eager, jitted and mapped."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsb_jax as mmsb
from mmsb_jax import DeltaBatch, State
from mmsb_jax.page import pack_mask, settle
from tests.model import Model, digest_of

# (pages, words in a page, rows of a batch): few, since each compiles. Rows are fewer than pages, and more; beyond
# 32 words a mask takes two words; beyond 512 rows winners are found by a table instead of by pairs.
SHAPES = [(5, 1, 3), (6, 4, 8), (40, 33, 9), (3, 2, 64), (700, 2, 600)]
# Bit patterns that a comparison as floats would get wrong: -0.0, NaNs with payloads, infinities, denormals.
ODD_WORDS = np.array([0, 1, 0x80000000, 0x7FC00001, 0x7FC00002, 0xFFC00000, 0x7F800000, 0xFFFFFFFF], np.uint32)

apply_jit = jax.jit(mmsb.apply)
settle_jit = jax.jit(settle)
diff_jit = jax.jit(mmsb.diff, static_argnums=2)
digest_jit = jax.jit(mmsb.digest)


def random_words(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    words = rng.integers(0, 2**32, shape, np.uint32)
    return np.where(rng.random(shape) < 0.5, rng.choice(ODD_WORDS, shape), words)


def random_state(rng: np.random.Generator, pages: int, words: int) -> State:
    return State(
        pages=jnp.asarray(random_words(rng, (pages, words))),
        slot_of_page=jnp.asarray(rng.permutation(pages).astype(np.int32)),
        epoch=jnp.asarray(rng.integers(0, 7, pages, np.uint32)),
        tick=jnp.asarray(np.uint32(7)),
    )


def random_deltas(rng: np.random.Generator, state: State, rows: int, masked: bool | None = None) -> DeltaBatch:
    masked = bool(rng.integers(2)) if masked is None else masked
    mask = rng.random((rows, state.page_words)) < rng.choice([0.0, 0.2, 0.9])
    return DeltaBatch.make(
        state,
        rng.integers(0, state.num_pages + 1, rows, np.int32),
        random_words(rng, (rows, state.page_words)),
        mask=mask if masked else None,
        source=rng.integers(0, 9, rows, np.int32),
    )


programs = given(seed=st.integers(0, 2**32 - 1), shape=st.sampled_from(SHAPES))


@programs
def test_apply_equals_model_eager_and_jitted(seed, shape):
    rng = np.random.default_rng(seed)
    state = random_state(rng, *shape[:2])
    deltas = random_deltas(rng, state, shape[2])
    expected = Model.of(state).apply(deltas)
    expected.assert_is(mmsb.apply(state, deltas))
    expected.assert_is(apply_jit(state, deltas))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_apply_under_vmap_equals_one_by_one(shape, masked, rng):
    states = [random_state(rng, *shape[:2]) for _ in range(3)]
    batches = [random_deltas(rng, state, shape[2], masked) for state in states]
    stack = lambda *trees: jax.tree.map(lambda *xs: jnp.stack(xs), *trees)  # noqa: E731
    together = jax.jit(jax.vmap(mmsb.apply))(stack(*states), stack(*batches))
    for i, (state, deltas) in enumerate(zip(states, batches, strict=True)):
        Model.of(state).apply(deltas).assert_is(jax.tree.map(lambda x, i=i: x[i], together))


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_laws_hold_under_vmap(shape, rng):
    """Laws 2, 3 and 5, settle and the digest, for several worlds at once."""
    stack = lambda *trees: jax.tree.map(lambda *xs: jnp.stack(xs), *trees)  # noqa: E731
    states = [random_state(rng, *shape[:2]) for _ in range(3)]
    a, b = ([random_deltas(rng, state, shape[2], masked=True) for state in states] for _ in range(2))

    def laws(state, a, b):
        once = mmsb.apply(mmsb.apply(state, a), b)
        merged = mmsb.apply(state, mmsb.merge(a, b))
        back = mmsb.apply(state, mmsb.diff(state, once, shape[0]))
        after, settled, change = settle(state.advance(), a)
        return once, merged, back.view(), after, mmsb.apply(state.advance(), settled).view(), change, mmsb.digest(after)

    once, merged, back, after, settled, change, found = jax.jit(jax.vmap(laws))(stack(*states), stack(*a), stack(*b))
    chex.assert_trees_all_equal(once, merged)
    for world, state in enumerate(states):
        expected = Model.of(state).apply(a[world])
        pages = expected.apply(b[world])
        pages.assert_is(jax.tree.map(lambda x, world=world: x[world], once))
        np.testing.assert_array_equal(np.asarray(back)[world], pages.pages)
        np.testing.assert_array_equal(np.asarray(settled)[world], expected.pages)
        assert np.asarray(found)[world].tolist() == digest_of(expected.pages)
        assert (np.asarray(mmsb.digest(state)) + np.asarray(change)[world]).tolist() == digest_of(expected.pages)
        assert (np.asarray(after.epoch)[world] >= np.asarray(state.epoch)).all()


@programs
def test_law_1_same_bits_on_every_run(seed, shape):
    rng = np.random.default_rng(seed)
    state = random_state(rng, *shape[:2])
    deltas = random_deltas(rng, state, shape[2])
    chex.assert_trees_all_equal(apply_jit(state, deltas), apply_jit(state, deltas))


@programs
def test_law_2_deltas_form_a_monoid(seed, shape):
    rng = np.random.default_rng(seed)
    state = random_state(rng, *shape[:2])
    a, b, c = (random_deltas(rng, state, shape[2]) for _ in range(3))
    left, right = mmsb.merge(mmsb.merge(a, b), c), mmsb.merge(a, mmsb.merge(b, c))
    chex.assert_trees_all_equal(left, right)
    empty = DeltaBatch.empty(state)
    chex.assert_trees_all_equal(mmsb.merge(empty, a), a)
    chex.assert_trees_all_equal(mmsb.merge(a, empty), a)
    chex.assert_trees_all_equal(apply_jit(apply_jit(state, a), b), apply_jit(state, mmsb.merge(a, b)))
    chex.assert_trees_all_equal(apply_jit(state, empty), state)
    chex.assert_trees_all_equal(apply_jit(state, DeltaBatch.empty(state, 3)), state)


@programs
def test_law_3_diff_leads_from_one_to_the_other(seed, shape):
    rng = np.random.default_rng(seed)
    pages, words, rows = shape
    old = random_state(rng, pages, words)
    new = apply_jit(old, random_deltas(rng, old, rows))
    new = State(new.pages[jnp.argsort(new.slot_of_page)][rng.permutation(pages)], new.slot_of_page, new.epoch, new.tick)
    for deltas in (mmsb.diff(old, new, pages), diff_jit(old, new, pages)):
        np.testing.assert_array_equal(np.asarray(apply_jit(old, deltas).view()), np.asarray(new.view()))
        changed = np.flatnonzero((np.asarray(old.view()) != np.asarray(new.view())).any(axis=1))
        assert np.asarray(deltas.page)[: len(changed)].tolist() == changed.tolist()
        assert (np.asarray(deltas.page)[len(changed) :] == pages).all()


@programs
def test_law_5_epochs_never_go_back(seed, shape):
    rng = np.random.default_rng(seed)
    state = random_state(rng, *shape[:2])
    for _ in range(3):
        after = apply_jit(state.advance(), random_deltas(rng, state, shape[2]))
        assert int(after.tick) == int(state.tick) + 1
        assert (np.asarray(after.epoch) >= np.asarray(state.epoch)).all()
        assert (np.asarray(after.epoch) <= int(after.tick)).all()
        state = after


@programs
def test_settle_keeps_exactly_what_changed(seed, shape):
    rng = np.random.default_rng(seed)
    state = random_state(rng, *shape[:2])
    deltas = random_deltas(rng, state, shape[2])
    expected = Model.of(state).apply(deltas).pages
    before = np.asarray(state.view())
    after, settled, change = settle_jit(state, deltas)
    np.testing.assert_array_equal(np.asarray(after.view()), expected)
    np.testing.assert_array_equal(np.asarray(apply_jit(state, settled).view()), expected)

    page, mask = np.asarray(settled.page), np.asarray(settled.dense_mask())
    assert not mask[page == state.num_pages].any()
    times_set = np.zeros_like(before)
    np.add.at(times_set, page[page < state.num_pages], mask[page < state.num_pages].astype(np.uint32))
    np.testing.assert_array_equal(times_set, (before != expected).astype(np.uint32))
    stamped = np.where((before != expected).any(axis=1), 7, np.asarray(state.epoch))
    np.testing.assert_array_equal(np.asarray(after.epoch), stamped)
    np.testing.assert_array_equal(np.asarray(digest_jit(state) + change), np.asarray(digest_jit(after)))


@given(seed=st.integers(0, 2**32 - 1), shape=st.sampled_from(SHAPES[:3]))
def test_digest_equals_the_model_in_every_layout(seed, shape):
    rng = np.random.default_rng(seed)
    state = random_state(rng, *shape[:2])
    assert digest_jit(state).tolist() == digest_of(np.asarray(state.view()))
    plain = State(state.view(), jnp.arange(shape[0], dtype=jnp.int32), state.epoch, state.tick)
    assert digest_jit(plain).tolist() == digest_jit(state).tolist()


def test_digest_tells_small_changes_apart(rng):
    pages = np.zeros((64, 16), np.uint32)
    seen = set()
    for page in range(64):
        for word in range(16):
            for value in (1, 2, 0x80000000):
                pages[page, word] = value
                seen.add(tuple(digest_of(pages)))
                pages[page, word] = 0
    assert len(seen) == 64 * 16 * 3


@pytest.mark.parametrize("words", [1, 31, 32, 33, 64])
def test_masks_pack_and_unpack(words, rng):
    mask = rng.random((7, words)) < 0.5
    packed = pack_mask(jnp.asarray(mask))
    assert packed.shape == (7, -(-words // 32))
    for i, j in np.ndindex(*mask.shape):
        assert bool(np.asarray(packed)[i, j // 32] >> np.uint32(j % 32) & np.uint32(1)) == mask[i, j]
    np.testing.assert_array_equal(np.asarray(mmsb.page.unpack_mask(packed, words)), mask)


def test_bits_beyond_the_last_word_mean_nothing():
    state = State.create(2, page_bytes=12).advance()
    deltas = DeltaBatch.make(state, [1], jnp.ones((1, 3), jnp.uint32), mask=[[False] * 3])
    stray = DeltaBatch(
        deltas.page, deltas.words, jnp.asarray([[0xFFFFFFF8]], jnp.uint32), deltas.source, deltas.dropped
    )
    chex.assert_trees_all_equal(mmsb.apply(state, stray), state)


def test_diff_reports_what_does_not_fit():
    old = State.create(8, page_bytes=4)
    new = mmsb.apply(old, DeltaBatch.make(old, [1, 5, 7], jnp.ones((3, 1), jnp.uint32)))
    with pytest.raises(mmsb.CapacityError, match="3 pages differ, but capacity=2; pass capacity=3"):
        mmsb.diff(old, new, 2)
    short = diff_jit(old, new, 2)
    assert (short.page.tolist(), int(short.dropped)) == ([1, 5], 1)
    assert int(mmsb.merge(short, short).dropped) == 2
    assert int(mmsb.diff(old, new, 3).dropped) == 0


def test_nothing_recompiles_within_a_capacity(rng):
    state = random_state(rng, 6, 4)
    step = jax.jit(chex.assert_max_traces(lambda s, d: mmsb.apply(s, d), n=1))
    for _ in range(3):
        state = step(state, random_deltas(rng, state, 8, masked=True))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rows", [3, 600])
def test_apply_and_settle_work_in_place_when_donated(masked, rows, rng):
    state = random_state(rng, 5000, 4)
    deltas = random_deltas(rng, state, rows, masked)
    for step in (mmsb.apply, settle):
        compiled = jax.jit(step, donate_argnums=0).lower(state, deltas).compile()
        assert "u32[5000,4]{1,0} copy(" not in compiled.as_text()
        assert compiled.memory_analysis().alias_size_in_bytes >= state.pages.nbytes
    assert "u32[5000,4]{1,0} copy(" in jax.jit(mmsb.apply).lower(state, deltas).compile().as_text()
