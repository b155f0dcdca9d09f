"""Coded frames: what comes back is what went in, bit for bit; smaller, or not coded; hostile ones are refused."""

import dataclasses
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from mmsb_jax import CorruptLogError, InvalidArgumentError
from mmsb_jax.page import MemoryStorage, PageChanges, TransactionLog, read_frames, replay_log, schema_of
from mmsb_jax.page.log import _codec as codecs
from mmsb_jax.page.log import _codec_filters as filters_
from mmsb_jax.page.log._codec_filters import FILTERS, by_place, filtered, unfiltered

U32, I32 = np.uint32, np.int32
PAGES = 9
CODECS = ("lz4", "zstd", "auto")


def smooth(rng, rows, page_words, masked=False, ticks=False):
    """Rows that compress well: each page follows a curve, with NaNs of all kinds and negative zeros in it."""
    page = rng.integers(0, PAGES, rows).astype(I32)
    time = np.arange(rows)[:, None] / 5000 + page[:, None] + np.arange(page_words) / 9
    words = np.sin(time).astype(np.float32).view(U32)
    odd = rng.random(words.shape) < 0.01
    words[odd] = rng.choice(np.array([0x7FC00001, 0xFFC12345, 0x7F800001, 0x80000000, 0], U32), odd.sum())
    mask = None
    if masked:
        bits = rng.random((rows, -(-page_words // 32) * 32)) < 0.7
        bits[:, page_words:] = False
        mask = np.packbits(bits, axis=1, bitorder="little").view(U32)
    tick = np.sort(rng.integers(1, 5, rows)).astype(U32) if ticks else None
    return PageChanges.from_rows(page, words, mask, np.zeros(rows, I32), tick)


def same(a, b):
    names = [field.name for field in dataclasses.fields(PageChanges)]
    for ours, theirs in ((getattr(a, name), getattr(b, name)) for name in names):
        np.testing.assert_array_equal(ours, theirs)
        if ours is not None:
            assert ours.dtype == theirs.dtype


def log_of(*commits, page_words, codec, **options):
    storage = MemoryStorage()
    options = {"page_words": page_words, "capacity": PAGES, "fingerprint": {}, "codec": codec} | options
    with TransactionLog.create(storage, **options) as log:
        for number, changes in enumerate(commits, 1):
            log.append_changes(5 * number, changes, digest=(number, 1))
    return storage


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("page_words", [1, 31, 32, 64])
@pytest.mark.parametrize(("masked", "ticks"), [(False, False), (True, False), (False, True), (True, True)])
def test_coded_rows_come_back(rng, codec, page_words, masked, ticks):
    changes = smooth(rng, 300, page_words, masked, ticks)
    storage = log_of(changes, page_words=page_words, codec=codec)
    *_, frame = read_frames(storage)
    assert (frame.is_coded, frame.rows, frame.is_masked, frame.has_ticks) == (True, 300, masked, ticks)
    same(frame.changes(), changes)
    plain = log_of(changes, page_words=page_words, codec="none")
    *_, raw = read_frames(plain)
    assert len(frame.body) < 0.9 * len(raw.body)
    assert not raw.is_coded
    np.testing.assert_array_equal(replay_log(storage).pages, replay_log(plain).pages)


def test_rows_that_do_not_compress_and_empty_ones_stay_as_they_are(rng):
    noise = PageChanges(np.arange(9, dtype=I32), np.zeros(9, I32), None, rng.integers(0, 2**32, (9, 64), dtype=U32))
    empty = PageChanges(np.empty(0, I32), np.empty(0, I32), None, np.empty((0, 64), U32))
    *_, one, other = read_frames(log_of(noise, empty, page_words=64, codec="auto"))
    assert not one.is_coded
    assert not other.is_coded


def test_readers_take_any_mix(rng):
    storage = MemoryStorage()
    commits = [smooth(rng, 80, 16, masked=number % 2 == 0) for number in range(8)]
    for number, changes in enumerate(commits, 1):
        opening = TransactionLog.create if number == 1 else TransactionLog.open
        size = {"page_words": 16, "capacity": PAGES} if number == 1 else {}
        with opening(storage, fingerprint={}, codec=("none", *CODECS)[number % 4], **size) as log:
            log.append_changes(number, changes)
    frames = [frame for frame in read_frames(storage) if frame.kind.name == "CHANGES"]
    assert {frame.is_coded for frame in frames} == {True, False}
    for frame, changes in zip(frames, commits, strict=True):
        same(frame.changes(), changes)


words_of = st.integers(0, 40).flatmap(
    lambda n: st.tuples(st.lists(st.integers(0, 3), min_size=n, max_size=n), st.integers(0, 2**32 - 1))
)


@given(words_of, st.booleans(), st.sampled_from(FILTERS), st.integers(1, 40))
def test_filters_lose_nothing(rows, masked, filters, page_words):
    pages, seed = rows
    rng = np.random.default_rng(seed)
    page = np.array(pages, I32)
    mask = None
    if masked:
        bits = np.zeros((len(page), -(-page_words // 32) * 32), bool)
        bits[:, :page_words] = rng.random((len(page), page_words)) < 0.5
        mask = np.packbits(bits, axis=1, bitorder="little").view(U32)
    words = rng.integers(0, 2**32, (len(page), page_words), dtype=U32)
    changes = PageChanges.from_rows(page, words, mask, page * 0)
    order = by_place(changes, page_words)
    octets = filtered(changes.words, filters, order)
    back = unfiltered(octets, filters, order, changes.words.shape)
    np.testing.assert_array_equal(back, changes.words)
    expected = np.argsort(places(changes, page_words), kind="stable")
    np.testing.assert_array_equal(order, expected)


def places(changes, page_words):
    """Where each row, or each masked word, is written: by a plain loop."""
    if changes.mask is None:
        return changes.page
    found = []
    for page, mask in zip(changes.page.tolist(), changes.mask, strict=True):
        found += [page * page_words + i for i in range(page_words) if mask[i // 32] >> (i % 32) & 1]
    return np.array(found, np.int64)


def test_sums_go_on_from_block_to_block(rng, monkeypatch):
    monkeypatch.setattr(filters_, "_BLOCK_BYTES", 64)
    changes = smooth(rng, 100, 8)
    order = by_place(changes, 8)
    for filters in FILTERS:
        back = unfiltered(filtered(changes.words, filters, order), filters, order, changes.words.shape)
        np.testing.assert_array_equal(back, changes.words)


def test_smooth_fields_are_stored_as_differences(rng):
    changes = smooth(rng, 400, 64)
    *_, frame = read_frames(log_of(changes, page_words=64, codec="zstd"))
    batch = pa.ipc.read_record_batch(pa.py_buffer(frame.body), schema_of(3, 64, coded=True)).to_pydict()
    assert batch["column"] == ["page", "source", "words"]
    assert batch["filters"][-1] & filters_.DIFFERENCES
    assert batch["raw_bytes"] == [4 * 400, 4 * 400, 4 * 400 * 64]
    assert batch["raw_crc"][0] == crc32c(changes.page)


def test_more_words_than_may_be_put_in_order_are_coded_without(rng, monkeypatch):
    changes = smooth(rng, 300, 32, masked=True)
    monkeypatch.setattr(filters_, "_MOST_WORDS", 100)
    storage = log_of(changes, page_words=32, codec="zstd")
    *_, frame = read_frames(storage)
    assert frame.is_coded
    same(frame.changes(), changes)


def test_more_than_a_coded_frame_may_hold_is_not_coded(rng, monkeypatch):
    changes = smooth(rng, 300, 32)
    whole = log_of(changes, page_words=32, codec="lz4")
    monkeypatch.setattr(codecs, "_MOST_BYTES", 300 * 4 * 34 - 1)
    *_, frame = read_frames(log_of(changes, page_words=32, codec="lz4"))
    assert not frame.is_coded
    *_, frame = read_frames(whole)
    with pytest.raises(CorruptLogError, match="larger than a coded frame's may be"):
        frame.changes()


def test_an_unknown_codec_is_refused(run_dir):
    with pytest.raises((InvalidArgumentError, TypeError)):
        TransactionLog.create(run_dir, page_words=4, capacity=2, fingerprint={}, codec="gzip")
    assert not run_dir.exists()


# Hostile frames: the checksum of the body is right.


@pytest.fixture(params=[(False, "lz4"), (True, "zstd")], ids=["dense lz4", "masked zstd"])
def coded(rng, request):
    masked, codec = request.param
    *_, frame = read_frames(log_of(smooth(rng, 200, 8, masked=masked), page_words=8, codec=codec))
    assert frame.is_coded
    return frame


def forged(frame, **columns):
    """The frame with some columns of its batch changed by functions of the values."""
    batch = pa.ipc.read_record_batch(pa.py_buffer(frame.body), codecs.CODED_SCHEMA).to_pydict()
    arrays = [pa.array(columns.get(field.name, list)(batch[field.name]), field.type) for field in codecs.CODED_SCHEMA]
    body = pa.RecordBatch.from_arrays(arrays, schema=codecs.CODED_SCHEMA).serialize()
    return dataclasses.replace(frame, body=memoryview(bytes(body)))


def last(value):
    return lambda values: [*values[:-1], value(values[-1]) if callable(value) else value]


HOSTILE = {
    "its columns are": {"column": last("pages")},
    "words is said to be": {"raw_bytes": last(lambda size: size - 4)},
    "larger than a coded": {"raw_bytes": last(2**32 - 1)},
    "words has the filters 4": {"filters": last(4)},
    "words has codec 3": {"codec": last(3)},
    "checksum of words is wrong": {"raw_crc": last(lambda crc: crc ^ 1)},
    "words can't be decompressed": {"data": last(lambda data: data[:-1])},
    "words has 3 bytes": {"codec": last(0), "data": last(b"abc")},
    "nulls": {"data": last(None)},
}


@pytest.mark.parametrize("match", HOSTILE)
def test_coded_columns_that_make_no_sense_are_refused(coded, match):
    same(forged(coded).changes(), coded.changes())
    with pytest.raises(CorruptLogError, match=f"the body makes no sense.*{match}"):
        forged(coded, **HOSTILE[match]).changes()


def test_a_row_count_that_does_not_fit_is_refused(coded):
    for rows in (199, 2**32 - 1):
        with pytest.raises(CorruptLogError, match="page is said to be"):
            dataclasses.replace(coded, header=coded.header._replace(rows=rows)).changes()


def test_a_column_shorter_than_it_says_is_refused(rng):
    """LZ4 gives less than was asked for without a word."""
    *_, frame = read_frames(log_of(smooth(rng, 200, 8), page_words=8, codec="lz4"))
    short = pa.Codec("lz4_raw").compress(bytes(100), asbytes=True)
    with pytest.raises(CorruptLogError, match="checksum of words is wrong"):
        forged(frame, data=last(short)).changes()


def test_no_byte_of_a_coded_body_can_crash_the_reader(coded):
    original, refused, arrow_before = coded.changes(), 0, pa.total_allocated_bytes()
    tracemalloc.start()
    for byte in [*range(0, 900, 3), *range(900, len(coded.body), 61)]:  # what Arrow reads comes first
        for value in (0, 0x7F):
            changed = bytearray(coded.body)
            changed[byte] = value
            try:
                same(dataclasses.replace(coded, body=memoryview(changed)).changes(), original)
            except CorruptLogError:
                refused += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 100
    assert peak < 20 << 20
    assert pa.total_allocated_bytes() - arrow_before < 20 << 20
