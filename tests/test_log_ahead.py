"""Reading ahead gives what reading gives, in order, errors too; and no thread is left behind."""

import threading

import numpy as np
import pytest

from mmsb_jax import CorruptLogError
from mmsb_jax.page import MemoryStorage, PageChanges, TransactionLog, replay_log
from mmsb_jax.page.log import _ahead as ahead_
from mmsb_jax.page.log._ahead import ahead


@pytest.fixture(params=[(0, 1), (3, 2), (5, 100)])
def sizes(monkeypatch, request):
    """What is read before a thread begins, and how much at once."""
    monkeypatch.setattr(ahead_, "_WORTHWHILE", request.param[0])
    monkeypatch.setattr(ahead_, "_BATCH", request.param[1])
    monkeypatch.setattr(ahead_, "_LARGE", 1)
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("mmsb-read")]


def items(count, failing=None):
    for number in range(count):
        if number == failing:
            raise ValueError(f"item {number}")
        yield number


def one(item):
    return 1


@pytest.mark.parametrize("count", [0, 1, 2, 7, 30])
def test_items_come_in_order(sizes, count):
    assert list(ahead(items(count), one)) == list(range(count))


@pytest.mark.parametrize("failing", [0, 1, 2, 6, 7])
def test_an_error_comes_behind_all_items_before_it(sizes, failing):
    found = []
    with pytest.raises(ValueError, match=f"item {failing}"):
        found.extend(ahead(items(8, failing), one))
    assert found == list(range(failing))


def test_who_leaves_before_the_error_never_sees_it(sizes):
    for limit in range(7):
        found = ahead(items(9, limit + 1), one)
        assert [next(found) for _ in range(limit + 1)][-1] == limit
        found.close()


def test_a_replay_that_reads_ahead_is_the_same(sizes, rng, monkeypatch):
    storage, page = MemoryStorage(), np.arange(5, dtype=np.int32)
    with TransactionLog.create(storage, page_words=2, capacity=5, fingerprint={}, segment_bytes=900) as log:
        for tick in range(1, 20):
            words = rng.integers(0, 2**32, (5, 2), dtype=np.uint32)
            source = np.full(5, log.name_id(f"source {tick % 4}"), np.int32)
            log.append_changes(tick, PageChanges(page, source, None, words))
    whole = replay_log(storage)
    for limit in range(whole.sequence + 1):
        found = replay_log(storage, until_sequence=limit)
        with monkeypatch.context() as patch:
            patch.setattr(ahead_, "_WORTHWHILE", 1 << 60)
            expected = replay_log(storage, until_sequence=limit)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    name = max(name for name in storage.files if name.endswith(".seg"))
    storage.files[name][-1] ^= 1
    assert replay_log(storage, until_sequence=whole.sequence - 1).sequence == whole.sequence - 1
    with pytest.raises(CorruptLogError):
        replay_log(storage)


def test_a_thread_reads_what_is_large_and_nothing_else(monkeypatch):
    def who(size):
        for _ in range(40):
            yield threading.current_thread().name, size

    for size, threaded in ((1 << 20, True), (1 << 17, False), (1 << 18, True)):
        names = {name for name, _ in ahead(who(size), lambda item: item[1])}
        assert any(name.startswith("mmsb-read") for name in names) == (threaded and 40 * size > 8 << 20)
