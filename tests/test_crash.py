"""SIGKILL at random moments of a committing writer: acknowledged commits are there, and nothing that wasn't written."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mmsb_jax import LogNotFoundError
from mmsb_jax.page import FrameKind, TransactionLog, read_frames, replay_log

ROOT = Path(__file__).parent.parent
KILLS = 200
PAGE_WORDS, CAPACITY, ROWS = 16, 64, 5
FINGERPRINT = {"host": "crash test"}

# What is committed at a tick, as text: both processes execute it.
CONTENT = """
def content(tick):
    generator = np.random.default_rng(tick)
    page = generator.integers(0, 64, 5).astype(np.int32)
    mask = generator.integers(0, 2**16, (5, 1), dtype=np.uint32)
    return page, mask, generator.integers(0, 2**32, int(np.bitwise_count(mask).sum()), dtype=np.uint32)
"""
exec(CONTENT)

# A server that forks one writer per line "<path> <sync mode>" and says when it has died. It imports the log alone,
# without JAX: a fork of a process with JAX's threads isn't safe, and starting JAX 200 times would take minutes.
SERVER = """
import os, sys, types
root, acknowledge = sys.argv[1], int(sys.argv[2])
for name in ("mmsb_jax", "mmsb_jax.page", "mmsb_jax.page.log"):
    package = types.ModuleType(name)
    package.__path__ = [os.path.join(root, *name.split("."))]
    sys.modules[name] = package
sys.path.insert(0, root)
import numpy as np
from mmsb_jax.page.log._changes import PageChanges
from mmsb_jax.page.log._identity import RUN_FILE
from mmsb_jax.page.log._log import TransactionLog
from mmsb_jax.page.log._memory_storage import MemoryStorage
exec(sys.argv[3])
assert "jax" not in sys.modules

def write(path, sync):
    options = dict(sync=sync, segment_bytes=20_000, group_ms=2.0, fingerprint={"host": "crash test"})
    if os.path.exists(os.path.join(path, RUN_FILE)):
        log = TransactionLog.open(path, **options)
    else:
        log = TransactionLog.create(path, page_words=16, capacity=64, **options)
    for tick in commit_forever(log):
        os.write(acknowledge, tick.to_bytes(8, "little"))

def commit_forever(log):
    while True:
        tick = log.tick + 1
        page, mask, words = content(tick)
        changes = PageChanges(page, np.zeros(len(page), np.int32), mask, words)
        log.append_changes(tick, changes, intent=f"hour {tick % 24}")
        yield tick

# Whatever is slow the first time is done before the forks.
warm = TransactionLog.create(MemoryStorage(), page_words=16, capacity=64, fingerprint={})
next(commit_forever(warm))

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        write(*line.split())
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Server:
    """The process that forks writers, and the pipe through which they acknowledge."""

    def __init__(self):
        self.read_end, write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        command = [sys.executable, "-c", SERVER, str(ROOT), str(write_end), CONTENT]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[write_end]
        )
        os.close(write_end)

    def write_until_killed(self, path, sync, seconds):
        """Return the last tick that a writer acknowledged before it was killed, or None."""
        child = self.start(path, sync)
        time.sleep(seconds)
        return self.kill(child)

    def start(self, path, sync):
        """Return the process id of a new writer."""
        self.process.stdin.write(f"{path} {sync}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def kill(self, child):
        """Kill a writer and return the last tick that it acknowledged, or None."""
        os.kill(child, signal.SIGKILL)
        status = int(self.process.stdout.readline())
        assert os.WIFSIGNALED(status), f"the writer ended by itself, status {status}"
        return self.acknowledged()

    def acknowledged(self):
        last = None
        while True:
            try:
                data = os.read(self.read_end, 1 << 16)
            except BlockingIOError:
                return last
            assert len(data) % 8 == 0
            last = int.from_bytes(data[-8:], "little")

    def close(self):
        os.close(self.read_end)
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def check(path, acknowledged, replay=True):
    """Everything acknowledged is there with its content, what is there is a prefix, and a reader and a writer agree."""
    state = np.zeros((CAPACITY, PAGE_WORDS), np.uint32)
    ticks = []
    for frame in read_frames(path):
        if frame.kind != FrameKind.CHANGES:
            continue
        ticks.append(frame.tick)
        changes = frame.changes()
        page, mask, words = content(frame.tick)
        assert np.array_equal(changes.page, page)
        assert np.array_equal(changes.mask, mask)
        assert np.array_equal(changes.words, words)
        done = 0
        for row, bits in zip(page, mask[:, 0].tolist(), strict=True):
            chosen = [word for word in range(PAGE_WORDS) if bits >> word & 1]
            state[row, chosen] = words[done : done + len(chosen)]
            done += len(chosen)
    assert ticks == list(range(1, len(ticks) + 1)), "a commit is missing or doubled"
    assert len(ticks) >= acknowledged, f"{acknowledged} commits were acknowledged, {len(ticks)} are there"
    if replay:
        assert np.array_equal(replay_log(path).pages, state)
    with TransactionLog.open(path, fingerprint=FINGERPRINT) as log:
        assert log.tick == len(ticks)
        assert log.counts["frames"] == 0
    return len(ticks)


def test_200_kills_lose_nothing_that_was_acknowledged(server, tmp_path):
    chance = random.Random(int(os.environ.get("MMSB_SEED", "0")))
    run, known, commits, interrupted_creations = 0, 0, 0, 0
    for kill in range(KILLS):
        path = tmp_path / f"run{run}"
        seconds = chance.uniform(0, chance.choice([0.01, 0.03, 0.1]))
        last = server.write_until_killed(path, chance.choice(["commit", "group", "none"]), seconds)
        try:
            known = check(path, max(known, last or 0), replay=kill % 4 == 3)  # it takes as long as the rest together
        except LogNotFoundError:
            assert (known, last) == (0, None), "commits were acknowledged in a run that isn't there"
            interrupted_creations += 1
            continue  # the next writer creates the run in what is left
        commits += known
        if kill % 4 == 3:
            run, known = run + 1, 0
    assert commits > KILLS, "the writers hardly wrote anything, so nothing was tested"
    assert interrupted_creations < KILLS * 3 / 4, "most kills came before the first commit"  # a busy machine is slow


def test_readers_beside_a_busy_writer_never_see_damage(server, tmp_path):
    path = tmp_path / "run"
    child = server.start(path, "group")
    try:
        while not (path / "run.json").exists():
            time.sleep(0.001)
        last, reads, end = 0, 0, time.monotonic() + 1.5
        while time.monotonic() < end:
            acknowledged = server.acknowledged() or 0
            for frame in read_frames(path, start=last):  # from where the writer was at work a moment ago
                last = frame.sequence
            assert frame.tick >= acknowledged
            reads += 1
    finally:
        server.kill(child)
    assert reads > 5
    assert last > 1000
