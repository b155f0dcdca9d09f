"""Rows found through indexes are those that a plain loop over the whole log finds, whatever became of the indexes."""

import itertools
import os
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsb_jax import InvalidArgumentError, InvalidTypeError, PageNotFoundError
from mmsb_jax.page import FrameKind, MemoryStorage, TransactionLog, read_frames, select
from mmsb_jax.page.query._reader import LogReader
from tests.log_runs import CAPACITY, I32, INTENTS, SOURCES, WORDS, all_rows, random_log, random_rows, rows_of, write

bounds = st.tuples(st.none() | st.integers(-2, 120), st.none() | st.integers(-2, 120))
some = {
    "pages": st.integers(0, CAPACITY - 1) | st.lists(st.integers(0, CAPACITY - 1), max_size=4),
    "ticks": bounds,
    "times": st.tuples(st.none() | st.integers(-2, 1000), st.none() | st.integers(-2, 1000)),
    "sources": st.sampled_from(SOURCES) | st.lists(st.sampled_from([*SOURCES, "nobody"]), max_size=2),
    "intents": st.sampled_from(INTENTS) | st.lists(st.sampled_from(INTENTS), max_size=2),
}
filters = st.fixed_dictionaries({}, optional=some)


def within(value, pair):
    low, high = pair or (None, None)
    return (low is None or value >= low) and (high is None or value <= high)


def one_of(value, wanted):
    return wanted is None or value in (wanted if isinstance(wanted, list) else [wanted])


def expected(rows, pages=None, ticks=None, times=None, sources=None, intents=None):
    return [
        row
        for row in rows
        if within(row[1], ticks)
        and within(row[2], times)
        and one_of(row[3], pages)
        and one_of(row[4], sources)
        and one_of(row[5], intents)
    ]


def indexes(storage):
    return sorted(name for name in storage.files if name.endswith(".idx"))


def lose(storage, rng):
    del storage.files[str(rng.choice(indexes(storage)[:-1]))]


def damage(storage, rng):
    file = storage.files[str(rng.choice(indexes(storage)[:-1]))]
    file[rng.integers(len(file))] ^= 1 << rng.integers(8)


def cut(storage, rng):
    file = storage.files[str(rng.choice(indexes(storage)[:-1]))]
    del file[rng.integers(len(file)) :]


def swap(storage, rng):
    one, other = rng.choice(indexes(storage)[:-1], 2, replace=False)
    storage.files[one], storage.files[other] = storage.files[other], storage.files[one]


def leave(storage, rng):
    pass


MISFORTUNES = {leave: 0, lose: 1, damage: 1, cut: 1, swap: 2}


@pytest.fixture(scope="module")
def logs():
    """`(storage, all its rows, how many sealed segments have lost their index)`, several of each kind."""
    found = []
    for sessions, (misfortune, lost) in itertools.product((1, 3), MISFORTUNES.items()):
        rng = np.random.default_rng([int(os.environ["MMSB_SEED"]), len(found)])
        storage = random_log(rng, sessions=sessions)
        rows = list(all_rows(storage))
        misfortune(storage, rng)
        found.append((storage, rows, lost))
    return found


@given(st.integers(0, 9), filters)
def test_a_selection_is_what_a_plain_loop_finds(logs, number, chosen):
    storage, rows, _ = logs[number]
    before = {name: bytes(data) for name, data in storage.files.items()}
    assert rows_of(storage, select(storage, **chosen)) == expected(rows, **chosen)
    assert storage.files == before, "a reader wrote something"


def test_a_lost_index_is_made_up_for_and_counted(logs):
    for storage, rows, lost in logs:
        selection = select(storage)
        assert rows_of(storage, selection) == rows
        assert selection.counts.rebuilt == lost


def last_writes(storage):
    """`{page: [(tick, sequence), …]}` of everything that changed a page, by a plain loop."""
    found = {page: [] for page in range(CAPACITY)}
    for frame in read_frames(storage):
        if frame.kind == FrameKind.CHANGES:
            changes = frame.changes()
            ticks = [frame.tick] * len(changes) if changes.tick is None else changes.tick.tolist()
            for page, tick in zip(changes.page.tolist(), ticks, strict=True):
                found[page].append((tick, frame.sequence))
        elif frame.kind == FrameKind.PAGES:
            for page in [page for r in frame.pages() if r.op == "delete" for page in r.pages.tolist()]:
                found[page].append((frame.tick, frame.sequence))
    return found


def test_the_last_write_of_a_page_is_the_last_at_or_before_the_tick(logs):
    for storage, rows, _ in logs[:6]:
        reader, writes = LogReader(storage), last_writes(storage)
        for page, tick in itertools.product(range(CAPACITY), range(0, rows[-1][1] + 2, 7)):
            before = [sequence for at, sequence in writes[page] if at <= tick]
            frame = reader.last_write(page, tick)
            assert (None if frame is None else frame.sequence) == (max(before) if before else None)


def long_log(segments):
    """A segment per commit: page 0 once in the first, then page 1 in all others."""
    storage = MemoryStorage()
    with TransactionLog.create(storage, page_words=WORDS, capacity=CAPACITY, fingerprint={}, segment_bytes=1) as log:
        rng = np.random.default_rng(0)
        for tick in range(segments):
            rows = random_rows(rng, [tick], [0])
            object.__setattr__(rows, "page", np.array([min(tick, 1)], I32))
            log.append_changes(tick, rows, time_ns=1000 + tick)
    return storage


def test_a_search_looks_at_few_segments():
    """Of 200 segments: those that a span can't exclude, and the last two for the names."""
    storage = long_log(200)
    for chosen, count in (({"pages": 0}, 1), ({"ticks": (100, 101)}, 2), ({"times": (1150, 1151)}, 2)):
        selection = select(storage, **chosen)
        assert sum(1 for _ in selection) == count
        assert selection.counts.segments <= 20
        assert selection.counts.frames <= count + 1  # and the table of names
    reader = LogReader(storage)
    assert reader.last_write(0).tick == 0
    assert reader.counts.segments <= 20
    assert reader.counts.frames <= 2
    for name in indexes(storage)[50:60]:
        del storage.files[name]
    selection = select(storage, pages=0)
    assert [frame.tick for frame, _ in selection] == [0]
    assert 0 < selection.counts.rebuilt <= 10


def test_what_a_killed_writer_did_not_index_is_indexed_by_the_next(rng):
    storage = random_log(rng, commits=5, segment_bytes=1 << 20)
    log = TransactionLog.open(storage, fingerprint={}, segment_bytes=1 << 20)
    write(rng, log, 5, log.tick)
    log.sync()
    log._writer.storage.close()  # killed: nothing is indexed
    rows = list(all_rows(storage))
    assert rows_of(storage, select(storage)) == rows
    with TransactionLog.open(storage, fingerprint={}, segment_bytes=1 << 20) as log:
        write(rng, log, 5, log.tick)
    reader = LogReader(storage)
    assert len(reader.stretches(0)) == 3
    assert reader.counts.frames == sum(frame.kind == FrameKind.NAMES for frame in read_frames(storage))


def test_a_reader_beside_a_writer_sees_what_was_there(rng):
    storage = MemoryStorage()
    log = TransactionLog.create(storage, page_words=WORDS, capacity=CAPACITY, fingerprint={}, segment_bytes=700)
    tick = write(rng, log, 10)
    rows, found = list(all_rows(storage)), []
    for frame, changes in select(storage):
        found.append((frame, changes))
        if len(found) == 1:
            write(rng, log, 10, tick)
    assert rows_of(storage, found) == rows
    log.close()


def test_a_directory_is_read_and_closed(rng, run_dir):
    random_log(rng, storage=run_dir)
    assert rows_of(run_dir, select(run_dir)) == list(all_rows(run_dir))


def test_an_index_that_can_not_be_written_is_counted(rng, monkeypatch):
    storage = MemoryStorage()
    create = storage.create

    def full(name):
        if name.endswith(".idx"):
            raise OSError(28, "No space left on device")
        create(name)

    monkeypatch.setattr(storage, "create", full)
    with TransactionLog.create(storage, page_words=WORDS, capacity=CAPACITY, fingerprint={}, segment_bytes=700) as log:
        write(rng, log, 20)
    assert log.counts["index_failures"] > 1
    assert indexes(storage) == []
    assert rows_of(storage, select(storage)) == list(all_rows(storage))


def test_times_are_nanoseconds_or_aware_datetimes(rng):
    storage = MemoryStorage()
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    with TransactionLog.create(storage, page_words=WORDS, capacity=CAPACITY, fingerprint={}) as log:
        for number in range(5):
            when = moment + timedelta(seconds=number)
            log.append_changes(number, random_rows(rng, [number], [0]), time_ns=round(when.timestamp() * 1e6) * 1000)
    elsewhere = (moment + timedelta(seconds=1)).astimezone(timezone(timedelta(hours=-7)))
    found = select(storage, times=(elsewhere, moment + timedelta(seconds=3)))
    assert [frame.tick for frame, _ in found] == [1, 2, 3]


BAD = {
    "pages are whole numbers": ({"pages": ["a"]}, InvalidTypeError),
    "pages are numbered from 0": ({"pages": -1}, InvalidArgumentError),
    "it is a pair": ({"ticks": 3}, InvalidTypeError),
    "ticks are whole numbers": ({"ticks": ("a", None)}, InvalidTypeError),
    "has no time zone": ({"times": (datetime(2026, 1, 1), None)}, InvalidArgumentError),
    "they are names": ({"sources": [3]}, InvalidTypeError),
}


@pytest.mark.parametrize("match", BAD)
def test_a_question_that_makes_no_sense_is_refused(match):
    chosen, error = BAD[match]
    with pytest.raises(error, match=match):
        select(MemoryStorage(), **chosen)


def test_what_this_log_does_not_have_is_refused(logs):
    storage, *_ = logs[0]
    with pytest.raises(InvalidArgumentError, match=f"got page {CAPACITY}, but this run has the pages 0 to"):
        list(select(storage, pages=CAPACITY))
    with pytest.raises(PageNotFoundError, match="nothing in this run is called 'wind'"):
        list(select(storage, leaves="wind"))
