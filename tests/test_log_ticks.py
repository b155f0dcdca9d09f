"""A commit of many ticks: it replays like as many commits, also when the limit falls inside it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsb_jax import CorruptLogError, InvalidArgumentError, InvalidDeltaError
from mmsb_jax.page import MemoryStorage, PageChanges, TransactionLog, read_frames, replay_log, schema_of
from mmsb_jax.page.log._frame import TICKS, pack_header

CAPACITY, WORDS = 6, 5
U32, I32 = np.uint32, np.int32


def create(storage):
    return TransactionLog.create(storage, page_words=WORDS, capacity=CAPACITY, fingerprint={})


def changes_of(rng, ticks, masked):
    rows = len(ticks)
    page = rng.integers(0, CAPACITY, rows).astype(I32)
    words = rng.integers(0, 2**32, (rows, WORDS), dtype=U32)
    mask = rng.integers(0, 2**WORDS, (rows, 1), dtype=U32) if masked else None
    return PageChanges.from_rows(page, words, mask, np.zeros(rows, I32), np.array(ticks, U32))


def one_by_one(changes, last):
    """The same rows, a commit per tick."""
    storage = MemoryStorage()
    page, words, mask, source = changes.to_rows(WORDS)
    with create(storage) as log:
        for tick in range(1, last + 1):
            at = changes.tick == tick
            log.append_changes(
                tick, PageChanges.from_rows(page[at], words[at], None if mask is None else mask[at], source[at])
            )
    return storage


@given(st.lists(st.integers(1, 5), max_size=12).map(sorted), st.booleans(), st.integers(0, 2**32 - 1))
def test_it_replays_like_a_commit_per_tick(ticks, masked, seed):
    changes = changes_of(np.random.default_rng(seed), ticks, masked)
    together = MemoryStorage()
    with create(together) as log:
        log.append_changes(6, changes, digest=(1, 2))
        log.append_changes(8, changes_of(np.random.default_rng(seed), [], masked))
    apart = one_by_one(changes, 6)
    for limit in range(7):
        ours, theirs = replay_log(together, until_tick=limit), replay_log(apart, until_tick=limit)
        np.testing.assert_array_equal(ours.pages, theirs.pages)
        np.testing.assert_array_equal(ours.epoch, theirs.epoch)
        assert ours.tick == limit
        assert (ours.digest is None) == (limit < 6)
    assert replay_log(together, until_tick=7).tick == 7
    assert replay_log(together).tick == 8


def test_rows_come_back_with_their_ticks(rng):
    for masked in (False, True):
        storage = MemoryStorage()
        changes = changes_of(rng, [3, 3, 4], masked)
        with create(storage) as log:
            log.append_changes(9, changes)
        *_, frame = read_frames(storage)
        found = frame.changes()
        assert found.tick.tolist() == [3, 3, 4]
        np.testing.assert_array_equal(found.words, changes.words)
        assert schema_of(3, WORDS, masked=masked, ticks=True).names[2] == "tick"
        assert len(found.until(2)) == 0
        assert found.until(3).page.tolist() == changes.page[:2].tolist()
        assert found.until(4) is found


@pytest.mark.parametrize(
    ("ticks", "error", "text"),
    [
        ([3, 2], InvalidDeltaError, "ticks go back from 3 to 2"),
        ([1, 3], InvalidArgumentError, "first row's tick is 1"),
        ([3, 10], InvalidArgumentError, "last row's tick is 10"),
    ],
)
def test_ticks_that_do_not_fit_are_refused(rng, ticks, error, text):
    storage = MemoryStorage()
    with create(storage) as log:
        log.append_changes(2, changes_of(rng, [], False))
        before = {name: bytes(data) for name, data in storage.files.items()}
        with pytest.raises(error, match=text):
            log.append_changes(9, changes_of(rng, ticks, False))
        assert storage.files == before
        short = changes_of(rng, [3, 3], False)
        object.__setattr__(short, "tick", short.tick[:1])  # past the tests' type checker
        with pytest.raises(InvalidDeltaError, match="2 pages but 1 ticks"):
            log.append_changes(9, short)


def test_a_file_with_impossible_ticks_is_corrupt(rng):
    """What the writer refuses, a forged frame may still say."""
    storage = MemoryStorage()
    with create(storage) as log:
        log.append_changes(2, changes_of(rng, [2], False))
        log.append_changes(9, changes_of(rng, [5, 7], False))
    *_, frame = read_frames(storage)
    (name,) = (name for name in storage.files if name.endswith(".seg"))
    assert frame.header.flags & TICKS
    for tick, text in ((6, "rows of ticks 5 to 7 stand in a frame of ticks 2 to 6"), (4, "5 to 7")):
        storage.files[name][frame.offset : frame.offset + 64] = pack_header(frame.header._replace(tick=tick))
        with pytest.raises(CorruptLogError, match=text):
            replay_log(storage)
