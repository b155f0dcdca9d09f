"""Random lives of a run on a disk that fails, checked against a dumb model that knows what was promised.

A `World` is one schedule: operations are drawn from a table. What is read back, at any moment and after anything, must
be exactly the commits up to some frame, and never fewer than were promised: after a power failure those that were
durable, after the death of a process all that were acknowledged. A crash must never look like corruption.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from mmsb_jax import CorruptLogError, LogNotFoundError
from mmsb_jax.page import Frame, MemoryStorage, TransactionLog, read_frames, replay_log
from tests.fault_storage import Crash, Disk, FaultStorage
from tests.log_model import PAGES, SOURCES, Commit, Model

OPERATIONS_EACH = 40
ENVIRONMENTS = ({}, {}, {}, {"host": "another"})


class World:
    """One schedule: the disk, the log if it is open, the model, and which frames were promised to survive what."""

    def __init__(self, seed: int, storage: type[FaultStorage] = FaultStorage) -> None:
        self.storage = storage
        self.chance = np.random.default_rng(seed)
        self.disk = Disk(self.chance)
        self.model = Model(int(self.chance.choice([3, 16, 64])))
        self.log: TransactionLog | None = None
        self.mode = ""
        self.kept = self.durable = -1  # the last frames that survive the process, and a power failure
        self.committed = 0  # commits ever, also those that were lost
        self.doom = "kill"  # what a crash inside an operation is
        self.followed: list[Frame] = []
        self.follower = iter(())  # a reader that goes on while things happen
        self.trace: list[str] = []

    def run(self, operations: int) -> None:
        """Draw and do so many operations, then come to an end."""
        for _ in range(operations):
            possible = [each for each in OPERATIONS if each.when(self)]
            weights = np.array([each.weight for each in possible], float)
            self.do([possible[self.chance.choice(len(possible), p=weights / weights.sum())].do])
        self.end()

    def end(self) -> None:
        """Come to a peaceful end."""
        self.disk.calm()
        self.do([lose_power if self.chance.random() < 0.5 else kill, open_log, append, close])
        assert self.durable == self.kept > 0

    def do(self, operations: Sequence[Callable[["World"], None]]) -> None:
        """Do these operations, save those that make no sense when their turn comes."""
        possible = {each.do: each.when for each in OPERATIONS}
        for each in operations:
            if possible[each](self):
                self.trace.append(each.__name__)
                each(self)

    def reader(self) -> FaultStorage:
        """Return the storage as another process sees it."""
        return self.storage(self.disk, "look")

    def note(self, text: str) -> None:
        self.trace.append(f"    {text}")

    def attempt(self, action: Callable[[], None]) -> bool:
        """Do something to the log, and return whether it was done; a failure is looked into."""
        try:
            action()
        except Crash:
            self.crash(self.doom)
        except OSError as why:
            if why.errno not in (errno.EIO, errno.ENOSPC):
                raise
            self.note(str(why))
            self._failed("takes no more commits" in str(why))
        except KeyboardInterrupt:
            self.note("interrupted")
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
            self.note("killed")
            self.kept = self.look(self.kept)
        else:
            self.note(f"power lost; of what is pending, {self.disk.lose_power().value}")
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
        last = frames[-1].sequence
        assert last >= floor, f"frame {floor} was promised, but the last one there is {last}"
        self.model.settle(last, self.model.check(frames))
        if self.chance.random() < 0.3:
            self.model.check_replay(replay_log(reader))
        return last

    def peek(self) -> None:
        """Read beside the writer, in the midst of what it does."""
        if self.chance.random() < 0.7:
            return
        try:
            frames = list(read_frames(self.reader()))
        except LogNotFoundError:
            assert self.kept < 0, "the run is gone"
        else:
            assert frames[-1].sequence >= self.kept
            self.model.check(frames)


def open_log(world: World) -> None:
    chance, there = world.chance, "run.json" in world.disk.cache
    world.mode = str(chance.choice(["commit", "group", "none"]))
    options = {
        "sync": world.mode,
        "segment_bytes": int(chance.choice([1, 700, 3000, 10_000])),
        "group_bytes": int(chance.choice([1, 1000, 4000])),
        "group_ms": 1e9,  # the clock must not decide, or a seed would mean two schedules
        "fingerprint": chance.choice(ENVIRONMENTS),
    }

    def action() -> None:
        place = world.storage(world.disk)
        if there:
            world.log = TransactionLog.open(place, **options)
        else:
            world.log = TransactionLog.create(place, page_words=world.model.page_words, capacity=PAGES, **options)

    if world.attempt(action):
        world.look(world.kept)
        world.model.flying = None  # from now on it is in the log, or never will be


def append(world: World) -> None:
    log, model = world.log, world.model
    model.flying = commit = Commit.draw(world.chance, log.tick, model.page_words)

    def action() -> None:
        ids = {"": 0, **{name: log.name_id(name) for name in dict.fromkeys(commit.source) if name}}
        commit.sequence = log.append_changes(
            commit.tick, commit.changes(ids), digest=commit.digest, intent=commit.intent or None
        )
        model.commits.append(commit)
        world.committed += 1
        model.names |= {name: (number, commit.sequence) for name, number in ids.items()}
        model.flying = None

    if world.attempt(action) and world.mode == "commit":
        assert world.durable == world.kept


def name(world: World) -> None:
    text = str(world.chance.choice(SOURCES[1:]))

    def action() -> None:
        number = world.log.name_id(text)
        world.model.names.setdefault(text, (number, world.log.sequence))

    world.attempt(action)


def sync(world: World) -> None:
    if world.attempt(world.log.sync):
        assert world.durable == world.kept


def close(world: World) -> None:
    log, world.log = world.log, None
    if world.attempt(log.close):
        world.kept = world.durable = log.sequence
        world.look(world.kept)
        rot(world)


def rot(world: World) -> None:
    """After all was synced, one wrong bit anywhere is refused or does no harm, and is never taken for a torn tail."""
    chance = world.chance
    files = {name: bytearray(file.cache) for name, file in world.disk.cache.items()}
    data = files[str(chance.choice([name for name in sorted(files) if files[name]]))]
    data[int(chance.integers(len(data)))] ^= 1 << int(chance.integers(8))
    try:
        frames = list(read_frames(MemoryStorage(files)))
    except CorruptLogError:
        return
    assert frames[-1].sequence == world.kept
    world.model.check(frames)


def read(world: World) -> None:
    assert world.look(world.kept) == world.kept


def read_badly(world: World) -> None:
    world.disk.strike(OSError(errno.EIO, os.strerror(errno.EIO)), int(world.chance.integers(0, 30)), ["look"])
    try:
        read(world)
    except OSError as why:
        if why.errno != errno.EIO:
            raise
    world.disk.calm()


def follow(world: World) -> None:
    for _ in range(int(world.chance.integers(1, 12))):
        frame = next(world.follower, None)
        if frame is None:
            world.followed = []
            world.follower = read_frames(world.reader())
            return
        world.followed.append(frame)
    world.model.check(world.followed)


def replay_until(world: World) -> None:
    commit = world.model.commits[int(world.chance.integers(len(world.model.commits)))]
    tick = max(0, commit.tick + int(world.chance.integers(-1, 2)))
    world.model.check_replay(replay_log(world.reader(), until_tick=tick), tick)


def kill(world: World) -> None:
    world.crash("kill")


def lose_power(world: World) -> None:
    world.crash("power")


def crash_soon(world: World) -> None:
    world.doom = "kill" if world.chance.random() < 0.5 else "power"
    world.disk.strike(Crash(), after=int(world.chance.integers(0, 12)))


def fail_soon(world: World) -> None:
    kinds = ["write", "write", "sync", "truncate", "create", "rename", "remove", "names", "read"]
    why = OSError(errno.EIO, os.strerror(errno.EIO))
    world.disk.strike(why, int(world.chance.integers(0, 4)), [str(world.chance.choice(kinds))])


def interrupt_soon(world: World) -> None:
    world.disk.strike(KeyboardInterrupt(), int(world.chance.integers(0, 4)), ["write"])


def fill_disk(world: World) -> None:
    world.disk.capacity = world.disk.used() + int(world.chance.integers(0, 2000))


def all_is_well(world: World) -> None:
    world.disk.calm()


def watch(world: World) -> None:
    world.disk.watch = world.peek


class Operation(NamedTuple):
    """Something that may happen, how often, and when it makes sense."""

    weight: float
    do: Callable[[World], None]
    when: Callable[[World], bool]


def _open(world: World) -> bool:
    return world.log is not None


def _closed(world: World) -> bool:
    return world.log is None


def _committed(world: World) -> bool:
    return bool(world.model.commits)


def _always(world: World) -> bool:
    return True


OPERATIONS = [
    Operation(20, append, _open),
    Operation(2, name, _open),
    Operation(3, sync, _open),
    Operation(2, close, _open),
    Operation(12, open_log, _closed),
    Operation(2, read, _always),
    Operation(1, read_badly, _always),
    Operation(2, follow, _committed),
    Operation(1, replay_until, _committed),
    Operation(1, kill, _always),
    Operation(1, lose_power, _always),
    Operation(3, crash_soon, _always),
    Operation(2, fail_soon, _always),
    Operation(1, interrupt_soon, _open),
    Operation(1, fill_disk, _always),
    Operation(2, all_is_well, _always),
    Operation(2, watch, _open),
]


class Outcome(NamedTuple):
    """How a schedule ended: badly, if there is an error."""

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


def schedules(seeds: Iterable[int], storage: type[FaultStorage] = FaultStorage) -> Iterator[Outcome]:
    """Run random schedules. The title of an outcome is what `python -m tests.soak --again` takes."""
    for seed in seeds:
        world = World(seed, storage)
        yield outcome(f"random {seed}", world, partial(world.run, OPERATIONS_EACH))
