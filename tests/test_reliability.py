"""The soak command in small, and what its schedules once found, each by itself.

Schedules run in a process of their own: under the type checker that these tests install they take ten times as long.
"""

import errno
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from mmsb_jax import CorruptLogError, InvalidArgumentError, LogCompactedError, LogFailedError, LogLockedError
from mmsb_jax.page import (
    DirectoryStorage,
    FrameKind,
    MemoryStorage,
    PageChanges,
    Snapshot,
    TransactionLog,
    compact,
    read_frames,
    replay_log,
    select,
    write_checkpoint,
)
from mmsb_jax.page.log._identity import MARK, RUN_FILE, read_mark
from mmsb_jax.page.log._segments import segment_name, segments
from tests.fault_storage import Crash, Disk, FaultStorage, Loss
from tests.soak import again

pytestmark = pytest.mark.unchecked

ROOT = Path(__file__).parent.parent
FIRST = segment_name(0)


@pytest.mark.parametrize(
    "what", ["random --schedules 300 --seed {seed}", "strikes --quick", "canaries"], ids=lambda what: what.split()[0]
)
def test_soak(what):
    arguments = what.format(seed=os.environ["MMSB_SEED"]).split()
    command = [sys.executable, "-m", "tests.soak", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


def test_what_ended_badly_can_be_seen_again():
    for title in ("random 3", "strike 1 9 an I/O error", "room 7 970"):
        assert next(again(title)).error is None


def create(storage, **options):
    return TransactionLog.create(storage, page_words=4, capacity=8, fingerprint={}, **options)


def reopen(storage, fingerprint=None, **options):
    return TransactionLog.open(storage, fingerprint=fingerprint or {}, **options)


def changes(value=0, rows=40):
    page = np.zeros(rows, np.int32)
    return PageChanges(page, page, None, np.full((rows, 4), value, np.uint32))


def ticks(storage):
    return [frame.tick for frame in read_frames(storage) if frame.rows]


@pytest.fixture
def disk(rng):
    return Disk(rng)


def holes(disk):
    """Three commits that were never synced; of the first, one sector is lost."""
    log = create(FaultStorage(disk), sync="none")
    end = len(disk.cache[FIRST].cache)
    for tick in (1, 2, 3):
        log.append_changes(tick, changes(tick))
    return end


def lose_bytes(disk, at):
    """Lose power such that everything is kept but some bytes of a segment."""
    disk.lose_power(Loss.NOTHING)
    for image in (disk.device[FIRST].device, disk.cache[FIRST].cache):
        image[at : at + 64] = bytes(64)


def test_after_a_power_failure_a_good_frame_behind_a_bad_one_is_no_damage(disk):
    lose_bytes(disk, holes(disk) + 128)
    assert ticks(FaultStorage(disk)) == [0]
    with reopen(FaultStorage(disk)) as log:
        log.append_changes(1, changes(7))
    assert ticks(FaultStorage(disk)) == [0, 1]


def test_as_long_as_the_machine_runs_it_is_damage(disk):
    end = holes(disk)
    disk.kill()
    disk.cache[FIRST].cache[end + 128 : end + 192] = bytes(64)
    for use in (ticks, reopen):
        with pytest.raises(CorruptLogError, match=r"checksum.*yet frame 2 follows"):
            use(FaultStorage(disk))


def test_where_nobody_knows_of_power_failures_it_is_no_damage(disk, monkeypatch):
    monkeypatch.setattr(FaultStorage, "boot", lambda self: 0)
    lose_bytes(disk, holes(disk) + 128)
    assert ticks(FaultStorage(disk)) == [0]


def test_what_the_mark_covers_is_damage_after_a_power_failure_too(disk):
    log = create(FaultStorage(disk), sync="none")
    log.append_changes(1, changes())
    end = len(disk.cache[FIRST].cache)
    log.append_changes(2, changes())
    log.sync()
    lose_bytes(disk, end + 128)
    for use in (ticks, reopen):
        with pytest.raises(CorruptLogError, match=r"checksum.*yet frames up to 2 were committed"):
            use(FaultStorage(disk))


def test_what_a_failed_sync_forgot_is_written_again_by_the_next_writer(disk):
    log = create(FaultStorage(disk), sync="none")
    for tick in (1, 2, 3):
        log.append_changes(tick, changes(tick, rows=400))
    disk.strike(OSError(errno.EIO, "broken"), kinds=["sync"])
    with pytest.raises(LogFailedError, match="could not be synced"):
        log.sync()
    log.close()
    with reopen(FaultStorage(disk)) as log:
        assert log.durable_sequence == log.sequence == 3
    disk.lose_power(Loss.EVERYTHING)
    assert ticks(FaultStorage(disk)) == [0, 1, 2, 3]


def test_a_commit_that_was_taken_back_does_not_return():
    for seed in range(20):  # nothing, some or all of it is written before the write fails
        disk = Disk(np.random.default_rng(seed))
        log = create(FaultStorage(disk), sync="none")
        disk.strike(OSError(errno.EIO, "broken"), kinds=["write"])
        with pytest.raises(LogFailedError, match="not in the log"):
            log.append_changes(1, changes(1))
        disk.lose_power(Loss.UNCUT)
        assert ticks(FaultStorage(disk)) == [0]


def test_only_one_slot_of_the_mark_is_ever_in_flight(disk):
    log = create(FaultStorage(disk), sync="commit")
    for tick in (1, 2, 3):
        log.append_changes(tick, changes())
        assert len(disk.cache[MARK].pending) == 1
    disk.kill()
    disk.strike(Crash(), after=1, kinds=["sync"])  # the first is that of the segment
    with pytest.raises(Crash):
        reopen(FaultStorage(disk))
    assert len(disk.cache[MARK].pending) == 1
    disk.lose_power(Loss.EVERYTHING)
    assert read_mark(FaultStorage(disk), int(next(read_frames(FaultStorage(disk))).run.salt))[0].sequence >= 2


def test_segments_that_hold_nothing_but_a_header_keep_the_names():
    storage = MemoryStorage()
    with create(storage) as log:
        log.name_id("api")
    for host in "abc":
        reopen(storage, {"host": host}).close()
    with reopen(storage) as log:
        assert log.names == ("", "api")
        assert len(segments(storage)) == 5


@pytest.mark.parametrize("left", [b"", b"M", b"MMSB" + bytes(59), bytes(64), bytes(500), "63", "64", "100"])
def test_a_creation_that_was_torn_is_finished(left):
    storage = MemoryStorage()
    create(storage).close()
    whole = storage.files[FIRST]
    left = whole[: int(left)] if isinstance(left, str) else left
    torn = MemoryStorage({FIRST: bytearray(left), MARK: bytearray(40)})
    with create(torn) as log:
        log.append_changes(1, changes())
    assert ticks(torn)[-1] == 1


def test_a_log_with_commits_that_lost_its_identity_is_not_begun_anew():
    storage = MemoryStorage()
    with create(storage) as log:
        log.append_changes(1, changes())
    del storage.files[RUN_FILE]
    for damage in (slice(0, 0), slice(0, 64), slice(60, 200)):
        files = {name: bytearray(data) for name, data in storage.files.items()}
        files[FIRST][damage] = bytes(len(files[FIRST][damage]))
        with pytest.raises(InvalidArgumentError, match="has been lost"):
            create(MemoryStorage(files))


def test_a_lock_that_can_not_vouch_for_names_is_let_go(run_dir, monkeypatch):
    create(run_dir).close()
    monkeypatch.setattr("mmsb_jax.page.log._storage._sync_folder", lambda folder: os.fsync(10**6))
    with pytest.raises(LogFailedError, match="can't be opened"):
        reopen(run_dir)
    monkeypatch.undo()
    storage = DirectoryStorage(run_dir)
    with reopen(storage), pytest.raises(LogLockedError):
        reopen(run_dir)


def test_a_replay_up_to_the_frame_of_a_checkpoint_ends_there():
    storage = MemoryStorage()
    with create(storage) as log:
        for tick in (1, 2, 3):
            log.append_changes(tick, changes(tick))
            found = replay_log(storage)
            write_checkpoint(storage, Snapshot(found.pages, found.epoch, tick, log.sequence, None, found.names))
    for tick in (1, 2, 3):
        found = replay_log(storage, until_sequence=tick)
        assert (found.tick, found.sequence, found.pages[0, 0]) == (tick, tick, tick)
        assert found.environment == replay_log(storage, checkpoints=False).environment


class HalfCreates(MemoryStorage):
    """Makes a file and then says that it could not, as when the folder can't be synced."""

    why = None

    def create(self, name):
        super().create(name)
        if self.why is not None:
            raise self.why


@pytest.mark.parametrize("why", [OSError(errno.EIO, "broken"), KeyboardInterrupt()])
def test_a_segment_that_could_not_be_begun_is_not_in_the_way_of_the_one_before(why):
    storage = HalfCreates()
    log = create(storage)
    log.append_changes(1, changes(1))
    storage.why = why
    with pytest.raises((LogFailedError, KeyboardInterrupt)):
        compact(log, 1)
    storage.why = None
    log.append_changes(2, changes(2))
    log.close()
    with reopen(storage) as log:
        assert log.tick == 2


def test_a_search_sees_what_was_appended_since_the_index_was_written():
    storage = MemoryStorage()
    create(storage).close()
    with reopen(storage) as log:
        log.append_changes(5, changes(5))
        assert [frame.tick for frame, _ in select(storage, pages=0, ticks=(5, 5))] == [5]


@pytest.mark.parametrize("place", ["directory", "memory", "disk"])
def test_a_reader_goes_on_in_a_log_that_is_compacted_behind_it(run_dir, disk, place):
    place = {"directory": run_dir, "memory": MemoryStorage(), "disk": FaultStorage(disk)}[place]
    with create(place, segment_bytes=500) as log:
        api = np.full(40, log.name_id("api"), np.int32)
        for tick in range(1, 21):
            log.append_changes(tick, PageChanges(api, api, None, np.full((40, 4), tick, np.uint32)))
        expected = [(frame.sequence, frame.tick) for frame in read_frames(place)]
        readers = {given: read_frames(place) for given in (0, 15, 40)}
        read = {given: list(islice(reader, given)) for given, reader in readers.items()}
        assert read[15][-1].tick < 9 < 11 < read[40][-1].tick
        assert compact(log, 11).first == 10
        for given, reader in readers.items():
            if given == 15:
                with pytest.raises(LogCompactedError, match=r"were merged\. Begin again"):
                    list(reader)
            elif given == 40:
                found = [(frame.sequence, frame.tick) for frame in (*read[given], *reader)]
                assert found[: len(expected)] == expected
            else:
                assert [frame.tick for frame in reader][-4:] == [19, 19, 20, 20]


def test_a_replay_during_a_compaction_gives_the_same(disk):
    with create(FaultStorage(disk), segment_bytes=500) as log:
        for tick in range(1, 21):
            log.append_changes(tick, changes(tick))
        reader = FaultStorage(disk)
        read, steps = reader.read, iter(range(100))

        def read_and_compact(*where):
            if next(steps) == 9:
                compact(log, 15)
            return read(*where)

        reader.read = read_and_compact
        found = replay_log(reader)
        assert next(steps) > 20
        assert (found.tick, found.pages[0, 0]) == (20, 20)


@pytest.mark.parametrize("place", ["directory", "disk"])
def test_a_log_can_be_compacted_again_and_again(run_dir, disk, place):
    """`log/base` is replaced each time: who reads it through a handle that was opened before sees the old one."""
    place = run_dir if place == "directory" else FaultStorage(disk)
    with create(place, segment_bytes=500) as log:
        for last in (10, 20, 30):
            for tick in range(log.tick + 1, last + 1):
                log.append_changes(tick, changes(tick))
            assert compact(log, last - 3).first == last - 4
            frames = [frame for frame in read_frames(place) if frame.kind == FrameKind.CHANGES]
            assert [frame.tick for frame in frames][-4:] == list(range(last - 3, last + 1))
