"""Checkpoints hold what was written, of every shape, and give it back whole or page by page."""

import json
import os
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file

import mmsb_jax as mmsb
from mmsb_jax import InvalidArgumentError, InvalidTypeError, LogNotFoundError
from mmsb_jax.page import (
    CheckpointInfo,
    MemoryStorage,
    Snapshot,
    checkpoints,
    load_newest_checkpoint,
    newest_checkpoint,
    open_checkpoint,
    remove_checkpoint,
    replay_log,
    snapshot_of,
    write_checkpoint,
)
from tests.checkpoint_runs import CAPACITY, WORDS, SmallRun, assert_same, files_of, small_run


def test_a_checkpoint_holds_what_the_log_adds_up_to(run_dir):
    run = small_run(run_dir)
    info = write_checkpoint(run_dir, run.snapshot(digest=(5, 2**32 - 1)))
    found = open_checkpoint(run_dir, info).load()
    assert_same(found, run.snapshot(digest=(5, 2**32 - 1)))
    replayed = replay_log(run_dir)
    np.testing.assert_array_equal(found.pages, replayed.pages)
    np.testing.assert_array_equal(found.epoch, replayed.epoch)
    assert (found.tick, found.sequence, found.names) == (replayed.tick, replayed.sequence, replayed.names)


@settings(max_examples=60, deadline=None)
@given(
    words=st.integers(1, 5),
    capacity=st.integers(1, 12),
    part_pages=st.integers(1, 13),
    commits=st.lists(st.tuples(st.integers(0, 2), st.sets(st.integers(0, 11), max_size=4)), max_size=6),
    ids=st.lists(st.integers(0, 11), max_size=8),
)
def test_what_was_written_is_read(words, capacity, part_pages, commits, ids):
    run = SmallRun(capacity=capacity, words=words)
    for step, pages in commits:
        run.commit(run.log.tick + step, sorted(page % capacity for page in pages and {min(pages)}))
    info = write_checkpoint(run.place, run.snapshot(), part_bytes=4 * words * part_pages)
    opened = open_checkpoint(run.place, info)
    assert_same(opened.load(), run.snapshot())
    ids = [page % capacity for page in ids]
    np.testing.assert_array_equal(open_checkpoint(run.place, info).pages(ids), run.pages[ids])
    np.testing.assert_array_equal(opened.epochs(ids), run.epoch[ids])


def test_pages_longer_than_a_block_and_blocks_of_many_pages():
    for words, capacity in ((100_000, 3), (7, 30_000)):
        run = SmallRun(capacity=capacity, words=words)
        run.commit(1, range(capacity))
        opened = open_checkpoint(run.place, write_checkpoint(run.place, run.snapshot()))
        for ids in ([0], [capacity - 1], [2, 0, 2], np.arange(capacity)):
            np.testing.assert_array_equal(opened.pages(ids), run.pages[ids])
        assert_same(opened.load(), run.snapshot())


def test_what_is_loaded_may_be_written_to():
    run = small_run()
    info = write_checkpoint(run.place, run.snapshot())
    loaded = open_checkpoint(run.place, info).load()
    loaded.pages[:], loaded.epoch[:] = 9, 9
    assert_same(open_checkpoint(run.place, info).load(), run.snapshot())


def test_pages_that_were_never_written_take_no_room():
    run = SmallRun(capacity=1000)
    run.commit(0, [405])  # written at tick 0: its epoch is that of a page never written, its contents aren't
    run.commit(2, [5, 801])
    run.commit(3, [801], np.zeros((1, WORDS), np.uint32))  # zeros, but somebody wrote them
    info = write_checkpoint(run.place, run.snapshot(), part_bytes=4 * WORDS * 10)
    assert sum(name.endswith(".safetensors") for name in run.place.files) == 3
    opened = open_checkpoint(run.place, info)
    assert opened.epochs([405, 801, 500]).tolist() == [0, 3, 0]
    assert_same(opened.load(), run.snapshot())


def test_parts_are_safetensors_files(run_dir):
    run = small_run(run_dir)
    write_checkpoint(run_dir, run.snapshot(), part_bytes=4 * WORDS * 4)
    (part, *_) = sorted((run_dir / "checkpoints").glob("*.safetensors"))
    tensors = load_file(part)
    np.testing.assert_array_equal(tensors["pages"], run.pages[:4])
    np.testing.assert_array_equal(tensors["epoch"], run.epoch[:4])
    with safe_open(part, "np") as file:
        assert file.metadata() == {"first_page": "0"}


def test_data_lie_where_jax_takes_them_over(run_dir):
    run = small_run(run_dir)
    write_checkpoint(run_dir, run.snapshot())
    (part,) = (run_dir / "checkpoints").glob("*.safetensors")
    data = part.read_bytes()
    assert (8 + int.from_bytes(data[:8], "little")) % 64 == 0


def test_the_manifest_is_json(run_dir):
    info = write_checkpoint(run_dir, small_run(run_dir).snapshot())
    manifest = json.loads((run_dir / info.name).read_text())
    assert (manifest["tick"], manifest["log"]["sequence"]) == info
    assert next(iter(manifest)) == "crc32c"


def test_they_are_listed_by_tick_from_their_names_alone():
    run = small_run()
    infos = []
    for tick in (4, 5, 100):
        run.commit(tick, [0])
        infos.append(write_checkpoint(run.place, run.snapshot()))
    assert checkpoints(run.place) == infos
    for info in infos:
        run.place.files[info.name] = bytearray(b"nobody looks")
    assert checkpoints(run.place) == infos
    for stray in ("readme.txt", "4-5.json", "x" + infos[0].stem + ".json", "9" * 10 + "-" + "0" * 20 + ".json"):
        run.place.files[f"checkpoints/{stray}"] = bytearray()
    assert checkpoints(run.place) == infos


def test_the_newest_at_or_before_a_moment():
    run = small_run()
    infos = []
    for tick in (4, 6, 6, 9):
        run.commit(tick, [tick])
        infos.append(write_checkpoint(run.place, run.snapshot()))
        run.commit(tick, [0])
    place = run.place

    def found(**limits):
        checkpoint, skipped = newest_checkpoint(place, **limits)
        assert skipped == ()
        return checkpoint and checkpoint.info

    assert found() == infos[3]
    assert [found(tick=tick) for tick in (3, 4, 5, 6, 8, 9)] == [None, *infos[:1] * 2, *infos[2:3] * 2, infos[3]]
    assert found(sequence=infos[2].sequence - 1) == infos[1]
    assert found(sequence=infos[2].sequence, tick=5) == infos[0]
    assert load_newest_checkpoint(place, tick=6).snapshot.sequence == infos[2].sequence
    assert load_newest_checkpoint(place, tick=3) == (None, ())


def test_one_that_is_open_outlives_its_removal(run_dir):
    run = small_run(run_dir)
    info = write_checkpoint(run_dir, run.snapshot())
    opened = open_checkpoint(run_dir, info)
    remove_checkpoint(run_dir, info)
    assert list((run_dir / "checkpoints").iterdir()) == []
    assert checkpoints(run_dir) == []
    assert_same(opened.load(), run.snapshot())


def test_opening_leaves_no_file_open(run_dir):
    run = small_run(run_dir)
    before = len(os.listdir("/proc/self/fd"))
    for tick in range(4, 24):
        run.commit(tick, [1])
        write_checkpoint(run.log._writer.storage, run.snapshot())
    assert newest_checkpoint(run.log._writer.storage).checkpoint is not None
    assert len(os.listdir("/proc/self/fd")) <= before + 4


def test_writing_and_loading_copy_nothing_twice(run_dir):
    run = SmallRun(run_dir, capacity=4096, words=256)
    run.commit(1, [0])
    run.pages[:], run.epoch[:] = 5, 1
    snapshot = run.snapshot()
    size = snapshot.pages.nbytes
    tracemalloc.start()
    info = write_checkpoint(run_dir, snapshot, part_bytes=size // 2)
    assert tracemalloc.get_traced_memory()[1] < size / 8
    loaded = open_checkpoint(run_dir, info).load()
    assert tracemalloc.get_traced_memory()[1] < size * 9 / 8
    tracemalloc.stop()
    np.testing.assert_array_equal(loaded.pages, snapshot.pages)


def test_snapshot_of_a_state_in_any_layout():
    state = mmsb.State.create(6, page_bytes=8).advance()
    state = mmsb.apply(state, mmsb.DeltaBatch.make(state, [4, 1], jnp.arange(4, dtype=jnp.uint32).reshape(2, 2)))
    moved = mmsb.State(state.pages[::-1], jnp.arange(5, -1, -1, dtype=jnp.int32), state.epoch, state.tick)
    for copy in (False, True):
        one, other = snapshot_of(state, 3, copy=copy), snapshot_of(moved, 3, copy=copy)
        assert_same(one, other)
        assert one.pages[4].tolist() == [0, 1]
        assert (one.tick, one.sequence, one.epoch.tolist()) == (1, 3, [0, 1, 0, 0, 1, 0])


@pytest.mark.parametrize("copy", [False, True])
def test_a_snapshot_survives_the_donation_of_its_state(copy):
    step = jax.jit(
        lambda state: mmsb.State(state.pages + 1, state.slot_of_page, state.epoch, state.tick), donate_argnums=0
    )
    state = step(mmsb.State.create(1000, page_bytes=64))
    snapshot = snapshot_of(state, 0, copy=copy)
    for _ in range(3):
        state = step(state)
    assert (snapshot.pages == 1).all()
    assert int(state.pages[0, 0]) == 4


def test_snapshots_that_do_not_fit_are_refused_and_nothing_is_written():
    run = small_run()
    good = run.snapshot()
    before = files_of(run.place)

    def refused(match, **changed):
        fields = {name: getattr(good, name) for name in Snapshot.__dataclass_fields__} | changed
        with pytest.raises(InvalidArgumentError, match=match):
            write_checkpoint(run.place, Snapshot(**fields))

    refused("this run has 10 pages of 4 words", pages=np.zeros((CAPACITY, 5), np.uint32))
    refused("this run has 10 pages of 4 words", pages=good.pages[1:], epoch=good.epoch[1:])
    refused("no epoch is above it", tick=2)
    refused("two numbers of 32 bits", digest=(2**32, 0))
    refused("empty name", names=("api",))
    refused("no frame 99", sequence=99)
    refused("no frame -1", sequence=-1)
    refused("outside this run's pages", records=(mmsb.page.PageRecord("create", np.array([10], np.int32), 1),))
    refused("all created", records=(mmsb.page.PageRecord("delete", np.array([1], np.int32), 1),))
    assert files_of(run.place) == before


def test_a_base_is_earlier():
    run = small_run()
    good = run.snapshot()
    run.commit(4, [0])
    later = write_checkpoint(run.place, run.snapshot())
    with pytest.raises(InvalidArgumentError, match="an earlier one"):
        write_checkpoint(run.place, good, base=later)
    assert checkpoints(run.place) == [later]


def test_bad_arguments_of_readers(tmp_path):
    run = small_run()
    opened = open_checkpoint(run.place, write_checkpoint(run.place, run.snapshot()))
    for ids in ([-1], [CAPACITY], [2**40]):
        with pytest.raises(InvalidArgumentError, match="0 to 9"):
            opened.pages(ids)
    for ids in ([0.5], [[1]], 3, ["a"], [True]):
        with pytest.raises(InvalidTypeError, match="flat list"):
            opened.epochs(ids)
    with pytest.raises(LogNotFoundError):
        checkpoints(tmp_path / "nothing")
    with pytest.raises(LogNotFoundError):
        open_checkpoint(MemoryStorage(), CheckpointInfo(0, 0))
    with pytest.raises(FileNotFoundError):
        remove_checkpoint(run.place, CheckpointInfo(0, 0))
