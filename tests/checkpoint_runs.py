"""A small run with a log and a NumPy model beside it, for the tests of checkpoints."""

import numpy as np

from mmsb_jax.page import EdgeRecords, MemoryStorage, PageChanges, PageRecord, Snapshot, TransactionLog, replay_log
from mmsb_jax.page.checkpoint._snapshot import no_edges

WORDS, CAPACITY = 4, 10


class SmallRun:
    """Commits pages to a log and to plain arrays; `snapshot()` is the model's, never read back from the log."""

    def __init__(self, place=None, *, capacity=CAPACITY, words=WORDS, **options):
        self.log = TransactionLog.create(
            MemoryStorage() if place is None else place, page_words=words, capacity=capacity, fingerprint={}, **options
        )
        self.pages, self.epoch = np.zeros((capacity, words), np.uint32), np.zeros(capacity, np.uint32)
        self.names, self.records, self.edges = [""], [], no_edges()
        self.rng = np.random.default_rng(7)

    @classmethod
    def reopened(cls, storage):
        """A run that goes on where a log ends; records and edges are those of an empty one."""
        run, replayed = cls.__new__(cls), replay_log(storage)
        run.log = TransactionLog.open(storage, fingerprint={})
        run.pages, run.epoch, run.names = replayed.pages, replayed.epoch, list(replayed.names)
        run.records, run.edges = [], no_edges()
        run.rng = np.random.default_rng(8)
        return run

    @property
    def place(self):
        return self.log.place

    def commit(self, tick, ids, words=None, source=""):
        ids = np.array(ids, np.int32)
        if words is None:
            words = self.rng.integers(1, 2**32, (len(ids), self.pages.shape[1]), np.uint32)
        if source and source not in self.names:
            self.names.append(source)
        who = np.full(len(ids), self.log.name_id(source), np.int32)
        self.log.append_changes(tick, PageChanges(ids, who, None, words))
        self.pages[ids], self.epoch[ids] = words, tick

    def create(self, ids, name, **metadata):
        record = PageRecord("create", np.array(ids, np.int32), 4 * WORDS * len(ids), name, "device", metadata)
        self.log.append_pages(self.log.tick, [record])
        self.records.append(record)

    def link(self, parent, child, weight=None):
        weight = None if weight is None else np.array([weight], np.float32)
        self.edges = EdgeRecords.of(1, np.array([parent], np.int32), np.array([child], np.int32), 0, weight)
        self.log.append_edges(self.log.tick, self.edges)

    def snapshot(self, digest=None):
        return Snapshot(
            self.pages.copy(),
            self.epoch.copy(),
            self.log.tick,
            self.log.sequence,
            digest,
            tuple(self.names),
            tuple(self.records),
            self.edges,
        )


def small_run(place=None, **options):
    """A run with some pages, names, records and an edge, at tick 3."""
    run = SmallRun(place, **options)
    run.create([3, 7], "wind", unit="m/s")
    run.create([1], None)
    run.commit(1, [3, 7], source="api")
    run.link(3, 1, 0.5)
    run.commit(3, [1, 9], source="tide gauge")
    return run


def assert_same(found, expected):
    """Equal in every field, bit for bit."""
    np.testing.assert_array_equal(found.pages, expected.pages)
    np.testing.assert_array_equal(found.epoch, expected.epoch)
    assert (found.tick, found.sequence, found.digest) == (expected.tick, expected.sequence, expected.digest)
    assert found.names == expected.names
    assert len(found.records) == len(expected.records)
    for mine, theirs in zip(found.records, expected.records, strict=True):
        assert mine.pages.tolist() == theirs.pages.tolist()
        assert (mine.op, mine.size, mine.name, mine.location, dict(mine.metadata)) == (
            (theirs.op, theirs.size, theirs.name, theirs.location, dict(theirs.metadata))
        )
    for column in ("op", "parent", "child", "kind", "weight", "weighted"):
        np.testing.assert_array_equal(getattr(found.edges, column), getattr(expected.edges, column))


def files_of(storage):
    """Copies of the files of a `MemoryStorage`."""
    return {name: bytes(data) for name, data in storage.files.items()}


def with_files(files, **changed):
    """A storage with copies of these files, some of them others; None takes one away."""
    merged = {**files, **changed}
    return MemoryStorage({name: bytearray(data) for name, data in merged.items() if data is not None})
