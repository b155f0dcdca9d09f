"""A full or failing device, short writes, interrupts: the log keeps what it acknowledged, and says what it lacks."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from mmsb_jax import LogFailedError
from mmsb_jax.page import MemoryStorage, PageChanges, TransactionLog, read_frames, replay_log
from mmsb_jax.page.log._frame import HEADER_BYTES
from mmsb_jax.page.log._identity import MARK
from mmsb_jax.page.log._segments import segment_name


def create(place, **options):
    return TransactionLog.create(place, page_words=4, capacity=3, fingerprint={}, **options)


def reopen(place):
    return TransactionLog.open(place, fingerprint={})


def changes(source=0):
    one = np.array([1], np.int32)
    return PageChanges(one, one - 1 + source, np.array([[0b11]], np.uint32), np.array([7, 8], np.uint32))


def contents(place):
    return [(frame.header, bytes(frame.body)) for frame in read_frames(place)]


class FailingStorage(MemoryStorage):
    """Fails when told to: `fail["write"]` is how many bytes it still takes, `fail["sync"]` the file that can't be."""

    def __init__(self):
        super().__init__()
        self.fail = {}

    def write(self, name, offset, buffers):
        room = self.fail.get("write")
        data = b"".join(map(bytes, buffers))
        if room is not None and name.endswith(".seg") and room < len(data):
            super().write(name, offset, [data[:room]])
            raise self.fail.get("why", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        if self.fail.get("mark") and name == MARK:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().write(name, offset, buffers)

    def sync(self, name):
        if self.fail.get("sync") == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(name)

    def truncate(self, name, size):
        if self.fail.get("truncate"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().truncate(name, size)

    def create(self, name):
        if self.fail.get("create"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().create(name)


@pytest.mark.parametrize("room", [0, 1, 64, 100])
def test_a_full_disk_refuses_the_commit_and_keeps_the_log(room):
    storage = FailingStorage()
    log = create(storage)
    log.append_changes(1, changes())
    before = contents(storage)
    storage.fail = {"write": room}
    for _ in range(2):
        with pytest.raises(LogFailedError, match=r"not in the log, all before it are.*No space left") as caught:
            log.append_changes(2, changes())
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(LogFailedError):
            log.name_id("no room for this")
    assert contents(storage) == before
    assert log.names == ("",)
    storage.fail = {}
    log.append_changes(2, changes(), intent="room again")
    log.close()
    reopen(storage).close()
    assert [frame.tick for frame in read_frames(storage)] == [0, 1, 1, 2]


def test_a_full_disk_while_a_segment_begins(run_dir):
    storage = FailingStorage()
    log = create(storage, segment_bytes=1)
    log.append_changes(1, changes())
    before = contents(storage)
    for fail in ({"create": True}, {"write": 10}):
        storage.fail = fail
        with pytest.raises(LogFailedError):
            log.append_changes(2, changes())
        assert contents(storage) == before
    storage.fail = {}
    log.append_changes(2, changes())
    log.close()
    assert contents(storage)[: len(before)] == before
    assert replay_log(storage).tick == 2


def up_to_the_second_segment(log):
    """Fill the first segment; the next commit begins another. Every row has a source with a name."""
    log.name_id("api")
    while log.bytes_written < 2000:
        log.append_changes(log.tick + 1, changes(source=1))


def check_second_segment(storage, log, first):
    log.append_changes(log.tick + 1, changes(source=1), intent="afterwards")
    frames = list(read_frames(storage, start=first))
    assert [frame.kind.name for frame in frames] == ["HEADER", "NAMES", "NAMES", "CHANGES"]
    assert frames[3].changes().source.tolist() == [1]
    assert [frame.tick for frame in read_frames(storage)][-1] == log.tick
    assert replay_log(storage).names == ("", "api", "afterwards")


@pytest.mark.parametrize("left", [0, 1, 64, 80])
def test_a_new_segment_that_was_cut_short_still_gets_its_table_of_names(left):
    """The writer was killed between the HEADER and the end of the NAMES: `left` bytes of these are there."""
    storage = MemoryStorage()
    log = create(storage, segment_bytes=2000)
    up_to_the_second_segment(log)
    first = log.sequence + 1
    log.append_changes(log.tick + 1, changes(source=1))
    header = next(read_frames(storage, start=first))
    del storage.files[segment_name(first)][HEADER_BYTES + header.header.body_bytes + left :]
    log._writer.closed = True  # the process is gone: nothing is synced, and no mark is written
    storage.close()
    with reopen(storage) as log:
        assert log.sequence == first
        check_second_segment(storage, log, first)


def test_a_full_disk_between_a_header_and_its_table_of_names():
    storage = FailingStorage()
    log = create(storage, segment_bytes=2000)
    up_to_the_second_segment(log)
    first = log.sequence + 1
    write = storage.write

    def write_one_frame(name, offset, buffers):
        if name == segment_name(first) and offset:
            storage.fail = {"write": 70}
        write(name, offset, buffers)

    storage.write = write_one_frame
    with pytest.raises(LogFailedError, match="not in the log, all before it are"):
        log.append_changes(log.tick + 1, changes(source=1))
    del storage.write
    storage.fail = {}
    assert [frame.kind.name for frame in read_frames(storage, start=first)] == ["HEADER"]
    check_second_segment(storage, log, first)
    log.close()


def test_a_full_disk_on_a_real_file_system(run_dir):
    """RLIMIT_FSIZE gives short writes and then EFBIG, from the kernel itself."""
    code = (
        "import sys, resource, signal, numpy as np\n"
        "from mmsb_jax.page import TransactionLog, PageChanges; from mmsb_jax import LogFailedError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "log = TransactionLog.create(sys.argv[1], page_words=256, capacity=9, fingerprint={})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "one, words = np.array([1], np.int32), np.ones((1, 256), np.uint32)\n"
        "for tick in range(1, 99):\n"
        "    try: log.append_changes(tick, PageChanges(one, one - 1, None, words))\n"
        "    except LogFailedError: break\n"
        "log.close(); print(tick - 1)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run_dir)], capture_output=True, text=True, check=True)
    acknowledged = int(done.stdout)
    assert 10 < acknowledged < 20
    with reopen(run_dir) as log:
        assert log.tick == acknowledged
    assert replay_log(run_dir).tick == acknowledged


def test_a_failed_write_that_cannot_be_taken_back_ends_the_log():
    storage = FailingStorage()
    log = create(storage)
    log.append_changes(1, changes())
    before = contents(storage)
    storage.fail = {"write": 100, "truncate": True}
    with pytest.raises(LogFailedError, match="takes no more commits"):
        log.append_changes(2, changes())
    storage.fail = {}
    for use in (lambda: log.append_changes(2, changes()), lambda: log.name_id("new"), log.sync):
        with pytest.raises(LogFailedError, match="takes no more commits"):
            use()
    log.close()
    assert contents(storage) == before
    reopen(storage).close()
    assert contents(storage) == before


@pytest.mark.parametrize("fail", [{"sync": segment_name(0)}, {"mark": True}])
def test_a_failed_sync_ends_the_log(fail):
    storage = FailingStorage()
    log = create(storage, sync="commit")
    log.append_changes(1, changes())
    durable = log.durable_sequence
    storage.fail = fail
    with pytest.raises(LogFailedError, match="takes no more commits"):
        log.append_changes(2, changes())
    storage.fail = {}  # the next sync would succeed, and prove nothing
    with pytest.raises(LogFailedError, match="takes no more commits"):
        log.sync()
    if "sync" in fail:
        assert log.durable_sequence == durable
    log.close()
    with reopen(storage) as log:
        assert log.tick >= 1


def test_a_failed_sync_of_the_mark_ends_the_log():
    storage = FailingStorage()
    log = create(storage)
    log.append_changes(1, changes())
    storage.fail = {"sync": MARK}
    with pytest.raises(LogFailedError, match="could not sync its mark"):
        log.sync()
    log.close()


def test_a_failing_device_is_named_when_opening():
    storage = FailingStorage()
    storage.fail = {"create": True}
    with pytest.raises(LogFailedError, match="can't be opened for writing"):
        create(storage)
    storage.fail = {}
    create(storage).close()


def test_an_interrupted_write_leaves_no_half_frame():
    storage = FailingStorage()
    log = create(storage)
    before = contents(storage)
    storage.fail = {"write": 70, "why": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        log.append_changes(1, changes())
    assert log.sequence == 0
    storage.fail = {}
    log.append_changes(1, changes())
    log.close()
    assert contents(storage)[:1] == before
    assert replay_log(storage).tick == 1


def test_directory_storage_continues_after_a_short_write(run_dir, monkeypatch):
    log = create(run_dir)
    some, rest = os.pwritev, os.pwrite
    monkeypatch.setattr(os, "pwritev", lambda handle, buffers, offset: some(handle, [bytes(buffers[0])[:10]], offset))
    monkeypatch.setattr(os, "pwrite", lambda handle, data, offset: rest(handle, data[:50], offset))
    log.append_changes(1, changes())
    monkeypatch.undo()
    log.close()
    assert replay_log(run_dir).tick == 1
