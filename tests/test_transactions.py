"""Transactions: one commit or none; what they see; who comes second; how they end."""

import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax import TransactionConflictError, TransactionOverError
from tests.runs import CAPACITY, PAGE_BYTES, frames, names, start, total_rule, value


def one(number):
    return np.float32(number)


@pytest.fixture
def bus():
    with start() as bus:
        for name in "abcd":
            bus.create_page(4, name=name)
        yield bus


class TestOneCommit:
    def test_what_is_written_is_one_frame_with_its_reason(self, run_dir):
        with start(run_dir, page_bytes=PAGE_BYTES, capacity=CAPACITY) as bus:
            small, wide = bus.create_page(5, name="small"), bus.create_page(2 * PAGE_BYTES + 3)
            with bus.transaction(intent="both", source="planner") as tx:
                tx.update_page("small", b"hello")
                tx.update_page(wide, bytes(2 * PAGE_BYTES) + b"end")
                tx.update_page(small, b"again")
            assert (bytes(bus.query_page(small)), bytes(bus.query_page(wide)[-4:])) == (b"again", b"\0end")
            assert bus.digest() == tuple(mmsb.digest(bus.state).tolist())
        (frame,) = frames(run_dir)
        assert (frame.tick, frame.changes().page.tolist()) == (1, [small.id, *wide.ids[2:].tolist()])
        said = names(run_dir)
        assert {said[source] for source in frame.changes().source.tolist()} == {"planner"}
        assert said[frame.intent] == "both"
        with start(run_dir) as bus:
            assert bytes(bus.query_page("small")) == b"again"

    def test_nobody_sees_it_before_the_commit(self, bus):
        before = bus.digest()
        tx = bus.transaction()
        tx.update_page("a", one(1))
        assert (tx.query_page("a", dtype=np.float32).tolist(), value(bus, "a")) == ([1], 0)
        other = bus.transaction()
        assert other.query_page("a", dtype=np.float32).tolist() == [0]
        assert (bus.digest(), bus.tick) == (before, 0)
        assert tx.commit() == bus.tick == 1
        assert value(bus, "a") == 1
        assert other.query_page("a", dtype=np.float32).tolist() == [0]  # a second look shows the same

    def test_what_is_passed_and_returned_may_be_changed(self, bus):
        tx, data = bus.transaction(), np.array([1], np.float32)
        tx.update_page("a", data)
        data[:] = 2
        tx.query_page("a")[:] = 3
        tx.commit()
        assert value(bus, "a") == 1

    def test_nothing_new_is_no_commit(self, bus):
        tx = bus.transaction()
        tx.update_page("a", one(0))
        assert (tx.commit(), bus.tick, bus.transaction().commit()) == (None, 0, None)
        assert "nothing differed" in repr(tx)

    def test_an_exception_undoes_everything_and_goes_on(self, bus):
        before = bus.digest(), bus.stats().log_frames
        tx = bus.transaction()

        def fails():
            with tx:
                tx.update_page("a", one(1))
                tx.update_page("b", one(1 / 0))

        with pytest.raises(ZeroDivisionError):
            fails()
        assert (bus.digest(), bus.stats().log_frames) == before
        assert repr(tx) == "Transaction(over: it was rolled back)"

    def test_the_wave_can_be_part_of_it(self, bus):
        bus.add_dependency(["a", "b"], ["c", "c"])
        bus.add_rule(total_rule(bus.page("c").ids))
        bus.propagate()
        with bus.transaction(propagate=True, source="me") as tx:
            tx.update_page("a", one(2))
            tx.update_page("b", one(3))
        assert (value(bus, "c"), bus.tick, int(bus.propagate().recomputed)) == (5, 1, 0)
        (frame,) = [frame for frame in bus.frames() if frame.rows and frame.tick == 1]
        sources = [name for frame in bus.frames() if frame.kind == 2 for _, name in frame.new_names()]
        assert sources == ["propagation", "me"]
        assert len(set(frame.changes().source.tolist())) == 2
        assert bus.replay().pages.tolist() == bus.state.pages.tolist()

    def test_without_it_the_wave_comes_later(self, bus):
        bus.add_dependency("a", "c")
        bus.add_rule(total_rule(bus.page("c").ids))
        with bus.transaction() as tx:
            tx.update_page("a", one(2))
        assert value(bus, "c") == 0
        bus.propagate()
        assert value(bus, "c") == 2

    def test_pages_that_live_elsewhere(self):
        with start(device_pages=2) as bus:
            pages = [bus.create_page(PAGE_BYTES, location=where) for where in ("device", "unified", "host")]
            tx = bus.transaction()
            for page in pages:
                tx.update_page(page, bytes([7]) * PAGE_BYTES)
            with pytest.raises(mmsb.CapacityError):  # three rows at once
                tx.commit()
            assert "CapacityError" in repr(tx)
            with bus.transaction() as tx:
                tx.query_page(pages[1])
                tx.update_page(pages[2], bytes([7]) * PAGE_BYTES)
            assert [int(bus.query_page(page)[0]) for page in pages] == [0, 0, 7]


class TestConflicts:
    @pytest.mark.parametrize("touch", ["read", "write"])
    @pytest.mark.parametrize("how", ["update", "apply", "wave", "transaction", "delete", "resize", "recreate"])
    def test_who_comes_second_is_refused_and_told_why(self, bus, touch, how):
        if how == "wave":
            bus.add_dependency("b", "a")
            bus.add_rule(total_rule(bus.page("a").ids))
        tx = bus.transaction()
        tx.query_page("a") if touch == "read" else tx.update_page("a", one(5))
        tx.update_page("d", one(5))
        page = bus.page("a")
        if how == "update":
            bus.update_page("a", one(1))
        elif how == "apply":
            bus.apply(bus.batch(page, np.ones((1, PAGE_BYTES // 4), np.uint32)))
        elif how == "wave":
            bus.update_page("b", one(1))
            bus.propagate()
        elif how == "transaction":
            with bus.transaction() as first:
                first.update_page("a", one(1))
        elif how == "resize":
            bus.resize_page("a", 8)
        else:
            bus.delete_page("a")
        if how == "recreate":
            bus.create_page(4, name="a")
            with pytest.raises(TransactionConflictError):
                tx.query_page("a")
        before = bus.digest()
        with pytest.raises(TransactionConflictError if how != "recreate" else TransactionOverError) as caught:
            tx.commit()
        if how != "recreate":
            assert caught.value.pages == (page,)
            assert "Page('a', id 0, 4 bytes)" in str(caught.value)
        assert (bus.digest(), value(bus, "d")) == (before, 0)
        with pytest.raises(TransactionOverError, match="after a conflict"):
            tx.update_page("d", one(1))

    def test_what_it_did_not_touch_may_change(self, bus):
        tx = bus.transaction()
        tx.update_page("a", one(1))
        bus.update_page("b", one(2))
        bus.update_page("a", one(0))  # nothing differs: no commit
        fresh = bus.create_page(4, name="made meanwhile")
        assert tx.query_page("b", dtype=np.float32).tolist() == [2]  # a first look shows what is there
        tx.update_page(fresh, one(3))
        tx.commit()
        assert [value(bus, page) for page in ("a", "b", fresh)] == [1, 2, 3]

    def test_it_never_sees_what_was_not_there_at_one_time(self, bus):
        """a + b is 0 always; a transaction that has seen the old a must not see the new b."""
        tx = bus.transaction()
        assert tx.query_page("a", dtype=np.float32).tolist() == [0]
        with bus.transaction() as other:
            other.update_page("a", one(-1))
            other.update_page("b", one(1))
        assert tx.query_page("a", dtype=np.float32).tolist() == [0]
        with pytest.raises(TransactionConflictError):
            tx.query_page("b")

    def test_write_skew_is_refused(self, bus):
        """Each reads both and writes one: under snapshot isolation both would commit."""
        first, second = bus.transaction(), bus.transaction()
        for tx in (first, second):
            assert sum(tx.query_page(page, dtype=np.float32)[0] for page in "ab") == 0
        first.update_page("a", one(1))
        second.update_page("b", one(1))
        first.commit()
        with pytest.raises(TransactionConflictError):
            second.commit()

    def test_a_conflict_leaves_the_with_statement(self, bus):
        def conflict():
            with bus.transaction() as tx:
                tx.update_page("a", one(1))
                bus.update_page("a", one(2))

        with pytest.raises(TransactionConflictError):
            conflict()
        assert value(bus, "a") == 2


class TestTheEnd:
    @pytest.mark.parametrize("end", ["commit", "rollback"])
    def test_over_is_over(self, bus, end):
        tx = bus.transaction()
        tx.update_page("a", one(1))
        getattr(tx, end)()
        calls = [lambda: tx.update_page("a", one(1)), lambda: tx.query_page("a"), tx.commit, tx.__enter__]
        for call in [*calls, *([tx.rollback] if end == "commit" else [])]:
            with pytest.raises(TransactionOverError, match=r"it was (committed|rolled back).*bus\.transaction\(\)"):
                call()
        if end == "rollback":
            tx.rollback()
        assert value(bus, "a") == (end == "commit")

    def test_it_may_end_before_its_block_does(self, bus):
        with bus.transaction() as tx:
            tx.update_page("a", one(1))
            tx.commit()
        with bus.transaction() as tx:
            tx.update_page("a", one(2))
            tx.rollback()
        assert value(bus, "a") == 1

    def test_after_the_bus(self, bus):
        tx = bus.transaction()
        tx.update_page("a", one(1))
        bus.stop()
        for call in (lambda: tx.query_page("a"), lambda: tx.update_page("a", one(1)), tx.commit, bus.transaction):
            with pytest.raises(mmsb.BusClosedError):
                call()
        tx.rollback()

    def test_nobody_keeps_one_that_was_dropped(self, bus):
        tx = bus.transaction()
        tx.update_page("a", one(1))
        del tx
        assert len(bus._watch.transactions) == 0

    def test_what_is_not_possible_is_said(self, bus):
        tx = bus.transaction()
        for name in ("create_page", "add_dependency", "propagate", "apply"):
            assert not hasattr(tx, name)
            with pytest.raises(mmsb.NotInTransactionError, match=rf"{name} isn't possible inside a transaction"):
                getattr(tx, name)
        with pytest.raises(AttributeError, match="no attribute 'colour'"):
            _ = tx.colour
        assert tx.commit() is None
