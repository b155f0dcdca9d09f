"""Killed, or refused by the device, between any two operations: what was there stays, and the next writer goes on."""

import dataclasses
import errno
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from mmsb_jax import BusClosedError, CheckpointFailedError, CorruptCheckpointError, InvalidArgumentError
from mmsb_jax.page import (
    BackgroundCheckpointer,
    CheckpointInfo,
    DirectoryStorage,
    MemoryStorage,
    checkpoints,
    load_newest_checkpoint,
    open_checkpoint,
    remove_checkpoint,
    write_checkpoint,
)
from tests.checkpoint_runs import WORDS, SmallRun, assert_same

pytestmark = pytest.mark.unchecked

TWO_PAGES = 8 * WORDS


class Killed(BaseException):
    """The process is gone."""


class StoppingStorage(MemoryStorage):
    """Stops at the k-th operation on checkpoints that changes a file: before it, half-way, or right behind it."""

    def __init__(self):
        super().__init__()
        self.operations, self.stop_at, self.when, self.why = 0, None, "before", Killed

    def publish(self, name, *data):
        at = self._when(name)
        if at == "before":
            raise self.why
        if at == "during":
            self.files[name + ".new"] = bytearray(b"".join(data)[:7])
            raise self.why
        super().publish(name, *data)
        if at == "behind":
            raise self.why

    def remove(self, name):
        at = self._when(name)
        if at in ("before", "during"):
            raise self.why
        super().remove(name)
        if at == "behind":
            raise self.why

    def _when(self, name):
        self.operations += name.startswith("checkpoints/")
        return self.when if self.operations == self.stop_at else None


def history(storage):
    """Writes, shares, damages and removes checkpoints; yields the newest state after each step."""
    run = SmallRun(storage)
    run.commit(1, range(10))
    first = write_checkpoint(storage, run.snapshot(), part_bytes=TWO_PAGES)
    yield run.snapshot()
    assert write_checkpoint(storage, run.snapshot(), part_bytes=2 * TWO_PAGES) == first  # again, in other parts
    yield run.snapshot()
    run.commit(2, [3, 4])
    second = write_checkpoint(storage, run.snapshot(), base=first)
    yield run.snapshot()
    remove_checkpoint(storage, first)
    yield run.snapshot()
    run.commit(5, [0])
    write_checkpoint(storage, run.snapshot(), base=second)
    yield run.snapshot()
    storage.files[second.name][-1] ^= 1
    remove_checkpoint(storage, second)
    yield run.snapshot()
    write_checkpoint(storage, run.snapshot(), part_bytes=TWO_PAGES)
    yield run.snapshot()


def whole_history():
    storage = StoppingStorage()
    return list(history(storage)), storage.operations


def steps_done(steps):
    """How many steps there were before the one that was stopped."""
    done = 0
    try:
        for _ in steps:
            done += 1
    except (Killed, OSError):
        return done
    raise AssertionError("nothing was stopped")


@pytest.mark.parametrize("when", ["before", "during", "behind"])
@pytest.mark.parametrize("why", [Killed(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))], ids=["kill", "full"])
def test_stopped_anywhere(when, why):
    snapshots, operations = whole_history()
    assert operations > 25
    for stop_at in range(1, operations + 1):
        storage = StoppingStorage()
        storage.stop_at, storage.when, storage.why = stop_at, when, why
        done = steps_done(history(storage))
        possible = {snapshot.sequence: snapshot for snapshot in snapshots[max(0, done - 1) : done + 1]}
        found, _ = load_newest_checkpoint(MemoryStorage(storage.files))
        assert found is not None or done == 0
        if found is not None:
            assert_same(found, possible[found.sequence])
        go_on_from(MemoryStorage(storage.files))


def go_on_from(storage):
    """The next writer needs no help, and clears away what was left behind."""
    run = SmallRun.reopened(storage)
    run.commit(9, [7])
    kept = write_checkpoint(storage, run.snapshot(), part_bytes=TWO_PAGES)
    assert_same(open_checkpoint(storage, kept).load(), run.snapshot())
    for info in checkpoints(storage):
        if info != kept:
            remove_checkpoint(storage, info)
    assert_same(open_checkpoint(storage, kept).load(), run.snapshot())
    assert all(kept.stem in name for name in storage.files if name.startswith("checkpoints/"))


def test_a_full_device_says_what_to_do_and_gets_its_room_back():
    storage = StoppingStorage()
    run = SmallRun(storage)
    run.commit(1, range(10))
    storage.stop_at, storage.why = 4, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(
        CheckpointFailedError, match=r"of tick 1 could not be written \(No space left.*write it again"
    ) as why:
        write_checkpoint(storage, run.snapshot(), part_bytes=TWO_PAGES)
    assert why.value.errno == errno.ENOSPC
    assert not [name for name in storage.files if name.startswith("checkpoints/")]
    info = write_checkpoint(storage, run.snapshot(), part_bytes=TWO_PAGES)
    assert_same(open_checkpoint(storage, info).load(), run.snapshot())


def test_a_full_file_system(run_dir):
    """RLIMIT_FSIZE gives short writes and then EFBIG, from the kernel itself; nothing stays behind."""
    run = SmallRun(run_dir, capacity=1000)
    run.commit(1, range(1000))
    np.save(run_dir.parent / "pages.npy", run.pages)
    code = (
        "import sys, resource, signal, numpy as np\n"
        "from mmsb_jax.page import Snapshot, write_checkpoint; from mmsb_jax import CheckpointFailedError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))\n"
        "pages = np.load(sys.argv[2])\n"
        "snapshot = Snapshot(pages, np.ones(1000, np.uint32), 1, int(sys.argv[3]))\n"
        "write_checkpoint(sys.argv[1], snapshot, part_bytes=4_000)\n"
        "try: write_checkpoint(sys.argv[1], snapshot)\n"
        "except CheckpointFailedError as why: print(why.errno)"
    )
    arguments = [str(run_dir), str(run_dir.parent / "pages.npy"), str(run.log.sequence)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(errno.EFBIG)], done.stderr
    (info,) = checkpoints(run_dir)
    assert_same(open_checkpoint(run_dir, info).load(), run.snapshot())
    assert len(list((run_dir / "checkpoints").iterdir())) == 2 + 4


def test_a_file_that_cannot_be_published_leaves_nothing(run_dir, monkeypatch):
    storage = DirectoryStorage(run_dir)
    storage.publish("a", b"one ", b"two")

    def refuse(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="Input/output"):
        storage.publish("a", b"three")
    assert [path.name for path in run_dir.iterdir()] == ["a"]
    assert bytes(storage.map("a")) == b"one two"


class GatedStorage(MemoryStorage):
    """Lets a checkpoint's manifest through only when told to, and fails when told to."""

    def __init__(self):
        super().__init__()
        self.gate, self.fail = threading.Event(), False

    def publish(self, name, *data):
        if name.startswith("checkpoints/"):
            assert self.gate.wait(30)
            if self.fail:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().publish(name, *data)


def test_the_program_goes_on_while_a_checkpoint_is_written():
    storage = GatedStorage()
    run = SmallRun(storage)
    with BackgroundCheckpointer(storage, part_bytes=TWO_PAGES) as checkpointer:
        assert checkpointer.wait() is None
        snapshots = []
        for tick in (1, 2):  # one is being written, one waits
            run.commit(tick, [tick])
            snapshots.append(run.snapshot())
            checkpointer.submit(snapshots[-1])
        assert checkpoints(storage) == []
        third = threading.Thread(target=lambda: (run.commit(3, [3]), checkpointer.submit(run.snapshot())))
        third.start()
        third.join(0.2)
        assert third.is_alive()  # the queue is full
        storage.gate.set()
        third.join(30)
        assert checkpointer.wait() == CheckpointInfo(3, run.log.sequence)
    assert [info.tick for info in checkpoints(storage)] == [1, 2, 3]
    for info, snapshot in zip(checkpoints(storage), snapshots, strict=False):
        assert_same(open_checkpoint(storage, info).load(), snapshot)
    assert open_checkpoint(storage, checkpointer.last).shared_files == 2  # pages 0 to 1, and the catalogue


def test_errors_of_the_background_are_raised_by_the_next_call():
    storage = GatedStorage()
    run = SmallRun(storage)
    run.commit(1, [1])
    storage.gate.set()
    checkpointer = BackgroundCheckpointer(storage)
    storage.fail = True
    checkpointer.submit(run.snapshot())
    with pytest.raises(CheckpointFailedError, match="of tick 1"):
        checkpointer.wait()
    assert checkpointer.wait() is None
    checkpointer.submit(run.snapshot())
    checkpointer._thread.submit(lambda: None).result()  # it has failed by now
    with pytest.raises(CheckpointFailedError):
        checkpointer.submit(run.snapshot())
    storage.gate.clear()
    checkpointer.submit(run.snapshot())
    checkpointer.submit(run.snapshot())
    storage.gate.set()
    with pytest.raises(CheckpointFailedError) as caught:
        checkpointer.close()
    assert "and then: " in caught.value.__notes__[0]
    checkpointer.close()
    with pytest.raises(BusClosedError, match="make another"):
        checkpointer.submit(run.snapshot())
    assert checkpoints(storage) == []


def test_a_bad_base_costs_one_checkpoint_and_is_said():
    storage = MemoryStorage()
    run = SmallRun(storage)
    run.commit(1, [1])
    with BackgroundCheckpointer(storage) as checkpointer:
        checkpointer.submit(run.snapshot())
        base = checkpointer.wait()
        run.commit(2, [2])
        storage.files[base.name][-1] ^= 1
        checkpointer.submit(run.snapshot())
        with pytest.raises(CorruptCheckpointError):
            checkpointer.wait()
        checkpointer.submit(run.snapshot())
        assert checkpointer.wait().tick == 2
        remove_checkpoint(storage, checkpointer.last)
        run.commit(3, [3])
        checkpointer.submit(run.snapshot())
        assert open_checkpoint(storage, checkpointer.wait()).shared_files == 0


def test_bad_snapshots_are_refused_in_the_background_too():
    run = SmallRun()
    with pytest.raises(InvalidArgumentError, match="no frame 99"), BackgroundCheckpointer(run.place) as checkpointer:
        checkpointer.submit(dataclasses.replace(run.snapshot(), sequence=99))
