"""Any moment of a run, against the trees it was made of."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax import InvalidArgumentError, InvalidTypeError, PageNotFoundError
from mmsb_jax.page import MemoryStorage
from tests.recordings import START, write_pages, write_recording

STEPS = 11


class Pair(NamedTuple):
    left: object
    right: object


def trees(rng, steps=STEPS):
    """A field of which one element changes each step, a counter, a key, a field that changes once, halves, a None."""
    field = rng.normal(size=(5, 7)).astype(np.float32)
    halves = rng.normal(size=9).astype(np.float16)
    found = []
    for step in range(steps):
        field = field.copy()
        if step:
            field.reshape(-1)[step] = np.nan if step == 6 else step
            halves = halves + np.float16(step == 4)
        found.append({"field": field, "n": np.int32(step), "key": jax.random.key(step), "p": [None, Pair(halves, ())]})
    return found


def same(a, b):
    flat = [jax.tree.leaves(tree) for tree in (a, b)]
    assert len(flat[0]) == len(flat[1])
    for one, other in zip(*flat, strict=True):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(*(np.atleast_1d(np.asarray(x)).view(np.uint8) for x in (one, other)))


@pytest.fixture
def recorded(rng):
    storage, made = MemoryStorage(), trees(rng)
    write_recording(storage, made, segment_bytes=2000)
    return mmsb.open_run(storage, like=made[0]), made


def test_every_epoch_comes_back(recorded):
    run, made = recorded
    assert (run.first, run.last, len(run)) == (0, STEPS - 1, STEPS)
    for epoch, tree in enumerate(made):
        found = run.at(epoch)
        same(found, tree)
        assert jax.tree.structure(found) == jax.tree.structure(tree)
        same(run.at(step=epoch - STEPS), tree)
    same(run.final, made[-1])


def test_without_a_template_plain_containers_come_back(recorded):
    run, made = recorded
    plain = mmsb.open_run(run.path).at(4)
    assert sorted(plain) == ["field", "key", "n", "p"]
    assert plain["p"][0] is None
    assert dict(plain["p"][1])["left"].dtype == np.float16
    same(plain, made[4])


def test_a_template_that_was_not_recorded_is_refused(recorded):
    run, made = recorded
    with pytest.raises(InvalidArgumentError, match=r"like has int32\[1\] at .* recorded was int32\[\]"):
        mmsb.open_run(run.path, like=made[0] | {"n": np.int32([1])})
    with pytest.raises(InvalidArgumentError, match="2 leaves, but recorded were 4"):
        mmsb.open_run(run.path, like={"field": made[0]["field"], "key": made[0]["key"]})


def test_the_walk_shows_every_step_and_holds_one(recorded):
    run, made = recorded
    seen = list(run)
    assert [epoch for epoch, _ in seen] == list(range(STEPS))
    for epoch, tree in seen:
        same(tree, made[epoch])
    assert [epoch for epoch, _ in run.iterate(2, 9, every=3)] == [2, 5, 8]
    for epoch, tree in run.iterate(2, 9, every=3):
        same(tree, made[epoch])
    assert [epoch for epoch, _ in run.iterate(-1)] == [STEPS - 1]


def test_moments_by_time(recorded):
    run, made = recorded
    # Chunks of three steps were committed in the seconds after their last step.
    same(run.at(time=START + 7.5), made[6])
    same(run.at(time=datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=START + 4)), made[3])
    with pytest.raises(InvalidArgumentError, match="no time zone"):
        run.at(time=datetime(2026, 1, 1))
    with pytest.raises(InvalidArgumentError, match="nothing had been committed"):
        run.at(time=-1)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda run: run.at(), InvalidArgumentError, "0 of epoch, step and time"),
        (lambda run: run.at(1, step=1), InvalidArgumentError, "2 of epoch, step and time"),
        (lambda run: run.at(STEPS), InvalidArgumentError, "got epoch 11, but this run has 0 to 10"),
        (lambda run: run.at(step=-12), InvalidArgumentError, "got step -12"),
        (lambda run: run.at("3"), InvalidTypeError, "pass a whole number"),
        (lambda run: run.at(time="noon"), InvalidTypeError, "pass a datetime"),
        (lambda run: run.at(1, member=0), InvalidArgumentError, "is no ensemble"),
        (lambda run: run.blame("fied"), PageNotFoundError, "did you mean"),
        (lambda run: run.blame(99), PageNotFoundError, "nothing lies on page 99"),
        (lambda run: run.blame(run.about.paging.leaf("['n']").first_page), InvalidArgumentError, "several parts"),
        (lambda run: run.blame(None), InvalidTypeError, "pass a leaf"),
        (lambda run: run.diff(5, 99), InvalidArgumentError, "got epoch 99"),
        (lambda run: list(run.iterate(5, 2)), InvalidArgumentError, "swap them"),
        (lambda run: list(run.iterate(every=0)), InvalidArgumentError, "every=0"),
        (lambda run: run.bisect(lambda tree: False), InvalidArgumentError, "doesn't hold at epoch 10"),
        (lambda run: mmsb.open_run(3), InvalidTypeError, "pass the path"),
    ],
)
def test_what_can_not_be_asked(recorded, call, error, text):
    with pytest.raises(error, match=text):
        call(recorded[0])


def test_between_recorded_steps_there_is_nothing(rng):
    storage, made = MemoryStorage(), trees(rng, 4)
    write_recording(storage, made, every=10)
    run = mmsb.open_run(storage)
    assert run.epochs.tolist() == [0, 10, 20, 30]
    same(run.at(20), made[2])
    with pytest.raises(InvalidArgumentError, match="every 10th step was recorded; the nearest are 20 and 30"):
        run.at(25)


def test_diff_names_what_differs(recorded):
    run, made = recorded
    difference = run.diff(3, 5)
    assert [part.name for part in difference.parts] == ["['field']", "['key']", "['n']", "['p'][1].left"]
    field = difference.parts[0]
    np.testing.assert_array_equal(field.elements, [4, 5])
    np.testing.assert_array_equal(field.new[field.indices], made[5]["field"][field.indices])
    np.testing.assert_array_equal(field.old[field.indices], made[3]["field"][field.indices])
    text = str(difference)
    assert text.startswith("epoch 3 -> 5: 4 parts differ\n['field']: 2 of 35 elements, on 1 page\n    [0, 4]: ")
    assert "['n']: 1 of 1 elements, on 1 page\n    value: 3 -> 5" in text
    assert len(difference.parts[-1].elements) == 9
    assert not run.diff(7, 7)
    assert str(run.diff(7, 7)) == "epoch 7 -> 7: nothing differs"


def test_blame_is_the_last_writer_of_every_element(recorded):
    run, _ = recorded
    for epoch in (0, 5, STEPS - 1):
        expected = np.zeros(35, int)
        expected[1 : epoch + 1] = np.arange(1, epoch + 1)
        found = run.blame("field", epoch=epoch)
        np.testing.assert_array_equal(found.epoch, expected.reshape(5, 7))
    assert found.at(0, 0).source == "init"
    assert found.at(0, 3) == (3, "step", "", (START + 4) * 10**9)
    assert set(run.blame("['p'][1].left").epoch.tolist()) == {4}
    assert run.blame("n").epoch == STEPS - 1
    assert "         3             1  step" in str(found)


def test_page_history_lists_commits(recorded):
    run, _ = recorded
    assert [write.epoch for write in run.page_history("['p'][1].left")] == [0, 4]
    assert [write.epoch for write in run.page_history("n", first=3, last=5)] == [3, 4, 5]
    page = int(run.about.paging.leaf("['field']").first_page)
    assert [write.source for write in run.page_history(page)] == ["init"] + ["step"] * (STEPS - 1)


def test_the_history_of_one_page_is_not_that_of_its_leaf():
    """A leaf on three pages, of which each step writes another one."""
    storage, field = MemoryStorage(), np.zeros(48, np.float32)
    made = [field]
    for step in range(6):
        field = field.copy()
        field[16 * (step % 3)] += 1
        made.append(field)
    write_recording(storage, [{"u": field} for field in made], page_bytes=64)
    run = mmsb.open_run(storage)
    assert [write.epoch for write in run.page_history(1)] == [0, 2, 5]
    assert [write.epoch for write in run.page_history("u")] == list(range(7))


def test_bisect_finds_the_first_epoch(recorded):
    run, _ = recorded
    looked = []

    def has_nan(tree):
        looked.append(int(tree["n"]))
        return np.isnan(tree["field"]).any()

    assert run.bisect(has_nan) == 6
    assert len(looked) <= 6
    assert run.bisect(lambda tree: True) == 0
    assert run.bisect(lambda tree: tree["n"] >= 9, first=3) == 9


def test_an_ensemble_has_members(rng):
    members = 3
    paging = mmsb.Paging.like({"x": np.zeros(20, np.float32), "n": 0}, page_bytes=64)
    made = rng.normal(size=(4, members, 20)).astype(np.float32)
    pages = [
        np.concatenate([paging.to_pages({"x": x, "n": np.int32(10 * step + m)}) for m, x in enumerate(each)])
        for step, each in enumerate(made)
    ]
    storage = MemoryStorage()
    write_pages(storage, paging, pages, members=members)
    run = mmsb.open_run(storage)
    np.testing.assert_array_equal(run.at(2)["x"], made[2])
    np.testing.assert_array_equal(run.at(2)["n"], [20, 21, 22])
    np.testing.assert_array_equal(run.at(3, member=1)["x"], made[3, 1])
    assert run.diff(1, 2).parts[1].member == 0
    assert (run.blame("x", member=2).epoch == 3).all()
    with pytest.raises(InvalidArgumentError, match="pass member="):
        run.blame("x")
    with pytest.raises(InvalidArgumentError, match="members 0 to 2"):
        run.at(1, member=3)


def test_the_history_of_a_bus():
    with mmsb.start(page_bytes=16, capacity=8) as bus:
        wind, rain = bus.create_page(8, name="wind"), bus.create_page(20)
        bus.update_page(wind, np.float32([1, 2]), source="sensor", intent="morning")
        bus.update_page(rain, np.arange(20, dtype=np.uint8))
        bus.update_page(wind, np.float32([1, 3]), source="sensor")
        bus.delete_page(rain)
        run = bus.history()
        assert run.about is None
        assert sorted(run.at(2)) == ["page 1", "wind"]
        np.testing.assert_array_equal(run.at(2)["page 1"], np.arange(20))
        assert sorted(run.final) == ["wind"]
        changed = run.diff(2, run.last)
        assert changed.vanished == ("page 1",)
        assert changed.parts[0].name == "wind"
        assert run.blame("wind").at(0) == run.blame("wind").at(3)
        assert run.blame("wind").at(0).intent == "morning"
        assert [write.epoch for write in run.page_history("wind")] == [1, 3]
        assert [epoch for epoch, _ in run] == list(range(run.last + 1))
        with pytest.raises(InvalidArgumentError, match="that of a bus"):
            mmsb.open_run(run.path, like={})
