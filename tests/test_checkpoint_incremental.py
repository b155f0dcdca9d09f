"""Incremental checkpoints equal full ones, share what hasn't changed, and lose nothing when others are removed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsb_jax import CorruptCheckpointError
from mmsb_jax.page import checkpoints, open_checkpoint, remove_checkpoint, write_checkpoint
from mmsb_jax.page.checkpoint import _parts
from tests.checkpoint_runs import WORDS, SmallRun, assert_same, files_of, small_run

pytestmark = pytest.mark.unchecked

TWO_PAGES = 8 * WORDS


def folder(run):
    return {name for name in run.place.files if name.startswith("checkpoints/")}


def new_parts(run, before):
    return sum(name.endswith(".safetensors") for name in folder(run) - before)


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.sets(st.integers(0, 9), max_size=3), st.booleans(), st.integers(0, 3)),
        min_size=1,
        max_size=9,
    ),
    order=st.randoms(use_true_random=False),
)
def test_incremental_equals_full_whatever_is_removed(steps, order):
    """Ticks may stand still between a base and what builds on it; the base may be any earlier checkpoint."""
    run, kept = SmallRun(), {}
    for step, pages, on_base, which in steps:
        if pages:
            run.commit(run.log.tick + step, sorted(pages))
        base = list(kept)[which % len(kept)] if on_base and kept else None
        kept[write_checkpoint(run.place, run.snapshot(), base=base, part_bytes=TWO_PAGES)] = run.snapshot()
    assert checkpoints(run.place) == sorted(kept)
    for info in order.sample(list(kept), len(kept)):
        for each, snapshot in kept.items():
            assert_same(open_checkpoint(run.place, each).load(), snapshot)
        remove_checkpoint(run.place, info)
        del kept[info]
    assert folder(run) == set()


def test_only_parts_with_changes_are_written():
    run = SmallRun()
    run.commit(1, range(10))
    base = write_checkpoint(run.place, run.snapshot(), part_bytes=TWO_PAGES)
    run.commit(2, [4])
    before = folder(run)
    info = write_checkpoint(run.place, run.snapshot(), base=base)
    assert new_parts(run, before) == 1
    opened = open_checkpoint(run.place, info)
    assert opened.shared_files == 5  # four parts and the catalogue
    assert opened.layout == open_checkpoint(run.place, base).layout
    assert len(folder(run) - before) == 2


def test_a_page_written_again_in_the_tick_of_the_base_is_no_page_unchanged():
    run = SmallRun()
    run.commit(0, range(4))  # at tick 0, where even pages never written have the epoch
    for tick in (0, 3):
        run.commit(tick, [6])
        base = write_checkpoint(run.place, run.snapshot(), part_bytes=TWO_PAGES)
        run.commit(tick, [2])
        before = folder(run)
        info = write_checkpoint(run.place, run.snapshot(), base=base)
        assert new_parts(run, before) == 1
        assert_same(open_checkpoint(run.place, info).load(), run.snapshot())


def test_what_is_deleted_is_not_shared():
    run = SmallRun()
    run.create([2, 3], "wind")
    run.commit(1, [2, 3, 8])
    base = write_checkpoint(run.place, run.snapshot(), part_bytes=TWO_PAGES)
    run.log.append_pages(2, [run.records[0].__class__("delete", run.records[0].pages)])
    run.pages[[2, 3]], run.epoch[[2, 3]] = 0, 2
    run.records.clear()
    opened = open_checkpoint(run.place, write_checkpoint(run.place, run.snapshot(), base=base))
    assert_same(opened.load(), run.snapshot())
    assert opened.shared_files == 1


def test_a_catalogue_is_shared_until_it_changes():
    run = small_run()
    base = write_checkpoint(run.place, run.snapshot())
    run.commit(4, [1])
    catalogues = {name for name in folder(run) if name.endswith(".frames")}
    same = write_checkpoint(run.place, run.snapshot(), base=base)
    assert {name for name in folder(run) if name.endswith(".frames")} == catalogues
    run.create([5], "new")
    other = write_checkpoint(run.place, run.snapshot(), base=same)
    assert len({name for name in folder(run) if name.endswith(".frames")}) == 2
    assert open_checkpoint(run.place, other).catalog.records[-1].name == "new"
    assert len(open_checkpoint(run.place, same).catalog.records) == 2


def test_a_damaged_part_of_the_base_is_written_anew_where_it_is_looked_at():
    run = SmallRun()
    run.commit(1, range(10))
    base = write_checkpoint(run.place, run.snapshot(), part_bytes=TWO_PAGES)
    part = min(name for name in folder(run) if name.endswith(".safetensors"))
    run.place.files[part][-1] ^= 1
    run.commit(1, [9])  # in the tick of the base, so all are compared
    info = write_checkpoint(run.place, run.snapshot(), base=base)
    assert open_checkpoint(run.place, info).shared_files == 4
    assert_same(open_checkpoint(run.place, info).load(), run.snapshot())


def test_writing_the_same_moment_again_shares_everything():
    run = small_run()
    base = write_checkpoint(run.place, run.snapshot(), part_bytes=TWO_PAGES)
    before = files_of(run.place)
    assert write_checkpoint(run.place, run.snapshot(), base=base) == base
    assert files_of(run.place) == before


def test_leftovers_are_cleared_away_and_nothing_else():
    run = small_run()
    info = write_checkpoint(run.place, run.snapshot())
    stem = "checkpoints/0000000002-00000000000000000005"
    strangers = {
        "checkpoints/notes.txt": b"mine",
        "checkpoints/notes.new": b"mine",
        "checkpoints/x.safetensors": b"mine",
    }
    left = {f"{stem}.00000.safetensors": b"", f"{stem}.00001.frames.new": b"", f"{info.name}.new": b""}
    run.place.files.update({name: bytearray(data) for name, data in {**strangers, **left}.items()})
    run.commit(4, [1])
    write_checkpoint(run.place, run.snapshot(), base=info)
    assert left.keys().isdisjoint(run.place.files)
    assert strangers.keys() <= run.place.files.keys()
    assert_same(open_checkpoint(run.place, checkpoints(run.place)[-1]).load(), run.snapshot())


def test_while_a_manifest_cannot_be_read_no_part_is_removed():
    run = small_run()
    first = write_checkpoint(run.place, run.snapshot(), part_bytes=TWO_PAGES)
    run.commit(4, [1])
    second = write_checkpoint(run.place, run.snapshot(), base=first)
    run.place.files[second.name][-1] ^= 1
    before = folder(run)
    remove_checkpoint(run.place, first)
    assert folder(run) == before - {first.name}  # the damaged one may share any of them
    run.place.files[second.name][-1] ^= 1
    assert_same(open_checkpoint(run.place, second).load(), run.snapshot())
    run.place.files[second.name][-1] ^= 1
    remove_checkpoint(run.place, second)
    assert folder(run) == set()


@pytest.mark.parametrize("threads", [False, True])
def test_parts_by_several_threads(run_dir, monkeypatch, threads):
    monkeypatch.setattr(_parts, "_WORTH_THREADS", 0 if threads else 1 << 60)
    run = SmallRun(run_dir, capacity=100)
    run.commit(1, range(100))
    info = write_checkpoint(run_dir, run.snapshot(), part_bytes=TWO_PAGES)
    assert_same(open_checkpoint(run_dir, info).load(), run.snapshot())
    part = max((run_dir / "checkpoints").glob("*.safetensors"))
    part.write_bytes(bytes([*part.read_bytes()[:-1], 255]))
    with pytest.raises(CorruptCheckpointError, match=part.name):
        open_checkpoint(run_dir, info).load()
