"""Following a log that grows: every whole frame once and in order, and nothing else."""

import itertools
import subprocess
import sys

import pytest

from mmsb_jax import CorruptLogError, InvalidArgumentError, LogNotFoundError
from mmsb_jax.page import FrameKind, MemoryStorage, TransactionLog, follow, read_frames
from mmsb_jax.page.log._identity import MARK, RUN_FILE, Mark, read_identity, write_mark
from tests.log_runs import CAPACITY, WORDS, random_log, write


def told(frames):
    return [(frame.header, bytes(frame.body)) for frame in frames]


class Growing:
    """A run whose segments appear a few bytes at a time, whenever `grow` is called; at first there is one frame."""

    def __init__(self, whole, step):
        self.whole, self.step = whole.files, step
        self.segments = sorted(name for name in whole.files if name.endswith(".seg"))
        second = next(read_frames(whole, start=1))
        first = self.whole[self.segments[0]][: second.offset]
        run = {name: self.whole[name] for name in (RUN_FILE,)}
        self.storage = MemoryStorage(run | {MARK: bytearray(), self.segments[0]: first})
        write_mark(self.storage, Mark(0, 0, second.offset), read_identity(whole).salt, 0)

    def grow(self):
        """Add the next bytes; True when there are none."""
        name = max(name for name in self.storage.files if name.endswith(".seg"))
        there, whole = self.storage.files[name], self.whole[name]
        if len(there) < len(whole):
            there += whole[len(there) : len(there) + self.step]
            return False
        rest = self.segments[self.segments.index(name) + 1 :]
        if rest:
            self.storage.files[rest[0]] = bytearray()
        return not rest


@pytest.mark.parametrize("step", [7, 64, 1000])
def test_half_a_frame_is_never_seen(rng, step):
    whole = random_log(rng, commits=12, segment_bytes=900)
    growing = Growing(whole, step)
    assert len(growing.segments) > 2
    assert told(follow(growing.storage, start=0, poll=0, stop=growing.grow)) == told(read_frames(whole))


WRITER = """
import sys
import numpy as np
from mmsb_jax.page import PageChanges, TransactionLog

for session in range(3):
    options = {"segment_bytes": 20_000, "fingerprint": {"session": str(session)}, "sync": "none"}
    with TransactionLog.open(sys.argv[1], **options) as log:
        for number in range(150):
            page = np.arange(number % 7, dtype=np.int32)
            rows = PageChanges(page, page * 0, None, np.full((len(page), 16), number, np.uint32))
            log.append_changes(log.tick + 1, rows, intent=f"intent {number % 5}")
        if session == 2:
            sys.stdin.readline()  # the reader has seen it all while the log is open
print(log.sequence)
"""


def test_another_process_is_followed_across_segments_and_restarts(run_dir):
    TransactionLog.create(run_dir, page_words=16, capacity=8, fingerprint={}).close()
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", WRITER, str(run_dir)], **piped) as writer:
        frames = follow(run_dir, start=0, poll=0.002, stop=lambda: writer.poll() is not None)
        seen = [next(frames)]
        while sum(frame.kind == FrameKind.CHANGES for frame in seen) < 450:
            seen.append(next(frames))
        last = int(writer.communicate("\n")[0])
    frames.close()
    seen += follow(run_dir, start=len(seen), poll=0, stop=lambda: True)
    assert [frame.sequence for frame in seen] == list(range(last + 1))
    assert told(seen) == told(read_frames(run_dir))
    assert len(list((run_dir / "log").glob("*.seg"))) > 3


def test_without_a_start_only_what_comes_is_shown(rng):
    storage = MemoryStorage()
    log = TransactionLog.create(storage, page_words=WORDS, capacity=CAPACITY, fingerprint={}, segment_bytes=900)
    tick, before = write(rng, log, 20), log.sequence
    looks = itertools.count()

    def stop():
        look = next(looks)
        if look == 1:
            write(rng, log, 10, tick)
        return look == 2

    shown = [frame.sequence for frame in follow(storage, poll=0, stop=stop)]
    assert shown == list(range(before + 1, log.sequence + 1))
    assert len(shown) >= 10
    log.close()


def test_damage_is_reported_when_it_is_reached(rng):
    storage = random_log(rng, commits=12, segment_bytes=900)
    frames = list(read_frames(storage))
    damaged = max(frame for frame in range(5, len(frames)) if frames[frame].kind == FrameKind.CHANGES)
    name = max(name for name in storage.files if name.endswith(".seg") and name in frames[damaged].file)
    storage.files[name][frames[damaged].offset + 70] ^= 1
    found = follow(storage, start=3, poll=0)
    assert [next(found).sequence for _ in range(3, damaged)] == list(range(3, damaged))
    with pytest.raises(CorruptLogError):
        next(found)


def test_bad_arguments_are_refused(run_dir):
    with pytest.raises(InvalidArgumentError, match="number of seconds"):
        next(follow(run_dir, poll=-1))
    with pytest.raises(LogNotFoundError):
        next(follow(run_dir))
