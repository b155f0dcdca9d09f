"""A chunk of a recorded loop, compiled: steps, each leaving on the tape what it changed, until the tape is full.

All bounds are traced, so one compiled body serves every chunk, the first and the last and the one after a break: other
code might round otherwise.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32, UInt32

from ._lanes import How
from ._plan import Program, touched_flags, touched_ids
from ._tape import Tape, has_room, started, written
from ._writeset import follow

__all__ = ["Bounds", "Loop", "Report", "begun", "run_chunk"]


class Loop(NamedTuple):
    """What a recorded loop carries from chunk to chunk. Donated, so the next chunk works in the same memory."""

    values: list[Any]
    """The leaves of the state."""
    outs: list[Any]
    """The leaves of what the last recorded step returned beside it."""
    tape: Tape
    tick: Int32[Array, ""]
    """How many steps have been done."""


class Bounds(NamedTuple):
    """Where a chunk ends: after `quota` recorded steps, at step `last`, or where the inputs end (`until`)."""

    quota: Int32[Array, ""]
    every: Int32[Array, ""]
    last: Int32[Array, ""]
    since: Int32[Array, ""]
    """The step that the first of the inputs belongs to."""
    until: Int32[Array, ""]
    digest: Bool[Array, ""]
    """Whether to sum up the state at the end."""


class Report(NamedTuple):
    """What the host has to know of a finished chunk; copies of what the next chunk overwrites."""

    used: Int32[Array, ""]
    steps: Int32[Array, ""]
    tick: Int32[Array, ""]
    need: Int32[Array, ""]
    short: Bool[Array, " lanes"]
    digest: UInt32[Array, "2"]
    """Of the pages that may change; zeros if it wasn't asked for."""


@partial(jax.jit, static_argnums=0)
def begun(program: Program, values: Sequence[Any], outs: Sequence[Any], tick: Int32[Array, ""]) -> Loop:
    """A loop that starts from this state, in memory of its own."""
    values, outs = [jnp.copy(value) for value in values], [jnp.copy(out) for out in outs]
    recorded = program.recorded(values, outs, program.select.consts if program.select else ())
    return Loop(values, outs, started(program.layout, recorded), tick)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def run_chunk(
    program: Program, loop: Loop, consts: Sequence[Sequence[Any]], inputs: Sequence[Any], bounds: Bounds
) -> tuple[Loop, Report]:
    """Do some steps and record them.

    **Arguments:**

    - `program`: static.
    - `loop`: donated.
    - `consts`: what the step's trace and the selection's have closed over.
    - `inputs`: the leaves of `xs`, with a leading axis of steps; the first belongs to step `bounds.since`.
    - `bounds`: where to end. At least one step is done, if there is one to do and its inputs are there.
    """
    layout = program.layout

    def due(loop: Loop) -> Int32[Array, ""]:
        """How many steps until the next recorded one."""
        return jnp.minimum(bounds.every - loop.tick % bounds.every, bounds.last - loop.tick)

    def goes_on(loop: Loop) -> Bool[Array, ""]:
        there = (loop.tick >= bounds.since) & (loop.tick + due(loop) <= bounds.until) & (loop.tick < bounds.last)
        return there & (loop.tape.steps < bounds.quota) & has_room(layout, loop.tape) & ~loop.tape.short.any()

    def body(loop: Loop) -> Loop:
        steps = jnp.int32(1) if program.single else due(loop)
        values, outs, touched = _stepped(program, consts[0], inputs, bounds.since, loop, steps)
        # Without the barrier a step's arithmetic would be done again, with other roundings, where it is recorded.
        values, outs = jax.lax.optimization_barrier((values, outs))
        tick = loop.tick + steps
        recorded = program.recorded(values, outs, consts[1])
        return Loop(values, outs, written(layout, loop.tape, recorded, tick.astype(jnp.uint32), touched), tick)

    loop = loop._replace(tape=loop.tape.emptied())
    loop = jax.lax.while_loop(goes_on, body, loop)
    recorded = program.recorded(loop.values, loop.outs, consts[1])
    digest = jax.lax.cond(
        bounds.digest, lambda leaves: layout.digest(leaves), lambda _: jnp.zeros(2, jnp.uint32), recorded
    )
    tape = loop.tape
    return loop, Report(tape.used, tape.steps, loop.tick, tape.need, tape.short, digest)


def _stepped(
    program: Program, consts: Sequence[Any], inputs: Sequence[Any], since: Int32[Array, ""], loop: Loop, steps: Any
) -> tuple[list[Any], list[Any], dict[int, Any]]:
    """Do the steps until the next recorded one; collect what they touched."""

    def one(i: Any, carry: tuple[Any, Any, dict[int, Any]]) -> tuple[Any, Any, dict[int, Any]]:
        values, _, flags = carry
        at = loop.tick + i - since
        x = [jax.lax.dynamic_index_in_dim(leaf, at, keepdims=False) for leaf in inputs]
        closed = program.traced.closed
        results, trails = follow(closed.jaxpr, consts, [*values, *x], program.states)
        found = _touched(program, trails)
        return (
            results[: program.states],
            results[program.states :],
            {number: flags[number] | more if number in flags else more for number, more in found.items()},
        )

    if program.single:
        return one(0, (loop.values, loop.outs, {}))
    lanes = enumerate(program.layout.lanes)
    blank = {i: jnp.zeros(lane.strip.pages, jnp.bool_) for i, lane in lanes if lane.how is How.FLAGGED}
    return jax.lax.fori_loop(jnp.int32(0), steps, one, (loop.values, loop.outs, blank))


def _touched(program: Program, trails: Sequence[Any]) -> dict[int, Any]:
    touched: dict[int, Any] = {}
    for number, lane in enumerate(program.layout.lanes):
        if lane.how in (How.LISTED, How.FLAGGED):
            source = program.sources[lane.number]
            assert source is not None, "what a step writes into can only be told of a leaf of the state"
            trail = trails[source]
            touched[number] = (touched_ids if lane.how is How.LISTED else touched_flags)(lane, trail)
    return touched
