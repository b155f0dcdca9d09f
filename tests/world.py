"""One life of a run on a disk that fails, checked against a dumb model that knows what was promised.

What is read back, at any moment and after anything, must be exactly the commits up to some frame, and never fewer than
were promised: after a power failure those that were durable, after the death of a process all that were acknowledged.
A crash must never look like corruption. A checkpoint that was promised is there, and none holds anything else.
"""

import errno
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from mmsb_jax import CorruptCheckpointError, LogNotFoundError
from mmsb_jax.page import CheckpointInfo, Frame, TransactionLog, checkpoints, open_checkpoint, read_frames, replay_log
from mmsb_jax.page.log._segments import Base, read_base
from tests.fault_storage import Crash, Disk, FaultStorage
from tests.log_model import Model


class World:
    """The disk, the log if it is open, the model, and which frames were promised to survive what."""

    def __init__(self, seed: int, storage: type[FaultStorage] = FaultStorage) -> None:
        self.storage = storage
        self.chance = np.random.default_rng(seed)
        self.disk = Disk(self.chance)
        self.model = Model(int(self.chance.choice([3, 16, 64])))
        self.log: TransactionLog | None = None
        self.mode = ""
        self.kept = self.durable = -1  # the last frames that survive the process, and a power failure
        self.sealed = False  # closed, and never opened since
        self.checkpoints: set[CheckpointInfo] = set()  # those that survive both
        self.doom = "kill"  # what a crash inside an operation is
        self.followed: list[Frame] = []
        self.follower: Iterator[Frame] = iter(())  # a reader that goes on while things happen
        self.committed = 0  # commits ever, also those that were lost
        self.trace: list[str] = []

    def reader(self) -> FaultStorage:
        """Return the storage as another process sees it."""
        return self.storage(self.disk, "look")

    def note(self, text: str) -> None:
        self.trace.append(text)

    def attempt(self, action: Callable[[], None]) -> bool:
        """Do something to the log, and return whether it was done; a failure is looked into."""
        try:
            action()
        except Crash:
            self.crash(self.doom)
        except OSError as why:
            if why.errno not in (errno.EIO, errno.ENOSPC):
                raise
            self.note(f"    {why}")
            self._failed("takes no more commits" in str(why))
        except KeyboardInterrupt:
            self.note("    interrupted")
            self._interrupted()
        else:
            self._promised()
            return True
        finally:
            self.disk.watch = None
        return False

    def _promised(self) -> None:
        if self.log is not None:
            self.kept = self.log.sequence
            self.durable = max(self.durable, self.log.durable_sequence)

    def _failed(self, for_good: bool) -> None:
        if self.log is not None and not for_good:  # it goes on, so the commit isn't in the log and never will be
            self.model.flying = None
            self._promised()
            assert self.look(self.kept) == self.kept
            return
        log, self.log = self.log, None
        if log is not None:
            log.close()
        self.kept = self.look(self.kept)

    def _interrupted(self) -> None:
        if self.log is None:
            self.kept = self.look(self.kept)
        else:  # the commit is in the log, or it isn't and never will be
            self._promised()
            assert self.look(self.kept) == self.kept
            self.model.flying = None

    def crash(self, how: str) -> None:
        """Kill the writer, or lose power; then look at what is left."""
        self.log = None
        if how == "kill":
            self.disk.kill()
            self.note("    killed")
            self.kept = self.look(self.kept)
        else:
            self.note(f"    power lost; of what is pending, {self.disk.lose_power().value}")
            self.followed, self.follower = [], iter(())
            self.kept = self.durable = self.look(self.durable)

    def look(self, floor: int) -> int:
        """Read everything as a new process does; return the number of the last frame, or -1 if there is no run."""
        reader = self.reader()
        try:
            frames = list(read_frames(reader))
        except LogNotFoundError:
            assert floor < 0, "the run is gone"
            self.model.settle(-1, None)
            return -1
        base, last = read_base(reader), frames[-1].sequence
        assert last >= floor, f"frame {floor} was promised, but the last one there is {last}"
        self.model.settle(last, self.model.check(frames, base))
        self._look_at_checkpoints(reader, base)
        if self.chance.random() < 0.3:
            self.model.check_state(replay_log(reader, checkpoints=bool(self.chance.random() < 0.5)))
        return last

    def _look_at_checkpoints(self, reader: FaultStorage, base: Base) -> None:
        """Each promised one opens; each that opens holds what the log held at its frame."""
        self.checkpoints = {info for info in self.checkpoints if info.sequence > base.merged}
        there = checkpoints(reader)
        assert self.checkpoints <= set(there), "a checkpoint is gone"
        for info in there:
            try:
                snapshot = open_checkpoint(reader, info).load()
            except CorruptCheckpointError:
                if info in self.checkpoints:
                    raise
            else:
                self.model.check_state(snapshot, sequence=info.sequence)

    def peek(self) -> None:
        """Read beside the writer, in the midst of what it does."""
        if self.chance.random() < 0.7:
            return
        reader = self.reader()
        try:
            frames = list(read_frames(reader))
        except LogNotFoundError:
            assert self.kept < 0, "the run is gone"
        else:
            assert frames[-1].sequence >= self.kept
            self.model.check(frames, read_base(reader))


class Outcome(NamedTuple):
    """How a life ended: badly, if there is an error. The title is what `python -m tests.soak --again` takes."""

    title: str
    world: World
    error: Exception | None


def outcome(title: str, world: World, live: Callable[[], object]) -> Outcome:
    """Let a world live; whatever it raises is its outcome."""
    try:
        live()
    except Exception as why:
        return Outcome(title, world, why)
    return Outcome(title, world, None)
