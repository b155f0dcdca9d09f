"""What may happen to a run, and random schedules of it. To add something, enrol a function of a `World`."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from mmsb_jax import CorruptLogError, LogCompactedError, LogNotFoundError, page
from mmsb_jax.page import (
    MemoryStorage,
    Snapshot,
    TransactionLog,
    newest_checkpoint,
    read_frames,
    replay_log,
    select,
    write_checkpoint,
)
from mmsb_jax.page.history._fork import fork as fork_run
from mmsb_jax.page.history._past import Past
from mmsb_jax.page.log._segments import read_base
from tests.fault_storage import Crash, Disk, FaultStorage
from tests.log_model import PAGES, SOURCES, Commit
from tests.world import Outcome, World, outcome

EACH = 40
ENVIRONMENTS = ({}, {}, {}, {"host": "another"})

Condition = Callable[[World], bool]
Action = Callable[[World], None]


class Operation(NamedTuple):
    """Something that may happen, how often, and when it makes sense."""

    weight: float
    when: Condition
    do: Action


OPERATIONS: list[Operation] = []


def operation(weight: float, when: Condition = lambda world: True) -> Callable[[Action], Action]:
    """Enrol a function. It does nothing where it makes no sense."""

    def enrol(do: Action) -> Action:
        def maybe(world: World) -> None:
            if when(world):
                world.note(do.__name__)
                do(world)

        OPERATIONS.append(Operation(weight, when, maybe))
        return maybe

    return enrol


def is_open(world: World) -> bool:
    return world.log is not None


def is_closed(world: World) -> bool:
    return world.log is None


def has_commits(world: World) -> bool:
    return bool(world.model.commits)


# The log's own operations.


@operation(12, is_closed)
def open_log(world: World) -> None:
    chance, there = world.chance, "run.json" in world.disk.cache
    world.mode = str(chance.choice(["commit", "group", "none"]))
    options = {
        "sync": world.mode,
        "segment_bytes": int(chance.choice([1, 700, 3000, 10_000])),
        "group_bytes": int(chance.choice([1, 1000, 4000])),
        "group_ms": 1e9,  # the clock must not decide, or a seed would mean two schedules
        "codec": str(chance.choice(["none", "none", "lz4", "zstd"])),
        "fingerprint": chance.choice(ENVIRONMENTS),
    }

    def action() -> None:
        place = world.storage(world.disk)
        if there:
            world.log = TransactionLog.open(place, **options)
        else:
            world.log = TransactionLog.create(place, page_words=world.model.page_words, capacity=PAGES, **options)

    world.sealed = False
    if world.attempt(action):
        world.look(world.kept)
        world.model.flying = None  # from now on it is in the log, or never will be


@operation(20, is_open)
def append(world: World) -> None:
    log, model = world.log, world.model
    model.flying = commit = Commit.draw(world.chance, log.tick, model.page_words)

    def action() -> None:
        ids = {"": 0, **{name: log.name_id(name) for name in dict.fromkeys(commit.source) if name}}
        commit.sequence = log.append_changes(
            commit.tick, commit.changes(ids), digest=commit.digest, intent=commit.intent or None
        )
        model.commits.append(commit)
        model.names |= {name: (number, commit.sequence) for name, number in ids.items()}
        model.flying = None
        world.committed += 1

    if world.attempt(action) and world.mode == "commit":
        assert world.durable == world.kept


@operation(2, is_open)
def name(world: World) -> None:
    text = str(world.chance.choice(SOURCES[1:]))

    def action() -> None:
        number = world.log.name_id(text)
        world.model.names.setdefault(text, (number, world.log.sequence))

    world.attempt(action)


@operation(3, is_open)
def sync(world: World) -> None:
    if world.attempt(world.log.sync):
        assert world.durable == world.kept


@operation(2, is_open)
def close(world: World) -> None:
    log, world.log = world.log, None
    if world.attempt(log.close):
        world.kept = world.durable = log.sequence
        world.sealed = True
    if world.disk.writer is None:
        world.look(world.kept)


@operation(2, is_open)
def checkpoint(world: World) -> None:
    log, model, chance = world.log, world.model, world.chance
    synced = chance.random() < 0.7  # if not, power may fail and leave a checkpoint that is ahead of the log

    def action() -> None:
        if synced:
            log.sync()
        names = replay_log(world.reader()).names
        snapshot = Snapshot(*model.state(), log.tick, log.sequence, None, names)
        found = newest_checkpoint(world.reader()).checkpoint if chance.random() < 0.6 else None
        base = None if found is None else found.info
        info = write_checkpoint(log.place, snapshot, base=base, part_bytes=8 * model.page_words)
        if log.durable_sequence >= info.sequence:
            world.checkpoints.add(info)

    world.attempt(action)


@operation(1, lambda world: is_open(world) and has_commits(world))
def compact(world: World) -> None:
    before = int(world.chance.integers(0, world.log.tick + 1))
    world.model.cut = max(world.model.cut, before)
    world.attempt(lambda: page.compact(world.log, before))


@operation(0.5, has_commits)
def fork(world: World) -> None:
    """Fork to a disk of its own, on which anything may happen; it is a run as a whole, or it is none."""
    chance, past = world.chance, Past(world.reader())
    tick = int(chance.integers(past.first, past.last + 1))
    there, made = Disk(chance), False
    place = world.storage(there)
    why = (None, Crash(), OSError(errno.EIO, os.strerror(errno.EIO)))[int(chance.integers(3))]
    if why is not None:
        there.strike(why, int(chance.integers(0, 20)))
    try:
        fork_run(past, tick, place, time_ns=0)
        made = True
    except (Crash, OSError) as ended:
        world.note(f"    {type(ended).__name__}")
    there.lose_power() if chance.random() < 0.5 else there.kill()
    try:
        world.model.check_state(replay_log(world.storage(there)), tick=tick)
        TransactionLog.open(world.storage(there), fingerprint={}).close()
    except LogNotFoundError:
        assert not made, "the fork is gone"


# Readers.


@operation(2)
def read(world: World) -> None:
    assert world.look(world.kept) == world.kept


@operation(1)
def read_badly(world: World) -> None:
    world.disk.strike(OSError(errno.EIO, os.strerror(errno.EIO)), int(world.chance.integers(0, 30)), ["look"])
    try:
        read(world)
    except OSError as why:
        if why.errno != errno.EIO:
            raise
    world.disk.calm()


@operation(2, has_commits)
def follow(world: World) -> None:
    for _ in range(int(world.chance.integers(1, 12))):
        try:
            frame = next(world.follower, None)
        except LogCompactedError:
            assert world.followed[-1].sequence < read_base(world.reader()).merged
            frame = None
        if frame is None:
            world.followed, world.follower = [], read_frames(world.reader())
            return
        if not world.followed:
            world.followed_base = read_base(world.reader())
        world.followed.append(frame)
    world.model.check(world.followed, world.followed_base)


@operation(1, has_commits)
def replay_until(world: World) -> None:
    reader, commits = world.reader(), world.model.commits
    commit = commits[int(world.chance.integers(len(commits)))]
    tick = max(read_base(reader).tick, commit.tick + int(world.chance.integers(-1, 2)))
    world.model.check_state(replay_log(reader, until_tick=tick), tick=tick)


@operation(1, has_commits)
def search(world: World) -> None:
    """Rows by page and tick, through the indexes, which may be old, missing or half written."""
    reader, chance = world.reader(), world.chance
    base = read_base(reader)
    pages = chance.choice(PAGES, int(chance.integers(1, 4)), replace=False)
    first = base.tick + int(chance.integers(1, 6))
    last = first + int(chance.integers(0, 20))
    expected = []
    for commit in world.model.commits:
        chosen = np.isin(commit.page, pages) & (commit.ticks >= first) & (commit.ticks <= last)
        if chosen.any() and commit.sequence > base.merged:
            expected.append((commit.sequence, chosen))
    found = list(select(reader, pages=pages.tolist(), ticks=(first, last)))
    assert [frame.sequence for frame, _ in found] == [sequence for sequence, _ in expected]
    for (frame, changes), (_, chosen) in zip(found, expected, strict=True):
        world.model.check_rows(frame, changes, chosen)


@operation(2, is_open)
def watch(world: World) -> None:
    world.disk.watch = world.peek


# What goes wrong.


@operation(1)
def kill(world: World) -> None:
    world.crash("kill")


@operation(1)
def lose_power(world: World) -> None:
    world.crash("power")


@operation(3)
def crash_soon(world: World) -> None:
    world.doom = "kill" if world.chance.random() < 0.5 else "power"
    world.disk.strike(Crash(), after=int(world.chance.integers(0, 12)))


@operation(2)
def fail_soon(world: World) -> None:
    kinds = ["write", "write", "sync", "truncate", "create", "rename", "remove", "names", "read"]
    why = OSError(errno.EIO, os.strerror(errno.EIO))
    world.disk.strike(why, int(world.chance.integers(0, 4)), [str(world.chance.choice(kinds))])


@operation(1, is_open)
def interrupt_soon(world: World) -> None:
    world.disk.strike(KeyboardInterrupt(), int(world.chance.integers(0, 4)), ["write"])


@operation(1)
def fill_disk(world: World) -> None:
    world.disk.capacity = world.disk.used() + int(world.chance.integers(0, 2000))


@operation(2)
def all_is_well(world: World) -> None:
    world.disk.calm()


@operation(1, lambda world: world.sealed)
def rot(world: World) -> None:
    """One wrong bit where all was synced and marked is refused or does no harm, and is never taken for a torn tail."""
    files = {name: bytearray(file.cache) for name, file in world.disk.cache.items()}
    data = files[str(world.chance.choice([name for name in sorted(files) if files[name]]))]
    data[int(world.chance.integers(len(data)))] ^= 1 << int(world.chance.integers(8))
    storage = MemoryStorage(files)
    try:
        frames = list(read_frames(storage))
    except CorruptLogError:
        return
    assert frames[-1].sequence == world.kept
    world.model.check(frames, read_base(storage))


def live(world: World) -> None:
    """Draw and do some operations, then come to an end."""
    for _ in range(EACH):
        possible = [each for each in OPERATIONS if each.when(world)]
        weights = np.array([each.weight for each in possible], float)
        possible[world.chance.choice(len(possible), p=weights / weights.sum())].do(world)
    end(world)


def end(world: World) -> None:
    """Come to a peaceful end."""
    world.disk.calm()
    for do in (lose_power if world.chance.random() < 0.5 else kill, open_log, append, close):
        do(world)
    assert world.durable == world.kept > 0


def schedules(seeds: Iterable[int], storage: type[FaultStorage] = FaultStorage) -> Iterator[Outcome]:
    """Live random lives."""
    for seed in seeds:
        world = World(seed, storage)
        yield outcome(f"random {seed}", world, partial(live, world))
