"""A file system in memory that fails as real ones do: power is lost, processes die, the device is full or broken.

    cache    what every process sees; a killed process takes nothing of it along
    device   what a power failure leaves for sure
    pending  what is in the cache and not yet on the device: pieces of files, and names of files

`sync` moves a file's pieces to the device. Making, renaming or removing a file does so with the names of its folder.
At a power failure each piece of each write, cut at sector borders, is kept, lost, replaced by zeros or rubbish, or
written in another order than it was asked for: whatever `Loss` says. A sync that fails forgets pieces for good although
the cache still shows them, as Linux does; only writing them again helps.

A `Disk` is the machine; a `FaultStorage` is what one process sees of it, and it is dead for good when its process is.
Every primitive step of an operation can be the last one, or fail: `Disk.strike`.
"""

import errno
import os
from collections.abc import Callable, Sequence
from enum import Enum

import numpy as np

from mmsb_jax import LogLockedError

Buffer = bytes | bytearray | memoryview

SECTORS = (64, 512, 4096)
CHANGES = frozenset(["lock", "create", "write", "truncate", "sync", "rename", "remove", "names"])


class Crash(BaseException):
    """The process is no more. Not an `Exception`, so that nothing on the way may think it was an error."""


class Loss(Enum):
    """What a power failure does to the pieces that are not on the device."""

    EVERYTHING = "none of them is kept"
    NOTHING = "all are kept"
    PREFIX = "the first ones are kept, one is torn"
    HOLES = "any may be lost"
    ORDER = "any may be lost, and those kept reach the device in any order"
    RUBBISH = "any may be lost, or become zeros or rubbish"
    UNCUT = "what was written is kept, and what was cut off comes back"


class File:
    """Contents in the cache and on the device, and the pieces that lead from the one to the other."""

    def __init__(self) -> None:
        self.cache, self.device = bytearray(), bytearray()
        self.pending: list[tuple[int, bytes | None]] = []  # bytes at an offset, or None: cut to this size

    def change(self, offset: int, data: bytes | None) -> None:
        _apply(self.cache, offset, data)
        self.pending.append((offset, data))

    def flush(self) -> None:
        for piece in self.pending:
            _apply(self.device, *piece)
        self.pending.clear()

    def pieces(self, sector: int) -> list[tuple[int, bytes | None]]:
        """The pending changes, cut at sector borders."""
        found: list[tuple[int, bytes | None]] = []
        for offset, data in self.pending:
            if data is None:
                found.append((offset, None))
                continue
            at = 0
            while at < len(data):
                end = at + sector - (offset + at) % sector
                found.append((offset + at, data[at:end]))
                at = end
        return found


def _apply(image: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del image[offset:]
        return
    image.extend(bytes(max(0, offset - len(image))))
    image[offset : offset + len(data)] = data


class Disk:
    """The machine: its files, its power, and what goes wrong next. The same generator gives the same failures."""

    def __init__(self, chance: np.random.Generator, capacity: int = 1 << 40) -> None:
        self.chance, self.capacity = chance, capacity
        self.cache: dict[str, File] = {}
        self.device: dict[str, File] = {}
        self.pending: list[dict[str, File | None]] = []  # renames change two names at once
        self.boot, self.kills = 1, 0
        self.writer: FaultStorage | None = None
        self.steps: list[tuple[str, str]] = []
        self.watch: Callable[[], None] | None = None  # called before every step that isn't reading
        self.struck = False  # whether a strike has ever come
        self._countdown, self._strike, self._kinds = -1, None, frozenset[str]()

    def strike(self, why: BaseException, after: int = 0, kinds: Sequence[str] = ()) -> None:
        """Let a step raise `why`: the one after so many others of these kinds, by default all that change things.

        Steps that change nothing are of the kind "read", or what a storage was told to call them.
        """
        self._countdown, self._strike, self._kinds = after, why, frozenset(kinds) or CHANGES

    def calm(self) -> None:
        """Let nothing go wrong any more, and give the device its room back."""
        self._strike, self.capacity = None, 1 << 40

    def step(self, kind: str, name: str) -> None:
        """Take note of a primitive step that is about to be done; raise what `strike` said when its time has come."""
        self.steps.append((kind, name))
        if self.watch is not None and kind not in ("read", "look"):
            self.watch()
        if self._strike is not None and kind in self._kinds:
            self._countdown -= 1
            if self._countdown < 0:
                why, self._strike, self.struck = self._strike, None, True
                raise why

    def rename(self, changes: dict[str, File | None]) -> None:
        """Let names mean other files, or none, as one change."""
        self.pending.append(changes)
        _rename(self.cache, changes)

    def sync_names(self, folder: str) -> None:
        for changes in self.pending:
            if any(name.rpartition("/")[0] == folder for name in changes):
                _rename(self.device, changes)
        self.pending = [c for c in self.pending if all(name.rpartition("/")[0] != folder for name in c)]

    def used(self) -> int:
        return sum(len(file.cache) for file in self.cache.values())

    def kill(self) -> None:
        """End the writer; what it wrote stays in the cache."""
        if self.writer is not None:
            self.writer.alive, self.writer = False, None
            self.kills += 1
        self.calm()

    def lose_power(self, loss: Loss | None = None, sector: int | None = None) -> Loss:
        """End the writer, and leave of what is pending what `loss` says, by default anything; return which it was."""
        self.kill()
        loss = self.chance.choice(list(Loss)) if loss is None else loss
        sector = int(self.chance.choice(SECTORS)) if sector is None else sector
        kept = {Loss.EVERYTHING: 0.0, Loss.NOTHING: 1.0}.get(loss, self.chance.choice([0.1, 0.5, 0.9]))
        for changes in self.pending:
            if self.chance.random() < kept:
                _rename(self.device, changes)
        for file in self.device.values():
            for piece in self._survivors(file.pieces(sector), loss, kept):
                _apply(file.device, *piece)
            file.pending, file.cache = [], bytearray(file.device)
        self.pending, self.cache = [], dict(self.device)
        self.boot += 1
        return loss

    def lose_some(self, file: File) -> None:
        """A sync fails: some pieces are on the device, the others never will be, though the cache shows them."""
        for offset, data in file.pieces(512):
            if data is None or self.chance.random() < 0.5:  # sizes are metadata, which file systems keep in a journal
                _apply(file.device, offset, data)
        file.pending.clear()

    def _survivors(self, pieces: list, loss: Loss, kept: float) -> list:
        chance = self.chance
        if loss is Loss.UNCUT:
            return [piece for piece in pieces if piece[1] is not None]
        if loss is Loss.PREFIX:
            end = int(chance.integers(0, len(pieces) + 1))
            torn = [(at, data[: int(chance.integers(0, len(data) + 1))]) for at, data in pieces[end : end + 1] if data]
            return pieces[:end] + torn
        found = [piece for piece in pieces if chance.random() < kept]
        if loss is Loss.ORDER:
            return [found[i] for i in chance.permutation(len(found))]
        if loss is Loss.RUBBISH:
            return [piece if chance.random() < kept else self._rubbish(*piece) for piece in pieces]
        return found

    def _rubbish(self, offset: int, data: bytes | None) -> tuple[int, bytes | None]:
        if data is None:
            return offset, b""  # the cut is lost
        length = len(data) if self.chance.random() < 0.8 else 0
        return offset, bytes(length) if self.chance.random() < 0.5 else self.chance.bytes(length)


def _rename(names: dict[str, File], changes: dict[str, File | None]) -> None:
    for name, file in changes.items():
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file


class FaultStorage:
    """The `Storage` of one process on a `Disk`."""

    def __init__(self, disk: Disk, reading: str = "read") -> None:
        self.disk, self.alive, self.reading = disk, True, reading
        self.handles: dict[str, File] = {}  # a file that is open stays what it is when its name becomes another's

    def describe(self, name: str) -> str:
        return f"disk:{name}"

    def exists(self, name: str) -> bool:
        self._step(self.reading, name)
        return name in self.disk.cache

    def names(self, folder: str) -> list[str]:
        self._step(self.reading, folder)
        return sorted(name for name in self.disk.cache if name.rpartition("/")[0] == folder)

    def size(self, name: str) -> int:
        self._step(self.reading, name)
        return len(self._file(name).cache)

    def read(self, name: str, offset: int, length: int) -> memoryview:
        self._step(self.reading, name)
        return memoryview(bytes(memoryview(self._file(name).cache)[offset : offset + length]))

    def create(self, name: str) -> None:
        self._step("create", name)
        if name in self.disk.cache:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        self.disk.rename({name: File()})
        self._sync_names(name)

    def publish(self, name: str, *data: Buffer) -> None:
        beside, file = f"{name}.new", File()
        self._step("create", beside)
        self.disk.rename({beside: file})
        self.handles[beside] = file
        try:
            self.write(beside, 0, data)
            self.sync(beside)
            self._step("rename", name)
        except Exception:  # not when the process has died: then it stays
            self.disk.rename({beside: None})
            raise
        finally:
            del self.handles[beside]
        self.disk.rename({name: file, beside: None})
        self.handles.pop(name, None)
        self._sync_names(name)

    def map(self, name: str) -> memoryview:
        self._step(self.reading, name)
        self.handles.pop(name, None)
        return memoryview(bytes(self._file(name).cache))

    def remove(self, name: str) -> None:
        self._step("remove", name)
        self.handles.pop(name, None)
        self._file(name)
        del self.handles[name]
        self.disk.rename({name: None})
        self._sync_names(name)

    def write(self, name: str, offset: int, buffers: Sequence[Buffer]) -> None:
        data = b"".join(map(bytes, buffers))
        file = self._file(name)
        try:
            self._step("write", name)
        except BaseException:
            if self.alive:  # any part may have been written, also none, or all
                part = int(self.disk.chance.integers(0, len(data) + 1))
                file.change(offset, data[: self.disk.chance.choice([0, part, len(data)])])
            raise
        grows = max(0, offset + len(data) - len(file.cache))
        missing = grows - (self.disk.capacity - self.disk.used())
        if grows and missing > 0:
            file.change(offset, data[: max(0, len(data) - missing)])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        file.change(offset, data)

    def truncate(self, name: str, size: int) -> None:
        self._step("truncate", name)
        self._file(name).change(size, None)

    def sync(self, name: str) -> None:
        try:
            self._step("sync", name)
        except OSError:
            self.disk.lose_some(self._file(name))
            raise
        self._file(name).flush()

    def begin_sync(self, *names: str) -> Callable[[], None]:
        """Nothing reaches the device before it is waited for."""

        def wait() -> None:
            for name in names:
                self.sync(name)

        return wait

    def lock(self) -> None:
        self._step("lock", "log/lock")
        if self.disk.writer is not None:
            raise LogLockedError("this disk has a writer already")
        for folder in ("", "log", "checkpoints"):
            self._sync_names(f"{folder}/")
        self.disk.writer = self

    def boot(self) -> int:
        return self.disk.boot

    def close(self) -> None:
        self.handles.clear()
        if self.alive and self.disk.writer is self:
            self.disk.writer = None

    def _file(self, name: str) -> File:
        try:
            return self.handles.setdefault(name, self.handles.get(name) or self.disk.cache[name])
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name) from None

    def _sync_names(self, name: str) -> None:
        self._step("names", name)
        self.disk.sync_names(name.rpartition("/")[0])

    def _step(self, kind: str, name: str) -> None:
        if not self.alive:
            raise Crash
        self.disk.step(kind, name)
