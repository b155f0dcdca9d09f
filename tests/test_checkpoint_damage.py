"""Damaged and hostile checkpoints are refused, with the file named; so are those of another log than the one there."""

import copy
import functools
import json
import tracemalloc

import numpy as np
import pytest
from crc32c import crc32c

from mmsb_jax import CorruptCheckpointError, InvalidArgumentError
from mmsb_jax.page import (
    MemoryStorage,
    TransactionLog,
    checkpoints,
    compact,
    load_newest_checkpoint,
    newest_checkpoint,
    open_checkpoint,
    remove_checkpoint,
    write_checkpoint,
)
from tests.checkpoint_runs import WORDS, SmallRun, assert_same, files_of, small_run, with_files

pytestmark = pytest.mark.unchecked


def small_checkpoint():
    """The files of a run with one checkpoint, in three parts, its name, and what it holds."""
    run = small_run()
    info = write_checkpoint(run.place, run.snapshot(), part_bytes=16 * WORDS)
    return files_of(run.place), info, run.snapshot()


def own_files(files):
    return sorted(name for name in files if name.startswith("checkpoints/"))


def refused(storage, info):
    """The error that reading everything raises, None if it raises none."""
    try:
        open_checkpoint(storage, info).load()
    except CorruptCheckpointError as why:
        return why
    return None


def test_every_flipped_bit_is_refused():
    """Of the parts and the catalogue, one bit of each byte: which one, goes round."""
    files, info, expected = small_checkpoint()
    storage = with_files(files)
    assert len(own_files(files)) == 5
    for name in own_files(files):
        data = storage.files[name]
        for byte in range(len(data)):
            for bit in range(8) if name == info.name else [byte % 8]:
                data[byte] ^= 1 << bit
                why = refused(storage, info)
                assert why is not None, (name, byte, bit)
                assert why.file == storage.describe(name)
                data[byte] ^= 1 << bit
    assert_same(open_checkpoint(storage, info).load(), expected)


def test_every_other_length_is_refused():
    files, info, _ = small_checkpoint()
    for name in own_files(files):
        for data in (*(files[name][:length] for length in range(len(files[name]))), files[name] + b"\0", None):
            why = refused(with_files(files, **{name: data}), info)
            assert why is not None, name
            assert why.file.endswith(name)


def test_files_that_change_places_are_refused():
    files, info, _ = small_checkpoint()
    names = own_files(files)
    for one in names:
        for other in names:
            assert (refused(with_files(files, **{one: files[other]}), info) is None) == (one == other)
    other = next(name for name in names if name.endswith(".json")).replace("0000000003", "0000000002")
    moved = with_files(files, **{other: files[info.name]})
    (wrong, _) = checkpoints(moved)
    assert "the manifest is that of tick 3" in refused(moved, wrong).reason


def test_only_the_blocks_that_are_looked_at_are_read():
    words = (1 << 18) // 4  # one page to a block
    run = SmallRun(capacity=6, words=words)
    run.commit(1, range(6))
    info = write_checkpoint(run.place, run.snapshot(), part_bytes=4 * words * 3)
    part = max(name for name in run.place.files if name.endswith(".safetensors"))
    run.place.files[part][len(run.place.files[part]) - 100 - 4 * words] ^= 1  # in page 4, the middle of the last three
    opened = open_checkpoint(run.place, info)
    for page in (0, 1, 2, 3, 5):
        np.testing.assert_array_equal(opened.pages([page]), run.pages[[page]])
    assert opened.epochs(range(6)).tolist() == [1] * 6
    for ids in ([4], [3, 4]):
        with pytest.raises(
            CorruptCheckpointError, match=r"safetensors, byte \d+: the checksum of 262144 bytes is wrong"
        ):
            opened.pages(ids)


def test_every_block_of_a_long_page_is_looked_at():
    words = 5 * (1 << 18) // 8  # two blocks and a half
    run = SmallRun(capacity=2, words=words)
    run.commit(1, range(2))
    info = write_checkpoint(run.place, run.snapshot(), part_bytes=16 << 20)
    (part,) = (name for name in run.place.files if name.endswith(".safetensors"))
    data = run.place.files[part]
    start = len(data) - 8 - 8 * words
    for page, word in ((0, 0), (0, words // 2), (0, words - 1), (1, 0), (1, words // 2), (1, words - 1)):
        data[start + 4 * (page * words + word)] ^= 1
        with pytest.raises(CorruptCheckpointError, match="checksum"):
            open_checkpoint(run.place, info).pages([page])
        data[start + 4 * (page * words + word)] ^= 1
    np.testing.assert_array_equal(open_checkpoint(run.place, info).pages([1, 0]), run.pages[::-1])


def with_manifest(files, info, values):
    """The files with another manifest whose checksum is right."""
    values.pop("crc32c", None)
    text = json.dumps(values, separators=(",", ":")).encode()
    rest = b'",' + text[1:]
    return with_files(files, **{info.name: b'{"crc32c":"' + b"%08x" % crc32c(rest) + rest})


def leaves(values, path=()):
    if path:
        yield path
    children = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in children:
        yield from leaves(value, (*path, key))


def at(values, path):
    return functools.reduce(lambda inner, key: inner[key], path, values)


def changed(values, path, value):
    values = copy.deepcopy(values)
    at(values, path[:-1])[path[-1]] = value
    return values


HOSTILE = [None, True, -1, 0, 1, 7, 2**31, 2**62, 10**30, 0.5, "", "x", "00", "../../run.json", [], [[]], [{}], {}]


def test_a_manifest_that_makes_no_sense_is_refused():
    """Each value replaced by each of many others, with a right checksum: refused, or nothing was told wrong."""
    files, info, expected = small_checkpoint()
    values = json.loads(files[info.name])
    tried = 0
    for path in leaves(values):
        for value in HOSTILE:
            if path == ("crc32c",) or json.dumps(value) == json.dumps(at(values, path)):
                continue
            if (path, value) == (("parts",), []):
                continue  # makes sense: nothing was ever written
            tried += 1
            storage = with_manifest(files, info, changed(values, path, value))
            why = refused(storage, info)
            if why is None:  # the digest isn't looked at here, and where the frame lies is found again when moved
                found = open_checkpoint(storage, info).load()
                np.testing.assert_array_equal(found.pages, expected.pages, str((path, value)))
                np.testing.assert_array_equal(found.epoch, expected.epoch)
                assert path[0] in ("digest", "log"), (path, value)
    assert tried > 500


OWN = "0000000003-00000000000000000007.00000"


@pytest.mark.parametrize(
    "file", ["../run.json", "/etc/hostname", "..", f"{OWN}.json", "a/b.frames", "0\n", f"{OWN}.frames/../../run.json"]
)
def test_names_lead_nowhere_else(file):
    files, info, _ = small_checkpoint()
    values = json.loads(files[info.name])
    for path in (("catalog", "file"), ("parts", 0, "file")):
        why = refused(with_manifest(files, info, changed(values, path, file)), info)
        assert "is no name of a file of a checkpoint" in why.reason


def test_a_manifest_that_is_no_manifest_is_refused():
    files, info, _ = small_checkpoint()
    for text in (
        b"[]",
        b"null",
        b'{"a":' * 100_000,
        b'{"format":"mmsb-checkpoint"}',
        b"{\xff",
        b'{"version":' + b"9" * 9999,
    ):
        rest = b'",' + text[1:]
        for data in (text, b'{"crc32c":"' + b"%08x" % crc32c(rest) + rest):
            assert refused(with_files(files, **{info.name: data}), info) is not None
    newer = changed(json.loads(files[info.name]), ("version",), 2)
    assert "reads version 1" in refused(with_manifest(files, info, newer), info).reason


def test_a_huge_claim_allocates_nothing():
    files, info, _ = small_checkpoint()
    values = json.loads(files[info.name])
    for path, value in ((("capacity",), 2**31 - 1), (("page_words",), 2**31 - 1), (("catalog", "size"), 2**62)):
        storage = with_manifest(files, info, changed(values, path, value))
        tracemalloc.start()
        assert refused(storage, info) is not None
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()


def three_checkpoints():
    run = small_run()
    infos = [write_checkpoint(run.place, run.snapshot(), part_bytes=16 * WORDS)]
    snapshots = [run.snapshot()]
    for tick in (5, 6):
        run.commit(tick, [0, 2, 9])
        infos.append(write_checkpoint(run.place, run.snapshot(), part_bytes=16 * WORDS))
        snapshots.append(run.snapshot())
    return files_of(run.place), infos, snapshots


def test_a_damaged_one_is_passed_over_and_that_is_said():
    files, infos, snapshots = three_checkpoints()
    part = next(name for name in own_files(files) if name.startswith(f"checkpoints/{infos[2].stem}.00001"))
    cases = {
        infos[2].name: [files[infos[2].name][:-1], b""],  # found when it is opened
        part: [
            files[part][:-1],
            None,
            bytes([*files[part][:-1], files[part][-1] ^ 1]),
        ],  # the last, only when it is read
    }
    for name, versions in cases.items():
        for data in versions:
            storage = with_files(files, **{name: data})
            snapshot, skipped = load_newest_checkpoint(storage)
            assert_same(snapshot, snapshots[1])
            assert [why.file for why in skipped] == [storage.describe(name)]
    storage = with_files(files, **{info.name: b"" for info in infos})
    for found, skipped in (load_newest_checkpoint(storage), newest_checkpoint(storage)):
        assert found is None
        assert len(skipped) == 3


def test_one_with_damage_in_its_pages_opens():
    files, infos, _ = three_checkpoints()
    part = next(name for name in own_files(files) if name.startswith(f"checkpoints/{infos[2].stem}.00001"))
    storage = with_files(files, **{part: bytes([*files[part][:-1], files[part][-1] ^ 1])})
    assert newest_checkpoint(storage).checkpoint.info == infos[2]


def log_of(files):
    return {name: data for name, data in files.items() if not name.startswith("checkpoints/")}


def checkpoints_of(files):
    return {name: data for name, data in files.items() if name.startswith("checkpoints/")}


def test_an_old_log_beside_a_newer_checkpoint():
    run = small_run()
    run.log.sync()
    old_log = log_of(files_of(run.place))
    old = write_checkpoint(run.place, run.snapshot())
    snapshot = run.snapshot()
    run.commit(4, [2])
    newer = write_checkpoint(run.place, run.snapshot())
    files = files_of(run.place)
    storage = with_files(checkpoints_of(files) | old_log)
    checkpoint, (why,) = newest_checkpoint(storage)
    assert_same(checkpoint.load(), snapshot)
    assert "the log is whole up to frame 7 alone: an older copy?" in why.reason
    with TransactionLog.open(storage, fingerprint={}) as log:  # goes on, otherwise: the frame of that number is another
        run.log = log
        run.commit(4, [5])
        assert log.sequence == newer.sequence
    checkpoint, (why,) = newest_checkpoint(storage)
    assert checkpoint.info == old
    assert "are they of two histories?" in why.reason


def test_an_old_checkpoint_beside_a_newer_log():
    run = small_run()
    info, snapshot = write_checkpoint(run.place, run.snapshot()), run.snapshot()
    for tick in range(4, 9):
        run.commit(tick, [2])
    assert_same(open_checkpoint(run.place, info).load(), snapshot)


def test_after_a_compaction_those_behind_it_lead_on():
    run = SmallRun(segment_bytes=2000)
    infos, snapshots = [], []
    for tick in range(1, 25):
        run.commit(tick, [tick % 10])
        infos.append(write_checkpoint(run.place, run.snapshot()))
        snapshots.append(run.snapshot())
    before = files_of(run.place)
    compact(run.log, before=12)
    merged = next(info.sequence for info in infos if info.tick == 11)
    assert checkpoints(run.place) == [info for info in infos if info.sequence > merged]
    storage = with_files(files_of(run.place), **checkpoints_of(before))  # as a crash amid the compaction leaves it
    for info, snapshot in zip(infos, snapshots, strict=True):
        if info.sequence > merged:
            assert_same(open_checkpoint(storage, info).load(), snapshot)
        else:
            assert f"the log was compacted up to frame {merged}" in refused(storage, info).reason
    info = write_checkpoint(run.place, run.snapshot())  # and one that is written now opens, too
    assert_same(open_checkpoint(run.place, info).load(), run.snapshot())


def test_a_frame_that_is_cut_short_is_not_there():
    run = small_run()
    (segment,) = (name for name in run.place.files if name.endswith(".seg"))
    for cut in (1, 64, 100):
        storage = with_files(files_of(run.place), **{segment: bytes(run.place.files[segment][:-cut])})
        with pytest.raises(InvalidArgumentError, match="no frame 7"):
            write_checkpoint(storage, run.snapshot())


def test_a_checkpoint_of_another_run_is_refused():
    files, info, _ = small_checkpoint()
    others = log_of(files_of(small_run().place))
    assert "it belongs to run" in refused(with_files(checkpoints_of(files) | others), info).reason


def test_a_damaged_one_can_be_removed_and_written_again():
    run = small_run()
    first = write_checkpoint(run.place, run.snapshot(), part_bytes=16 * WORDS)
    for name in own_files(run.place.files):
        run.place.files[name][-1] ^= 1
    assert refused(run.place, first) is not None
    assert write_checkpoint(run.place, run.snapshot(), part_bytes=16 * WORDS) == first
    assert_same(open_checkpoint(run.place, first).load(), run.snapshot())
    assert len(own_files(run.place.files)) == 5
    run.place.files[first.name][-1] ^= 1
    remove_checkpoint(run.place, first)
    assert own_files(run.place.files) == []


def test_a_lost_or_damaged_base_is_refused():
    run = small_run()
    base = write_checkpoint(run.place, run.snapshot())
    run.commit(4, [0])
    run.place.files[base.name][-1] ^= 1
    with pytest.raises(CorruptCheckpointError, match="checksum of the manifest"):
        write_checkpoint(run.place, run.snapshot(), base=base)
    remove_checkpoint(run.place, base)
    with pytest.raises(CorruptCheckpointError, match="missing"):
        write_checkpoint(run.place, run.snapshot(), base=base)
    assert own_files(run.place.files) == []
    assert newest_checkpoint(run.place) == (None, ())
    assert isinstance(run.place, MemoryStorage)
