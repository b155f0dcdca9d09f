"""`record`: any state and any step; what is read back is what a plain loop goes through, bit for bit."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax.page import MemoryStorage
from mmsb_jax.page.recorder import _plan
from mmsb_jax.page.recorder._job import Job
from mmsb_jax.page.recorder._lanes import How
from tests.recorded import changes_of, check_log, rich_state, rich_step, same, states_of

PAGE = 64  # bytes


def record(step: Any, init: Any, steps: int, place: Any = None, **options: Any) -> mmsb.Run:
    place = MemoryStorage() if place is None else place
    return mmsb.record(step, init, steps, path=place, **{"page_bytes": PAGE} | options)


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks, and changes that don't fit."""
    monkeypatch.setattr(_plan, "_LEAST_BYTES", 1 << 13)
    monkeypatch.setattr(_plan, "_SOME_STATES", 0)


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[frozenset[int]]:
    """Which leaves are recorded as a whole, plan after plan."""
    found: list[frozenset[int]] = []

    def noted(*args: Any, **options: Any) -> Any:
        found.append(options["whole"])
        return _plan.planned(*args, **options)

    monkeypatch.setattr("mmsb_jax.page.recorder._job.planned", noted)
    return found


def treatments(step: Any, init: Any, **options: Any) -> dict[str, How]:
    job = Job(step, init, 10, options.get("every", 1), None, None, PAGE)
    layout = job.planner(None)(options.get("whole", frozenset()), None).layout
    return {job.paging.leaves[lane.number].path[2:-2]: lane.how for lane in layout.lanes}


def test_each_leaf_gets_the_treatment_it_is_meant_for():
    found = treatments(rich_step, rich_state())
    wanted = {"listed": How.LISTED, "halves": How.LISTED, "flags": How.LISTED, "flagged": How.FLAGGED}
    wanted |= {"compared": How.COMPARED, "whole": How.COMPARED, "phase": How.COMPARED, "fixed": How.FIXED}
    assert found == wanted
    every = treatments(rich_step, rich_state(), every=3)
    assert {every[name] for name in ("listed", "halves", "flags", "flagged")} == {How.FLAGGED}


@pytest.mark.parametrize(("every", "steps"), [(1, 25), (3, 25)])
def test_every_recorded_state_is_that_of_a_plain_loop(every, steps, small_buffers):
    storage = MemoryStorage()
    run = record(rich_step, rich_state(), steps, storage, every=every)
    assert (run.first, run.last) == (0, steps)
    for epoch, state in enumerate(states_of(rich_step, rich_state(), steps)):
        if epoch % every == 0 or epoch == steps:
            assert same(run.at(epoch), state), f"epoch {epoch}"
    check_log(storage)
    assert len(changes_of(storage)) > 3
    assert all(frame.tick % every == 0 or frame.tick == steps for frame in changes_of(storage))


def test_the_result_is_that_of_scan(small_buffers):
    init = rich_state()
    body = init.pop("body")  # scan takes no functions

    def step(s):
        return {name: leaf for name, leaf in rich_step(s | {"body": body}).items() if name != "body"}

    final, _ = jax.lax.scan(lambda s, _: (step(s), None), init, None, length=12)
    assert same(record(step, init, 12).final, final)


def dense(x: jax.Array) -> jax.Array:
    return jnp.cos(x) * 0.9 + 0.01


def test_a_leaf_that_changes_throughout_is_recorded_as_a_whole(plans):
    storage, init = MemoryStorage(), jnp.arange(640, dtype=jnp.float32)
    run = record(dense, init, 40, storage)
    assert plans == [frozenset(), frozenset({0})]
    for epoch, state in enumerate(states_of(dense, init, 40)):
        assert same(run.at(epoch), state)
    check_log(storage)
    plans.clear()
    record(dense, init, 5, max_changed=40)
    assert plans == [frozenset()], "who says that everything may change gets it at once"


def calm(s: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
    t, x = s
    return t + 1, x + jnp.where((t < 12) | (jnp.arange(640) < 3), 1.0, 0.0)


def test_a_leaf_that_calms_down_is_compared_again(plans, small_buffers):
    storage = MemoryStorage()
    run = record(calm, (0, jnp.zeros(640)), 60, storage)
    assert plans == [frozenset(), frozenset({1}), frozenset()]
    assert [run.at(epoch)[1].sum() for epoch in (12, 13, 60)] == [7680, 7683, 7824]
    check_log(storage)


def bursts(s: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
    """Now and then far more changes than before."""
    t, x = s
    return t + 1, x + jnp.where(jnp.arange(2000) < jnp.where(t % 9 == 8, 1500, 3), 1.0, 0.0)


@pytest.mark.parametrize("max_changed", [None, 4])
def test_what_does_not_fit_is_in_the_log_all_the_same(max_changed, monkeypatch):
    monkeypatch.setattr(_plan, "_LEAST_BYTES", 50 * 76)
    monkeypatch.setattr(_plan, "_SOME_STATES", 0)
    settled = []
    from mmsb_jax.page.recorder._engine import Engine

    settle = Engine.settle
    monkeypatch.setattr(Engine, "settle", lambda self, *args: settled.append(args[1]) or settle(self, *args))
    storage, init = MemoryStorage(), (0, jnp.zeros(2000))
    run = record(bursts, init, 40, storage, max_changed=max_changed)
    for epoch, state in enumerate(states_of(bursts, init, 40)):
        assert same(run.at(epoch), state), f"epoch {epoch}"
    check_log(storage)
    assert settled[0] == 9
    assert len(settled) < 4, "room is made for what was seen"


def test_inputs_and_outputs(monkeypatch):
    monkeypatch.setattr("mmsb_jax.page.recorder._xs._WINDOW_STEPS", 8)
    xs = {"push": np.arange(30, dtype=np.float32), "at": np.arange(30) % 5}

    def step(x, inputs):
        new = x.at[inputs["at"]].add(inputs["push"])
        return new, {"sum": new.sum(), "old": x}

    run = record(step, jnp.zeros(5), 30, xs=xs, every=3)
    x, out = np.zeros(5, np.float32), {}
    assert same(run.at(0), (x, {"sum": np.float32(0), "old": x}))
    for epoch in range(1, 31):
        out, x = {"old": x.copy()}, x.copy()
        x[xs["at"][epoch - 1]] += xs["push"][epoch - 1]
        if epoch % 3 == 0:
            assert same(run.at(epoch), (x, out | {"sum": x.sum()}))


def walk(s):
    t = s["t"]
    return {"t": t + 1, "x": s["x"].at[(7 * t) % 640].add(1.0), "y": s["y"] * 0.5}


def test_a_part_of_the_state(run_dir):
    def select(state):
        return {"sum": state["y"].sum(), "x": [state["x"]]}

    init = {"t": 0, "x": jnp.zeros(640), "y": jnp.ones(640)}
    run = record(walk, init, 10, run_dir, select=select)
    for epoch, state in enumerate(states_of(walk, init, 10)):
        assert same(run.at(epoch), {"sum": np.float32(state["y"].sum()), "x": [state["x"]]})
    job = Job(walk, init, 10, 1, None, select, PAGE)
    assert [lane.how for lane in job.planner(None)(frozenset(), None).layout.lanes] == [How.LISTED]
    with pytest.raises(mmsb.InvalidArgumentError, match="resume=True and select"):
        record(walk, init, 20, run_dir, select=select, resume=True)
    with pytest.raises(mmsb.InvalidArgumentError, match="recorded only a part of its state"):
        record(walk, init, 20, run_dir, resume=True)


def test_the_initial_state_is_neither_donated_nor_shared():
    init = {"x": jnp.zeros(1000), "t": 3}
    record(lambda s: s | {"x": s["x"].at[4].add(1.0)}, init, 5)
    assert float(init["x"].sum()) == 0


def test_no_steps_is_a_run_of_one_state():
    run = record(rich_step, rich_state(), 0)
    assert (run.first, run.last) == (0, 0)
    assert same(run.final, next(states_of(rich_step, rich_state(), 0)))


def test_numbers_get_the_types_that_scan_gives_them():
    def step(s):
        return {"n": s["n"] + 1, "m": s["m"] * 1.5, "x": s["x"] * 1.5, "h": s["h"] * s["x"]}

    init = {"n": 0, "m": 1, "x": 1.0, "h": jnp.ones(3, jnp.bfloat16)}
    run = record(step, init, 3)
    final, _ = jax.lax.scan(lambda s, _: (step(s), None), init, None, length=3)
    assert same(run.final, final)
    assert run.final["m"].dtype == np.float32
    assert run.final["h"].dtype == jnp.bfloat16


def test_a_directory_and_its_checkpoints(run_dir: Path, small_buffers):
    run = record(rich_step, rich_state(), 24, run_dir, keyframe_every=5)
    assert [info.tick for info in mmsb.page.checkpoints(run_dir)] == [5, 10, 15, 20]
    for epoch, state in enumerate(states_of(rich_step, rich_state(), 24)):
        assert same(run.at(epoch), state)
    check_log(run_dir)
    assert same(mmsb.open_run(run_dir, like=rich_state()).final, run.final)
    assert mmsb.replay(run_dir).tick == 24
