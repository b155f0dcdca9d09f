"""The layout of a bus: a logged permutation of slots that changes nothing else, and comes by itself when it pays."""

import chex
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmsb_jax as mmsb
from mmsb_jax.page import (
    FrameKind,
    LayoutRecord,
    MemoryStorage,
    Snapshot,
    TransactionLog,
    open_checkpoint,
    replay_log,
    verify,
    write_checkpoint,
)

Layout, Policy = mmsb.layout.Layout, mmsb.layout.Policy

PAGES = 12


def permuted(seed):
    return Layout(np.random.default_rng(seed).permutation(PAGES))


def filled(bus, seed=0):
    """A chain of pages with sums, all of them written."""
    pages = [bus.create_page(8, name=f"p{i}") for i in range(PAGES - 2)]
    rng = np.random.default_rng(seed)
    ids = [page.id for page in pages]
    bus.add_dependency(ids[:-4], ids[4:], weight=rng.integers(1, 5, len(ids) - 4))
    rule = mmsb.Rule.semiring("most", pages=ids[4:], semiring=mmsb.semiring.max_plus, weighted=True)
    bus.add_rule(rule)
    for page in pages[:4]:
        bus.update_page(page, rng.normal(size=2).astype(np.float32))
    bus.propagate()
    return pages, rule


def contents(bus):
    return np.asarray(bus.state.view()), np.asarray(bus.state.epoch), bus.digest(), bus.tick


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


class TestMoving:
    def test_changes_nothing_but_where_rows_lie(self, run_dir):
        with mmsb.start(run_dir, page_bytes=8, capacity=PAGES) as bus:
            filled(bus)
            before, layout = contents(bus), permuted(1)
            old = bus.state
            assert bus.relayout(layout) == np.count_nonzero(layout.slot_of_page != np.arange(PAGES))
            assert_same(contents(bus), before)
            assert bus.layout == layout == Layout.of(bus.state)
            np.testing.assert_array_equal(np.asarray(bus.state.pages)[layout.slot_of_page], before[0])
            np.testing.assert_array_equal(old.view(), before[0])  # a snapshot from before stays valid
            assert bus.relayout(layout) == 0

    def test_undoing_gives_the_same_bits(self):
        with mmsb.start(page_bytes=8, capacity=PAGES) as bus:
            filled(bus)
            states = [bus.state]
            for seed in (1, 2):
                bus.relayout(permuted(seed))
                states.append(bus.state)
            for state in reversed(states[:-1]):
                bus.undo_layout()
                chex.assert_trees_all_equal(bus.state, state)
            with pytest.raises(mmsb.InvalidArgumentError, match="no change of the layout"):
                bus.undo_layout()

    def test_waves_after_it_come_to_the_same_bits(self):
        rng = np.random.default_rng(3)
        with mmsb.start(page_bytes=8, capacity=PAGES) as one, mmsb.start(page_bytes=8, capacity=PAGES) as other:
            pages, _ = filled(one)
            filled(other)
            for step in range(4):
                if step < 3:
                    other.relayout(permuted(step))
                value = rng.normal(size=2).astype(np.float32)
                for bus in (one, other):
                    bus.update_page(pages[step].name, value)
                    bus.propagate()
                assert_same(contents(one), contents(other))

    def test_is_in_the_log_with_its_reason(self, run_dir):
        with mmsb.start(run_dir, page_bytes=8, capacity=PAGES) as bus:
            filled(bus)
            bus.relayout(permuted(1), intent="near each other")
            commit = next(iter(mmsb.page.select(run_dir).commits(last=1)))
            assert (commit.kind, commit.intent, commit.rows) == (FrameKind.LAYOUT, "near each other", len(moves(1)))
            assert commit.digest == bus.digest()
            frame = list(bus.frames())[-1]
            np.testing.assert_array_equal(frame.layout().of(np.arange(PAGES, dtype=np.int32)), bus.layout.slot_of_page)
            assert verify(run_dir).digests > 0


def moves(seed):
    return np.flatnonzero(permuted(seed).slot_of_page != np.arange(PAGES))


PROGRAM = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, PAGES - 3), st.integers(0, 99)),
        st.tuples(st.just("wave")),
        st.tuples(st.just("move"), st.integers(0, 5)),
        st.tuples(st.just("undo")),
        st.tuples(st.just("checkpoint")),
        st.tuples(st.just("reopen")),
        st.tuples(st.just("compact")),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.unchecked
@settings(max_examples=40)
@given(program=PROGRAM)
def test_log_and_state_agree_across_layouts(program, tmp_path_factory):
    path = tmp_path_factory.mktemp("layouts") / "run.mmsb"
    bus = mmsb.start(path, page_bytes=8, capacity=PAGES)
    pages, rule = filled(bus)
    plain = mmsb.start(page_bytes=8, capacity=PAGES)
    filled(plain)
    at = {}
    for what, *args in program:
        if what == "write":
            for each in (bus, plain):
                each.update_page(pages[args[0]].name, np.float32([args[1], -args[1]]))
        elif what == "wave":
            for each in (bus, plain):
                each.propagate()
        elif what == "move":
            bus.relayout(permuted(args[0]))
        elif what == "undo" and bus.layout != Layout.identity(PAGES):
            bus.undo_layout()
        elif what == "checkpoint":
            bus.checkpoint()
        elif what == "compact":
            bus.compact(bus.tick)
            at = {tick: state for tick, state in at.items() if tick >= bus.tick}
        elif what == "reopen":
            before, layout = contents(bus), bus.layout
            bus.stop()
            bus = mmsb.start(path)
            bus.add_rule(rule)
            assert_same(contents(bus), before)
            assert bus.layout == layout
        at[bus.tick] = bus.state
        assert_same(contents(bus), contents(plain))
        chex.assert_trees_all_equal(mmsb.replay(path), bus.state)  # the page table, too
    for tick, state in at.items():
        np.testing.assert_array_equal(mmsb.replay(path, tick=tick).view(), state.view())
    bus.stop(path.with_suffix(".fork"))
    verify(path)
    with mmsb.start(path.with_suffix(".fork")) as fork:
        assert_same(contents(fork)[:3], contents(plain)[:3])
        np.testing.assert_array_equal(fork.state.slot_of_page, at[max(at)].slot_of_page)
    plain.stop()


def test_a_checkpoint_keeps_pages_in_the_order_of_their_slots(run_dir):
    with mmsb.start(run_dir, page_bytes=8, capacity=PAGES) as bus:
        filled(bus)
        bus.relayout(permuted(1))
        before = bus.state
        info = bus.checkpoint()
    held = open_checkpoint(run_dir, info)
    np.testing.assert_array_equal(held.load().pages, before.view())
    np.testing.assert_array_equal(held.load().slot_of_page, permuted(1).slot_of_page)
    np.testing.assert_array_equal(held.pages([3, 7]), np.asarray(before.view())[[3, 7]])
    np.testing.assert_array_equal(held.epochs([3, 7]), np.asarray(before.epoch)[[3, 7]])
    part = next((run_dir / "checkpoints").glob("*.safetensors"))
    rows = np.frombuffer(part.read_bytes()[-PAGES * 12 : -PAGES * 4], "<u4").reshape(PAGES, 2)
    np.testing.assert_array_equal(rows, before.pages)


def small_log():
    storage = MemoryStorage()
    log = TransactionLog.create(storage, page_words=1, capacity=4, fingerprint={})
    return storage, log


def record(before, after):
    return LayoutRecord(np.array(before, np.int32), np.array(after, np.int32))


SWAP = record([0, 1], [1, 0])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (record([0, 1], [1]), "2 slots move to 1"),
        (record([0, 4], [4, 0]), "outside this run's 0 to 3"),
        (record([-1, 1], [1, -1]), "outside"),
        (record([1, 0], [0, 1]), "don't ascend"),
        (record([0, 0], [0, 0]), "don't ascend"),
        (record([0, 1], [1, 2]), "in another order"),
        (record([0, 1], [1, 1]), "in another order"),
    ],
)
def test_what_is_no_permutation_never_enters_the_log(bad, reason):
    storage, log = small_log()
    with log, pytest.raises(mmsb.InvalidArgumentError, match=reason):
        log.append_layout(0, bad)
    assert replay_log(storage).slot_of_page is None


@pytest.mark.parametrize("table", [[0, 0, 1, 2], [0, 1, 2], [1, 2, 3, 4]])
def test_a_snapshot_with_another_table_is_refused(table):
    storage, log = small_log()
    with log:
        words, epoch = np.zeros((4, 1), np.uint32), np.zeros(4, np.uint32)
        snapshot = Snapshot(words, epoch, 0, log.sequence, slot_of_page=np.array(table, np.int32))
        with pytest.raises(mmsb.InvalidArgumentError, match="no permutation of the slots 0 to 3"):
            write_checkpoint(storage, snapshot)


def test_parts_are_shared_only_where_the_same_pages_lie():
    storage, log = small_log()
    words, epoch = np.arange(1, 5, dtype=np.uint32)[:, None], np.zeros(4, np.uint32)
    with log:
        log.append_changes(0, mmsb.page.PageChanges(np.arange(4, dtype=np.int32), np.zeros(4, np.int32), None, words))
        base = write_checkpoint(storage, Snapshot(words, epoch, 0, log.sequence), part_bytes=8)
        log.append_layout(0, SWAP)
        table = np.array([1, 0, 2, 3], np.int32)
        moved = Snapshot(words, epoch, 0, log.sequence, slot_of_page=table)
        info = write_checkpoint(storage, moved, base=base)
        held = open_checkpoint(storage, info)
        assert held.shared_files == 1  # slots 2 and 3; the catalogue is another one
        np.testing.assert_array_equal(held.load().pages, words)
        log.append_layout(0, SWAP)
        back = write_checkpoint(storage, Snapshot(words, epoch, 0, log.sequence), base=info)
        np.testing.assert_array_equal(open_checkpoint(storage, back).load().pages, words)
        assert open_checkpoint(storage, back).slot_of_page is None
    assert verify(storage).checkpoints == 3


def test_a_checkpoint_that_lies_otherwise_than_the_log_says_is_reported():
    storage, log = small_log()
    words, epoch = np.ones((4, 1), np.uint32), np.zeros(4, np.uint32)
    with log:
        log.append_changes(0, mmsb.page.PageChanges(np.arange(4, dtype=np.int32), np.zeros(4, np.int32), None, words))
        write_checkpoint(storage, Snapshot(words, epoch, 0, log.sequence, slot_of_page=np.int32([1, 0, 2, 3])))
    with pytest.raises(mmsb.ReplayDivergenceError, match="isn't the state that the log leads to"):
        verify(storage)


class TestUndoing:
    def test_going_back_by_hand_is_a_change_like_any_other(self):
        one, two = permuted(1), permuted(2)
        with mmsb.start(page_bytes=8, capacity=PAGES) as bus:
            for layout in (one, two, one):
                bus.relayout(layout)
            for expected in (two, one, Layout.identity(PAGES)):
                bus.undo_layout()
                assert bus.layout == expected

    @pytest.mark.parametrize("merge", ["checkpoint", "compact", None])
    def test_what_was_undone_stays_undone_after_reopening(self, merge, run_dir):
        with mmsb.start(run_dir, page_bytes=8, capacity=PAGES) as bus:
            filled(bus)
            bus.relayout(permuted(1))
            bus.relayout(permuted(2))
            if merge:
                getattr(bus, merge)(*([bus.tick] if merge == "compact" else []))
            bus.undo_layout()
        with mmsb.start(run_dir) as bus:
            assert bus.layout == permuted(1)
            bus.undo_layout()
            assert bus.layout == Layout.identity(PAGES)
            with pytest.raises(mmsb.InvalidArgumentError, match="no change"):
                bus.undo_layout()
        verify(run_dir)


def test_a_recording_that_goes_on_keeps_layout_and_edges(run_dir):
    def step(x):
        return {"a": x["a"] * 1.01 + 1, "b": x["b"] + 1}

    init = {"a": np.arange(64, dtype=np.float32), "b": np.zeros(64, np.float32)}
    how = {"path": run_dir, "progress": False, "page_bytes": 64}
    mmsb.record(step, init, 4, **how)
    layout = Layout(np.arange(8)[::-1])
    with mmsb.start(run_dir) as bus:
        bus.relayout(layout)
        bus.add_dependency(0, 1)
    mmsb.record(step, init, 12, resume=True, keyframe_every=2, **how)
    verify(run_dir)
    assert Layout.of(mmsb.replay(run_dir)) == layout
    with mmsb.start(run_dir) as bus:
        assert bus.layout == layout
        assert bus.graph.num_edges == 1


def test_a_damaged_catalogue_of_a_base_costs_only_what_is_shared(run_dir):
    for damage in (False, True, False):
        with mmsb.start(run_dir, page_bytes=8, capacity=PAGES) as bus:
            page = bus.create_page(8)
            bus.relayout(permuted(page.id))
            bus.update_page(page, np.float32([page.id, 1]))
            info = bus.checkpoint()
        if damage:
            file = next((run_dir / "checkpoints").glob(f"{info.stem}*.frames"))
            data = bytearray(file.read_bytes())
            data[100] ^= 1
            file.write_bytes(data)
    assert open_checkpoint(run_dir, info).shared_files == 0
    open_checkpoint(run_dir, info).load()


class TestRefused:
    def test_layouts_that_do_not_fit(self):
        with mmsb.start(page_bytes=8, capacity=PAGES) as bus:
            with pytest.raises(mmsb.InvalidArgumentError, match="3 pages for a bus of 12"):
                bus.relayout(Layout.identity(3))
            with pytest.raises(mmsb.InvalidTypeError, match=r"optimize\(…\) finds one"):
                bus.relayout([0, 1, 2])
            with pytest.raises(mmsb.InvalidTypeError):
                bus.relayout(permuted(1), intent=3)
            assert bus.layout == Layout.identity(PAGES)

    def test_a_bus_with_pages_in_host_memory(self, run_dir):
        with mmsb.start(run_dir, page_bytes=8, capacity=PAGES) as bus:
            filled(bus)
            bus.relayout(permuted(1))
            before = contents(bus)
        with mmsb.start(run_dir, device_pages=11) as bus:
            assert bus.digest() == before[2]
            with pytest.raises(mmsb.InvalidArgumentError, match="host memory"):
                bus.undo_layout()
            bus.checkpoint()
        verify(run_dir)
        with mmsb.start(run_dir) as bus:
            assert bus.layout == permuted(1)
            assert_same(contents(bus), before)

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (lambda: mmsb.start(layout="yes"), "'off', 'advise', 'auto'"),
            (lambda: mmsb.start(layout=1), "got layout=1"),
            (lambda: Policy(horizon=0), "horizon=0"),
            (lambda: Policy(margin=0.5), "margin=0.5"),
            (lambda: Policy(patience=-1), "patience=-1"),
        ],
    )
    def test_policies_that_make_no_sense(self, bad, message):
        with pytest.raises(mmsb.InvalidArgumentError, match=message):
            bad()
