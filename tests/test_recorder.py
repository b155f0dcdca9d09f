"""The recorder for loops of one's own, also of ensembles; and what a compiled chunk takes of the device."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import mmsb_jax as mmsb
from mmsb_jax.page import MemoryStorage
from mmsb_jax.page.recorder import _plan
from mmsb_jax.page.recorder._chunk import Bounds, begun, run_chunk
from mmsb_jax.page.recorder._engine import Engine
from mmsb_jax.page.recorder._job import Job
from mmsb_jax.page.recorder._recording import Recording
from tests.recorded import changes_of, check_log, same

PAGE = 64


def step(s: dict[str, Any]) -> dict[str, Any]:
    """A few rows of a table, all of a small leaf, a moving part of a field."""
    t = s["t"]
    rows = (jnp.arange(5) * 7 + t * 3) % 100
    near = (jnp.arange(400) - 4 * t) % 400 < 11
    return {
        "t": t + 1,
        "table": s["table"].at[rows].add(s["speed"]),
        "field": jnp.where(near, s["field"] * 0.5 + s["speed"], s["field"]),
        "speed": s["speed"] * jnp.float32(1.01),
    }


def state(speed: float = 1.0) -> dict[str, Any]:
    return {"t": jnp.int32(0), "table": jnp.zeros((100, 16)), "field": jnp.ones(400), "speed": jnp.float32(speed)}


def loop(recorder: mmsb.Recorder, steps: int) -> Any:
    """So many steps, each recorded."""

    def body(_: int, carry: Any) -> Any:
        s, tape = carry
        s = step(s)
        return s, recorder.update(tape, s, s["t"])

    return lambda s, tape: lax.fori_loop(0, steps, body, (s, tape))


def states(speed: float, steps: int) -> list[Any]:
    found = [state(speed)]
    for _ in range(steps):
        found.append(jax.jit(step)(found[-1]))
    return found


def test_a_loop_of_ones_own():
    storage, s = MemoryStorage(), state()
    with mmsb.Recorder(storage, s, page_bytes=PAGE) as recorder:
        ten = jax.jit(loop(recorder, 10), donate_argnums=1)
        tape = jax.jit(recorder.init)(s)
        for _ in range(3):
            s, tape = ten(s, tape)
            tape = recorder.drain(tape)
        assert int(tape.used) == 0
        before = len(changes_of(storage))
        tape = recorder.drain(tape)
        assert len(changes_of(storage)) == before, "nothing happened, so nothing is committed"
    run = mmsb.open_run(storage)
    for epoch, wanted in enumerate(states(1.0, 30)):
        assert same(run.at(epoch), wanted)
    check_log(storage)
    assert [frame.tick for frame in changes_of(storage)] == [0, 10, 20, 30]


def test_an_ensemble_is_a_log_with_members():
    members, storage = 3, MemoryStorage()
    speeds = [1.0, 2.0, -0.5]
    many = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(state, speeds))
    with mmsb.Recorder(storage, many, members=members, page_bytes=PAGE, max_changed=10) as recorder:
        tapes = jax.vmap(recorder.init)(many)
        run_all = jax.jit(jax.vmap(loop(recorder, 8)))
        for _ in range(2):
            many, tapes = run_all(many, tapes)
            tapes = recorder.drain(tapes)
    run = mmsb.open_run(storage)
    assert run.about.members == members
    for member, speed in enumerate(speeds):
        for epoch, wanted in enumerate(states(speed, 16)):
            assert same(run.at(epoch, member=member), wanted), f"member {member}, epoch {epoch}"
    check_log(storage)


def test_what_does_not_fit_is_said_and_made_up_for():
    storage, s = MemoryStorage(), state()
    wanted = states(1.0, 20)
    with mmsb.Recorder(storage, s, page_bytes=PAGE, max_rows=40) as recorder:
        ten = jax.jit(loop(recorder, 10))
        s, tape = ten(s, recorder.init(s))
        missed = int(tape.missed)
        assert 0 < missed < 10
        frames = len(changes_of(storage))
        with pytest.raises(mmsb.CapacityError, match=rf"{missed} of 10 updates did not fit on a tape of 40 rows"):
            recorder.drain(tape)
        assert len(changes_of(storage)) == frames
        tape = recorder.drain(tape, strict=False)
        s = step(s)
        tape = recorder.drain(recorder.update(tape, s, s["t"]))
    run = mmsb.open_run(storage)
    assert same(run.at(1), wanted[1])
    assert same(run.at(10 - missed), wanted[10 - missed])
    assert not same(run.at(10), wanted[10]), "these moments are not in the log"
    assert same(run.at(11), wanted[11]), "but nothing is lost"
    assert changes_of(storage)[-2].digest is None
    assert changes_of(storage)[-1].digest is not None
    mmsb.replay(storage)


def test_a_bound_for_changes_is_kept():
    storage, s = MemoryStorage(), state()
    with mmsb.Recorder(storage, s, page_bytes=PAGE, max_changed=4) as recorder:
        s = step(s)  # five rows of the table
        tape = recorder.update(recorder.init(state()), s, 1)
        assert int(tape.missed) == 1
        assert np.asarray(tape.short).tolist() == [False, True]  # field, table


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"members": 4}, r"the leaf \['field'\] has shape \[400\], but it needs a first axis of 4"),
        ({"members": 0}, "got members=0"),
        ({"max_rows": 1}, "got max_rows=1, but every update takes"),
        ({"max_changed": 0}, "got max_changed=0"),
    ],
)
def test_what_a_recorder_refuses(options, why, run_dir):
    with pytest.raises(mmsb.InvalidArgumentError, match=why):
        mmsb.Recorder(run_dir, state(), page_bytes=PAGE, **options)
    assert not run_dir.exists()


def test_a_recorder_refuses_other_trees():
    with mmsb.Recorder(MemoryStorage(), state(), page_bytes=PAGE) as recorder:
        tape = recorder.init(state())
        with pytest.raises(mmsb.InvalidTypeError, match=r"the leaf \['field'\]"):
            recorder.update(tape, state() | {"field": jnp.zeros(3)}, 1)


# What a chunk takes of the device.


def program(function: Any, init: Any, **options: Any) -> tuple[Any, Any, Any]:
    job = Job(function, init, 10, options.pop("every", 1), None, None, options.pop("page_bytes", PAGE))
    made, start = job.planner(options.pop("max_changed", None))(frozenset(), None), job.beginning()
    loop = jax.eval_shape(lambda: begun(made, start.values, start.outs, jnp.int32(0)))
    return made, loop, start


def compiled(made: Any, loop: Any) -> Any:
    consts, bounds = ([*made.traced.closed.consts], []), Bounds(*[jnp.int32(1)] * 5, jnp.bool_(True))
    return run_chunk.lower(made, loop, consts, [], bounds).compile()


def size(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


BIG = 1 << 20  # bytes


def scatter(s: Any) -> Any:
    t, x = s
    return t + 1, x.at[(jnp.arange(16) * 1013 + t * 7) % (BIG // 4)].add(1.0)


def rewrite(s: Any) -> Any:
    t, x = s
    return t + 1, x + jnp.where(jnp.arange(BIG // 4) % 997 == t, 1.0, 0.0)


@pytest.mark.parametrize(("function", "temporary"), [(scatter, 0.1), (rewrite, 1.3)])
def test_memory_is_the_state_and_what_is_declared(function, temporary):
    init = (jnp.int32(0), jnp.zeros(BIG // 4))
    made, loop, _ = program(function, init, page_bytes=1024)
    memory = compiled(made, loop).memory_analysis()
    declared = size(loop)  # the state, its shadow, the rows
    scratch = size(loop.tape.owners) + 100
    assert size(loop.tape.shadows) == BIG
    assert size((loop.tape.words, loop.tape.head)) <= 1.3 * max(_plan._LEAST_BYTES, 8 * BIG)
    assert memory.alias_size_in_bytes >= declared - scratch, "what is donated comes back in the same place"
    assert memory.argument_size_in_bytes < declared + 100
    assert memory.output_size_in_bytes < declared + 1000
    assert memory.temp_size_in_bytes < temporary * BIG


def test_a_scatter_stays_in_place():
    made, loop, _ = program(scatter, (jnp.int32(0), jnp.zeros(BIG // 4)), page_bytes=1024)
    text = compiled(made, loop).as_text()
    for shape in (f"f32[{BIG // 4}]", f"u32[{BIG // 1024},256]", f"u32[{made.layout.rows + made.layout.slack},256]"):
        assert shape in text
        assert f"{shape}{{" not in "".join(line for line in text.splitlines() if " copy(" in line)


def test_another_number_of_steps_compiles_nothing():
    init = (jnp.int32(0), jnp.zeros(1000))

    def small(s: Any) -> Any:
        return s[0] + 1, s[1].at[s[0]].set(1.0)

    mmsb.record(small, init, 3, path=MemoryStorage())
    before = run_chunk._cache_size(), begun._cache_size()
    for steps in (1, 20, 100):
        mmsb.record(small, init, steps, path=MemoryStorage())
    assert (run_chunk._cache_size(), begun._cache_size()) == before


def test_a_chunk_is_asked_for_before_the_one_before_it_is_logged(monkeypatch):
    told: list[str] = []
    ask, append = Engine.ask, Recording.append
    monkeypatch.setattr(Engine, "ask", lambda self, *a, **k: told.append("ask") or ask(self, *a, **k))
    monkeypatch.setattr(Recording, "append", lambda self, *a, **k: told.append("log") or append(self, *a, **k))
    monkeypatch.setattr("mmsb_jax.page.recorder._pace._FASTER", 1)
    mmsb.record(scatter, (jnp.int32(0), jnp.zeros(BIG // 4)), 6, path=MemoryStorage())
    assert told == ["ask", "ask", *["log", "ask"] * 4, "log", "log"]


def test_buffers_go_round(monkeypatch):
    places = set()
    ask = Engine.ask

    def noted(self: Engine, *args: Any, **options: Any) -> Any:
        flight = ask(self, *args, **options)
        places.add(flight.words.unsafe_buffer_pointer())
        return flight

    monkeypatch.setattr(Engine, "ask", noted)
    monkeypatch.setattr("mmsb_jax.page.recorder._pace._FASTER", 1)
    mmsb.record(scatter, (jnp.int32(0), jnp.zeros(BIG // 4)), 9, path=MemoryStorage())
    assert len(places) == 2
