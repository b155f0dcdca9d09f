"""The device's side of a recorded loop, as the host handles it: chunks that are asked for and come back, in turns.

    device   | chunk 1 -> tape A | chunk 2 -> tape B | chunk 3 -> tape A | ...
    host                         | A to the log      | B to the log      | ...

A chunk is asked for before the one before it is read. The memory of a tape goes round: it is donated to the next chunk
but one.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from ...physical import Paging
from ._chunk import Bounds, Loop, Report, begun, run_chunk
from ._drain import Rows
from ._plan import Program
from ._tape import refreshed
from ._xs import Window

__all__ = ["Engine", "Flight", "pages_of"]

_FAR = 2**31 - 1


class Told(NamedTuple):
    """A chunk's report, on the host."""

    used: int
    steps: int
    tick: int
    need: int
    short: list[int]
    digest: np.ndarray


class Flight(NamedTuple):
    """A chunk that was asked for: where its rows will be, and what it will say of itself."""

    words: jax.Array
    head: jax.Array
    report: Report
    pages: jax.Array | None
    """The recorded tree at its end, where that was asked for."""
    asked: int
    """How many recorded steps it was asked for."""
    at: float
    """When, by `time.monotonic`."""

    def told(self) -> Told:
        """Its report, on the host. Waits."""
        used, steps, tick, need, short, digest = jax.device_get(self.report)
        return Told(int(used), int(steps), int(tick), int(need), np.flatnonzero(short).tolist(), digest)

    def rows(self) -> Rows:
        """Its rows. On the CPU they are in the tape's own memory: let go of them before the flight is given back."""
        used = self.told().used
        return Rows.of_tape(np.asarray(self.words)[:used], np.asarray(self.head)[:used])


@partial(jax.jit, static_argnums=0)
def pages_of(paging: Paging, leaves: Sequence[Any]) -> UInt32[Array, "pages W"]:
    """A tree as pages, from its leaves."""
    return paging.to_pages(paging.form.unflatten(leaves))


@partial(jax.jit, static_argnums=0)
def _recorded_pages(program: Program, loop: Loop, consts: Any) -> UInt32[Array, "pages W"]:
    return pages_of(program.layout.paging, program.recorded(loop.values, loop.outs, consts))


@partial(jax.jit, static_argnums=0)
def _fixed_digest(program: Program, loop: Loop, consts: Any) -> UInt32[Array, "2"]:
    return program.layout.digest(program.recorded(loop.values, loop.outs, consts), fixed=True)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _settled(program: Program, loop: Loop, consts: Any) -> Loop:
    tape = refreshed(program.layout, loop.tape, program.recorded(loop.values, loop.outs, consts))
    return loop._replace(tape=tape)


@partial(jax.jit, static_argnums=(0, 1))
def _lane_pages(program: Program, number: int, loop: Loop, consts: Any) -> UInt32[Array, "pages W"]:
    strip, leaf = program.layout.lanes[number].strip, program.layout.lanes[number].number
    return strip.all(strip.flat(program.recorded(loop.values, loop.outs, consts)[leaf]))


class Engine:
    """A program and what it works on. Nothing here waits for the device, except where it says so."""

    def __init__(self, program: Program, values: Sequence[Any], outs: Sequence[Any], tick: int) -> None:
        self.program = program
        self._consts = (list(program.traced.closed.consts), [] if program.select is None else program.select.consts)
        self.loop = begun(program, values, outs, jnp.int32(tick))
        tape = self.loop.tape
        self._spare = [(tape.words, tape.head), (jnp.zeros_like(tape.words), jnp.zeros_like(tape.head))]
        self._fixed = _fixed_digest(program, self.loop, self._consts[1])

    def ask(self, steps: int, every: int, last: int, window: Window | None, *, digest: bool, pages: bool) -> Flight:
        """Ask for a chunk of so many recorded steps. Two may be under way."""
        words, head = self._spare.pop()
        since, until = (0, _FAR) if window is None else (window.since, window.until)
        at = time.monotonic()  # not later: a short chunk is computed before the call comes back
        numbers = map(jnp.int32, (steps, every, last, since, until))
        bounds = Bounds._make((*numbers, jnp.bool_(digest)))
        loop = self.loop._replace(tape=replace(self.loop.tape, words=words, head=head))
        inputs = [] if window is None else window.leaves
        self.loop, report = run_chunk(self.program, loop, self._consts, inputs, bounds)
        copy = _recorded_pages(self.program, self.loop, self._consts[1]) if pages else None
        return Flight(self.loop.tape.words, self.loop.tape.head, report, copy, steps, at)

    def give_back(self, flight: Flight) -> None:
        """Its rows have been read."""
        self._spare.append((flight.words, flight.head))

    def digest(self, report: Told) -> tuple[int, int] | None:
        """The digest of the recorded tree, of a chunk that was asked for it; otherwise None."""
        if not report.digest.any():  # a digest of zeros, once in 2**64, is not missed
            return None
        low, high = (report.digest + np.asarray(self._fixed)).tolist()
        return low, high

    def pages(self) -> UInt32[np.ndarray, "pages W"]:
        """The recorded tree as it is now. Waits."""
        return np.asarray(_recorded_pages(self.program, self.loop, self._consts[1]))

    def settle(self, short: Sequence[int], tick: int) -> list[Rows]:
        """What differs in lanes that did not fit, compared by the host; from then on nothing is owed. Waits."""
        layout, found = self.program.layout, []
        for number in short:
            new = np.asarray(_lane_pages(self.program, number, self.loop, self._consts[1]))
            old = np.asarray(self.loop.tape.shadows[layout.shadowed.index(number)])
            found.append(Rows.of_difference(layout.lanes[number].strip.first_page, tick, old, new))
            del old  # its memory is donated next
        self.loop = _settled(self.program, self.loop, self._consts[1])
        return found
