"""What once went wrong when runs were recorded, or was taken without a word: each by itself."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax import InvalidArgumentError, InvalidTypeError
from mmsb_jax.page import MemoryStorage, TransactionLog, compact, open_checkpoint, read_frames, remove_checkpoint
from mmsb_jax.testing import assert_replay_identical, assert_runs_identical
from tests.recorded import same, states_of


@pytest.mark.parametrize(("size", "dtype"), [(70, "complex64"), (75, "float32"), (300, "int8"), (130, "float16")])
def test_a_sweep_over_pages_and_the_tail_behind_them(size, dtype):
    """One element a step: the leaf's end is no whole page, so it is recorded in another way."""

    def one(s):
        return s["n"] + 1, s["x"].at[(7 * s["n"]) % size].add(jnp.asarray(1, dtype))

    def three(s):
        here = jnp.clip(s["n"] * 3 % size, 0, size - 3)
        return s["n"] + 1, jax.lax.dynamic_update_slice(s["x"], jnp.full(3, s["n"] % 100).astype(dtype), (here,))

    for function in (one, three):
        step = lambda s, function=function: dict(zip("nx", function(s), strict=True))  # noqa: E731
        init = {"n": jnp.int32(0), "x": jnp.zeros(size, dtype)}
        run = mmsb.record(step, init, size, path=MemoryStorage(), page_bytes=64)
        for (epoch, found), wanted in zip(run.iterate(), states_of(step, init, size), strict=True):
            assert same(found, wanted), f"epoch {epoch}"
        run.verify()


def double(x):
    return x * 2


def test_a_recorder_begins_a_new_run_only(run_dir):
    with mmsb.start(run_dir) as bus:
        bus.create_page(8, name="a")
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    with pytest.raises(InvalidArgumentError, match="holds a run already; a Recorder begins a new one"):
        mmsb.Recorder(run_dir, jnp.ones(3))
    with pytest.raises(InvalidArgumentError, match="is the run of a bus"):
        mmsb.record(double, jnp.ones(3), 5, path=run_dir, resume=True)
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("act", ["write", "delete"])
def test_a_run_that_a_bus_has_changed_is_not_taken_for_the_state_of_a_step(act, run_dir):
    mmsb.record(double, jnp.ones(3), 4, path=run_dir)
    with mmsb.start(run_dir) as bus:
        if act == "write":
            bus.update_page(bus.pages[0], np.full(256, 7, np.float32))
        else:
            bus.delete_page(bus.pages[0])
    with pytest.raises(InvalidArgumentError, match="a bus has written to this run where no leaf lies, or has deleted"):
        mmsb.record(double, jnp.ones(3), 6, path=run_dir, resume=True)
    mmsb.open_run(run_dir).verify()


def test_a_recorder_refuses_another_tree_and_ticks_that_are_none():
    x = jnp.arange(3.0)
    with mmsb.Recorder(MemoryStorage(), x) as recorder:
        with pytest.raises(InvalidArgumentError, match="another tree than the recorder was made with"):
            recorder.init(x + 7)
        tape = recorder.init(x)
        with pytest.raises(InvalidTypeError, match=r"got a tick of float32\[\]; pass one integer"):
            recorder.update(tape, x, 1.5)
        with pytest.raises(InvalidArgumentError, match="got tick=0; the initial state has tick 0"):
            recorder.update(tape, x, 0)
        late = jax.jit(recorder.update)(tape, x + 1, jnp.int32(-5))
        with pytest.raises(InvalidArgumentError, match="an update had the tick -5"):
            recorder.drain(late)


def add(x, y):
    return x + y


@pytest.mark.parametrize(
    ("xs", "error", "text"),
    [
        (np.array([2**40 + 5, 1, 2]), InvalidArgumentError, "int32 can't hold"),
        (iter([1.0, 2.0]), InvalidArgumentError, "has shape|an iterator gives pieces of one form"),
        (iter([np.zeros(1), np.zeros((2, 2))]), InvalidArgumentError, "an iterator gives pieces of one form"),
        (iter([np.zeros(1), {"a": np.zeros(2)}]), InvalidArgumentError, "an iterator gives pieces of one form"),
        (jax.random.split(jax.random.key(0), 3), InvalidTypeError, "xs holds typed keys"),
        (np.array([None, None, None]), InvalidTypeError, "xs holds object"),
    ],
)
def test_bad_inputs_are_named(xs, error, text):
    with pytest.raises(error, match=text):
        mmsb.record(add, jnp.float32(0), 3, path=MemoryStorage(), xs=xs)


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_no_run_without_a_name(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for act in (lambda: mmsb.record(double, jnp.ones(3), 5, path=path), lambda: mmsb.open_run(path)):
        with pytest.raises(InvalidArgumentError, match="pass the path of its directory"):
            act()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("ask", "error", "text"),
    [
        (lambda run: run.at(time=float("nan")), InvalidArgumentError, "got the time nan; pass seconds since 1970"),
        (lambda run: run.at(time=1e300), InvalidArgumentError, "got the time 1e[+]300"),
        (lambda run: run.bisect(3), InvalidTypeError, "got a int to look for; pass a function of the tree"),
        (
            lambda run: run.first_difference("p"),
            InvalidTypeError,
            "got a str where a Run is needed: mmsb.open_run opens one",
        ),
    ],
)
def test_bad_questions_are_named(ask, error, text):
    run = mmsb.record(double, jnp.ones(3), 2, path=MemoryStorage())
    with pytest.raises(error, match=text):
        ask(run)


def test_elements_that_share_a_word_are_told_apart():
    def step(s):
        n = s["n"]
        return {
            "n": n + 1,
            "bytes": s["bytes"].at[(n * 5) % 37].add(1),
            "flags": s["flags"].at[(n * n) % 11].set(True),
            "halves": s["halves"].at[(3 * n) % 7].multiply(jnp.bfloat16(1.5)),
        }

    init = {
        "n": jnp.int32(0),
        "bytes": jnp.zeros(37, jnp.int8),
        "flags": jnp.zeros(11, bool),
        "halves": jnp.ones(7, jnp.bfloat16),
    }
    run = mmsb.record(step, init, 40, path=MemoryStorage(), page_bytes=16)
    states = list(states_of(step, init, 40))
    for name in init:
        wanted, changed = np.zeros(init[name].shape, int), [0]
        for epoch in range(1, 41):
            differs = np.asarray(states[epoch][name] != states[epoch - 1][name])
            wanted = np.where(differs, epoch, wanted)
            changed += [epoch] * bool(differs.any())
        np.testing.assert_array_equal(run.blame(name).epoch, wanted, name)
        assert [write.epoch for write in run.page_history(name)] == changed


@pytest.mark.parametrize(
    ("call", "wrong", "says"),
    [
        (lambda run, _: run.blame("x").at(9), InvalidArgumentError, "index (9,) into ['x'] of shape (3,)"),
        (lambda run, _: run.blame("x").at("a"), InvalidArgumentError, "one whole number a dimension"),
        (lambda run, _: run.blame("x").at(), InvalidArgumentError, "one whole number a dimension"),
        (lambda run, _: run.to_arrow(leaves=3), InvalidTypeError, "got leaves=3 of type int; pass a name"),
        (lambda run, place: compact("a path", 1), InvalidTypeError, "got a str where a TransactionLog is needed"),
        (lambda run, place: open_checkpoint(place, 3), InvalidTypeError, "got a int where a CheckpointInfo is needed"),
        (lambda run, place: remove_checkpoint(place, 3), InvalidTypeError, "got a int where a CheckpointInfo"),
        (lambda run, place: list(read_frames(place, start="a")), InvalidTypeError, "got start='a'; pass the number"),
        (lambda run, place: list(read_frames(place, stop=1.5)), InvalidTypeError, "got stop=1.5; pass the number"),
        (lambda run, _: assert_runs_identical(run, 4), InvalidTypeError, "got a int where a Run is needed"),
        (lambda run, _: assert_replay_identical(double, 1.0, 4, cuts=3), InvalidTypeError, "got cuts=3; pass several"),
    ],
)
def test_wrong_kinds_are_named_and_nothing_happens(call, wrong, says, run_dir):
    run = mmsb.record(lambda s: {"x": s["x"] * 2}, {"x": jnp.ones(3)}, 4, path=run_dir)
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    with pytest.raises(wrong, match=re.escape(says)):
        call(run, run_dir)
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before


def test_a_tick_that_is_no_number_is_refused_before_anything_is_merged():
    with TransactionLog.create(MemoryStorage(), page_words=1, capacity=2, fingerprint={}) as log:
        with pytest.raises(InvalidTypeError, match="got before='a'; pass a tick"):
            compact(log, "a")
        assert log.name_id("still open") == 1
