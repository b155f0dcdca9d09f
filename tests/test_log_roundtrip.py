"""What is appended comes back: frames, names, catalog records, and the replayed state."""

import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from mmsb_jax.page import (
    EdgeRecords,
    FrameKind,
    MemoryStorage,
    PageChanges,
    PageRecord,
    TransactionLog,
    read_frames,
    replay_log,
)
from mmsb_jax.page.log._fingerprint import environment_fingerprint
from mmsb_jax.page.log._identity import MARK, Mark, read_mark, write_mark

pytestmark = pytest.mark.unchecked

FINGERPRINT = {"jax": "1.2.3"}
CAPACITY = 6
MODES = ("commit", "group", "none")


def create(place, page_words=4, capacity=CAPACITY, **options):
    return TransactionLog.create(place, page_words=page_words, capacity=capacity, fingerprint=FINGERPRINT, **options)


def reopen(place, fingerprint=FINGERPRINT, **options):
    return TransactionLog.open(place, fingerprint=fingerprint, **options)


def random_rows(rng, rows, page_words, capacity=CAPACITY, masked=True):
    """`(page, words, bool mask, PageChanges)`; pages repeat, and a mask may be empty or full."""
    page = rng.integers(0, capacity, rows).astype(np.int32)
    words = rng.integers(0, 2**32, (rows, page_words), dtype=np.uint32)
    bits = rng.random((rows, page_words)) < rng.choice([0.0, 0.3, 1.0], (rows, 1))
    if not masked:
        bits[:] = True
    padded = np.zeros((rows, -(-page_words // 32) * 32), bool)
    padded[:, :page_words] = bits
    packed = np.packbits(padded, axis=1, bitorder="little").view("<u4").astype(np.uint32)
    source = np.zeros(rows, np.int32)
    return page, words, bits, PageChanges.from_rows(page, words, packed if masked else None, source)


def same_arrays(a, b):
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


def test_crc32c_matches_rfc_3720():
    """Appendix B.4 of RFC 3720 gives these sums, as bytes on the wire (little-endian)."""
    vectors = [
        (bytes(32), "aa36918a"),
        (b"\xff" * 32, "43aba862"),
        (bytes(range(32)), "4e79dd46"),
        (bytes(range(31, -1, -1)), "5cdb3f11"),
    ]
    for data, expected in vectors:
        assert crc32c(data).to_bytes(4, "little").hex() == expected


@pytest.mark.parametrize("page_words", [1, 16, 31, 32, 33, 256])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_rows_survive_packing(rng, page_words, masked, rows):
    page, words, bits, changes = random_rows(rng, rows, page_words, masked=masked)
    back_page, back_words, back_mask, back_source = changes.to_rows(page_words)
    assert np.array_equal(back_page, page)
    assert np.array_equal(back_words, np.where(bits, words, 0))
    assert np.array_equal(back_source, changes.source)
    assert (back_mask is None) is not masked
    if masked:
        assert changes.words.size == bits.sum(), "only masked words are stored"


@pytest.mark.parametrize("sync", MODES)
@pytest.mark.parametrize("place", ["memory", "directory"])
def test_every_field_of_a_frame_comes_back(rng, run_dir, place, sync):
    place = MemoryStorage() if place == "memory" else run_dir
    changes = random_rows(rng, 5, 4)[3]
    with create(place, sync=sync) as log:
        log.append_changes(3, changes, digest=(1, 2**32 - 1), intent="test", time_ns=2**63)
        log.append_changes(3, changes)
        assert (log.sequence, log.tick, log.names) == (3, 3, ("", "test"))
        assert (log.page_words, log.capacity, len(log.run_id)) == (4, CAPACITY, 32)
        assert log.counts["frames"] == 4
        assert log.counts["rows"] > 10
        if sync == "commit":
            assert log.durable_sequence == 3
    header, names, first, second = read_frames(place)
    assert header.environment()["env.jax"] == "1.2.3"
    assert header.environment()["run_id"] == log.run_id
    assert names.new_names() == [(1, "test")]
    assert (first.kind, first.sequence, first.tick, first.rows) == (FrameKind.CHANGES, 2, 3, 5)
    assert (first.digest, first.intent, first.time_ns) == ((1, 2**32 - 1), 1, 2**63)
    assert (second.digest, second.intent) == (None, 0)
    assert second.time_ns > 1_500_000_000 * 10**9
    back = second.changes()
    assert same_arrays(
        (back.page, back.source, back.mask, back.words), (changes.page, changes.source, changes.mask, changes.words)
    )


def test_catalog_records_come_back():
    storage = MemoryStorage()
    ids = np.array([2, 3], np.int32)
    edges = EdgeRecords.of(1, ids, ids[::-1].copy(), 3, np.array([0.5, -0.0], np.float32))
    bare = EdgeRecords.of(2, ids, ids)
    with create(storage) as log:
        log.append_pages(
            1, [PageRecord("create", ids, 24, "é", "host", {"a": [1, None]}), PageRecord("delete", ids[:1])]
        )
        log.append_pages(1, [])
        log.append_edges(2, edges)
        log.append_edges(2, bare, digest=(5, 6))
    run = replay_log(storage)
    (made, gone), nothing, added, removed = (event.records for event in run.events)
    assert (made.op, made.size, made.name, made.location, made.metadata) == (
        "create",
        24,
        "é",
        "host",
        {"a": [1, None]},
    )
    assert (gone.op, gone.size, gone.name, gone.location, gone.metadata) == ("delete", 0, None, "device", {})
    assert np.array_equal(made.pages, [2, 3])
    assert np.array_equal(gone.pages, [2])
    assert nothing == ()
    for back, put in ((added, edges), (removed, bare)):
        assert same_arrays(
            (back.op, back.parent, back.child, back.kind, back.weight, back.weighted),
            (put.op, put.parent, put.child, put.kind, put.weight, put.weighted),
        )
    assert np.signbit(added.weight[1])
    assert [(event.sequence, event.tick) for event in run.events] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    assert run.digest == (5, 6)


class Model:
    """The state as a plain loop over rows computes it."""

    def __init__(self, page_words):
        self.pages = np.zeros((CAPACITY, page_words), np.uint32)
        self.epoch = np.zeros(CAPACITY, np.uint32)

    def change(self, tick, page, words, bits):
        for row in range(len(page)):
            self.pages[page[row]][bits[row]] = words[row][bits[row]]
            self.epoch[page[row]] = tick

    def delete(self, tick, pages):
        self.pages[pages] = 0
        self.epoch[pages] = tick


@given(data=st.data())
def test_replay_is_the_model(data):
    page_words = data.draw(st.sampled_from([1, 16, 31, 33, 256]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    actions = data.draw(st.lists(st.sampled_from(["masked", "dense", "delete", "reopen", "intent"]), max_size=12))
    storage, model, states, tick = MemoryStorage(), Model(page_words), [], 0
    log = create(storage, page_words, segment_bytes=data.draw(st.sampled_from([1, 1500, 1 << 20])))
    for action in actions:
        tick += int(rng.integers(0, 2))
        if action == "delete":
            gone = np.unique(rng.integers(0, CAPACITY, 2)).astype(np.int32)
            log.append_pages(tick, [PageRecord("delete", gone)])
            model.delete(tick, gone)
        elif action == "reopen":
            log.close()
            log = reopen(storage)
        else:
            page, words, bits, changes = random_rows(rng, int(rng.integers(0, 9)), page_words, masked=action != "dense")
            log.append_changes(tick, changes, intent=f"because {tick}" if action == "intent" else None)
            model.change(tick, page, words, bits)
        states.append((log.sequence, log.tick, model.pages.copy(), model.epoch.copy()))
    log.close()
    for sequence, at, pages, epoch in states:
        run = replay_log(storage, until_sequence=sequence)
        assert (run.sequence, run.tick) == (sequence, at)
        assert same_arrays((run.pages, run.epoch), (pages, epoch))
    last_of_tick = {at: (pages, epoch) for _, at, pages, epoch in states}
    for at, state in last_of_tick.items():
        run = replay_log(storage, until_tick=at)
        assert same_arrays((run.pages, run.epoch), state)


@pytest.mark.parametrize("chunk_bits", [1, 64, 700])
def test_replay_in_chunks_is_replay_at_once(rng, monkeypatch, chunk_bits):
    storage = MemoryStorage()
    with create(storage, 33) as log:
        for tick in range(20):
            log.append_changes(tick, random_rows(rng, 5, 33)[3])
    whole = replay_log(storage)
    monkeypatch.setattr("mmsb_jax.page.history._target._CHUNK_BITS", chunk_bits)
    chunked = replay_log(storage)
    assert same_arrays((whole.pages, whole.epoch), (chunked.pages, chunked.epoch))


def test_segments_roll_and_each_can_be_read_by_itself(rng, run_dir):
    with create(run_dir, segment_bytes=2000) as log:
        source = np.full(3, log.name_id("sensor"), np.int32)
        for tick in range(40):
            changes = random_rows(rng, 3, 4)[3]
            log.append_changes(
                tick, PageChanges(changes.page, source, changes.mask, changes.words), intent=f"tick {tick % 5}"
            )
    found = sorted((run_dir / "log").glob("*.seg"))
    assert len(found) > 3
    everything = [(frame.sequence, frame.tick, bytes(frame.body)) for frame in read_frames(run_dir)]
    assert [sequence for sequence, _, _ in everything] == list(range(len(everything)))
    assert {int(file.stem) for file in found} == {
        f.sequence for f in read_frames(run_dir) if f.kind == FrameKind.HEADER
    }
    for start in range(0, len(everything), 7):
        part = list(read_frames(run_dir, start=start, stop=start + 5))
        assert [(frame.sequence, frame.tick, bytes(frame.body)) for frame in part] == everything[start : start + 5]
        for frame in part:
            if frame.kind == FrameKind.CHANGES:
                assert (frame.changes().source == 1).all()
    assert list(read_frames(run_dir, start=5, stop=5)) == []


def test_reopening_continues(rng, run_dir):
    with create(run_dir) as log:
        log.append_changes(7, random_rows(rng, 3, 4)[3], intent="one")
    with reopen(run_dir) as log:
        assert (log.sequence, log.tick, log.names, log.durable_sequence) == (2, 7, ("", "one"), 2)
        assert log.append_changes(7, random_rows(rng, 3, 4)[3], intent="one") == 3
        assert log.append_changes(8, random_rows(rng, 3, 4)[3], intent="two") == 5
    assert len(list((run_dir / "log").glob("*.seg"))) == 1
    assert replay_log(run_dir).names == ("", "one", "two")


def test_another_environment_begins_another_segment(run_dir):
    create(run_dir).close()
    reopen(run_dir, {"jax": "9"}).close()
    reopen(run_dir, {"jax": "9"}).close()
    assert [frame.environment()["env.jax"] for frame in read_frames(run_dir)] == ["1.2.3", "9"]
    assert replay_log(run_dir).environment["env.jax"] == "9"
    assert replay_log(run_dir, until_sequence=0).environment["env.jax"] == "1.2.3"


def test_the_fingerprint_of_this_process_is_the_default(run_dir):
    TransactionLog.create(run_dir, page_words=4, capacity=4).close()
    recorded = next(iter(read_frames(run_dir))).environment()
    assert {key[4:]: value for key, value in recorded.items() if key.startswith("env.")} == environment_fingerprint()


def test_a_reader_beside_the_writer_sees_every_finished_commit(rng, run_dir):
    with create(run_dir, segment_bytes=3000) as log:
        for tick in range(30):
            log.append_changes(tick, random_rows(rng, 3, 4)[3])
            assert [frame.sequence for frame in read_frames(run_dir)][-1] == log.sequence
        frames = read_frames(run_dir)
        next(frames)
        for tick in range(30, 60):
            log.append_changes(tick, random_rows(rng, 3, 4)[3])
        assert [frame.sequence for frame in frames][-1] == log.sequence, "an iteration goes on into new segments"


def test_reading_writes_nothing(rng, run_dir):
    log = create(run_dir)
    log.append_changes(1, random_rows(rng, 3, 4)[3])
    log.close()
    segment = next((run_dir / "log").glob("*.seg"))
    segment.write_bytes(segment.read_bytes() + b"torn")
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in run_dir.rglob("*") if file.is_file()}
    assert len(list(read_frames(run_dir))) == 2
    assert replay_log(run_dir).tick == 1
    assert before == {
        file: (file.read_bytes(), file.stat().st_mtime_ns) for file in run_dir.rglob("*") if file.is_file()
    }


@pytest.mark.parametrize("newer", [0, 1])
def test_the_newer_mark_counts(newer):
    storage = MemoryStorage()
    storage.create(MARK)
    marks = [Mark(5, 0, 100), Mark(9, 0, 200)]
    write_mark(storage, marks[0], 77, 1 - newer)
    assert read_mark(storage, 77) == (marks[0], 1 - newer)
    write_mark(storage, marks[1], 77, newer)
    assert read_mark(storage, 77) == (marks[1], newer)


@pytest.mark.parametrize("sync", MODES)
def test_a_segment_is_synced_before_the_next_begins(rng, sync):
    """Otherwise a power failure could tear a segment that isn't the last, which no reader forgives."""
    with create(MemoryStorage(), sync=sync, segment_bytes=1, group_ms=1e9) as log:
        first = log.append_changes(1, random_rows(rng, 3, 4)[3])
        log.append_changes(2, random_rows(rng, 3, 4)[3])
        assert log.durable_sequence >= first


def test_group_sync_happens_by_bytes_and_by_time(rng):
    for options, due in (({"group_bytes": 1}, True), ({"group_ms": 0.0}, True), ({"group_ms": 1e9}, False)):
        with create(MemoryStorage(), sync="group", **options) as log:
            log.append_changes(1, random_rows(rng, 3, 4)[3])
            assert (log.durable_sequence == log.sequence) is due
            log.sync()
            assert log.durable_sequence == log.sequence
