"""Hostile files: checksums are right, contents are not. An error or other data, never a crash or a huge allocation."""

import dataclasses
import json
import struct
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from crc32c import crc32c

from mmsb_jax import CorruptLogError
from mmsb_jax.page import (
    EdgeRecords,
    FrameKind,
    LayoutRecord,
    MemoryStorage,
    PageChanges,
    PageRecord,
    TransactionLog,
    read_frames,
    replay_log,
    schema_of,
)
from mmsb_jax.page.log._frame import FORMAT_VERSION, MASKED, pack_header
from mmsb_jax.page.log._identity import RUN_FILE
from mmsb_jax.page.log._segments import segment_name

pytestmark = pytest.mark.unchecked

FIRST = segment_name(0)
I32, U32 = np.int32, np.uint32


def small_run():
    storage = MemoryStorage()
    with TransactionLog.create(storage, page_words=2, capacity=3, fingerprint={}) as log:
        pages = np.array([0, 1], I32)
        log.append_pages(1, [PageRecord("create", pages, 16, "n")])
        log.append_edges(1, EdgeRecords.of(1, pages[:1], pages[1:], 0, np.array([0.5], np.float32)))
        log.append_changes(2, PageChanges(pages, pages * 0, np.array([[0b11], [0b10]], U32), np.array([1, 2, 3], U32)))
        log.append_changes(3, PageChanges(pages, pages * 0, None, np.array([[1, 2], [3, 4]], U32)))
        log.name_id("last")
        log.append_layout(3, LayoutRecord(np.array([0, 2], I32), np.array([2, 0], I32)))
    return storage


HEADER, PAGES, EDGES, MASKED_ROWS, DENSE_ROWS, NAMES, LAYOUT = range(7)


def forged(storage, index, body=None, **fields):
    """The run with one frame replaced; all checksums are right."""
    data = b""
    for frame in read_frames(storage):
        header, new = frame.header, bytes(frame.body)
        if frame.sequence == index:
            new = new if body is None else bytes(body)
            header = header._replace(**{"body_bytes": len(new), "body_crc": crc32c(new)} | fields)
        data += pack_header(header) + new
    return MemoryStorage({**storage.files, FIRST: bytearray(data)})


def decoded(frame):
    decoders = {"HEADER": "environment", "NAMES": "new_names"}
    return getattr(frame, decoders.get(frame.kind.name, frame.kind.name.lower()))()


def read_all(storage):
    """Decode everything there is."""
    for frame in read_frames(storage):
        decoded(frame)
    return replay_log(storage)


def refuse(storage, match):
    with pytest.raises(CorruptLogError, match=match):
        read_all(storage)
    with pytest.raises(CorruptLogError, match=match):
        replay_log(storage)


def test_the_forger_changes_nothing_by_itself():
    storage = small_run()
    assert forged(storage, MASKED_ROWS).files == storage.files
    assert read_all(storage).tick == 3


def test_an_unknown_version_is_named_with_ours():
    refuse(
        forged(small_run(), MASKED_ROWS, version=7),
        f"format version 7, but this mmsb_jax reads version {FORMAT_VERSION}",
    )
    storage = small_run()
    storage.files[RUN_FILE] = storage.files[RUN_FILE].replace(b'"version": 1', b'"version": 9')
    refuse(storage, f"format version 9, but this mmsb_jax reads version {FORMAT_VERSION}")


HEADERS = {
    "frame kind 9 is unknown": {"kind": 9},
    "flags 0x80 are unknown": {"flags": 0x80},
    "frame 7 stands where frame 3": {"sequence": 7},
    "tick goes back from 1 to 0": {"tick": 0},
    "intent 5 is not in the table of 1 names": {"intent": 5},
    "begins with its one HEADER": {"kind": 1},
    "it has 2 rows, its header says 5": {"rows": 5},
    "yet frame 4 follows": {"salt": 1},
    "body is cut short.*yet frame 4 follows": {"body_bytes": 2**63},
    "checksum of the frame body is wrong, yet": {"body_crc": 1},
}


@pytest.mark.parametrize("match", HEADERS)
def test_headers_that_lie_are_refused(match):
    refuse(forged(small_run(), MASKED_ROWS, **HEADERS[match]), match)


def batch(kind, columns, masked=True):
    schema = schema_of(kind, 2, masked=masked)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def masked(page=(0, 1), source=(0, 0), mask=(b"\3\0\0\0", b"\2\0\0\0"), words=((1, 2), (3,))):
    return batch(FrameKind.CHANGES, [page, source, mask, words]).serialize()


MASKED_BODIES = {
    "page 3 is outside": masked(page=(0, 3)),
    "page -1 is outside": masked(page=(-1, 0)),
    "source 9 is not in the table": masked(source=(9, 0)),
    "bits beyond the 2 words": masked(mask=(b"\3\0\0\0", b"\0\0\0\x80")),
    "not as long as the masks say": masked(words=((1, 2, 3), ())),
    "data is not as long|smaller than|not as long": masked(words=((1,), (2,))),
    "validity bitmap": masked(page=(None, 1)),
    "is not as long|makes no sense": batch(
        FrameKind.CHANGES, [(0, 1), (0, 0), ((1, 2), (3, 4))], masked=False
    ).serialize(),
    "makes no sense": b"\xff" * 200,
    "makes no sense|cut short": b"",
}


@pytest.mark.parametrize("match", MASKED_BODIES)
def test_changes_that_make_no_sense_are_refused(match):
    refuse(forged(small_run(), MASKED_ROWS, MASKED_BODIES[match], rows=2), match)


def test_dense_changes_with_an_outside_page_are_refused():
    body = batch(FrameKind.CHANGES, [(0, 9), (0, 0), ((1, 2), (3, 4))], masked=False).serialize()
    refuse(forged(small_run(), DENSE_ROWS, body), "page 9 is outside")
    refuse(forged(small_run(), DENSE_ROWS, MASKED_BODIES["page 3 is outside"], flags=MASKED), "page 3 is outside")


PAGE_ROW = {"op": 1, "pages": [0], "size": 4, "name": "n", "location": "device", "metadata": "{}"}
BAD_PAGE_ROWS = {
    "page op 4": {"op": 4},
    "outside this run": {"pages": [3]},
    "metadata is list": {"metadata": "[]"},
    "nested too deeply": {"metadata": "[" * 200_000},
    "Expecting": {"metadata": "{"},
    "column location holds nulls": {"location": None},
    "column pages holds nulls": {"pages": None},
}


@pytest.mark.parametrize("match", BAD_PAGE_ROWS)
def test_page_records_that_make_no_sense_are_refused(match):
    row = PAGE_ROW | BAD_PAGE_ROWS[match]
    refuse(forged(small_run(), PAGES, batch(FrameKind.PAGES, [[value] for value in row.values()]).serialize()), match)


def test_edges_layouts_and_names_that_make_no_sense_are_refused():
    edge = batch(FrameKind.EDGES, [[3], [0], [1], [0], [None]]).serialize()
    refuse(forged(small_run(), EDGES, edge), "neither 1")
    edge = batch(FrameKind.EDGES, [[1], [0], [3], [0], [None]]).serialize()
    refuse(forged(small_run(), EDGES, edge), "outside")
    for columns, reason in (([[0, 1], [1, 3]], "outside"), ([[1, 0], [0, 1]], "ascend"), ([[0, 1], [0, 0]], "order")):
        refuse(forged(small_run(), LAYOUT, batch(FrameKind.LAYOUT, columns).serialize(), rows=2), reason)
    for number, name in ((5, "gap"), (0, "other"), (-1, "x")):
        body = batch(FrameKind.NAMES, [[number], [name]]).serialize()
        refuse(forged(small_run(), NAMES, body), "doesn't continue the table")


def test_a_header_frame_that_contradicts_run_json_is_refused():
    storage = small_run()
    values = json.loads(storage.files[RUN_FILE])
    values["capacity"] = 10**6
    storage.files[RUN_FILE] = bytearray(json.dumps(values).encode())
    refuse(storage, "capacity is '3' in this header but '1000000' in run.json")


BAD_IDENTITIES = {
    "not marked as format": {"format": "zip"},
    "capacity is True, not int": {"capacity": True},
    "run_id is 'x', not 32": {"run_id": "x"},
    "between 1 and": {"page_words": 0},
    "created is None": {"created": None},
}


@pytest.mark.parametrize("match", BAD_IDENTITIES)
def test_a_run_json_that_makes_no_sense_is_refused(match):
    storage = small_run()
    values = json.loads(storage.files[RUN_FILE]) | BAD_IDENTITIES[match]
    storage.files[RUN_FILE] = bytearray(json.dumps(values).encode())
    refuse(storage, match)


@pytest.mark.parametrize("text", [b"[" * 50_000, b"[]", b"\xff", b"x" * 10**6])
def test_rubbish_for_run_json_is_refused(text):
    storage = small_run()
    storage.files[RUN_FILE] = bytearray(text)
    refuse(storage, "identity of the run can't be read")


def test_a_compressed_batch_is_refused_before_it_is_unpacked():
    zeros = PageChanges(np.zeros(1, I32), np.zeros(1, I32), None, np.zeros((1, 1 << 22), U32))
    plain = batch(FrameKind.CHANGES, [zeros.page, zeros.source, [[0, 0]]], masked=False)
    for codec in ("zstd", "lz4"):
        options = pa.ipc.IpcWriteOptions(compression=codec)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, plain.schema, options=options) as writer:
            writer.write_batch(plain)
        reader = pa.ipc.MessageReader.open_stream(sink.getvalue())
        reader.read_next_message()
        body = reader.read_next_message().serialize()
        refuse(forged(small_run(), DENSE_ROWS, body, rows=1), "is compressed")


@pytest.mark.parametrize("frame", [HEADER, PAGES, EDGES, MASKED_ROWS, DENSE_ROWS, NAMES, LAYOUT])
def test_no_byte_of_a_body_can_crash_the_reader(frame):
    """Every byte of the Arrow message set to four values: an error, or other data, but in bounded memory."""
    whole = next(read_frames(small_run(), start=frame))
    refused = 0
    arrow_before = pa.total_allocated_bytes()
    tracemalloc.start()
    for byte in range(len(whole.body)):
        for value in (0, 1, 0x7F, 0xFF):
            changed = bytearray(whole.body)
            changed[byte] = value
            try:
                decoded(dataclasses.replace(whole, body=memoryview(changed)))
            except CorruptLogError:
                refused += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 50
    assert peak < 20 << 20
    assert pa.total_allocated_bytes() - arrow_before < 20 << 20


def test_a_row_count_that_overflows_is_refused():
    body = bytearray(bytes(next(read_frames(small_run(), start=MASKED_ROWS)).body))
    at = body.find(struct.pack("<q", 2))  # the batch's length
    body[at : at + 8] = struct.pack("<q", 2**62)
    refuse(forged(small_run(), MASKED_ROWS, body), "makes no sense")
