"""Breaks: runs that are resumed, interrupted, or killed; disks that fill up; and what is refused."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax.page import FrameKind, MemoryStorage, TransactionLog, read_frames, replay_log
from mmsb_jax.page.log._about import About
from mmsb_jax.page.recorder import _plan
from mmsb_jax.page.recorder._chunk import run_chunk
from mmsb_jax.physical import Paging
from tests.recorded import check_log, same

PAGE = 64


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_plan, "_LEAST_BYTES", 1 << 13)
    monkeypatch.setattr(_plan, "_SOME_STATES", 0)


def drift(s: dict[str, Any], x: Any) -> tuple[dict[str, Any], Any]:
    """Rounds at every step, so that other code would give other bits."""
    t, field = s["t"], s["field"]
    near = jnp.abs(jnp.arange(640) - 5 * t) < 9
    field = jnp.where(near, jnp.sin(field * 1.1 + x) / 3, field) * 0.999
    return {"t": t + 1, "field": field, "hits": s["hits"].at[(t * t) % 640].add(x)}, field.mean()


INIT = {"t": 0, "field": jnp.linspace(0, 1, 640), "hits": jnp.zeros(640)}
XS = np.linspace(0, 1, 60, dtype=np.float32)


def record(steps: int, place: Any, **options: Any) -> mmsb.Run:
    settings = {"step": drift, "init": INIT, "xs": XS, "page_bytes": PAGE, "every": 2} | options
    return mmsb.record(settings.pop("step"), settings.pop("init"), steps, path=place, **settings)


@pytest.fixture(scope="module")
def unbroken() -> mmsb.Run:
    return record(60, MemoryStorage())


@pytest.mark.parametrize("cuts", [[60], [2], [7, 30, 31], [0, 59]])
def test_a_resumed_run_has_the_bits_of_an_unbroken_one(cuts, unbroken):
    storage = MemoryStorage()
    for steps in [*cuts, 60]:
        run = record(steps, storage, resume=True)
        assert run.last == steps
    for epoch in range(0, 61, 2):
        assert same(run.at(epoch), unbroken.at(epoch))
    check_log(storage)


def test_resuming_compiles_nothing(unbroken):
    storage = MemoryStorage()
    record(10, storage)
    before = run_chunk._cache_size()
    record(60, storage, resume=True)
    assert run_chunk._cache_size() == before


def test_what_is_done_is_done(unbroken):
    storage = MemoryStorage()
    record(20, storage)
    frames = len(list(read_frames(storage)))
    assert record(12, storage, resume=True).last == 20
    assert len(list(read_frames(storage))) == frames


class Full(MemoryStorage):
    """A disk with room for so many commits."""

    room = 1 << 62

    def write(self, name, offset, buffers):
        """As usual, while there is room."""
        if name.endswith(".seg"):
            if self.room == 0:
                raise OSError(28, "No space left on device")
            self.room -= 1
        super().write(name, offset, buffers)


@pytest.mark.parametrize("room", [0, 1, 2, 3, 4])
def test_a_run_that_was_hardly_begun_is_begun_again(room, unbroken):
    storage = Full()
    storage.room = room
    with pytest.raises(mmsb.LogFailedError):
        record(6, storage)
    storage.room = 1 << 62
    run = record(6, storage, resume=True)
    assert same(run.at(0), unbroken.at(0))
    assert same(run.at(6), unbroken.at(6))
    kinds = [frame.kind for frame in read_frames(storage)]
    assert kinds.count(FrameKind.PAGES) == 1
    assert kinds.index(FrameKind.PAGES) < kinds.index(FrameKind.CHANGES)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"every": 3}, "recorded with every=2, and now every=3"),
        ({"page_bytes": 128}, "on pages of 64 bytes, and now page_bytes=128"),
        ({"init": INIT | {"hits": jnp.zeros(641)}}, r"has the leaf .*hits.*640.*641.* in its place"),
    ],
)
def test_a_run_goes_on_as_it_was_begun(options, why):
    storage = MemoryStorage()
    record(4, storage)
    files = {name: bytes(data) for name, data in storage.files.items()}
    with pytest.raises(mmsb.InvalidArgumentError, match=why):
        record(8, storage, resume=True, **options)
    assert {name: bytes(data) for name, data in storage.files.items()} == files


def test_the_run_of_a_bus_is_not_recorded_over(run_dir):
    with mmsb.start(run_dir) as bus:
        bus.update_page(bus.create_page(4), np.int32(3))
    with pytest.raises(mmsb.InvalidArgumentError, match="the run of a bus"):
        record(4, run_dir, resume=True)
    with pytest.raises(mmsb.InvalidArgumentError, match="holds a run already; pass resume=True"):
        record(4, run_dir)


def plain(x: jax.Array) -> jax.Array:
    return x + 1


@pytest.mark.parametrize(
    ("change", "error", "why"),
    [
        (
            {"step": lambda x: x[:3]},
            TypeError,
            r"the state, a single leaf, as float32\[4\] and returns it as float32\[3\]",
        ),
        ({"step": lambda x: x > 0}, TypeError, r"returns it as bool\[4\]; a step must keep shapes and dtypes"),
        ({"step": lambda x: [x]}, TypeError, "step must return a state like the one it gets, or "),
        ({"step": lambda x: None}, TypeError, "step must return a state like the one it gets"),
        ({"step": 3}, TypeError, "got step=3; pass a function"),
        ({"init": {"a": "text", "b": np.datetime64("2020")}}, TypeError, r"\['b'\]"),
        ({"steps": -1}, ValueError, "got steps=-1; pass a number from 0"),
        ({"steps": 2.5}, TypeError, "got steps=2.5; pass a whole number"),
        ({"every": 0}, ValueError, "got every=0; pass a number from 1"),
        ({"keyframe_every": 0}, ValueError, "got keyframe_every=0"),
        ({"max_changed": 0}, ValueError, "got max_changed=0"),
        ({"page_bytes": 7}, ValueError, "page_bytes=7"),
        ({"sync": "never"}, ValueError, "sync='never'"),
        ({"select": 5}, TypeError, "got select=5; pass a function"),
        ({"select": lambda x: "text"}, ValueError, "selects nothing"),
        ({"xs": np.zeros(3), "step": lambda x, y: x}, ValueError, "10 steps are asked for"),
        ({"path": 5}, TypeError, "got a int for a run"),
    ],
)
def test_what_is_refused_leaves_nothing(change, error, why, run_dir):
    options = {"step": plain, "init": jnp.zeros(4), "steps": 10, "path": run_dir} | change
    with pytest.raises(error, match=why) as caught:
        mmsb.record(options.pop("step"), options.pop("init"), options.pop("steps"), **options)
    assert isinstance(caught.value, mmsb.MMSBError)
    assert not run_dir.exists()


def test_a_step_that_fails_leaves_nothing(run_dir):
    def broken(x):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        mmsb.record(broken, jnp.zeros(3), 4, path=run_dir)
    assert not run_dir.exists()


def test_a_leaf_is_named(run_dir):
    def step(s):
        return {"a": {"b": s["a"]["b"].astype(jnp.float16)}}

    with pytest.raises(
        mmsb.InvalidTypeError, match=r"the leaf \['a'\]\['b'\] as float32\[2\] and returns it as float16"
    ):
        mmsb.record(step, {"a": {"b": jnp.zeros(2)}}, 3, path=run_dir)


def test_a_full_disk_leaves_a_whole_log(unbroken):
    storage = Full()
    storage.room = 8
    with pytest.raises(mmsb.LogFailedError, match="No space left"):
        record(60, storage)
    storage.room = 1 << 62
    last = replay_log(storage).tick
    assert 0 < last < 60
    run = record(60, storage, resume=True)
    assert same(run.final, unbroken.final)


SCRIPT = """
import sys, time, jax.numpy as jnp, numpy as np
import mmsb_jax as mmsb
def step(x):
    return 3.9 * x * (1 - x)
print("ready", flush=True)
try:
    start = jnp.linspace(0.1, 0.9, 5_000)
    mmsb.record(step, start, 20_000_000, path=sys.argv[1], every=50, progress=False, resume=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(7)
"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 7), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGKILL, -9)]
)
def test_a_signal_leaves_a_whole_log(number, status, run_dir: Path):
    child = subprocess.Popen([sys.executable, "-c", SCRIPT, str(run_dir)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "ready"
        segments = run_dir / "log"
        deadline = time.monotonic() + 100
        while sum(path.stat().st_size for path in segments.glob("*.seg")) < 500_000:
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(child.pid, number)
        assert child.wait(60) == status
        child.stdout.close()
    finally:
        child.kill()
    found = replay_log(run_dir, checkpoints=False)
    assert 50 < found.tick < 20_000_000
    assert found.tick % 50 == 0
    assert mmsb.replay(run_dir).tick == found.tick, "the digest of the last commit is right"
    with TransactionLog.open(run_dir):
        pass  # nobody holds it


def test_an_interrupted_run_goes_on_to_the_same_bits(unbroken):
    storage = MemoryStorage()

    def xs(start: int, stop: int) -> np.ndarray:
        if start == 32:
            signal.raise_signal(signal.SIGINT)
        return XS[start:stop]

    import mmsb_jax.page.recorder._xs as module

    before, module._WINDOW_STEPS = module._WINDOW_STEPS, 8
    try:
        with pytest.raises(KeyboardInterrupt):
            record(60, storage, xs=xs)
    finally:
        module._WINDOW_STEPS = before
    last = replay_log(storage).tick
    assert 0 < last < 60
    assert same(record(60, storage, resume=True).final, unbroken.final)


def test_the_run_says_what_it_holds():
    storage = MemoryStorage()
    record(4, storage)
    (pages,) = (frame for frame in read_frames(storage) if frame.kind == FrameKind.PAGES)
    about = About.of_records(pages.pages())
    assert about is not None
    assert about.every == 2
    assert about.paging == Paging.like(
        ({"t": 0, "field": INIT["field"], "hits": INIT["hits"]}, jnp.float32(0)), page_bytes=PAGE
    )
    assert [record.name for record in pages.pages()][:2] == ["[0]['field']", "[0]['hits']"]
