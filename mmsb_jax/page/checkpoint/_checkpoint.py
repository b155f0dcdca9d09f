"""Reading checkpoints: which there are, the newest that can be trusted, and pages from one without reading the rest."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from crc32c import crc32c
from jaxtyping import Int32, Int64, UInt32

from ..._errors import CorruptCheckpointError, InvalidArgumentError, InvalidTypeError
from ..._require import require_instance
from ..log._identity import RunIdentity, read_identity
from ..log._storage import Place, Storage, opened
from ._catalog_file import CheckpointCatalog, parse_catalog, parse_slots
from ._manifest import FOLDER, CatalogEntry, CheckpointInfo, Manifest, PartEntry, info_of, parse_manifest
from ._parts import Part, PartLayout, for_each
from ._position import fault_in_position
from ._snapshot import Snapshot

__all__ = ["Checkpoint", "Loaded", "Newest", "checkpoints", "load_newest", "newest", "open_checkpoint", "read_manifest"]


class Checkpoint:
    """A checkpoint that is open: its manifest was checked, its parts are mapped, their data are checked when read.

    It stays readable when the checkpoint is removed. Every reading method raises `CorruptCheckpointError` when what it
    reads is not what was written. See `write_checkpoint` for an example.
    """

    def __init__(self, storage: Storage, run: RunIdentity, manifest: Manifest) -> None:
        self._run, self._manifest = run, manifest
        self._catalog_bytes = _mapped(storage, manifest.catalog.file)
        self._catalog_file = storage.describe(f"{FOLDER}/{manifest.catalog.file}")
        if len(self._catalog_bytes) != manifest.catalog.size:
            reason = f"the catalogue has {len(self._catalog_bytes)} bytes, its manifest says {manifest.catalog.size}"
            raise CorruptCheckpointError(self._catalog_file, 0, reason)
        self._parts: dict[int, Part] = {}
        for index, (name, sums) in manifest.parts.items():
            file = storage.describe(f"{FOLDER}/{name}")
            self._parts[index] = Part(file, _mapped(storage, name), manifest.layout.shape(index), sums)

    def __repr__(self) -> str:
        return f"Checkpoint(tick {self.tick}, frame {self.sequence}, {len(self._parts)} parts)"

    @property
    def info(self) -> CheckpointInfo:
        """Its name."""
        return self._manifest.info

    @property
    def tick(self) -> int:
        """The tick of its state."""
        return self._manifest.tick

    @property
    def sequence(self) -> int:
        """The sequence number of the last frame that is in it."""
        return self._manifest.position.sequence

    @property
    def digest(self) -> tuple[int, int] | None:
        """The digest of its contents, or None when the writer gave none."""
        return self._manifest.digest

    @property
    def capacity(self) -> int:
        """Number of pages."""
        return self._run.capacity

    @property
    def page_words(self) -> int:
        """32-bit words per page."""
        return self._run.page_words

    @property
    def layout(self) -> PartLayout:
        """How its pages are dealt out to parts."""
        return self._manifest.layout

    @property
    def shared_files(self) -> int:
        """How many of its files were there before it, as an incremental checkpoint shares them."""
        return sum(not name.startswith(self.info.stem) for name in self._manifest.files)

    @cached_property
    def catalog(self) -> CheckpointCatalog:
        """Names, pages that are alive, edges, and where pages lie."""
        self._check_catalog()
        return parse_catalog(self._catalog_file, self._catalog_bytes, self._run, laid_out=self._manifest.laid_out)

    @cached_property
    def slot_of_page(self) -> Int32[np.ndarray, " capacity"] | None:
        """In which slot each page lies; None: in that of its id."""
        if not self._manifest.laid_out:
            return None
        self._check_catalog()
        return parse_slots(self._catalog_file, self._catalog_bytes, self._run)

    def _check_catalog(self) -> None:
        if crc32c(self._catalog_bytes) != self._manifest.catalog.crc:
            raise CorruptCheckpointError(self._catalog_file, 0, "the checksum of the catalogue is wrong")

    def pages(self, ids: Any) -> UInt32[np.ndarray, "n W"]:
        """Return the contents of some pages; of the files, only the blocks with these pages are read.

        Args:
            ids: page ids, a flat list or array of whole numbers.

        Raises:
            InvalidArgumentError, InvalidTypeError: an id is not one of a page of this run.
            CorruptCheckpointError: the data are damaged there.
        """
        ids = self._ids(ids)
        found = np.zeros((len(ids), self.page_words), np.uint32)
        for part, rows, where in self._by_part(ids):
            found[where] = part.pages(rows)
        return found

    def epochs(self, ids: Any) -> UInt32[np.ndarray, " n"]:
        """Return the ticks at which some pages were last written. Arguments and errors are those of `pages`."""
        ids = self._ids(ids)
        found = np.zeros(len(ids), np.uint32)
        for part, rows, where in self._by_part(ids):
            found[where] = part.epochs(rows)
        return found

    def load(self) -> Snapshot:
        """Return everything, in new arrays that may be written to."""
        catalog = self.catalog
        slots = self.slot_of_page
        pages, epoch = np.zeros((self.capacity, self.page_words), np.uint32), np.zeros(self.capacity, np.uint32)

        def copy(index: int) -> None:
            first, count, _ = self.layout.shape(index)
            pages[first : first + count] = self._parts[index].pages()
            epoch[first : first + count] = self._parts[index].epochs()

        for_each(copy, self._parts, len(self._parts) * self.layout.part_bytes)
        if slots is not None:
            pages, epoch = pages[slots], epoch[slots]
        return Snapshot(pages, epoch, self.tick, self.sequence, self.digest, *catalog)

    def part_with(
        self, index: int, pages: UInt32[np.ndarray, "n W"], epoch: UInt32[np.ndarray, " n"]
    ) -> PartEntry | None:
        """Return a part by number if a later state of the same run holds the same in its place, else None.

        Epochs tell, since they never go back; but in the checkpoint's own tick a page may be written again after it.
        """
        entry, latest = self._manifest.parts.get(index), int(epoch.max())
        if entry is None or latest < self.tick:
            return entry
        return entry if latest == self.tick and self._holds(self._parts[index], pages, epoch) else None

    def catalog_with(self, data: bytes) -> CatalogEntry | None:
        """Return the file of the catalogue if this is what it holds, else None."""
        return self._manifest.catalog if self._catalog_bytes == data else None

    def _holds(self, part: Part, pages: UInt32[np.ndarray, "n W"], epoch: UInt32[np.ndarray, " n"]) -> bool:
        try:
            return np.array_equal(part.epochs(), epoch) and np.array_equal(part.pages(), pages)
        except CorruptCheckpointError:
            return False  # so it is written anew

    def _ids(self, ids: Any) -> Int64[np.ndarray, " n"]:
        array = np.asarray(ids)
        if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
            raise InvalidTypeError(
                f"got ids of shape {array.shape} and dtype {array.dtype}; pass a flat list of page ids"
            )
        if array.size and not 0 <= array.min() <= array.max() < self.capacity:
            raise InvalidArgumentError(
                f"got ids from {array.min()} to {array.max()}; pages are 0 to {self.capacity - 1}"
            )
        return array.astype(np.int64)

    def _by_part(self, ids: Int64[np.ndarray, " n"]) -> Iterable[tuple[Part, np.ndarray, np.ndarray]]:
        slots = self.slot_of_page
        index, row = np.divmod(ids if slots is None else slots[ids].astype(np.int64), self.layout.part_pages)
        for number in np.unique(index).tolist():
            if number in self._parts:
                where = np.flatnonzero(index == number)
                yield self._parts[number], row[where], where


def _mapped(storage: Storage, name: str) -> memoryview:
    try:
        return storage.map(f"{FOLDER}/{name}")
    except FileNotFoundError as why:
        raise CorruptCheckpointError(storage.describe(f"{FOLDER}/{name}"), 0, "the file is missing") from why


def checkpoints(place: Place) -> list[CheckpointInfo]:
    """Return all checkpoints of a run, oldest first, as their names tell; nothing is opened.

    >>> from mmsb_jax.page import MemoryStorage
    >>> checkpoints(MemoryStorage())
    []
    """
    with opened(place) as storage:
        return sorted(filter(None, map(info_of, storage.names(FOLDER))))


def read_manifest(storage: Storage, info: CheckpointInfo) -> Manifest:
    """Return a checkpoint's manifest.

    Raises:
        CorruptCheckpointError: it is missing, damaged, or of another checkpoint.
    """
    file = storage.describe(info.name)
    manifest = parse_manifest(file, _mapped(storage, info.name.removeprefix(f"{FOLDER}/")))
    if manifest.info != info:
        raise CorruptCheckpointError(
            file, 0, f"the manifest is that of tick {manifest.tick}, frame {manifest.info.sequence}"
        )
    return manifest


def open_checkpoint(place: Place, info: CheckpointInfo | Any) -> Checkpoint:
    """Open a checkpoint to read from it. Its state is that of the log up to frame `checkpoint.sequence`.

    Args:
        place: path of the run's directory, or a storage.
        info: which one, from `checkpoints` or `write_checkpoint`.

    Raises:
        LogNotFoundError: the place holds no run.
        CorruptCheckpointError: its manifest is damaged, a file is missing or cut, or the log that is there now doesn't
            lead through it: it is another run's, or lies behind the end of the log.

    See `write_checkpoint` for an example.
    """
    require_instance(info, CheckpointInfo, "take one from the list of `checkpoints`")
    with opened(place) as storage:
        run, manifest = read_identity(storage), read_manifest(storage, info)
        fault = fault_in_position(storage, run, manifest.position)
        if (manifest.run_id, *manifest.layout[:2]) != (run.run_id, run.capacity, run.page_words):
            fault = f"it belongs to run {manifest.run_id}, not to {run.run_id}"
        if fault:
            raise CorruptCheckpointError(storage.describe(info.name), 0, fault)
        return Checkpoint(storage, run, manifest)  # needs the storage no longer


class Newest(NamedTuple):
    """The newest checkpoint that can be used, and why newer ones were passed over.

    >>> Newest(None, ()).skipped
    ()
    """

    checkpoint: Checkpoint | None
    skipped: tuple[CorruptCheckpointError, ...]


def newest(place: Place, *, tick: int | None = None, sequence: int | None = None) -> Newest:
    """Return the newest valid checkpoint, or the newest at or before a tick or frame; None if there is none.

    Valid means: manifest whole, of this log, all parts there in full length. Page data are checked when they are read.

    Args:
        place: path of the run's directory, or a storage.
        tick: the latest tick wanted.
        sequence: sequence number of the last frame that may be in it.

    >>> from mmsb_jax.page import MemoryStorage
    >>> newest(MemoryStorage())
    Newest(checkpoint=None, skipped=())
    """
    skipped: list[CorruptCheckpointError] = []
    with opened(place) as storage:
        for info in reversed(checkpoints(storage)):
            if (tick is None or info.tick <= tick) and (sequence is None or info.sequence <= sequence):
                try:
                    return Newest(open_checkpoint(storage, info), tuple(skipped))
                except CorruptCheckpointError as why:
                    skipped.append(why)
    return Newest(None, tuple(skipped))


class Loaded(NamedTuple):
    """A snapshot, None when no checkpoint can be used, and why newer ones were passed over.

    >>> Loaded(None, ()).skipped
    ()
    """

    snapshot: Snapshot | None
    skipped: tuple[CorruptCheckpointError, ...]


def load_newest(place: Place, *, tick: int | None = None, sequence: int | None = None) -> Loaded:
    """Return what the newest checkpoint holds whose data are whole, too. Arguments are those of `newest`.

    >>> from mmsb_jax.page import MemoryStorage
    >>> load_newest(MemoryStorage())
    Loaded(snapshot=None, skipped=())
    """
    skipped: list[CorruptCheckpointError] = []
    while (found := newest(place, tick=tick, sequence=sequence)).checkpoint is not None:
        skipped += found.skipped
        try:
            return Loaded(found.checkpoint.load(), tuple(skipped))
        except CorruptCheckpointError as why:
            skipped.append(why)
            sequence = found.checkpoint.sequence - 1
    return Loaded(None, (*skipped, *found.skipped))
