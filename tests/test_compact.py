"""Compaction: later moments stay as they were, earlier ones are refused, a crash leaves the old log or the new."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmsb_jax as mmsb
from mmsb_jax import CorruptLogError, InvalidArgumentError, LogFailedError, page
from mmsb_jax.page import (
    EdgeRecords,
    MemoryStorage,
    PageChanges,
    PageRecord,
    TransactionLog,
    read_frames,
    replay_log,
)
from mmsb_jax.page.history._alive import edges_alive, records_alive
from mmsb_jax.page.log._segments import BASE

pytestmark = pytest.mark.unchecked

CAPACITY, WORDS = 6, 3
I32, U32 = np.int32, np.uint32


def write_log(seed, commits=10, segment_bytes=1500, storage=None):
    """Changes with and without ticks, names, pages made and deleted, edges added and removed."""
    rng = np.random.default_rng(seed)
    storage = storage or MemoryStorage()
    tick = 0
    with TransactionLog.create(
        storage, page_words=WORDS, capacity=CAPACITY, fingerprint={}, segment_bytes=segment_bytes
    ) as log:
        log.append_pages(0, [PageRecord("create", np.array([0, 1], I32), 16, "first")])
        for commit in range(commits):
            tick += int(rng.integers(0, 3))
            match rng.integers(0, 5):
                case 0:
                    log.append_pages(tick, [PageRecord("create", np.array([2], I32), 4, f"page {commit}")])
                    log.append_edges(tick, EdgeRecords.of(1, np.array([0], I32), np.array([2], I32)))
                    log.append_edges(tick, EdgeRecords.of(2, np.array([0], I32), np.array([2], I32)))
                    log.append_pages(tick, [PageRecord("delete", np.array([2], I32))])
                case 1:
                    ticks = np.sort(rng.integers(tick, tick + 4, 5)).astype(U32)
                    tick += 4
                    log.append_changes(tick, rows(rng, 5, log.name_id(f"source {commit % 4}"), ticks), digest=(tick, 1))
                case _:
                    source = log.name_id(f"source {commit % 4}")
                    log.append_changes(tick, rows(rng, 2, source), digest=(tick, 2), intent=f"intent {commit % 3}")
    return storage


def rows(rng, count, source, ticks=None):
    page = rng.integers(0, CAPACITY, count).astype(I32)
    mask = rng.integers(0, 2**WORDS, (count, 1), dtype=U32)
    words = rng.integers(0, 2**32, (count, WORDS), dtype=U32)
    return PageChanges.from_rows(page, words, mask, np.full(count, source, I32), ticks)


def everything(storage, tick=None):
    found = replay_log(storage, until_tick=tick)
    edges = edges_alive(found.events, CAPACITY)
    pages = [(r.op, r.pages.tolist(), r.size, r.name) for r in records_alive(found.events)]
    return found.pages.tolist(), found.epoch.tolist(), found.tick, pages, edges.parent.tolist(), edges.child.tolist()


def copy_of(storage):
    return MemoryStorage({name: bytearray(data) for name, data in storage.files.items()})


def compact(storage, before):
    with TransactionLog.open(storage, fingerprint={}) as log:
        return page.compact(log, before)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.sampled_from([600, 1500, 10**6]))
def test_later_moments_stay_and_earlier_ones_are_refused(seed, before, segment_bytes):
    storage = write_log(seed, segment_bytes=segment_bytes)
    original = copy_of(storage)
    last = replay_log(storage).tick
    done = compact(storage, min(before, last))
    assert done.first <= min(before, last)
    assert (done.merged > 0) == (BASE in storage.files)
    for tick in {0, done.first - 1} - {-1}:
        if tick < done.first:
            with pytest.raises(InvalidArgumentError, match=f"begins with the state at tick {done.first}"):
                replay_log(storage, until_tick=tick)
    for tick in {done.first, min(before, last), (done.first + last) // 2, last}:
        assert everything(storage, tick) == everything(original, tick)
    kept = [frame for frame in read_frames(storage) if frame.kind.name == "CHANGES" and frame.tick > done.first]
    theirs = [frame for frame in read_frames(original) if frame.kind.name == "CHANGES" and frame.tick > done.first]
    assert [bytes(frame.body) for frame in kept[-len(theirs) :]] == [bytes(frame.body) for frame in theirs]
    assert replay_log(storage).names[: len(replay_log(original).names)] == replay_log(original).names


def test_the_log_goes_on_and_can_be_compacted_again():
    storage = write_log(7)
    last = replay_log(storage).tick
    for again in range(3):
        done = compact(storage, replay_log(storage).tick - 1)
        assert done.merged > 0
        with TransactionLog.open(storage, fingerprint={}) as log:
            log.append_changes(last + 5 * again + 5, rows(np.random.default_rng(again), 3, 0), intent="after")
        assert replay_log(storage).tick == last + 5 * again + 5
    assert sum(name.endswith(".base") for name in storage.files) == 1
    numbers = [frame.sequence for frame in read_frames(storage)]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_what_frees_nothing_does_nothing():
    storage = write_log(3)
    assert compact(storage, 0)[1:] == (0, 0)
    assert BASE not in storage.files


def test_a_moment_that_is_not_there():
    storage = write_log(3)
    last = replay_log(storage).tick
    with TransactionLog.open(storage, fingerprint={}) as log:
        for before in (-1, last + 1):
            with pytest.raises(InvalidArgumentError, match="got before="):
                page.compact(log, before)


class Stops(MemoryStorage):
    """Refuses everything that changes a file after a number of such calls; with `kill`, as if the process had died."""

    left = 10**9

    def _spend(self):
        self.left -= 1
        if self.left < 0:
            raise OSError(5, "stopped")

    def create(self, name):
        self._spend()
        super().create(name)

    def publish(self, name, *data):
        self._spend()
        super().publish(name, *data)

    def write(self, name, offset, buffers):
        self._spend()
        super().write(name, offset, buffers)

    def remove(self, name):
        self._spend()
        super().remove(name)

    def sync(self, name):
        self._spend()
        super().sync(name)


def test_a_crash_at_any_point_leaves_the_old_log_or_the_new():
    original = write_log(11)
    last = replay_log(original).tick
    compacted = copy_of(original)
    first = compact(compacted, last - 2).first
    expected = {tick: everything(original, tick) for tick in (0, first, last)}
    outcomes = set()
    for stop in range(10**6):
        storage = Stops(copy_of(original).files)
        log = TransactionLog.open(storage, fingerprint={})
        storage.left = stop
        try:
            page.compact(log, last - 2)
            break
        except LogFailedError:
            storage.left = 10**9
        storage._locked = False
        for tick in (first, last):
            assert everything(storage, tick) == expected[tick]
        new = BASE in storage.files
        outcomes.add(new)
        with TransactionLog.open(storage, fingerprint={}) as log:  # clears away what was left
            log.append_changes(last, rows(np.random.default_rng(stop), 1, 0))
        assert sum(name.endswith(".base") for name in storage.files) == new
        if not new:
            assert everything(storage, 0) == expected[0]
    assert stop > 5
    assert outcomes == {True, False}


def test_a_damaged_base_is_refused():
    storage = write_log(5)
    compact(storage, replay_log(storage).tick - 1)
    whole = bytes(storage.files[BASE])
    for bit in range(8 * len(whole)):
        storage.files[BASE] = bytearray(whole)
        storage.files[BASE][bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptLogError, match="base"):
            replay_log(storage)
    storage.files[BASE] = bytearray(whole[:-1])
    with pytest.raises(CorruptLogError, match="the log's base"):
        replay_log(storage)
    del storage.files[BASE]
    with pytest.raises(CorruptLogError, match="the first segment is missing"):
        replay_log(storage)


def test_history_begins_where_the_log_does():
    storage = write_log(5)
    first = compact(storage, replay_log(storage).tick - 1).first
    run = mmsb.open_run(storage)
    assert run.first == first
    with pytest.raises(InvalidArgumentError, match=f"this run has {first} to {run.last}"):
        run.at(first - 1)
    assert [epoch for epoch, _ in run] == list(range(first, run.last + 1))
