"""`record`: any step, any state, a durable history."""

from collections.abc import Callable
from typing import Any

from ..._errors import InvalidArgumentError, InvalidTypeError
from ..._require import whole_number
from ..history._run import Run
from ..log._storage import Place
from ..log._writer import SyncMode, WriterOptions
from ._job import Job
from ._loop import RecordedLoop, Schedule
from ._meter import Meter
from ._recording import Recording, exists, recorded_before
from ._signals import held_signals

__all__ = ["record"]


def record(
    step: Callable[..., Any] | Any,
    init: Any,
    steps: int | Any,
    *,
    path: Place | Any,
    every: int | Any = 1,
    xs: Any = None,
    select: Callable[[Any], Any] | Any | None = None,
    keyframe_every: int | Any | None = None,
    max_changed: int | Any | None = None,
    sync: SyncMode | Any = "group",
    progress: bool = True,
    resume: bool = False,
    page_bytes: int | Any = 1024,
) -> Run:
    """Run a step again and again, compiled, and keep every state it goes through in a run's log.

    The state after step k has epoch k, and the initial state epoch 0. Only what changes is written. While one stretch
    of steps computes, the one before it goes to disk; device memory doesn't grow with the number of steps. Ctrl-C and
    SIGTERM leave a whole log.

    **Arguments:**

    - `step`: `step(state) -> state`, or with `xs` `step(state, x) -> state`. It may return `(state, out)`, too; then
      `(state, out)` is what is recorded, with zeros for `out` at epoch 0. It must be jittable, and keep the structure,
      shapes and dtypes of the state.
    - `init`: the initial state, any pytree that `Paging` carries. It isn't donated.
    - `steps`: how many steps in all, also when a run is resumed.
    - `path`: the run's directory, which must not hold a run (or a storage).
    - `every`: record every so many steps only, and the last one.
    - `xs`: inputs: a pytree of arrays with a leading axis of steps, a function of `(start, stop)` that returns such, or
      an iterator of arrays of some steps each. They stay on the host, and come to the device a few MiB at a time.
    - `select`: `select(state)` is the part of the state that is recorded. Such a run can't be resumed.
    - `keyframe_every`: recorded steps between checkpoints, from which reading begins. By default one is written when
      the log has grown by 8 times the state, and by 256 MiB at least.
    - `max_changed`: pages that may change in one recorded step and surely fit into the buffer on the device. By default
      that is learned; what doesn't fit takes longer, but is recorded all the same.
    - `sync`: as for `TransactionLog`.
    - `progress`: whether to show how far it is, on a terminal or in a notebook.
    - `resume`: go on from the last commit of the run at `path`, if there is one, to the same bits as without a break.
    - `page_bytes`: size of a page, a multiple of 4.

    **Returns:** the run, to be read.

    **Raises:** `InvalidTypeError` for a state that pages can't carry, and for a step that changes its structure, shapes
    or dtypes, with the name of the leaf; `InvalidArgumentError` for numbers out of range, inputs that are too short, a
    path that holds a run, and a run to be resumed that was recorded in another way; `LogFailedError` when the disk
    fails: all before it is in the log.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp, tempfile
    >>> def step(state):
    ...     return {"t": state["t"] + 1, "x": state["x"].at[state["t"] % 1000].add(0.5)}
    >>> init = {"t": 0, "x": jnp.zeros(1000)}
    >>> run = mmsb.record(step, init, 100, path=tempfile.mkdtemp() + "/run", progress=False)
    >>> run.at(42)["x"].sum(), run.final["t"]
    (np.float32(21.0), array(100, dtype=int32))

    ```
    """
    steps, every = _count("steps", steps, 0), _count("every", every, 1)
    keyframe_every = None if keyframe_every is None else _count("keyframe_every", keyframe_every, 1)
    max_changed = None if max_changed is None else _count("max_changed", max_changed, 1)
    if resume and select is not None:
        raise InvalidArgumentError(
            "got resume=True and select=…: a run that records a part of its state holds no state to go on from; "
            "record the whole state, or start anew"
        )
    WriterOptions(sync, 1, 0.0, 1).check()
    there = exists(path)
    if there and not resume:
        raise InvalidArgumentError(f"{path} holds a run already; pass resume=True to go on, or record to another path")
    job = Job(step, init, steps, every, xs, select, page_bytes)
    before = recorded_before(path, job.about) if there else None
    start = job.beginning() if before is None else job.continuation(before)
    with held_signals() as interruption:
        if before is None:
            recording = Recording.begun(path, job.about, start.pages, sync=sync)
        else:
            recording = Recording.resumed(path, job.about, before, sync=sync)
        with recording, Meter(steps, start.tick, shown=None if progress else False) as meter:
            schedule = Schedule(max(steps, start.tick), every, keyframe_every)
            RecordedLoop(job.planner(max_changed), schedule, recording, job.inputs, meter).run(start, interruption)
    return Run(path, like=job.recorded(start))


def _count(name: str, value: Any, least: int) -> int:
    number = whole_number(value)
    if number is None:
        raise InvalidTypeError(f"got {name}={value!r}; pass a whole number")
    if not least <= number < 2**31:
        raise InvalidArgumentError(f"got {name}={number}; pass a number from {least} to 2**31 - 1")
    return number
