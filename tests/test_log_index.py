"""The index of a segment: columns find what a plain loop finds, and come back from the file as they were, or not."""

import tracemalloc

import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from mmsb_jax.page import MemoryStorage, TransactionLog, select
from mmsb_jax.page.log import _index_file
from mmsb_jax.page.log._identity import read_identity
from mmsb_jax.page.log._index import Column
from mmsb_jax.page.log._index_file import index_name, read_blocks
from mmsb_jax.page.log._index_writer import scan_stretch
from mmsb_jax.page.log._segments import segment_start, segments
from tests.log_runs import CAPACITY, all_rows, random_log, rows_of, write

I32, U32 = np.int32, np.uint32


def expected(rows, wanted):
    """The frames of `[[ids of frame 0], [ids of frame 1], …]` that hold any of some ids, by a plain loop."""
    return [frame for frame, ids in enumerate(rows) if set(ids) & set(wanted)]


def column(rows):
    return Column(np.array([len(ids) for ids in rows], U32), np.array([i for ids in rows for i in ids], I32))


rows_of_frames = st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=8)


@given(rows_of_frames, st.lists(st.integers(-1, 12), min_size=1, max_size=5))
def test_a_column_finds_what_a_plain_loop_finds(rows, wanted):
    found = column(rows)
    assert found.frames_of(np.array(wanted, I32)).tolist() == expected(rows, wanted)
    short = found.without_runs()
    assert short.counts.tolist() == [
        len([1 for i, _ in enumerate(ids) if i == 0 or ids[i] != ids[i - 1]]) for ids in rows
    ]
    assert short.frames_of(np.array(wanted, I32)).tolist() == expected(rows, wanted)


# The file: what comes back is what was written, and hostile ones are refused.


def small_index(rng):
    """A log of some segments, and the name of an index with two blocks, the last with a span."""
    storage = random_log(rng, commits=12, segment_bytes=1 << 20, sessions=2)
    with TransactionLog.open(storage, fingerprint={"a": "b"}, segment_bytes=1 << 20) as log:
        write(rng, log, 2, log.tick)
    with TransactionLog.open(storage, fingerprint={"a": "c"}, segment_bytes=1 << 20) as log:
        write(rng, log, 2, log.tick)
    return storage


def contents(stretches):
    parts = []
    for each in stretches:
        span = each.span and [*each.span[:-1], each.span.pages.tolist()]
        columns = [(column.counts.tolist(), column.ids.tolist()) for column in (each.pages, each.sources)]
        parts.append((each.offset, each.headers.tobytes(), columns, span))
    return parts


def test_an_index_says_what_a_scan_of_its_segment_says(rng):
    storage = small_index(rng)
    run = read_identity(storage)
    for name in segments(storage):
        blocks = read_blocks(storage, run, name)
        assert blocks.damage is None
        assert blocks.end == len(storage.files[index_name(name)])
        scanned, _ = scan_stretch(storage, run, segment_start(name), 0, blocks.stretches[-1].after)
        ids = [np.concatenate([each.pages.ids for each in blocks.stretches])]
        assert b"".join(each.headers.tobytes() for each in blocks.stretches) == scanned.headers.tobytes()
        assert ids[0].tolist() == scanned.pages.ids.tolist()
        assert blocks.stretches[-1].end == len(storage.files[name])


def test_no_flipped_bit_and_no_cut_is_believed(rng):
    """A damaged index gives fewer blocks, never other ones, whatever bit it is."""
    storage = small_index(rng)
    run, name = read_identity(storage), segments(storage)[0]
    index, whole = index_name(name), contents(read_blocks(storage, run, name).stretches)
    good = bytes(storage.files[index])
    assert len(whole) == 2
    for at in range(0, len(good), 5):
        for damaged in (good[:at], good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :]):
            storage.files[index] = bytearray(damaged)
            blocks = read_blocks(storage, run, name)
            assert contents(blocks.stretches) in ([], whole[:1])
            assert blocks.damage is not None or at in (0, blocks.end)
    assert rows_of(storage, select(storage)) == list(all_rows(storage))


FIELDS = _index_file._FIELDS
NAMES = ["magic", "version", *_index_file._Head._fields]


def forged(data, body=None, **fields):
    """The first block of an index with some fields replaced; all checksums are right."""
    values = dict(zip(NAMES, FIELDS.unpack_from(data), strict=True))
    end = FIELDS.size + 4 + _index_file._Head._make(list(values.values())[2:]).body_bytes(CAPACITY)
    body = data[FIELDS.size + 4 : end] if body is None else body
    packed = FIELDS.pack(*(values | {"crc": crc32c(body)} | fields).values())
    return packed + crc32c(packed).to_bytes(4, "little") + body


HOSTILE = {
    "another version": {"magic": b"MMSX"},
    "another version, or": {"version": 2},
    "or of another run": {"salt": 1},
    "doesn't follow": {"first": 3},
    "follow the one": {"offset": 8},
    "longer than its file": {"frames": 2**32 - 1},
    "than its file": {"pages": 2**32 - 1, "sources": 2**32 - 1},
    "follow the one before": {"frames": 0},
}


@pytest.mark.parametrize("match", HOSTILE)
def test_a_head_that_makes_no_sense_is_refused(rng, match):
    storage = small_index(rng)
    run, name = read_identity(storage), segments(storage)[0]
    good = bytes(storage.files[index_name(name)])
    storage.files[index_name(name)] = bytearray(forged(good))
    assert read_blocks(storage, run, name).damage is None
    storage.files[index_name(name)] = bytearray(forged(good, **HOSTILE[match]))
    tracemalloc.start()
    blocks = read_blocks(storage, run, name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert match in blocks.damage
    assert blocks.stretches == []
    assert peak < 1 << 20


@pytest.mark.parametrize("part", ["sequence", "body_bytes", "counts"])
def test_a_body_that_makes_no_sense_is_refused(rng, part):
    storage = small_index(rng)
    run, name = read_identity(storage), segments(storage)[0]
    good = bytes(storage.files[index_name(name)])
    body = bytearray(forged(good)[FIELDS.size + 4 :])
    frames = dict(zip(NAMES, FIELDS.unpack_from(good), strict=True))["frames"]
    at = {"sequence": 64 + 8, "body_bytes": 24 + 5, "counts": 64 * frames}[part]
    body[at] += 1
    storage.files[index_name(name)] = bytearray(forged(good, bytes(body)))
    blocks = read_blocks(storage, run, name)
    assert blocks.stretches == []
    assert blocks.damage is not None


def test_an_index_of_another_history_is_refused(rng):
    """The log went on from a copy: the numbers fit, the frames are others."""
    storage = random_log(rng, commits=4, segment_bytes=1 << 20)
    other = MemoryStorage({name: bytearray(data) for name, data in storage.files.items()})
    for place in (storage, other):
        with TransactionLog.open(place, fingerprint={}, segment_bytes=1 << 20) as log:
            write(np.random.default_rng(place is other), log, 3, log.tick)
    index = index_name(segments(storage)[0])
    storage.files[index] = other.files[index]
    blocks = read_blocks(storage, read_identity(storage), segments(storage)[0])
    assert (blocks.stretches, blocks.damage) == ([], "the index is that of another segment")
    assert rows_of(storage, select(storage)) == list(all_rows(storage))


def test_too_large_a_stretch_goes_without_an_index(rng, monkeypatch):
    monkeypatch.setattr(_index_file, "_MOST_BYTES", 200)
    storage = random_log(rng, commits=8)
    assert all(len(data) == 0 for name, data in storage.files.items() if name.endswith(".idx"))
    assert rows_of(storage, select(storage)) == list(all_rows(storage))
