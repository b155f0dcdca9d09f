"""docs/format.md against the bytes of checkpoints: a reader written from it alone, and a run that was frozen."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from crc32c import crc32c

from mmsb_jax import CorruptCheckpointError
from mmsb_jax.page import MemoryStorage, checkpoints, load_newest_checkpoint, open_checkpoint, write_checkpoint
from mmsb_jax.page.checkpoint._manifest import parse_manifest
from mmsb_jax.page.checkpoint._parts import PartShape, part_header
from tests.checkpoint_runs import WORDS, SmallRun, assert_same
from tests.freeze_checkpoint import FROZEN, PART_BYTES, states

FORMAT = (Path(__file__).parent.parent / "docs" / "format.md").read_text()
SECTION = FORMAT.split("\n## Checkpoints\n")[1].split("\n## ")[0]


def read_from_scratch(run):
    """The newest checkpoint of a directory, by what the documentation says: manifest, pages, epochs."""
    text = max((run / "checkpoints").glob("*.json")).read_bytes()
    manifest = json.loads(text)
    assert manifest["crc32c"] == f"{crc32c(text[len('{') + len(json.dumps('crc32c')) + len(':') + 1 + 8 :]):08x}"
    capacity, words, block = manifest["capacity"], manifest["page_words"], manifest["block_bytes"]
    pages, epoch = np.zeros((capacity, words), np.uint32), np.zeros(capacity, np.uint32)
    for part in manifest["parts"]:
        data = (run / "checkpoints" / part["file"]).read_bytes()
        first = part["index"] * manifest["part_pages"]
        n = min(manifest["part_pages"], capacity - first)
        at = 8 + int.from_bytes(data[:8], "little")
        for name, target, size in (("pages", pages, 4 * n * words), ("epoch", epoch, 4 * n)):
            tensor = data[at : at + size]
            sums = [f"{crc32c(tensor[i : i + block]):08x}" for i in range(0, size, block)]
            assert part[name] == "".join(sums)
            target[first : first + n] = np.frombuffer(tensor, "<u4").reshape(-1, *target.shape[1:])
            at += size
        assert at == len(data)
    return manifest, pages, epoch


@pytest.mark.parametrize(("words", "capacity"), [(4, 10), (40_000, 5), (1, 200_000)])
def test_a_reader_written_from_the_documentation(run_dir, words, capacity):
    run = SmallRun(run_dir, capacity=capacity, words=words)
    run.commit(1, range(capacity - 1))
    base = write_checkpoint(run_dir, run.snapshot(), part_bytes=max(4 * words, 300_000))
    run.commit(2, [0])
    write_checkpoint(run_dir, run.snapshot(), base=base)
    manifest, pages, epoch = read_from_scratch(run_dir)
    assert (manifest["tick"], manifest["log"]["sequence"]) == (2, run.log.sequence)
    np.testing.assert_array_equal(pages, run.pages)
    np.testing.assert_array_equal(epoch, run.epoch)


def test_the_example_of_a_manifest_has_its_keys(run_dir):
    def shape(value):
        if isinstance(value, dict):
            return {key: shape(inner) for key, inner in value.items()}
        return [shape(value[0])] if isinstance(value, list) else type(value)

    (text,) = re.findall(r"```json\n(.*?)```", SECTION, re.DOTALL)
    run = SmallRun(run_dir)
    run.commit(1, [1])
    info = write_checkpoint(run_dir, run.snapshot(digest=(1, 2)))
    example, real = json.loads(text), json.loads((run_dir / info.name).read_text())
    assert shape(example) == shape(real)
    assert list(example) == list(real)
    assert all(example[key] == real[key] for key in ("format", "version", "block_bytes"))


def test_the_example_of_a_header_is_one():
    (example,) = re.findall(r"`(\{\"__metadata__.*?)`", SECTION)
    header = part_header(PartShape(16384, 3616, 256))
    assert header[8:].rstrip(b" ").decode() == example
    assert len(header) % 64 == 0


def frozen_snapshots():
    return list(states(SmallRun()))


def test_the_frozen_checkpoints_are_read():
    infos = checkpoints(FROZEN)
    assert [info.tick for info in infos] == [1, 6]
    for info, expected in zip(infos, frozen_snapshots(), strict=True):
        assert_same(open_checkpoint(FROZEN, info).load(), expected)
    assert open_checkpoint(FROZEN, infos[1]).shared_files == 2


def test_the_same_states_are_written_in_the_same_bytes(tmp_path):
    """But for the catalogue, whose frames are pyarrow's to lay out."""
    copy = tmp_path / "copy"
    shutil.copytree(FROZEN, copy, ignore=shutil.ignore_patterns("checkpoints"))
    base = None
    for snapshot in frozen_snapshots():
        base = write_checkpoint(copy, snapshot, base=base, part_bytes=PART_BYTES)
    names = sorted(path.name for path in (FROZEN / "checkpoints").iterdir())
    assert sorted(path.name for path in (copy / "checkpoints").iterdir()) == names
    for name in names:
        mine, frozen = ((place / "checkpoints" / name).read_bytes() for place in (copy, FROZEN))
        if name.endswith(".json"):
            mine, frozen = (json.loads(text) | {"crc32c": "", "catalog": {}} for text in (mine, frozen))
        if not name.endswith(".frames"):
            assert mine == frozen


@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_frozen_checkpoint_is_refused(tmp_path, which):
    copy = tmp_path / "copy"
    shutil.copytree(FROZEN, copy)
    stem = checkpoints(FROZEN)[1].stem
    for path in (copy / "checkpoints").glob(f"{stem}*"):
        data = path.read_bytes()
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 16]) + data[-8:] if which else data[:-1])
        snapshot, (why, *_) = load_newest_checkpoint(copy)
        assert (snapshot.tick, Path(why.file).name) == (1, path.name)
        path.write_bytes(data)
    assert load_newest_checkpoint(copy).skipped == ()


def test_another_version_is_refused():
    name = checkpoints(FROZEN)[0].name
    text = (FROZEN / name).read_bytes()
    for old, new in ((b'"version":1', b'"version":2'), (b'"block_bytes":262144', b'"block_bytes":131072')):
        rest = text.partition(b'",')[2].replace(old, new)
        changed = b'{"crc32c":"' + b"%08x" % crc32c(b'",' + rest) + b'",' + rest
        assert len(changed) == len(text)
        with pytest.raises(CorruptCheckpointError, match="this mmsb_jax reads version 1"):
            parse_manifest("file", memoryview(changed))
    assert parse_manifest("file", memoryview(text)).layout.words == WORDS
    assert checkpoints(MemoryStorage()) == []
