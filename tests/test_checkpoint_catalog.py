"""The catalogue of a checkpoint: what a forged one with right checksums can do, which is nothing."""

import json
import struct

import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from mmsb_jax import CorruptCheckpointError
from mmsb_jax.page import CheckpointCatalog, EdgeRecords, PageRecord, open_checkpoint, write_checkpoint
from mmsb_jax.page.checkpoint._catalog_file import pack_catalog, parse_catalog
from mmsb_jax.page.log._frame import HEADER_BYTES
from mmsb_jax.page.log._identity import RunIdentity, read_identity
from tests.checkpoint_runs import assert_same, files_of, small_run, with_files

RUN = RunIdentity("0123456789abcdef" * 2, "2026", 4, 100)
IDS = st.integers(0, 99)


@given(
    names=st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=4),
    records=st.lists(
        st.tuples(st.lists(st.integers(0, 99), max_size=3), st.none() | st.text("aé", max_size=3)), max_size=3
    ),
    edges=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.booleans()), max_size=4),
)
def test_what_was_packed_is_parsed(names, records, edges):
    records = tuple(
        PageRecord("create", np.array(pages, np.int32), len(pages), name, "host", {"n": [name, 1.5]})
        for pages, name in records
    )
    parent, child, weighted = (np.array([edge[i] for edge in edges], kind) for i, kind in enumerate(("i4", "i4", "?")))
    weight = np.where(weighted, parent, 0).astype(np.float32)
    edges = EdgeRecords(np.ones(len(parent), np.uint8), parent, child, np.zeros(len(parent), np.int8), weight, weighted)
    catalog = CheckpointCatalog(("", *names), records, edges)
    data = pack_catalog(catalog, RUN)
    found = parse_catalog("file", memoryview(data), RUN)
    assert found.names == catalog.names
    assert [(r.pages.tolist(), r.name, r.location, dict(r.metadata)) for r in found.records] == [
        (r.pages.tolist(), r.name, r.location, dict(r.metadata)) for r in records
    ]
    for column in ("op", "parent", "child", "kind", "weight", "weighted"):
        np.testing.assert_array_equal(getattr(found.edges, column), getattr(edges, column))
    assert pack_catalog(found, RUN) == data  # so that it can be shared


def forged(change):
    """A small checkpoint whose catalogue was changed, with right checksums in the manifest."""
    run = small_run()
    info = write_checkpoint(run.place, run.snapshot())
    files = files_of(run.place)
    (name,) = (name for name in files if name.endswith(".frames"))
    data = change(bytearray(files[name]), run.log)
    values = json.loads(files[info.name])
    del values["crc32c"]
    values["catalog"] |= {"size": len(data), "crc": crc32c(data)}
    rest = b'",' + json.dumps(values, separators=(",", ":")).encode()[1:]
    manifest = b'{"crc32c":"' + b"%08x" % crc32c(rest) + rest
    return with_files(files, **{name: data, info.name: manifest}), info, run


def rehashed(data, at=0):
    data[at + HEADER_BYTES - 4 : at + HEADER_BYTES] = struct.pack("<I", crc32c(data[at : at + HEADER_BYTES - 4]))
    return data


def with_byte(at, value):
    def change(data, log):
        data[at] = value
        return rehashed(data)

    return change


def frames(data):
    found, at = [], 0
    while at < len(data):
        end = at + HEADER_BYTES + struct.unpack_from("<Q", data, at + 24)[0]
        found.append(data[at:end])
        at = end
    return found


def with_body_byte(data, log):
    data[HEADER_BYTES + 100] ^= 1
    return data


def with_other(**changed):
    def change(data, log):
        run = small_run()
        fields = {"names": ("", "api"), "records": (), "edges": run.edges} | changed
        identity = read_identity(log.place)
        return pack_catalog(CheckpointCatalog(**fields), identity)

    return change


FAR = np.array([10], np.int32)
FORGERIES = {
    "unchanged": (lambda data, log: data, None),
    "longer": (lambda data, log: data + b"\0" * 64, "goes on behind"),
    "shorter": (lambda data, log: data[:-8], "no whole EDGES frame"),
    "two frames": (lambda data, log: b"".join(frames(data)[:2]), "cut short"),
    "another order": (lambda data, log: b"".join(frames(data)[i] for i in (1, 0, 2)), "no whole NAMES frame"),
    "a frame twice": (lambda data, log: b"".join(frames(data)[i] for i in (0, 0, 2)), "no whole PAGES frame"),
    "a newer version": (with_byte(4, 2), "format version 2"),
    "an unknown flag": (with_byte(7, 0x80), "flags 0x80"),
    "another run's": (with_byte(52, 0), "no whole NAMES frame"),
    "another number": (with_byte(8, 1), "no whole NAMES frame"),
    "a flipped bit": (with_body_byte, "no whole NAMES frame"),
    "more rows": (with_byte(48, 9), "its header says 9"),
    "a page that isn't there": (with_other(records=(PageRecord("create", FAR, 4),)), "outside this run's pages"),
    "names without the empty one": (with_other(names=("api", "")), "begin with the empty name"),
    "no names": (with_other(names=()), "begin with the empty name"),
    "an edge to nowhere": (with_other(edges=EdgeRecords.of(1, FAR, FAR)), "outside this run's pages"),
}


@pytest.mark.parametrize(("change", "reason"), FORGERIES.values(), ids=FORGERIES)
def test_a_forged_catalogue_is_refused(change, reason):
    storage, info, run = forged(change)
    opened = open_checkpoint(storage, info)
    if reason is None:
        assert_same(opened.load(), run.snapshot())
        return
    with pytest.raises(CorruptCheckpointError, match=reason) as caught:
        opened.load()
    assert caught.value.file.endswith(".frames")
    np.testing.assert_array_equal(opened.pages(range(10)), run.pages)  # which are well
