"""One fault at every single step of a short life of a run: each write, sync, cut, new file and rename, one by one."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import NamedTuple

from tests.fault_storage import Crash, FaultStorage
from tests.operations import append, close, end, lose_power, name, open_log, sync
from tests.world import Outcome, World, outcome

# What makes no sense when its turn comes, such as opening an open log, is left out.
SCRIPT = [
    *(open_log, append, append, open_log, append, sync, append, name, open_log, append, close),
    *(open_log, append, append, open_log, append, close, open_log, close, open_log, append),
]
LIVES = (1, 7, 13)  # seeds; sync modes are drawn at each opening


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class Fault(NamedTuple):
    """What strikes, which kinds of steps (all that change things, if none are named), and what comes of it."""

    why: Callable[[], BaseException]
    kinds: tuple[str, ...] = ()
    doom: str = "kill"
    then: tuple[Callable[[World], None], ...] = ()


FAULTS = {
    "a kill": Fault(Crash),
    "a power failure": Fault(Crash, doom="power"),
    "an I/O error": Fault(lambda: _error(errno.EIO)),
    "an unreadable sector": Fault(lambda: _error(errno.EIO), ("read",)),
    "a full disk": Fault(lambda: _error(errno.ENOSPC), ("write", "create")),
    "an interrupt": Fault(KeyboardInterrupt),
    "a kill, then a power failure": Fault(Crash, then=(lose_power,)),
    "an I/O error, then a power failure": Fault(lambda: _error(errno.EIO), then=(lose_power,)),
    "a full disk, then a power failure": Fault(lambda: _error(errno.ENOSPC), ("write", "create"), then=(lose_power,)),
    "an interrupt, then a power failure": Fault(KeyboardInterrupt, then=(lose_power,)),
}


def strike(world: World, fault: str, after: int) -> None:
    """Live a life in which a fault strikes the step after so many others."""
    why, kinds, doom, then = FAULTS[fault]
    world.doom = doom
    world.disk.strike(why(), after, kinds)
    done = 0
    while done < len(SCRIPT) and not world.disk.struck:
        SCRIPT[done](world)
        done += 1
    for do in (*then, *SCRIPT[done:]):
        do(world)
    end(world)


def strikes(
    fault: str, storage: type[FaultStorage] = FaultStorage, of: Sequence[int] = LIVES, stride: int = 1
) -> Iterator[Outcome]:
    """Strike every step of every life, or every third one."""
    for life in of:
        for after in count(0, stride):
            world = World(life, storage)
            yield outcome(f"strike {life} {after} {fault}", world, partial(strike, world, fault, after))
            if not world.disk.struck:
                break


def fill(world: World, room: int) -> None:
    """Live on a device of so many bytes, that is given more room in the end."""
    world.disk.capacity = room
    for do in SCRIPT:
        do(world)
    end(world)


def full_disks(of: Sequence[int] = LIVES, stride: int = 1) -> Iterator[Outcome]:
    """Live on devices of every size."""
    for life in of:
        for room in range(0, 20_000, 97 * stride):
            world = World(life)
            yield outcome(f"room {life} {room}", world, partial(fill, world, room))
