"""Reading a file in pieces: large enough for the device, small enough to stay in the processor's cache meanwhile."""

from ._storage import Storage

__all__ = ["WINDOW", "Window"]

WINDOW = 2 << 20


class Window:
    """A stretch of one file in memory, moved along by need."""

    def __init__(self, storage: Storage, name: str) -> None:
        self.storage, self.name = storage, name
        self.forget()

    def forget(self) -> None:
        self.base, self.data = 0, memoryview(b"")

    def view(self, offset: int, length: int, ahead: int = WINDOW) -> memoryview:
        """Return `length` bytes at `offset`, fewer where the file ends; reads at least `ahead` when it has to read."""
        at = offset - self.base
        if at < 0 or at + length > len(self.data):
            self.base, self.data, at = offset, self.storage.read(self.name, offset, max(length, ahead)), 0
        return self.data[at : at + length]
