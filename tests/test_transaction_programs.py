"""Random programs of transactions that are open at once, against a model; and transactions that a crash cuts off."""

import errno
import os

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import mmsb_jax as mmsb
from mmsb_jax import TransactionConflictError
from mmsb_jax._opening import Room, _create
from mmsb_jax.page import replay_log
from tests.fault_storage import Crash, Disk, FaultStorage
from tests.runs import start

pytestmark = pytest.mark.unchecked

# A plain Python model says what each transaction sees and how it ends.

PAGES, OPEN = 4, 3
STEP = st.tuples(
    st.sampled_from(["read", "read", "write", "write", "commit", "rollback", "update", "wave"]),
    st.integers(0, OPEN - 1),
    st.integers(0, PAGES - 1),
    st.integers(0, 3),
)


class Programs:
    """Page 3 is the sum of pages 0 and 1, brought up to date by waves; pages are 0 at first."""

    def __init__(self, bus):
        self.bus = bus
        self.now = [0] * PAGES
        self.version = [0] * PAGES
        self.open = [None] * OPEN
        self.committed = []  # (tick, reads before own writes, writes)

    def begin(self, slot):
        if self.open[slot] is None:
            self.open[slot] = (self.bus.transaction(), {}, {}, {})  # seen versions, first reads, writes
        return self.open[slot]

    def change(self, page, number):
        if self.now[page] != number:
            self.now[page], self.version[page] = number, self.version[page] + 1

    def stale(self, seen):
        return {page for page, version in seen.items() if self.version[page] != version}

    def expect(self, slot, call, seen):
        """Run a call that fails if, and only if, the model says so; whether it did not."""
        bad = self.stale(seen)
        if not bad:
            return call()
        with pytest.raises(TransactionConflictError) as caught:
            call()
        assert {page.id for page in caught.value.pages} == bad
        self.open[slot] = None
        return None

    def step(self, what, slot, page, number):
        if what == "update":
            self.bus.update_page(page, np.int32(number))
            self.change(page, number)
        elif what == "wave":
            self.bus.propagate([0])
            self.change(3, self.now[0] + self.now[1])
        else:
            tx, seen, reads, writes = self.begin(slot)
            if what == "commit":
                tick = self.expect(slot, tx.commit, seen)
                if self.open[slot] is not None:
                    self.open[slot] = None
                    self.committed.append((reads, writes, dict(enumerate(self.now))))
                    assert (tick is None) == all(self.now[page] == number for page, number in writes.items())
                    for page, number in writes.items():
                        self.change(page, number)
            elif what == "rollback":
                tx.rollback()
                self.open[slot] = None
            else:
                self.touch(what, slot, page, number)
        assert [int(self.bus.query_page(page, dtype=np.int32)[0]) for page in range(PAGES)] == self.now

    def touch(self, what, slot, page, number):
        tx, seen, reads, writes = self.open[slot]

        def call():
            if what == "write":
                tx.update_page(page, np.int32(number))
                return number
            return int(tx.query_page(page, dtype=np.int32)[0])

        first = page not in seen
        found = self.expect(slot, call, seen if first else {})
        if self.open[slot] is None:
            return
        if first:
            seen[page] = self.version[page]
        if what == "write":
            writes[page] = number
        else:
            if page not in writes:
                reads.setdefault(page, self.now[page])
            assert found == writes.get(page, reads.get(page))


def one_after_the_other(committed):
    """Serialisable: what each had read is what there was at its commit."""
    return all(before[page] == number for reads, _, before in committed for page, number in reads.items())


RULE = mmsb.Rule(
    "sum",
    pages=[3],
    terms=[mmsb.Term(mmsb.semiring.plus_times, lambda parent: parent[0])],
    update=lambda own, total: own.at[0].set(total),
)


@hypothesis.settings(max_examples=60)
@hypothesis.given(st.lists(STEP, min_size=8, max_size=40))
def test_random_programs_do_what_the_model_does(steps):
    with start() as bus:
        for _ in range(PAGES):
            bus.create_page(4)
        bus.add_dependency([0, 1], [3, 3])
        bus.add_rule(RULE)
        programs = Programs(bus)
        for step in steps:
            programs.step(*step)
        assert one_after_the_other(programs.committed)
        assert bus.replay().pages.tolist() == bus.state.pages.tolist()


def test_the_check_of_the_order_notices():
    assert not one_after_the_other([({0: 1}, {}, {0: 2})])


# Crashes: each commit gives every page the same number; after whatever happens they are equal.


def together(bus, pages, number):
    with bus.transaction() as tx:
        for page in pages:
            tx.update_page(page, np.int32(number))


def one_by_one(bus, pages, number):
    for page in pages:
        bus.update_page(page, np.int32(number))


def crashes(commit, rng, last):
    """Strike after each number of steps; returns how many crashes left some pages changed and others not."""
    torn = struck = 0
    for after in range(last):
        for power in (False, True):
            disk = Disk(np.random.default_rng(rng.integers(2**32)))
            bus = mmsb.Bus(*_create(FaultStorage(disk), Room(16, 4, None), "commit"))
            pages = [bus.create_page(4) for _ in range(3)]
            commit(bus, pages, 1)
            done, why = 1, Crash() if after % 3 else OSError(errno.EIO, os.strerror(errno.EIO))
            disk.strike(why, after)
            try:
                for number in (2, 3, 4):
                    commit(bus, pages, number)
                    done = number
            except (Crash, mmsb.LogFailedError):
                struck += 1
            disk.lose_power() if power else disk.kill()
            left = replay_log(FaultStorage(disk)).pages[:3, 0].tolist()
            torn += len(set(left)) > 1
            assert min(left) >= done, "an acknowledged commit is gone"
    assert struck > last // 2
    return torn


def test_a_crash_leaves_all_of_a_transaction_or_nothing(rng):
    assert crashes(together, rng, 10) == 0


def test_the_check_of_crashes_notices(rng):
    assert crashes(one_by_one, rng, 16) > 0
