"""Refusals: bad arguments, a second writer, a closed log, a failing device. The log keeps what it acknowledged."""

import os
import subprocess
import sys

import numpy as np
import pytest

from mmsb_jax import (
    BusClosedError,
    CapacityError,
    InvalidArgumentError,
    InvalidDeltaError,
    InvalidTypeError,
    LogLockedError,
    LogNotFoundError,
)
from mmsb_jax.page import (
    EdgeRecords,
    MemoryStorage,
    PageChanges,
    PageRecord,
    TransactionLog,
    read_frames,
    replay_log,
)
from mmsb_jax.page.log._changes import encode_changes, require
from mmsb_jax.page.log._identity import MARK, RUN_FILE
from mmsb_jax.page.log._segments import segment_name

I32, U32 = np.int32, np.uint32
ONE = np.array([1], I32)


def create(place, **options):
    return TransactionLog.create(place, page_words=4, capacity=3, fingerprint={}, **options)


def reopen(place, **options):
    return TransactionLog.open(place, fingerprint={}, **options)


def changes(page=1, source=0, mask=((0b11,),), words=(7, 8)):
    mask = None if mask is None else np.array(mask, U32)
    return PageChanges(np.array([page], I32), np.array([source], I32), mask, np.array(words, U32))


def contents(place):
    return [(frame.header, bytes(frame.body)) for frame in read_frames(place)]


def uneven():
    """Rows that the dataclass itself would have refused under the hook of the tests."""
    rows = changes(mask=None, words=((1, 2, 3, 4),))
    object.__setattr__(rows, "source", np.zeros(2, I32))
    return rows


BAD_CHANGES = {
    "page 3 is outside": changes(page=3),
    "page -1 is outside": changes(page=-1),
    "source 1 is not in the table of 1 names": changes(source=1),
    "source -1": changes(source=-1),
    "mask has shape": changes(mask=((1, 1),)),
    "bits beyond the 4 words": changes(mask=((0b10001,),)),
    "masks select 1 words, but words have shape": changes(mask=((1,),)),
    "whole pages need": changes(mask=None, words=((1, 2, 3),)),
    "1 pages but 2 sources": uneven(),
}


@pytest.mark.parametrize("message", BAD_CHANGES)
def test_bad_changes_are_refused_before_anything_is_written(message):
    storage = MemoryStorage()
    with create(storage) as log:
        before = contents(storage)
        with pytest.raises(InvalidDeltaError, match=message):
            log.append_changes(1, BAD_CHANGES[message], intent="never logged")
        assert contents(storage) == before
        assert log.append_changes(1, changes()) == 1


def test_wrong_dtypes_are_refused():
    # The hook of the tests raises first, so the function behind the dataclass is asked directly as well.
    with pytest.raises(TypeError):
        PageChanges(np.array([1]), ONE, None, np.zeros((1, 4), U32))
    with pytest.raises(TypeError):
        PageRecord("create", np.array([1.0]))
    with pytest.raises(TypeError):
        EdgeRecords.of(1, np.array([1]), ONE)
    for array in (np.array([1]), np.array([[1]], I32), [1]):
        with pytest.raises(
            InvalidTypeError, match=r"page is .*, but it must be a NumPy array of int32 with 1 dimension"
        ):
            require("page", array, np.dtype(I32), 1)


def test_a_mask_of_the_wrong_length_is_refused():
    with pytest.raises(InvalidDeltaError, match=r"mask has shape \(1, 2\)"):
        PageChanges.from_rows(ONE, np.zeros((1, 4), U32), np.zeros((1, 2), U32), ONE)


def test_more_words_than_arrow_can_count_are_refused():
    huge = np.broadcast_to(np.zeros(1, U32), (2**25, 64))  # 2**31 words that take no memory
    ids = np.broadcast_to(np.zeros(1, I32), (2**25,))
    with pytest.raises(CapacityError, match="split the commit"):
        encode_changes(PageChanges(ids, ids, None, huge), 64)


BAD_COMMITS = {
    "tick is 4": {"tick": 4},
    f"tick is {2**32}": {"tick": 2**32},
    "digest is -1": {"digest": (0, -1)},
    f"digest is {2**32}": {"digest": (2**32, 0)},
    "time_ns is -5": {"time_ns": -5},
    "can't be written as UTF-8": {"intent": "\ud800"},
}


@pytest.mark.parametrize("message", BAD_COMMITS)
def test_bad_commit_arguments_are_refused_before_anything_is_written(message):
    storage = MemoryStorage()
    with create(storage) as log:
        log.append_changes(5, changes())
        before = contents(storage)
        with pytest.raises(InvalidArgumentError, match=message):
            log.append_changes(**{"tick": 5, "changes": changes()} | BAD_COMMITS[message])
        assert contents(storage) == before


BAD_RECORDS = {
    "op 'rename'": PageRecord("rename", ONE),
    "outside this run's pages 0 to 2": PageRecord("create", np.array([0, 3], I32)),
    "size -1": PageRecord("create", ONE, -1),
    "metadata is what JSON can hold": PageRecord("create", ONE, 4, metadata={"a": {1, 2}}),
    "names are text": PageRecord("create", ONE, 4, "\ud800"),
}


@pytest.mark.parametrize("message", BAD_RECORDS)
def test_bad_page_records_are_refused(message):
    storage = MemoryStorage()
    with create(storage) as log:
        before = contents(storage)
        with pytest.raises(InvalidArgumentError, match=message):
            log.append_pages(1, [PageRecord("create", ONE), BAD_RECORDS[message]])
        assert contents(storage) == before


def test_bad_edges_are_refused():
    uneven = EdgeRecords.of(1, ONE, ONE)
    object.__setattr__(uneven, "child", np.zeros(2, I32))
    bad = {
        "neither 1": EdgeRecords.of(3, ONE, ONE),
        "outside": EdgeRecords.of(1, ONE, np.array([3], I32)),
        "equally many": uneven,
    }
    storage = MemoryStorage()
    with create(storage) as log:
        before = contents(storage)
        for message, edges in bad.items():
            with pytest.raises(InvalidArgumentError, match=message):
                log.append_edges(1, edges)
        assert contents(storage) == before


BAD_OPTIONS = {
    "sync='always'": {"sync": "always"},
    "segment_bytes=0": {"segment_bytes": 0},
    "group_bytes=0": {"group_bytes": 0},
    "group_ms=-1": {"group_ms": -1.0},
    "group_ms=nan": {"group_ms": float("nan")},
    "page_words=0": {"page_words": 0},
    "capacity=0": {"capacity": 0},
    "capacity=2147483648": {"capacity": 2**31},
}


@pytest.mark.parametrize("message", BAD_OPTIONS)
def test_bad_options_are_refused(run_dir, message):
    # A sync mode that isn't one is a TypeError for the hook of the tests, and ours without it.
    with pytest.raises((InvalidArgumentError, TypeError), match=None if "sync" in message else message):
        TransactionLog.create(run_dir, **{"page_words": 4, "capacity": 3, "fingerprint": {}} | BAD_OPTIONS[message])
    assert not run_dir.exists()


def test_an_unknown_sync_mode_is_refused_without_the_hook():
    code = (
        "from mmsb_jax.page.log._writer import WriterOptions\n"
        "from mmsb_jax import InvalidArgumentError\n"
        "try: WriterOptions('always', 1, 1.0, 1).check()\n"
        "except InvalidArgumentError as why: print(why)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "sync='always', but it is 'commit', 'group' or 'none'" in done.stdout


@pytest.mark.parametrize("limit", ["until_tick", "until_sequence"])
def test_a_negative_limit_is_refused(limit):
    storage = MemoryStorage()
    create(storage).close()
    with pytest.raises(InvalidArgumentError, match=f"{limit}=-1"):
        replay_log(storage, **{limit: -1})


def test_paths_that_hold_no_run_are_named(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, why in (("missing", "does not exist"), ("file", "is a file"), ("empty", "no run")):
        for use in (reopen, replay_log, lambda path: list(read_frames(path))):
            with pytest.raises(LogNotFoundError, match=why) as caught:
                use(tmp_path / name)
            assert str(tmp_path / name) in str(caught.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "file"], "looking made nothing"


def test_creating_over_a_run_is_refused(run_dir):
    with create(run_dir) as log:
        log.append_changes(1, changes())
    before = contents(run_dir)
    with pytest.raises(InvalidArgumentError, match=r"is a run already\. Open it to go on, or create at another path"):
        create(run_dir)
    (run_dir / RUN_FILE).unlink()
    with pytest.raises(InvalidArgumentError, match="which has been lost"):
        create(run_dir)
    assert len(before) == 2


@pytest.mark.parametrize("keep", [0, 300, None])
def test_an_interrupted_creation_is_begun_again(run_dir, keep):
    create(run_dir).close()
    (run_dir / RUN_FILE).unlink()
    if keep == 0:
        os.truncate(run_dir / segment_name(0), keep)
        (run_dir / MARK).unlink()
    with create(run_dir) as log:
        log.append_changes(1, changes())
    assert len(contents(run_dir)) == 2


def test_a_second_writer_is_told_who_is_first(run_dir):
    storage = MemoryStorage()
    for place, first in ((run_dir, "another bus of this process"), (storage, "another log of this process")):
        with create(place) as log:
            with pytest.raises(LogLockedError, match=first):
                reopen(place)
            log.append_changes(1, changes())
        reopen(place).close()


def test_a_writer_in_another_process_holds_the_lock(run_dir, run_python):
    with create(run_dir):
        code = (
            "import sys; from mmsb_jax.page import TransactionLog; from mmsb_jax import LogLockedError\n"
            "try: TransactionLog.open(sys.argv[1], fingerprint={})\n"
            "except LogLockedError: print('locked')"
        )
        assert run_python(code, str(run_dir)).strip() == "locked"


def test_a_closed_log_refuses():
    log = create(MemoryStorage())
    log.close()
    log.close()
    for use in (lambda: log.append_changes(1, changes()), lambda: log.name_id("new"), log.sync):
        with pytest.raises(BusClosedError, match="is closed; open the run again"):
            use()


def test_asking_a_frame_for_what_it_is_not():
    storage = MemoryStorage()
    create(storage).close()
    (header,) = read_frames(storage)
    with pytest.raises(InvalidArgumentError, match="frame 0 is HEADER, not CHANGES"):
        header.changes()
