"""Damage: every bit flipped, every length cut, segments lost. Refused with an offset, or exactly a committed prefix."""

import numpy as np
import pytest

from mmsb_jax import CorruptLogError, LogNotFoundError
from mmsb_jax.page import EdgeRecords, MemoryStorage, PageChanges, PageRecord, TransactionLog, read_frames, replay_log
from mmsb_jax.page.log._frame import MAGIC
from mmsb_jax.page.log._identity import MARK, RUN_FILE
from mmsb_jax.page.log._segments import segment_name

pytestmark = pytest.mark.unchecked

FIRST = segment_name(0)


def rows(value, rows=1):
    page = np.arange(rows, dtype=np.int32)
    mask = np.full((rows, 1), 0b11, np.uint32)
    return PageChanges(page, np.zeros(rows, np.int32), mask, np.full(2 * rows, value, np.uint32))


def small_run(segment_bytes=1 << 20, commits=4):
    storage = MemoryStorage()
    with TransactionLog.create(storage, page_words=2, capacity=3, fingerprint={}, segment_bytes=segment_bytes) as log:
        log.append_pages(0, [PageRecord("create", np.array([0, 1], np.int32), 16)])
        one = np.array([1], np.int32)
        log.append_edges(
            1, EdgeRecords.of(1, np.array([0], np.int32), one, 0, np.array([0.5], np.float32)), intent="tie"
        )
        for tick in range(2, 2 + commits):
            log.append_changes(tick, rows(tick, 2), digest=(tick, tick))
    return storage.files


def with_files(files, **changed):
    return MemoryStorage({name: bytearray(changed.get(name, data)) for name, data in files.items()})


def frames_of(storage):
    return [(frame.header, bytes(frame.body)) for frame in read_frames(storage)]


def ends_of(storage):
    return [frame.offset + 64 + len(frame.body) for frame in read_frames(storage)]


def outcome(storage, committed):
    """`(number of frames read, error or None)`; the frames must be the first ones committed, whatever happens."""
    read = []
    try:
        for frame in read_frames(storage):
            read.append((frame.header, bytes(frame.body)))
        error = None
    except CorruptLogError as why:
        error = why
    assert error is None or (error.file and error.offset >= 0 and error.reason)
    assert read == committed[: len(read)], "other data than was committed"
    return len(read), error


def check_writer_agrees(storage, count, error):
    """Opening for writing must judge as reading does, and keep what reading gave out."""
    before = {name: bytes(data) for name, data in storage.files.items()}
    try:
        log = TransactionLog.open(storage, fingerprint={})
    except CorruptLogError:
        assert error is not None
        assert before == storage.files, "a refused log was changed"
    else:
        log.close()
        assert error is None
        assert log.sequence == count - 1
        assert log.counts["frames"] == 0


def flips(data):
    """Every way to flip one bit."""
    for byte in range(len(data)):
        for bit in range(8):
            data[byte] ^= 1 << bit
            yield byte, bit
            data[byte] ^= 1 << bit


def test_every_bit_flip_of_a_synced_log_is_refused():
    files = small_run(commits=2)
    committed = frames_of(MemoryStorage(files))
    size = len(files[FIRST])
    assert size > 1500
    storage = with_files(files)
    for byte, bit in flips(storage.files[FIRST]):
        count, error = outcome(storage, committed)
        assert error is not None, f"bit {bit} of byte {byte} went unnoticed"
        assert error.offset <= byte, "the offset is where the damaged frame begins"
        if bit == byte % 8:
            check_writer_agrees(storage, count, error)
            # The last commit before the damage can still be reached, as the message promises.
            if count:
                assert replay_log(storage, until_sequence=count - 1).sequence == count - 1


@pytest.mark.parametrize("name", [MARK, RUN_FILE])
def test_every_bit_flip_of_the_small_files_is_refused_or_harmless(name):
    files = small_run(commits=1)
    committed = frames_of(MemoryStorage(files))
    storage = with_files(files)
    refused = 0
    for _ in flips(storage.files[name]):
        count, error = outcome(storage, committed)
        assert error is not None or count == len(committed)
        refused += error is not None
        if error is not None:
            check_writer_agrees(storage, count, error)
    # One slot of the mark always survives; in run.json only a change of white space can be harmless.
    assert refused == 0 if name == MARK else refused > 7.9 * len(files[name])


def stale_mark(commits_back):
    """The files as they are when the last commits were written but not yet vouched for."""
    storage = MemoryStorage()
    log = TransactionLog.create(storage, page_words=2, capacity=3, fingerprint={}, sync="none")
    log.append_changes(1, rows(1))
    log.sync()
    for tick in range(2, 2 + commits_back):
        log.append_changes(tick, rows(tick))
    copy = {name: bytearray(data) for name, data in storage.files.items()}
    log.close()
    return copy


def test_flips_beyond_the_mark_are_a_torn_tail_or_refused():
    files = stale_mark(2)
    committed = frames_of(with_files(files))
    ends = ends_of(with_files(files))
    storage = with_files(files)
    for byte, bit in flips(storage.files[FIRST]):
        count, error = outcome(storage, committed)
        if byte >= ends[-2]:
            assert (count, error) == (len(committed) - 1, None), "the last frame, not vouched for: a torn tail"
            if bit == byte % 8:
                check_writer_agrees(with_files(storage.files), count, error)
        else:
            assert error is not None, f"byte {byte}: a good frame follows, so this is no tail"


def test_every_truncation_of_a_synced_log_is_refused():
    files = small_run(commits=2)
    committed = frames_of(MemoryStorage(files))
    for size in range(len(files[FIRST])):
        _, error = outcome(with_files(files, **{FIRST: files[FIRST][:size]}), committed)
        assert error is not None, f"cut to {size} bytes"
        assert error.offset <= size


def test_every_truncation_beyond_the_mark_is_a_torn_tail_that_a_writer_cuts():
    files = stale_mark(2)
    committed, ends = frames_of(with_files(files)), ends_of(with_files(files))
    for size in range(ends[1], len(files[FIRST])):
        storage = with_files(files, **{FIRST: files[FIRST][:size]})
        count, error = outcome(storage, committed)
        assert (count, error) == (sum(end <= size for end in ends), None)
        check_writer_agrees(storage, count, None)
        assert len(storage.files[FIRST]) == ends[count - 1], "the torn tail is cut off"
        with TransactionLog.open(storage, fingerprint={}) as log:
            log.append_changes(9, rows(9))
        assert frames_of(storage)[:-1] == committed[:count]


@pytest.mark.parametrize("name", [MARK, RUN_FILE])
def test_every_truncation_of_the_small_files_is_refused_or_harmless(name):
    files = small_run(commits=1)
    committed = frames_of(MemoryStorage(files))
    for size in range(len(files[name])):
        count, error = outcome(with_files(files, **{name: files[name][:size]}), committed)
        assert error is not None or count == len(committed)


def test_a_tail_of_zeros_or_rubbish_is_cut(rng):
    files = stale_mark(1)
    committed = frames_of(with_files(files))
    # A magic number, a piece of an earlier frame, and a frame of another run are no later commits.
    other = small_run()[FIRST]
    for rubbish in (
        bytes(5000),
        rng.bytes(300),
        MAGIC * 40,
        bytes(files[FIRST][:200]),
        bytes(other),
        bytes(files[FIRST]),
    ):
        storage = with_files(files, **{FIRST: files[FIRST] + rubbish})
        if rubbish == bytes(files[FIRST]):
            with pytest.raises(CorruptLogError, match="frame 0 stands where frame 3 belongs"):
                frames_of(storage)
            continue
        if rubbish == bytes(files[FIRST][:200]):
            continue_count, error = outcome(storage, committed)
            assert (continue_count, error) == (len(committed), None)
        assert frames_of(storage) == committed
        TransactionLog.open(storage, fingerprint={}).close()
        assert storage.files[FIRST] == files[FIRST]


def test_a_later_frame_is_found_across_window_borders(monkeypatch):
    files = stale_mark(3)
    ends = ends_of(with_files(files))
    for window in (64, 65, 100, 1 << 20):
        monkeypatch.setattr("mmsb_jax.page.log._scan.WINDOW", window)
        storage = with_files(files)
        storage.files[FIRST][ends[2]] ^= 1
        with pytest.raises(CorruptLogError, match="yet frame 4 follows"):
            frames_of(storage)


def segmented():
    files = small_run(segment_bytes=1, commits=3)
    return files, sorted(name for name in files if name.endswith(".seg"))


def test_a_missing_segment_is_refused():
    files, names = segmented()
    committed = frames_of(MemoryStorage(files))
    assert len(names) > 4
    for name in names:
        storage = with_files({other: data for other, data in files.items() if other != name})
        count, error = outcome(storage, committed)
        assert error is not None
        if name in (names[0], *names[-2:]):
            check_writer_agrees(storage, count, error)
        else:  # a writer looks at the end alone, or opening would take the longer the longer the log
            with TransactionLog.open(storage, fingerprint={}) as log:
                assert log.sequence == len(committed) - 1
            assert outcome(storage, committed)[1] is not None


def test_a_renamed_or_copied_segment_is_refused():
    files, names = segmented()
    committed = frames_of(MemoryStorage(files))
    for name in names:
        for number in (1, int(name[4:24]) + 1, 999):
            copied = {**files, segment_name(number): files[name]}
            moved = {other: data for other, data in copied.items() if other != name}
            for changed in (copied, moved):
                if changed != files:
                    assert outcome(with_files(changed), committed)[1] is not None


def test_swapped_segments_are_refused():
    files, names = segmented()
    files[names[1]], files[names[2]] = files[names[2]], files[names[1]]
    with pytest.raises(CorruptLogError, match="stands where frame"):
        frames_of(MemoryStorage(files))


def test_a_segment_of_another_run_is_refused():
    files, names = segmented()
    other, other_names = segmented()
    assert names == other_names
    for name in names:
        assert outcome(with_files(files, **{name: other[name]}), frames_of(MemoryStorage(files)))[1] is not None
    with pytest.raises(CorruptLogError):
        frames_of(with_files(files, **{RUN_FILE: other[RUN_FILE]}))


def test_damage_in_an_early_segment_is_never_a_tail():
    files, names = segmented()
    committed = frames_of(MemoryStorage(files))
    for name in names[:-1]:
        for changed in (files[name][:-1], files[name] + b"x", b""):
            assert outcome(with_files(files, **{name: changed}), committed)[1] is not None


@pytest.mark.parametrize("left", [0, 1, 63, 64, 100])
def test_a_crash_while_a_segment_begins_is_a_torn_tail(left):
    files = stale_mark(1)
    committed = frames_of(with_files(files))
    storage = with_files(files)
    storage.files[segment_name(len(committed))] = bytearray(small_run()[FIRST][:left])
    assert outcome(storage, committed) == (len(committed), None)
    with TransactionLog.open(storage, fingerprint={"new": "1"}) as log:
        log.append_changes(9, rows(9))
    assert frames_of(storage)[: len(committed)] == committed
    assert len(frames_of(storage)) == len(committed) + 2


def test_a_stray_name_among_the_segments_is_refused():
    files = small_run()
    files["log/1.seg"] = bytearray()
    with pytest.raises(CorruptLogError, match="20 digits"):
        frames_of(MemoryStorage(files))


def test_a_run_without_run_json_is_no_run():
    files = small_run()
    del files[RUN_FILE]
    with pytest.raises(LogNotFoundError, match=r"run\.json does not exist"):
        frames_of(MemoryStorage(files))


def test_a_run_without_mark_is_refused():
    files = small_run()
    del files[MARK]
    with pytest.raises(CorruptLogError, match="no slot of the mark"):
        frames_of(MemoryStorage(files))
