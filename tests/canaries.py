"""Logs and storages that break one promise each; schedules or strikes must catch every one of them.

Nothing but what a canary breaks is different from the real thing. `kills` of a fault class that no canary needs would
be a fault that the disk only claims to simulate.
"""

import errno
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple
from unittest import mock

from mmsb_jax import LogFailedError
from mmsb_jax.page.checkpoint import _checkpoint
from mmsb_jax.page.log import _recovery, _scan
from mmsb_jax.page.log._scan import LogScanner
from mmsb_jax.page.log._writer import FrameWriter
from tests.fault_storage import Buffer, Disk, FaultStorage, Loss
from tests.operations import schedules
from tests.strikes import strikes


class NoSync(FaultStorage):
    """Says that commits are on the device, and does nothing."""

    def sync(self, name: str) -> None:
        if name.endswith(".seg"):
            self._step("sync", name)
        else:
            super().sync(name)


class NoSyncOfBase(FaultStorage):
    """Names a compacted log's first segment that is not on the device yet."""

    def sync(self, name: str) -> None:
        if name.endswith(".base"):
            self._step("sync", name)
        else:
            super().sync(name)


class SyncHidesErrors(FaultStorage):
    """Says that commits are on the device although some are not."""

    def sync(self, name: str) -> None:
        try:
            super().sync(name)
        except OSError:
            if not name.endswith(".seg"):
                raise


class NoSyncOfNames(FaultStorage):
    """Files may be forgotten however often their contents are synced."""

    def _sync_names(self, name: str) -> None:
        self._step("names", name)


class NoSyncOfNamesAtLock(FaultStorage):
    """Forgets files whose names a killed writer had not yet synced."""

    def lock(self) -> None:
        with mock.patch.object(self.disk, "sync_names"):
            super().lock()


class PublishesInPlace(FaultStorage):
    """Writes a file where it belongs, bit by bit."""

    def publish(self, name: str, *data: Buffer) -> None:
        if not self.exists(name):
            self.create(name)
        self.truncate(name, 0)
        self.write(name, 0, data)
        self.sync(name)


class WritesInTheProcess(FaultStorage):
    """Keeps what is written until the next sync, as a buffered file does: a process takes it along when it dies."""

    def __init__(self, disk: Disk, reading: str = "read") -> None:
        super().__init__(disk, reading)
        self.waiting: list[tuple[str, int, bytes]] = []

    def write(self, name: str, offset: int, buffers: Sequence[Buffer]) -> None:
        self._step("write", name)
        self.waiting.append((name, offset, b"".join(map(bytes, buffers))))

    def sync(self, name: str) -> None:
        while self.waiting:
            file, offset, data = self.waiting.pop(0)
            super().write(file, offset, [data])
        super().sync(name)


class SilentlyFull(FaultStorage):
    """Takes what there is room for, and says nothing of the rest."""

    def write(self, name: str, offset: int, buffers: Sequence[Buffer]) -> None:
        try:
            super().write(name, offset, buffers)
        except OSError as why:
            if why.errno != errno.ENOSPC:
                raise


class ReadsEndEarly(FaultStorage):
    """Makes of a device that can't be read a file that ends."""

    unreadable = ""

    def read(self, name: str, offset: int, length: int) -> memoryview:
        try:
            data = super().read(name, offset, length)
        except OSError:
            if not name.endswith(".seg"):
                raise
            self.unreadable = name
        return memoryview(b"") if name == self.unreadable else data


class AlwaysRight(int):
    """A checksum that equals every other."""

    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def _mark_first(self: FrameWriter) -> None:
    self.durable = self.sequence
    self._mark(self._written())
    self._sync_mark()
    self.storage.sync(self.segment)


def _cut_unsynced(self: FrameWriter, why: BaseException) -> None:
    self.storage.truncate(self.segment, self.end)
    if isinstance(why, OSError):
        raise LogFailedError(why.errno, "could not write a commit") from why


def _go_on(self: FrameWriter, what: str, why: OSError) -> None:
    raise LogFailedError(why.errno, what) from why


_begin_segment = FrameWriter._start_segment


def _begin_unsynced(self: FrameWriter, *arguments: Any) -> None:
    with mock.patch.object(FrameWriter, "_sync_data"):
        _begin_segment(self, *arguments)


_always = property(lambda self: True, lambda self, value: None)


class Canary(NamedTuple):
    """What is broken (a storage, or an attribute of something), and what is sure to find it."""

    storage: type[FaultStorage] = FaultStorage
    patch: tuple[Any, str, Any] | None = None
    fault: str | None = None  # at every step; without one, random schedules
    loss: Loss | None = None  # the only one that happens
    caught: bool = True


CANARIES = {
    "no sync": Canary(NoSync),
    "a sync that hides errors": Canary(SyncHidesErrors, fault="an I/O error"),
    "no sync of names": Canary(NoSyncOfNames),
    "no sync of a killed writer's names": Canary(NoSyncOfNamesAtLock, fault="a kill", loss=Loss.EVERYTHING),
    "files that are published in place": Canary(PublishesInPlace, fault="a power failure"),
    "writes that are kept in the process": Canary(WritesInTheProcess),
    "a full disk that says nothing": Canary(SilentlyFull),
    "reads that end early": Canary(ReadsEndEarly, fault="an unreadable sector"),
    "checksums that are always right": Canary(patch=(_scan, "crc32c", lambda data: AlwaysRight()), loss=Loss.RUBBISH),
    "a mark ahead of the data": Canary(patch=(FrameWriter, "_sync_data", _mark_first), fault="a power failure"),
    "a cut that may come undone": Canary(
        patch=(FrameWriter, "_take_back", _cut_unsynced),
        fault="an interrupt, then a power failure",
        loss=Loss.UNCUT,
    ),
    "pages that a failed sync left behind": Canary(patch=(_recovery, "_write_again", id), fault="an I/O error"),
    "going on after a failed sync": Canary(patch=(FrameWriter, "_fail", _go_on), fault="an I/O error"),
    "a segment begun before the last is synced": Canary(patch=(FrameWriter, "_start_segment", _begin_unsynced)),
    "a compacted log that isn't synced": Canary(NoSyncOfBase),
    "checkpoints that fit any log": Canary(patch=(_checkpoint, "fault_in_position", lambda *_: None)),
    # Good frames behind a bad one are no damage after a power failure; in order, there are none.
    "a rule for ordered writes, holes": Canary(patch=(LogScanner, "has_power", _always), loss=Loss.HOLES),
    "a rule for ordered writes, rubbish": Canary(patch=(LogScanner, "has_power", _always), loss=Loss.RUBBISH),
    "a rule for ordered writes, in order": Canary(
        patch=(LogScanner, "has_power", _always), loss=Loss.PREFIX, caught=False
    ),
    "nothing is wrong": Canary(caught=False),
}


def hunt(canary: Canary, count: int = 250) -> str | None:
    """Return what caught a canary, in so many random schedules or at every step, or None."""
    with ExitStack() as stack:
        if canary.patch is not None:
            stack.enter_context(mock.patch.object(*canary.patch, create=True))
        if canary.loss is not None:
            lose = Disk.lose_power
            only = lambda disk, loss=canary.loss: lose(disk, loss)  # noqa: E731
            stack.enter_context(mock.patch.object(Disk, "lose_power", only))
        tried = schedules(range(count if canary.caught else count // 10), canary.storage)
        if canary.fault is not None:
            tried = strikes(canary.fault, canary.storage)
        return next((f"{title}: {type(error).__name__}: {error}" for title, _, error in tried if error), None)
