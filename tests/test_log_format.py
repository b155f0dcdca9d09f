"""docs/format.md against the bytes: the reader in it runs, and its tables agree with the code."""

import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from crc32c import crc32c

from mmsb_jax.page import FrameKind, PageChanges, TransactionLog, read_frames, replay_log, schema_of
from mmsb_jax.page.log._codec_filters import DIFFERENCES, TRANSPOSED
from mmsb_jax.page.log._frame import CODED, DIGEST, FORMAT_VERSION, HEADER_BYTES, MASKED, TICKS, UNDO, parse_header

FORMAT = (Path(__file__).parent.parent / "docs" / "format.md").read_text()


@pytest.mark.parametrize("page_words", [3, 40])
def test_the_reader_in_the_documentation_reads_a_run(run_dir, rng, page_words):
    with TransactionLog.create(run_dir, page_words=page_words, capacity=5, fingerprint={}, segment_bytes=900) as log:
        source = np.full(3, log.name_id("doc"), np.int32)
        for tick in range(1, 20):
            page = rng.integers(0, 5, 3).astype(np.int32)
            words = rng.integers(0, 2**32, (3, page_words), dtype=np.uint32)
            bits = rng.integers(0, 2, (3, -(-page_words // 32) * 32)).astype(bool)
            bits[:, page_words:] = False
            mask = np.packbits(bits, axis=1, bitorder="little").view(np.uint32) if tick % 3 else None
            log.append_changes(tick, PageChanges.from_rows(page, words, mask, source))
    _, code = re.findall(r"```python\n(.*?)```", FORMAT, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code, str(run_dir)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["19", f"{crc32c(replay_log(run_dir).pages.tobytes()):08x}"]
    segment = max((run_dir / "log").glob("*.seg"))
    data = segment.read_bytes()
    segment.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = subprocess.run([sys.executable, "-c", code, str(run_dir)], capture_output=True, text=True, check=False)
    assert "a torn tail, or damage" in done.stderr


def test_the_tables_agree_with_the_code():
    assert f"Format version **{FORMAT_VERSION}**" in FORMAT
    assert f"{MASKED} `MASKED`, {DIGEST} `DIGEST`, {TICKS} `TICKS`, {CODED} `CODED`, {UNDO} `UNDO`; no others" in FORMAT
    kinds = re.findall(r"^\| (\d) ([A-Z]+)[,`A-Z ]* \| (.*?) \|", FORMAT, re.MULTILINE)
    assert {(int(number), name) for number, name, _ in kinds} == {(kind.value, kind.name) for kind in FrameKind}
    for number, _, columns in kinds:
        masked = "mask" in columns
        named = re.findall(r"`(\w+)` \w", columns)
        assert named == schema_of(int(number), 8, masked=masked).names


def section(title):
    return FORMAT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_table_of_coded_bodies_agrees_with_the_code():
    text = section("Coded bodies")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == schema_of(3, 8, coded=True).names
    assert f"{TRANSPOSED} `TRANSPOSED`, {DIFFERENCES} `DIFFERENCES`" in text


def test_the_table_of_an_index_agrees_with_the_code(run_dir):
    """The head of a block, read as the table says, and the parts behind it found where it says."""
    with TransactionLog.create(run_dir, page_words=2, capacity=300, fingerprint={}, segment_bytes=1) as log:
        page = np.array([7, 299], np.int32)
        for tick in range(3):
            log.append_changes(tick, PageChanges(page, page * 0, None, np.zeros((2, 2), np.uint32)), time_ns=50 + tick)
    fields = re.findall(r"^\| (\d+) \| (4 bytes|u16|u32|u64) \|", section("Indexes"), re.MULTILINE)
    sizes = {"4 bytes": "4s", "u16": "H", "u32": "I", "u64": "Q"}
    head = struct.Struct("<" + "".join(sizes[kind] for _, kind in fields))
    assert [struct.calcsize("<" + "".join(sizes[k] for _, k in fields[:i])) for i in range(len(fields))] == [
        int(offset) for offset, _ in fields
    ]
    names = sorted((run_dir / "log").glob("*.idx"))
    data, segment = names[2].read_bytes(), names[2].with_suffix(".seg").read_bytes()
    magic, version, level, _, n, first, offset, p, s, begin, early, late, kinds, body_crc, crc = head.unpack_from(data)
    assert (magic, version, level, n, first, offset) == (b"MMSI", FORMAT_VERSION, 0, 2, int(names[2].stem), 0)
    assert (p, s, begin, early, late, kinds) == (2, 1, first, 51, 51, 1 << FrameKind.HEADER | 1 << FrameKind.CHANGES)
    body = data[head.size :]
    assert (body_crc, crc) == (crc32c(body), crc32c(data[: head.size - 4]))
    assert body[:64] == segment[:64]
    at = 64 * n
    assert np.frombuffer(body, "<u4", n, at).tolist() == [0, 2]
    assert np.frombuffer(body, "<u2", p, at + 8).tolist() == [7, 299]
    assert np.frombuffer(body, "<u4", n, at + 12).tolist() == [0, 1]
    assert np.frombuffer(body, "<i4", s, at + 20).tolist() == [0]
    bits = np.unpackbits(np.frombuffer(body, np.uint8, 38, at + 24), bitorder="little")
    assert np.flatnonzero(bits).tolist() == [7, 299]
    assert len(body) == at + 24 + 38


def test_an_unknown_kind_has_no_schema():
    with pytest.raises(ValueError, match="9 is not a valid FrameKind"):
        schema_of(9, 4)


def test_bytes_of_a_header_never_change():
    """The first header of a run, frozen: a change here is a new format version."""
    fields = "4d4d534201000302070000000000000008000000000000001800000000000000"
    fields += "0a0000000b0000000c0000000d0000000e0000000f00000010000000"
    data = bytes.fromhex(fields)
    header = parse_header(data + crc32c(data).to_bytes(4, "little"))
    assert tuple(header) == (1, 3, 2, 7, 8, 24, 10, 11, 12, 13, 14, 15, 16)
    assert header.digest == (12, 13)
    assert len(data) + 4 == HEADER_BYTES


def test_bodies_are_multiples_of_eight_bytes(run_dir):
    with TransactionLog.create(run_dir, page_words=3, capacity=5, fingerprint={"a": "b"}) as log:
        log.name_id("odd")
    assert all(len(frame.body) % 8 == 0 for frame in read_frames(run_dir))
