"""What a user does with a bus: pages, the log, reopening, snapshots; in memory and on disk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax import DeltaBatch
from mmsb_jax.page import FrameKind, PageRecord
from tests.runs import CAPACITY, PAGE_BYTES, floats, frames, names, start, total_rule


@pytest.fixture
def new_run(run_dir):
    with mmsb.start(run_dir, page_bytes=PAGE_BYTES, capacity=CAPACITY) as bus:
        yield bus


@pytest.fixture
def bus():
    with start() as bus:
        yield bus


class TestPages:
    @pytest.mark.parametrize("size", [1, 3, PAGE_BYTES - 1, PAGE_BYTES, PAGE_BYTES + 1, 3 * PAGE_BYTES - 2])
    def test_any_size_comes_back_byte_for_byte(self, bus, size, rng):
        page = bus.create_page(size)
        assert len(page.ids) == -(-size // PAGE_BYTES)
        assert bus.query_page(page).tolist() == [0] * size
        for _ in range(2):
            data = rng.integers(0, 256, size, np.uint8)
            bus.update_page(page, data.tobytes())
            read = bus.query_page(page)
            assert (read.dtype, read.shape) == (np.uint8, (size,))
            np.testing.assert_array_equal(read, data)
        assert bus.digest() == tuple(mmsb.digest(bus.state).tolist())

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.bool_, np.complex64, jnp.bfloat16, ">i4"])
    def test_arrays_come_back_as_their_dtype(self, bus, dtype):
        data = np.array([1, 0, 1, 1]).astype(dtype)
        page = bus.create_page(data.nbytes)
        bus.update_page(page, data.reshape(2, 2))
        read = bus.query_page(page, dtype=dtype)
        assert read.dtype == data.dtype
        np.testing.assert_array_equal(read, data)

    @pytest.mark.parametrize(
        "data",
        [np.float32(1.5), jnp.float32(1.5), np.array(1.5, np.float32), [np.float32(1.5)], b"\0\0\xc0\x3f"],
        ids=lambda data: type(data).__name__,
    )
    def test_scalars_lists_and_bytes(self, bus, data):
        page = bus.create_page(4)
        bus.update_page(page, data)
        assert bus.query_page(page, dtype=np.float32).tolist() == [1.5]

    def test_strided_and_borrowed_memory(self, bus):
        page = bus.create_page(4)
        bus.update_page(page, np.arange(8, dtype=np.uint8)[::2])
        assert bus.query_page(page).tolist() == [0, 2, 4, 6]
        bus.update_page(page, memoryview(bytearray(b"abcdefgh"))[::2])
        assert bytes(bus.query_page(page)) == b"aceg"
        bus.update_page(page, bytearray(b"wxyz"))
        assert bytes(bus.query_page(page)) == b"wxyz"

    def test_what_is_read_may_be_changed(self, bus):
        page = bus.create_page(4)
        bus.query_page(page)[:] = 7
        assert bus.query_page(page).tolist() == [0] * 4

    def test_handles_names_and_ids_mean_the_same(self, bus):
        page = bus.create_page(4, name="pression α", location="host", metadata={"unit": "Pa", "axes": ("x",)})
        assert (page.id, page.location, page.placement) == (0, "host", "pinned_host")
        assert page.metadata == {"unit": "Pa", "axes": ["x"]}  # as the log will give it back
        for handle in (page, "pression α", 0, np.int64(0), jnp.int32(0), page.ids[0]):
            assert bus.page(handle) is page
            bus.update_page(handle, np.int32(5))
        assert repr(page) == "Page('pression α', id 0, 4 bytes)"
        assert repr(bus.create_page(2 * PAGE_BYTES)) == f"Page(2 pages from id 1, {2 * PAGE_BYTES} bytes)"

    def test_a_deleted_page_is_gone_and_its_ids_are_used_again(self, bus):
        stay, gone = bus.create_page(4, name="stay"), bus.create_page(2 * PAGE_BYTES, name="gone")
        bus.update_page(gone, b"\xff" * 2 * PAGE_BYTES)
        digest, tick = bus.digest(), bus.tick
        bus.delete_page("gone")
        assert bus.digest() == (0, 0) != digest
        assert bus.tick == tick + 1
        assert bus.pages == (stay,)
        again = bus.create_page(PAGE_BYTES, name="gone")
        assert again.id == gone.id
        assert bus.query_page(again).tolist() == [0] * PAGE_BYTES
        for handle in (gone, gone.ids[1]):
            with pytest.raises(mmsb.PageNotFoundError):
                bus.query_page(handle)

    def test_a_handle_of_another_bus_is_refused(self, bus):
        with start() as other:
            page = other.create_page(4)
            assert bus.create_page(4).id == page.id
            with pytest.raises(mmsb.PageNotFoundError, match="belongs to another bus"):
                bus.query_page(page)

    def test_a_full_bus_takes_no_more_until_a_page_is_deleted(self, bus):
        pages = [bus.create_page(PAGE_BYTES * CAPACITY // 2) for _ in range(2)]
        with pytest.raises(mmsb.CapacityError, match=f"capacity of at least {CAPACITY + 1}"):
            bus.create_page(1)
        bus.delete_page(pages[0])
        assert bus.create_page(1).id == 0


class TestLog:
    def test_only_words_that_differ_are_logged(self, new_run, run_dir):
        page = new_run.create_page(PAGE_BYTES)
        assert new_run.update_page(page, floats(1, 2, 3), source="sensor", intent="calibrate") == 1
        assert new_run.update_page(page, floats(1, 7, 3)) == 2
        assert new_run.update_page(page, floats(1, 7, 3)) is None
        assert new_run.tick == 2
        first, second = frames(run_dir)
        assert first.changes().words.view(np.float32).tolist() == [1, 2, 3]
        assert second.changes().words.view(np.float32).tolist() == [7]
        assert second.changes().mask.tolist() == [[0b10]]
        assert second.changes().page.tolist() == [page.id]
        table = names(run_dir)
        assert [table[int(frame.changes().source[0])] for frame in (first, second)] == ["sensor", "api"]
        assert [table[frame.intent] for frame in (first, second)] == ["calibrate", ""]
        assert (first.tick, second.tick, second.digest) == (1, 2, new_run.digest())

    def test_bits_count_not_values(self, new_run, run_dir):
        page = new_run.create_page(PAGE_BYTES)
        new_run.update_page(page, floats(0.0, np.nan))
        assert new_run.update_page(page, floats(0.0, np.nan)) is None
        new_run.update_page(page, floats(-0.0, np.nan))
        assert frames(run_dir)[-1].changes().words.tolist() == [0x80000000]

    def test_sources_of_a_tick_are_told_apart(self, new_run, run_dir):
        parent, child = new_run.create_page(PAGE_BYTES), new_run.create_page(PAGE_BYTES)
        new_run.add_dependency(parent, child)
        new_run.add_rule(total_rule(child.ids))
        radar = new_run.source_id("radar")
        assert new_run.source_id("radar") == radar
        new_run.apply(DeltaBatch.make(new_run.state, parent.ids, floats(2), source=radar), intent="observe")
        (frame,) = frames(run_dir)
        table = names(run_dir)
        sources = [table[number] for number in frame.changes().source.tolist()]
        assert list(zip(frame.changes().page.tolist(), sources, strict=True)) == [(0, "radar"), (1, "propagation")]
        assert table[frame.intent] == "observe"

    def test_page_and_edge_records(self, new_run, run_dir):
        a, b = new_run.create_page(4, name="a", metadata={"k": [1]}), new_run.create_page(4)
        new_run.add_dependency(a, b, kind="control", weight=0.5)
        new_run.remove_dependency(a, b)
        new_run.delete_page(b)
        created, _, deleted = (frame.pages()[0] for frame in frames(run_dir, FrameKind.PAGES))
        assert isinstance(created, PageRecord)
        assert (created.op, created.pages.tolist(), created.size) == ("create", [0], 4)
        assert (created.name, created.metadata) == ("a", {"k": [1]})
        assert (deleted.op, deleted.pages.tolist()) == ("delete", [1])
        added, removed = (frame.edges() for frame in frames(run_dir, FrameKind.EDGES))
        assert (added.op.tolist(), added.weight.tolist(), added.kind.tolist()) == ([1], [0.5], [1])
        assert (removed.op.tolist(), removed.parent.tolist(), removed.child.tolist()) == ([2], [0], [1])


class TestReopening:
    def test_everything_but_the_rules_is_there_again(self, run_dir):
        with start(run_dir, page_bytes=PAGE_BYTES, capacity=CAPACITY) as bus:
            a, b, c = (bus.create_page(40, name=name, metadata={"n": name}) for name in "abc")
            gone = bus.create_page(4)
            bus.add_dependency(a, b, weight=[0.5, 2])
            bus.add_dependency(b.ids[0], c, kind="compiler")
            bus.remove_dependency(b.ids[0], c.ids[1])
            bus.update_page(a, np.arange(40, dtype=np.uint8))
            bus.delete_page(gone)
            bus.update_page("c", bytes(39) + b"\x01", intent="last")
            before, edges = bus.state, bus.graph
            known = [(p.id, p.size, p.name, p.metadata, p.generation, p.ids.tolist()) for p in bus.pages]
            stats = bus.stats()
        with start(run_dir) as bus:
            assert [(p.id, p.size, p.name, p.metadata, p.generation, p.ids.tolist()) for p in bus.pages] == known
            assert bus.digest() == tuple(mmsb.digest(before).tolist())
            for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(bus.state), strict=True):
                np.testing.assert_array_equal(np.asarray(old), np.asarray(new))
            for field in ("parent", "child", "weight", "kind"):
                np.testing.assert_array_equal(getattr(edges, field), getattr(bus.graph, field))
            assert (bus.stats().log_frames, bus.stats().commits) == (stats.log_frames, 0)
            np.testing.assert_array_equal(bus.query_page(a), np.arange(40))  # handles of this run go on
            with pytest.raises(mmsb.PageNotFoundError):
                bus.query_page(gone)
            assert bus.update_page("c", bytes(40)) == before.tick + 1
            assert bus.create_page(4, name="d").generation == gone.generation + 2
        with start(run_dir) as bus:
            assert bus.query_page("c").tolist() == [0] * 40

    def test_an_empty_directory_may_become_a_run(self, tmp_path):
        with start(str(tmp_path), page_bytes=PAGE_BYTES, capacity=CAPACITY) as bus:
            bus.create_page(4, name="x")
        with start(tmp_path) as bus:
            assert bus.page("x").size == 4

    def test_the_sizes_of_a_run_may_be_repeated(self, run_dir):
        start(run_dir, page_bytes=PAGE_BYTES, capacity=CAPACITY).stop()
        with start(run_dir, page_bytes=np.int64(PAGE_BYTES), capacity=CAPACITY) as bus:
            assert bus.stats().capacity == CAPACITY

    @pytest.mark.parametrize("sync", ["commit", "group", "none"])
    def test_every_sync_mode_keeps_everything(self, run_dir, sync):
        with start(run_dir, page_bytes=PAGE_BYTES, capacity=CAPACITY, sync=sync) as bus:
            page = bus.create_page(4)
            for number in range(5):
                bus.update_page(page, np.int32(number + 1))
            digest = bus.digest()
        assert tuple(mmsb.digest(mmsb.replay(run_dir)).tolist()) == digest
        assert mmsb.replay(run_dir, tick=3).view(jnp.int32)[0, 0] == 3

    def test_readers_beside_the_writer(self, new_run, run_dir):
        page = new_run.create_page(4)
        new_run.update_page(page, np.int32(3))
        assert mmsb.replay(run_dir).view(jnp.int32)[0, 0] == 3

    def test_an_error_inside_with_keeps_what_was_committed(self, run_dir):
        def fails(bus):
            with bus:
                bus.update_page(bus.create_page(4, name="x"), np.int32(1))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fails(start(run_dir, page_bytes=PAGE_BYTES, capacity=CAPACITY))
        with start(run_dir) as bus:
            assert bus.query_page("x", dtype=np.int32).tolist() == [1]


class TestSnapshots:
    def test_a_snapshot_stays_as_it_was(self, bus):
        a, b = bus.create_page(4), bus.create_page(4)
        bus.add_dependency(a, b)
        bus.add_rule(total_rule(b.ids))
        seen = []
        for number in range(1, 4):
            seen.append((number - 1, bus.state, bus.state))
            bus.update_page(a, np.float32(number))
            bus.propagate()
        seen.append((3, bus.state, bus.state))
        bus.apply(DeltaBatch.empty(bus.state, 8))
        bus.remove_dependency(a, b)
        bus.delete_page(bus.create_page(4))
        bus.update_page(a, np.float32(9))
        for number, *states in seen:
            for state in states:
                assert state.view(jnp.float32)[:2, 0].tolist() == [number, number]
                assert int(state.epoch.max()) <= int(state.tick)

    def test_two_snapshots_differ_by_what_happened_between(self, bus):
        a, b = bus.create_page(PAGE_BYTES), bus.create_page(PAGE_BYTES)
        bus.update_page(b, floats(1))
        old = bus.state
        bus.update_page(a, floats(0, 5))
        deltas = mmsb.diff(old, bus.state, 2)
        assert deltas.page.tolist() == [a.id, CAPACITY]
        assert np.flatnonzero(deltas.dense_mask()[0]).tolist() == [1]
        np.testing.assert_array_equal(mmsb.apply(old, deltas).view(), bus.state.view())


def test_a_script_can_be_run_twice(run_dir):
    for _ in range(2):
        with start(run_dir) as bus:
            page = bus.create_page(8, name="tea", exist_ok=True)
            assert (page.id, bus.stats().pages) == (0, 1)
            with pytest.raises(mmsb.InvalidArgumentError, match="named 'tea' already"):
                bus.create_page(9, name="tea", exist_ok=True)


def test_a_bus_in_memory_can_be_replayed(bus):
    page = bus.create_page(4)
    for value in (1, 2, 3):
        bus.update_page(page, np.int32(value))
    assert [int(bus.replay(tick).view()[0, 0]) for tick in (0, 1, 2, 3)] == [0, 1, 2, 3]
    frames = list(bus.frames())
    bus.update_page(page, np.int32(4))
    assert [frame.changes().words.tolist() for frame in frames if frame.kind == FrameKind.CHANGES] == [[1], [2], [3]]
    assert repr(frames[-1]) == f"Frame({len(frames) - 1}: CHANGES, 1 rows, tick 3)"


def test_a_batch_made_by_the_bus(bus):
    page = bus.create_page(2 * bus.state.page_bytes)
    deltas = bus.batch(page, np.ones((2, bus.state.page_words), np.uint32), source="sensor")
    bus.apply(deltas)
    assert np.asarray(bus.state.view())[:2].all()
    assert int(deltas.source[0]) == bus.source_id("sensor")
