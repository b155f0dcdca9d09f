"""Where a run's files live: a directory, or memory. Every byte the log reads or writes goes through here."""

import errno
import fcntl
import mmap
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..._errors import InvalidArgumentError, InvalidTypeError, LogLockedError, LogNotFoundError
from ._buffers import Buffers

__all__ = ["DirectoryStorage", "Place", "Storage", "as_path", "as_storage", "opened"]

LOCK = "log/lock"

Buffer = bytes | bytearray | memoryview


@runtime_checkable
class Storage(Protocol):
    """Named files with explicit durability. Names are relative, with `/`; every method may raise `OSError`.

    What `write` and `truncate` did survives the process; it survives a power failure only once `sync` has returned.
    `create`, `publish` and `remove` are durable when they return, directory entry included. `publish`, `map` and
    `remove` may be called from several threads at a time, for different files.

    >>> isinstance(DirectoryStorage("runs/1"), Storage)
    True
    """

    def describe(self, name: str) -> str:
        """Return what to call this file in a message."""

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, sorted; none if there is no such folder."""

    def size(self, name: str) -> int:
        """Return the length in bytes as it is now."""

    def read(self, name: str, offset: int, length: int) -> memoryview:
        """Return up to `length` bytes; fewer only at the end of the file."""

    def create(self, name: str) -> None:
        """Make an empty file; `FileExistsError` if there is one."""

    def publish(self, name: str, *data: Buffer) -> None:
        """Make a whole file appear, atomically: the buffers one after the other. What had the name is replaced."""

    def map(self, name: str) -> memoryview:
        """Return a whole file, read-only, without reading it: only for files that were published, so never change.

        It stays as it is when the file is replaced or removed. `FileNotFoundError` if there is no such file.
        """

    def remove(self, name: str) -> None:
        """Take a file away; `FileNotFoundError` if there is none."""

    def write(self, name: str, offset: int, buffers: Sequence[Buffer]) -> None:
        """Write the buffers one after the other at `offset`. After an error any part may have been written."""

    def truncate(self, name: str, size: int) -> None:
        """Cut the file to `size` bytes."""

    def sync(self, name: str) -> None:
        """Return when everything written to the file is on the device. After an error, some of it may never be."""

    def begin_sync(self, *names: str) -> Callable[[], None] | None:
        """Begin to sync files, one after the other, as they are now; None when that is already done.

        Otherwise return a function that waits for the end, and raises what went wrong. More may be written meanwhile.
        """

    def lock(self) -> None:
        """Become the only writer, or raise `LogLockedError`. The names of the files that are there are now durable."""

    def boot(self) -> int:
        """Return a number that is another one after any power failure, or 0 if nobody can tell."""

    def close(self) -> None:
        """Release the lock and all handles. Idempotent."""


class DirectoryStorage:
    """Files below one directory. Handles are kept open until `close`, save those of `publish` and `map`.

    Files that grow are read by `pread`, never mapped: one that another process cuts while mapped kills with SIGBUS.

    >>> DirectoryStorage("no/such/run").exists("run.json")
    False
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._handles: dict[tuple[str, int], int] = {}
        self._lock: int | None = None
        self._buffers = Buffers()
        self._syncer: ThreadPoolExecutor | None = None

    def describe(self, name: str) -> str:
        """Return the path of the file."""
        return str(self.path / name)

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""
        return (self.path / name).is_file()

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, sorted."""
        try:
            return sorted(f"{folder}/{entry}" for entry in os.listdir(self.path / folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def size(self, name: str) -> int:
        """Return the length in bytes as it is now."""
        return os.fstat(self._handle(name, os.O_RDONLY)).st_size

    def read(self, name: str, offset: int, length: int) -> memoryview:
        """Return up to `length` bytes; fewer only at the end of the file."""
        handle = self._handle(name, os.O_RDONLY)
        length = max(0, min(length, os.fstat(handle).st_size - offset))
        view = self._buffers.take(length).data
        done = 0
        while done < length:
            got = os.preadv(handle, [view[done:]], offset + done)
            if got == 0:
                break
            done += got
        return view[:done].toreadonly()

    def create(self, name: str) -> None:
        """Make an empty file; `FileExistsError` if there is one."""
        target = self.path / name
        self._make_folder(target.parent)
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644))
        _sync_folder(target.parent)

    def publish(self, name: str, *data: Buffer) -> None:
        """Make a whole file appear, atomically: written beside it, synced, renamed."""
        target = self.path / name
        self._make_folder(target.parent)
        beside = target.with_name(target.name + ".new")
        try:
            with open(beside, "wb", buffering=0) as file:
                _write_all(file.fileno(), 0, data)
                os.fsync(file.fileno())
            os.replace(beside, target)
        except BaseException:
            beside.unlink(missing_ok=True)  # on a full device it is in the way
            raise
        self._forget(name)
        _sync_folder(target.parent)

    def map(self, name: str) -> memoryview:
        """Return a whole file, read-only, as a memory map; its pages are read when they are looked at."""
        handle = os.open(self.path / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(handle).st_size
            return memoryview(mmap.mmap(handle, size, access=mmap.ACCESS_READ) if size else b"")
        finally:
            os.close(handle)

    def remove(self, name: str) -> None:
        """Take a file away."""
        target = self.path / name
        target.unlink()
        self._forget(name)
        _sync_folder(target.parent)

    def write(self, name: str, offset: int, buffers: Sequence[Buffer]) -> None:
        """Write the buffers one after the other at `offset`."""
        _write_all(self._handle(name, os.O_RDWR), offset, buffers)

    def truncate(self, name: str, size: int) -> None:
        """Cut the file to `size` bytes."""
        os.ftruncate(self._handle(name, os.O_RDWR), size)

    def sync(self, name: str) -> None:
        """Return when everything written to the file is on the device."""
        os.fdatasync(self._handle(name, os.O_RDWR))

    def begin_sync(self, *names: str) -> Callable[[], None]:
        """Sync files in a thread, which the kernel lets run beside further writes."""
        handles = [self._handle(name, os.O_RDWR) for name in names]
        if self._syncer is None:
            self._syncer = ThreadPoolExecutor(1, "mmsb-sync")
        return self._syncer.submit(_sync_all, handles).result

    def lock(self) -> None:
        """Take `log/lock` exclusively; the file says who holds it. The kernel lets go when the process dies."""
        target = self.path / LOCK
        self._make_folder(target.parent)
        handle = os.open(target, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A writer that was killed may have made a file and not yet synced its folder.
            for folder in (self.path, *(entry for entry in self.path.iterdir() if entry.is_dir())):
                _sync_folder(folder)
        except BlockingIOError:
            holder = os.pread(handle, 200, 0).decode("utf-8", "replace").strip() or "someone unknown"
            os.close(handle)
            mine = holder.startswith(f"process {os.getpid()} ")
            who = "another bus of this process" if mine else holder
            raise LogLockedError(
                f"{self.path} is being written by {who}; a run has one writer. "
                f"{'Stop that bus first' if mine else 'End that process first'}; reading (mmsb.replay) needs no lock."
            ) from None
        except BaseException:
            os.close(handle)
            raise
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        self._lock = handle

    def boot(self) -> int:
        """Return half of the kernel's boot id."""
        try:
            return int(Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", "")[:16], 16)
        except (OSError, ValueError):
            return 0  # no Linux

    def close(self) -> None:
        """Release the lock and all handles."""
        if self._syncer is not None:
            self._syncer.shutdown()  # before its handles are closed
            self._syncer = None
        handles = list(self._handles.values())
        self._handles.clear()
        self._buffers.clear()
        if self._lock is not None:
            handles.append(self._lock)
            self._lock = None
        for handle in handles:
            os.close(handle)

    def _handle(self, name: str, mode: int) -> int:
        kept = self._handles.get((name, mode))
        if kept is None:
            handle = os.open(self.path / name, mode | os.O_CLOEXEC)
            kept = self._handles.setdefault((name, mode), handle)
            if kept != handle:  # another thread was first
                os.close(handle)
        return kept

    def _forget(self, name: str) -> None:
        """Close the handles of a file that is no longer what its name means."""
        for mode in (os.O_RDONLY, os.O_RDWR):
            handle = self._handles.pop((name, mode), None)
            if handle is not None:
                os.close(handle)

    def _make_folder(self, folder: Path) -> None:
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for entry in reversed(missing):
            entry.mkdir(exist_ok=True)
            _sync_folder(entry.parent)


Place = str | os.PathLike[str] | Storage


def _write_all(handle: int, offset: int, buffers: Sequence[Buffer]) -> None:
    """Write buffers one after the other, whole.

    The kernel takes at most 2 GiB at a time, and less when a disk fills up: then the next call says why.
    """
    left = [memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
    while left:
        written = os.pwritev(handle, left, offset)
        if written == 0:
            raise OSError(errno.ENOSPC, "the device took no more bytes")
        offset += written
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if written:
            left[0] = left[0][written:]


def _sync_all(handles: Sequence[int]) -> None:
    for handle in handles:
        os.fdatasync(handle)


def _sync_folder(folder: Path) -> None:
    # A new file is durable only once the directory that names it is.
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def as_path(place: str | os.PathLike[str]) -> Path:
    """Return a path that may be that of a run; raise `InvalidArgumentError` for one that can't."""
    if not os.fspath(place) or "\0" in str(place):
        raise InvalidArgumentError(f"got the path {str(place)!r} for a run; pass the path of its directory")
    return Path(place)


def as_storage(place: Place, *, must_exist: bool = False) -> Storage:
    """Return the storage for a path, or the storage that was passed."""
    if not isinstance(place, str | os.PathLike):
        if not hasattr(place, "publish"):
            raise InvalidTypeError(f"got a {type(place).__name__} for a run; pass the path of its directory")
        return place
    path = as_path(place)
    if not must_exist and path.exists() and not path.is_dir():
        raise InvalidArgumentError(f"{path} is a file, and a run is a directory; pass another path")
    if must_exist and not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise LogNotFoundError(
            f"{path} {what}; a run is a directory with run.json in it. Check the path, or create it first."
        )
    return DirectoryStorage(path)


@contextmanager
def opened(place: Place) -> Iterator[Storage]:
    """Give the storage for an existing run; one that is made here is closed at the end."""
    storage = as_storage(place, must_exist=True)
    try:
        yield storage
    finally:
        if storage is not place:
            storage.close()
