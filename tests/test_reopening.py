"""Starting on a path that holds something: what a killed creation left, a lost run, catalogue frames that can't be."""

import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax import CorruptLogError, InvalidArgumentError, LogLockedError, LogNotFoundError
from mmsb_jax.graph import ShadowPageGraph
from mmsb_jax.page import EdgeRecords, PageRecord, TransactionLog, read_frames

WORDS, CAPACITY = 4, 8
PAGE_BYTES = 4 * WORDS


def ids(*pages):
    return np.array(pages, np.int32)


def create(*pages, name=None, size=None):
    return PageRecord("create", ids(*pages), PAGE_BYTES * len(pages) if size is None else size, name)


def delete(*pages):
    return PageRecord("delete", ids(*pages), PAGE_BYTES * len(pages))


def edges(*rows):
    """Rows of op, parent, child, and if need be kind and weight."""
    op, parent, child, kind, weight = zip(*((*row, *(0, None)[len(row) - 3 :]) for row in rows), strict=True)
    weighted = np.array([each is not None for each in weight])
    weights = np.array([each or 0 for each in weight], np.float32)
    return EdgeRecords(np.array(op, np.uint8), ids(*parent), ids(*child), np.array(kind, np.int8), weights, weighted)


def write(path, *events):
    """A log with these catalogue frames, numbered from 1 on."""
    with TransactionLog.create(path, page_words=WORDS, capacity=CAPACITY, fingerprint={}) as log:
        for event in events:
            if isinstance(event, EdgeRecords):
                log.append_edges(1, event)
            else:
                log.append_pages(1, event)
    return path


def begin(path, stage):
    """What a creation leaves that is killed at some point, from the first folder to the last rename."""
    log = path / "log"
    log.mkdir(parents=True)
    if stage == "folder":
        return
    (log / "lock").touch()
    if stage == "lock":
        return
    mmsb.start(path, page_bytes=64, capacity=2).stop()
    (path / "run.json").rename(path / "run.json.new")
    if stage == "segment":
        (path / "run.json.new").unlink()
        (log / "mark").unlink()
        (log / "00000000000000000000.seg").write_bytes(b"")


@pytest.mark.parametrize("stage", ["folder", "lock", "segment", "all but the rename"])
def test_a_creation_that_was_killed_is_finished(tmp_path, stage):
    path = tmp_path / "run"
    begin(path, stage)
    with mmsb.start(path, page_bytes=PAGE_BYTES, capacity=CAPACITY) as bus:
        bus.create_page(3, name="wind")
    with mmsb.start(path) as bus:
        assert bus.stats().capacity == CAPACITY
        assert bus.page("wind").size == 3


def test_a_creation_that_is_under_way_is_not_taken_over(tmp_path):
    with mmsb.start(tmp_path):
        (tmp_path / "run.json").rename(tmp_path / "run.json.new")
        with pytest.raises(LogLockedError):
            mmsb.start(tmp_path)


FOREIGN = ["notes.txt", "log/app.log", "log/1.seg", "log", "log/lock/file"]


@pytest.mark.parametrize("file", FOREIGN)
def test_a_foreign_directory_is_left_alone(tmp_path, file):
    target = tmp_path / file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("hello")
    with pytest.raises(LogNotFoundError, match="this is no run"):
        mmsb.start(tmp_path)
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [target]


def test_a_run_that_lost_its_identity_is_refused(tmp_path):
    with mmsb.start(tmp_path) as bus:
        bus.create_page(3)
    (tmp_path / "run.json").unlink()
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(InvalidArgumentError, match=r"run\.json, which has been lost\. Restore the file"):
        mmsb.start(tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_rows_of_edges_are_entered_one_after_the_other(tmp_path):
    path = write(
        tmp_path / "run",
        [create(0), create(1), create(2)],
        edges((1, 0, 1, 0, 0.5), (1, 0, 2), (1, 0, 1, 1), (2, 0, 1), (1, 0, 1, 0, 2.0)),
        edges((2, 0, 2), (1, 1, 2, 3), (2, 1, 2, 3)),
    )
    with mmsb.start(path) as bus:
        graph, told = bus.graph, bus._catalog.edges
        assert (graph.parent.tolist(), graph.child.tolist()) == ([0, 0], [1, 1])
        assert told.kind.tolist() == [1, 0], "in the order in which they were added last"
        assert (told.weight.tolist(), told.weighted.tolist()) == ([0, 2], [False, True])
        assert told.op.tolist() == [1, 1]


def test_a_reopened_run_has_the_edges_it_had(tmp_path):
    with mmsb.start(tmp_path, page_bytes=PAGE_BYTES, capacity=CAPACITY) as bus:
        a, b, c = (bus.create_page(PAGE_BYTES, name=name) for name in "abc")
        bus.add_dependency(a, b, weight=0.5)
        bus.add_dependency(a, b, "control")
        bus.add_dependency(b, c, "compiler")
        bus.remove_dependency(b, c)
        bus.delete_page(c)
        before = bus._catalog.edges
    with mmsb.start(tmp_path) as bus:
        after = bus._catalog.edges
        for column in ("op", "parent", "child", "kind", "weight", "weighted"):
            assert np.array_equal(getattr(before, column), getattr(after, column))


CAN_NOT_BE = {
    "is deleted, but there is none": [delete(5)],
    r"ids \[\] is deleted": [PageRecord("delete", ids())],
    r"ids \[0, 1\] is deleted": [delete(0, 1)],
    "0 bytes is created on 0 pages": [create()],
    "99 bytes is created on 1 pages of 16 bytes": [create(5, size=99)],
    "0 bytes is created on 1 pages": [create(5, size=0)],
    r"\[0\] are in use": [create(0)],
    "some occur twice": [create(5, 5)],
    "named 'wind' is created, but": [create(5, name="wind")],
    "still has dependencies": [delete(1)],
    "page 5, which doesn't exist": edges((1, 0, 5)),
    "page 6, which doesn't exist": edges((2, 6, 0)),
    "unknown edge kind 9": edges((1, 0, 3, 9)),
    "not a number": edges((1, 0, 3, 0, float("nan"))),
    "cycle of 3 pages": edges((1, 2, 0)),
    "depends on itself": edges((1, 3, 3)),
    "added that is there already": edges((1, 0, 1)),
    "is added that is": edges((1, 0, 3), (1, 0, 3)),
    "removed that isn't there": edges((2, 0, 1), (2, 0, 1)),
    "is removed that isn't": edges((2, 0, 1, 1)),
}


@pytest.mark.parametrize("reason", CAN_NOT_BE)
def test_catalogue_frames_that_can_not_be_are_named(tmp_path, reason):
    path = write(
        tmp_path / "run",
        [create(0, name="wind"), create(1), create(2), create(3)],
        edges((1, 0, 1), (1, 1, 2)),
        CAN_NOT_BE[reason],
        [create(4)],
        edges((1, 0, 4)),
    )
    wrong = list(read_frames(path))[3]
    for _ in range(2):  # and the lock is free again
        with pytest.raises(CorruptLogError, match=reason) as caught:
            mmsb.start(path)
        assert (caught.value.file, caught.value.offset) == (wrong.file, wrong.offset)


def test_reopening_looks_at_the_edges_once(tmp_path, monkeypatch):
    """With a graph for every frame, reopening would take time in proportion to frames times edges."""
    pairs = [(parent, child) for child in range(CAPACITY) for parent in range(child)]
    pages = [create(page) for page in range(CAPACITY)]
    path = write(tmp_path / "run", pages, *(edges((1, *pair)) for pair in pairs), edges((2, *pairs[0])))
    built, real = [], ShadowPageGraph.from_edges
    monkeypatch.setattr(ShadowPageGraph, "from_edges", lambda *a, **k: built.append(a) or real(*a, **k))
    with mmsb.start(path) as bus:
        assert bus.graph.num_edges == len(pairs) - 1
    assert len(built) == 1
