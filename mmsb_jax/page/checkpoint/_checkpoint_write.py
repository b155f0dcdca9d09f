"""Writing checkpoints, and taking them away: the parts first, then the manifest, which makes them a checkpoint.

At every moment the folder holds whole checkpoints, and perhaps files that no manifest names: what a crash left, or what
a removed checkpoint no longer needs. The next writer takes those away.
"""

from contextlib import suppress
from itertools import count
from typing import Any

import numpy as np
from crc32c import crc32c
from jaxtyping import Int32, UInt32

from ..._errors import CheckpointFailedError, CorruptCheckpointError, InvalidArgumentError
from ..._require import require_instance
from ..log._identity import RunIdentity, read_identity
from ..log._storage import Place, Storage, opened
from ._catalog_file import CheckpointCatalog, pack_catalog
from ._checkpoint import Checkpoint, checkpoints, open_checkpoint, read_manifest
from ._manifest import (
    FOLDER,
    CatalogEntry,
    CheckpointInfo,
    Manifest,
    PartEntry,
    file_name,
    is_file_name,
    owner_of,
    pack_manifest,
)
from ._parts import PartLayout, PartSums, as_bytes, block_sums, for_each, part_header
from ._position import position_behind
from ._snapshot import Snapshot, check_snapshot

__all__ = ["remove_checkpoint", "write_checkpoint"]

# A file costs a sync, and a page that was written all of its part: a 64th of the state, within these bounds.
_LEAST_PART, _LARGEST_PART, _PARTS = 1 << 20, 16 << 20, 64


def write_checkpoint(
    place: Place, snapshot: Snapshot, *, base: CheckpointInfo | None = None, part_bytes: int | None = None
) -> CheckpointInfo:
    """Write a checkpoint; when this returns it is on the device, and until then there is none.

    Only the run's writer may do this, one at a time. The log should be synced up to the snapshot's frame first: a
    checkpoint that is ahead of what a power failure leaves of the log is refused when it is opened.

    Args:
        place: path of the run's directory, or a storage.
        snapshot: the state; its arrays must not change before this returns.
        base: an earlier checkpoint of the same run. Parts in which no page has been written since are shared with it.
        part_bytes: how much of the pages to put into one file, at most, but at least one page; with a `base`, its own.
            None: a 64th of them, at least 1 and at most 16 MiB.

    Raises:
        LogNotFoundError: the place holds no run.
        InvalidArgumentError: the snapshot doesn't fit the run, its frame isn't in the log, or the base is later.
        CorruptCheckpointError: the base can't be used.
        CheckpointFailedError: the files can't be written; the log and other checkpoints are as they were.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> from mmsb_jax.page import MemoryStorage, PageChanges, TransactionLog, open_checkpoint, snapshot_of
    >>> storage, state = MemoryStorage(), mmsb.State.create(8, page_bytes=16)
    >>> page, words = np.array([5], np.int32), np.array([[1, 2, 3, 4]], np.uint32)
    >>> rows = PageChanges(page, np.zeros(1, np.int32), None, words)
    >>> with TransactionLog.create(storage, page_words=4, capacity=8, fingerprint={}) as log:
    ...     sequence = log.append_changes(0, rows)
    >>> state = mmsb.apply(state, mmsb.DeltaBatch.make(state, rows.page, rows.words))
    >>> info = write_checkpoint(storage, snapshot_of(state, sequence))
    >>> info, open_checkpoint(storage, info).pages([5]).tolist()
    (CheckpointInfo(tick=0, sequence=1), [[1, 2, 3, 4]])
    """
    with opened(place) as storage:
        run = read_identity(storage)
        check_snapshot(snapshot, run)
        info = CheckpointInfo(snapshot.tick, snapshot.sequence)
        if (position := position_behind(storage, run, snapshot.sequence)) is None:
            raise InvalidArgumentError(f"the log has no frame {snapshot.sequence}; pass the number of a commit")
        before = None if base is None else _open_base(storage, base, info)
        again = info if info in checkpoints(storage) else None
        try:
            _sweep(storage, again)
            writer = _Writer(storage, run, snapshot, info, before, part_bytes)
            catalog, parts = writer.catalog(), writer.parts()
            laid_out = snapshot.slot_of_page is not None
            what = (writer.layout, info.tick, snapshot.digest, position, catalog, parts, laid_out)
            manifest = Manifest(run.run_id, *what)
            storage.publish(info.name, pack_manifest(manifest))
            if again:
                _sweep(storage, again)
        except OSError as why:
            with suppress(OSError):  # what can't be removed now, the next writer removes
                _sweep(storage, again)
            raise CheckpointFailedError(
                why.errno,
                f"the checkpoint of tick {info.tick} could not be written ({why.strerror or why}). The log and the "
                "checkpoints before it are as they were: mend the cause and write it again",
            ) from why
        return info


def remove_checkpoint(place: Place, info: CheckpointInfo | Any) -> None:
    """Take a checkpoint away, damaged or not, and those of its files that no other one shares.

    Only the run's writer may do this, and not while it writes one (see `BackgroundCheckpointer.wait`).

    Raises:
        FileNotFoundError: there is no such checkpoint.

    See `write_checkpoint` for an example of one.
    """
    require_instance(info, CheckpointInfo, "take one from the list of `checkpoints`")
    with opened(place) as storage:
        storage.remove(info.name)
        _sweep(storage)


def _open_base(storage: Storage, base: CheckpointInfo, info: CheckpointInfo) -> Checkpoint:
    if base.tick > info.tick or base.sequence > info.sequence:
        raise InvalidArgumentError(f"got the base {base} for the checkpoint {info}; a base is an earlier one")
    return open_checkpoint(storage, base)


class _Writer:
    """Puts the files of one checkpoint into the folder, save those that its base has already."""

    def __init__(
        self,
        storage: Storage,
        run: RunIdentity,
        snapshot: Snapshot,
        info: CheckpointInfo,
        base: Checkpoint | None,
        part_bytes: int | None,
    ) -> None:
        self.storage, self.run, self.snapshot, self.info, self.base = storage, run, snapshot, info, base
        if part_bytes is None:
            part_bytes = min(max(4 * run.page_words * run.capacity // _PARTS, _LEAST_PART), _LARGEST_PART)
        part_pages = max(1, part_bytes // (4 * run.page_words))
        self.layout = base.layout if base else PartLayout(run.capacity, run.page_words, part_pages)
        self.page_of_slot = _page_of_slot(snapshot.slot_of_page)
        try:
            self.base_page_of_slot = _page_of_slot(base.slot_of_page) if base else None
        except CorruptCheckpointError:  # where its pages lie isn't known, so nothing is shared: all is written anew
            self.base = None
        # A checkpoint of this name may be there, perhaps a damaged one: it stays as it is until this one is whole.
        owners = [owner_of(name.removeprefix(f"{FOLDER}/")) for name in storage.names(FOLDER)]
        self.numbers = count(1 + max((owner[1] for owner in owners if owner and owner[0] == info.stem), default=-1))

    def catalog(self) -> CatalogEntry:
        """Return the entry of names, records and edges."""
        snapshot = self.snapshot
        catalog = CheckpointCatalog(snapshot.names, snapshot.records, snapshot.edges, snapshot.slot_of_page)
        data = pack_catalog(catalog, self.run)
        if self.base and (shared := self.base.catalog_with(data)):
            return shared
        file = file_name(self.info, next(self.numbers), "frames")
        self.storage.publish(f"{FOLDER}/{file}", data)
        return CatalogEntry(file, len(data), crc32c(data))

    def parts(self) -> dict[int, PartEntry]:
        """Return the entries of all parts in which anything was ever written."""
        parts: dict[int, PartEntry] = {}
        new: dict[int, str] = {}
        for index in range(self.layout.parts):
            pages, epoch = self._rows(index)
            if self.base and self._unmoved(index) and (shared := self.base.part_with(index, pages, epoch)):
                parts[index] = shared
            elif epoch.any() or pages.any():
                new[index] = file_name(self.info, next(self.numbers), "safetensors")
        entries = for_each(self._publish, new.items(), len(new) * self.layout.part_bytes)
        return parts | dict(zip(new, entries, strict=True))

    def _publish(self, part: tuple[int, str]) -> PartEntry:
        index, file = part
        pages, epoch = map(as_bytes, self._rows(index))
        sums = PartSums(block_sums(pages), block_sums(epoch))
        self.storage.publish(f"{FOLDER}/{file}", part_header(self.layout.shape(index)), pages, epoch)
        return PartEntry(file, sums)

    def _rows(self, index: int) -> tuple[UInt32[np.ndarray, "n W"], UInt32[np.ndarray, " n"]]:
        there = self._pages_in(index, self.page_of_slot)
        return self.snapshot.pages[there], self.snapshot.epoch[there]

    def _unmoved(self, index: int) -> bool:
        """Whether the same pages lie in a part as in that of the base."""
        now, then = (self._pages_in(index, each) for each in (self.page_of_slot, self.base_page_of_slot))
        if isinstance(now, slice) and isinstance(then, slice):
            return True
        every = np.arange(self.run.capacity, dtype=np.int32)
        return np.array_equal(every[now], every[then])

    def _pages_in(self, index: int, page_of_slot: Int32[np.ndarray, " slots"] | None) -> Any:
        """The pages that lie in a part, as an index."""
        first, pages, _ = self.layout.shape(index)
        here = slice(first, first + pages)
        return here if page_of_slot is None else page_of_slot[here]


def _page_of_slot(slot_of_page: Int32[np.ndarray, " pages"] | None) -> Int32[np.ndarray, " slots"] | None:
    if slot_of_page is None:
        return None
    found = np.empty_like(slot_of_page)
    found[slot_of_page] = np.arange(len(found), dtype=np.int32)
    return found


def _sweep(storage: Storage, again: CheckpointInfo | None = None) -> None:
    """Remove files that no manifest names: those of checkpoints that aren't there, and of one that is written again.

    Other files need no look into any manifest. Where one can't be read, all parts stay: it may name any of them.
    """
    names = [name.removeprefix(f"{FOLDER}/") for name in storage.names(FOLDER)]
    half = {name for name in names if is_file_name(name.removesuffix(".new")) and name.endswith(".new")}
    there = checkpoints(storage)
    stems = {info.stem for info in there if info != again}
    loose = {name for name in names if (owner := owner_of(name)) and owner[0] not in stems}
    if loose:
        try:
            loose = loose.difference(*(read_manifest(storage, info).files for info in there))
        except CorruptCheckpointError:
            loose = set()
    for name in sorted(half | loose):
        storage.remove(f"{FOLDER}/{name}")
