"""Where a run's files live: a directory, or memory. Every byte the log reads or writes goes through here."""

import errno
import fcntl
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from .._errors import InvalidTypeError, LogLockedError, LogNotFoundError

__all__ = ["DirectoryStorage", "MemoryStorage", "Place", "Storage", "as_storage"]

LOCK = "log/lock"

Buffer = bytes | bytearray | memoryview


@runtime_checkable
class Storage(Protocol):
    """Named files with explicit durability. Names are relative, with `/`; every method may raise `OSError`.

    What `write` and `truncate` did survives the process; it survives a power failure only once `sync` has returned.
    `create`, `publish` and `remove` are durable when they return, directory entry included.

    >>> isinstance(MemoryStorage(), Storage)
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

    def publish(self, name: str, data: bytes) -> None:
        """Make a whole file appear, atomically."""

    def write(self, name: str, offset: int, buffers: Sequence[Buffer]) -> None:
        """Write the buffers one after the other at `offset`. After an error any part may have been written."""

    def truncate(self, name: str, size: int) -> None:
        """Cut the file to `size` bytes."""

    def sync(self, name: str) -> None:
        """Return when everything written to the file is on the device."""

    def lock(self) -> None:
        """Become the only writer, or raise `LogLockedError`."""

    def close(self) -> None:
        """Release the lock and all handles. Idempotent."""


class DirectoryStorage:
    """Files below one directory. Handles are kept open until `close`.

    Files are read by `pread`, never mapped: a file that another process cuts while it is mapped kills with SIGBUS.

    >>> DirectoryStorage("no/such/run").exists("run.json")
    False
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._handles: dict[tuple[str, int], int] = {}
        self._lock: int | None = None

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
        view = np.empty(length, np.uint8).data  # a bytearray would be zeroed first
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

    def publish(self, name: str, data: bytes) -> None:
        """Make a whole file appear, atomically: written beside it, synced, renamed."""
        target = self.path / name
        self._make_folder(target.parent)
        beside = target.with_name(target.name + ".new")
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
        _sync_folder(target.parent)

    def write(self, name: str, offset: int, buffers: Sequence[Buffer]) -> None:
        """Write the buffers one after the other at `offset`."""
        handle = self._handle(name, os.O_RDWR)
        written = os.pwritev(handle, buffers, offset)
        if written != sum(map(len, buffers)):
            self._write_rest(handle, offset, b"".join(buffers), written)

    @staticmethod
    def _write_rest(handle: int, offset: int, data: bytes, done: int) -> None:
        # The kernel takes at most 2 GiB at a time, and less when a disk fills up: the next call says why.
        view = memoryview(data)
        while done < len(data):
            written = os.pwrite(handle, view[done:], offset + done)
            if written == 0:
                raise OSError(errno.ENOSPC, "the device took no more bytes")
            done += written

    def truncate(self, name: str, size: int) -> None:
        """Cut the file to `size` bytes."""
        os.ftruncate(self._handle(name, os.O_RDWR), size)

    def sync(self, name: str) -> None:
        """Return when everything written to the file is on the device."""
        os.fdatasync(self._handle(name, os.O_RDWR))

    def lock(self) -> None:
        """Take `log/lock` exclusively; the file says who holds it. The kernel lets go when the process dies."""
        target = self.path / LOCK
        self._make_folder(target.parent)
        handle = os.open(target, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 200, 0).decode("utf-8", "replace").strip() or "someone unknown"
            os.close(handle)
            mine = holder.startswith(f"process {os.getpid()} ")
            who = "another bus of this process" if mine else holder
            raise LogLockedError(
                f"{self.path} is being written by {who}; a run has one writer. "
                f"{'Stop that bus first' if mine else 'End that process first'}; reading (mmsb.replay) needs no lock."
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        self._lock = handle

    def close(self) -> None:
        """Release the lock and all handles."""
        handles = list(self._handles.values())
        self._handles.clear()
        if self._lock is not None:
            handles.append(self._lock)
            self._lock = None
        for handle in handles:
            os.close(handle)

    def _handle(self, name: str, mode: int) -> int:
        handle = self._handles.get((name, mode))
        if handle is None:
            handle = self._handles[name, mode] = os.open(self.path / name, mode | os.O_CLOEXEC)
        return handle

    def _make_folder(self, folder: Path) -> None:
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for entry in reversed(missing):
            entry.mkdir(exist_ok=True)
            _sync_folder(entry.parent)


class MemoryStorage:
    """The same files in bytearrays, for a bus without a path. `files` may be inspected and copied.

    >>> storage = MemoryStorage()
    >>> storage.create("a"); storage.write("a", 0, [b"one ", b"two"])
    >>> bytes(storage.read("a", 4, 100))
    b'two'
    """

    def __init__(self, files: dict[str, bytearray] | None = None) -> None:
        self.files = {} if files is None else files
        self._locked = False

    def describe(self, name: str) -> str:
        """Return the name, marked as living in memory."""
        return f"memory:{name}"

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""
        return name in self.files

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, sorted."""
        return sorted(name for name in self.files if name.rpartition("/")[0] == folder)

    def size(self, name: str) -> int:
        """Return the length in bytes."""
        return len(self._file(name))

    def read(self, name: str, offset: int, length: int) -> memoryview:
        """Return a copy: a bytearray that someone looks into can't grow."""
        return memoryview(bytes(memoryview(self._file(name))[offset : offset + length]))

    def create(self, name: str) -> None:
        """Make an empty file; `FileExistsError` if there is one."""
        if name in self.files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        self.files[name] = bytearray()

    def publish(self, name: str, data: bytes) -> None:
        """Make a whole file appear."""
        self.files[name] = bytearray(data)

    def write(self, name: str, offset: int, buffers: Sequence[Buffer]) -> None:
        """Write the buffers one after the other at `offset`."""
        file = self._file(name)
        file.extend(bytes(max(0, offset - len(file))))
        for buffer in buffers:
            file[offset : offset + len(buffer)] = buffer
            offset += len(buffer)

    def truncate(self, name: str, size: int) -> None:
        """Cut the file to `size` bytes."""
        del self._file(name)[size:]

    def sync(self, name: str) -> None:
        """Memory is as durable as it gets."""
        self._file(name)

    def lock(self) -> None:
        """Become the only writer."""
        if self._locked:
            raise LogLockedError("this MemoryStorage is being written by another log of this process; close that first")
        self._locked = True

    def close(self) -> None:
        """Release the lock; the files stay."""
        self._locked = False

    def _file(self, name: str) -> bytearray:
        try:
            return self.files[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name) from None


Place = str | os.PathLike[str] | Storage


def _sync_folder(folder: Path) -> None:
    # A new file is durable only once the directory that names it is.
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def as_storage(place: Place, *, must_exist: bool = False) -> Storage:
    """Return the storage for a path, or the storage that was passed."""
    if not isinstance(place, str | os.PathLike):
        if not hasattr(place, "publish"):
            raise InvalidTypeError(f"got a {type(place).__name__} for a run; pass the path of its directory")
        return place
    path = Path(place)
    if must_exist and not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise LogNotFoundError(
            f"{path} {what}; a run is a directory with run.json in it. Check the path, or create it first."
        )
    return DirectoryStorage(path)
