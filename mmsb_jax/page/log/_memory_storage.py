"""A run's files in memory: for a bus without a path, and for tests."""

import errno
import os
from collections.abc import Sequence

from ..._errors import LogLockedError
from ._storage import Buffer

__all__ = ["MemoryStorage"]


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

    def publish(self, name: str, *data: Buffer) -> None:
        """Make a whole file appear."""
        self.files[name] = bytearray().join(data)

    def map(self, name: str) -> memoryview:
        """Return a whole file, read-only."""
        return memoryview(self._file(name)).toreadonly()

    def remove(self, name: str) -> None:
        """Take a file away."""
        self._file(name)
        del self.files[name]

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

    def begin_sync(self, *names: str) -> None:
        """Sync files at once."""
        for name in names:
            self.sync(name)

    def lock(self) -> None:
        """Become the only writer."""
        if self._locked:
            raise LogLockedError("this MemoryStorage is being written by another log of this process; close that first")
        self._locked = True

    def boot(self) -> int:
        """Return always the same: nothing in memory outlives a power failure."""
        return 1

    def close(self) -> None:
        """Release the lock; the files stay."""
        self._locked = False

    def _file(self, name: str) -> bytearray:
        try:
            return self.files[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name) from None
