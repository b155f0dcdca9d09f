"""A recorded loop as a whole: chunks to the log, until all steps are done or a signal comes."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from ._drain import Drain, Rows
from ._engine import Engine, Flight, Told
from ._job import Start
from ._lanes import How
from ._meter import Meter
from ._pace import Pace
from ._plan import Program
from ._recording import Recording
from ._signals import Interruption
from ._xs import Inputs

__all__ = ["RecordedLoop", "Schedule"]

_DENSE, _SPARSE = 1 / 2, 1 / 8  # of a lane's pages, per step
_MOST_PLANS = 4
_ROOM = 1.25  # of what was found to be needed


@dataclass(frozen=True)
class Schedule:
    """Up to which step, and which of them are recorded."""

    last: int
    every: int
    keyframe_every: int | None


class _Found(NamedTuple):
    """What a chunk was like."""

    report: Told
    density: Float64[np.ndarray, " lanes"]
    """Of each lane the share of its pages that changed in a step, on average."""


class RecordedLoop:
    """Runs an engine, and writes a recording. `plan(whole, room)` makes a program when experience asks for another."""

    def __init__(
        self,
        plan: Callable[[frozenset[int], int | None], Program],
        schedule: Schedule,
        recording: Recording,
        inputs: Inputs | None,
        meter: Meter,
    ) -> None:
        self._plan, self._schedule, self._recording = plan, schedule, recording
        self._inputs, self._meter = inputs, meter
        self._flights: deque[Flight] = deque()
        self._plans = 0
        self.tick = 0

    def run(self, start: Start, interruption: Interruption) -> None:
        """From a state that is in the log to the last step, or until there is an interruption.

        Whatever was computed is in the log then.
        """
        self.tick, self._pace = start.tick, Pace(start.pages.nbytes)
        self._adopt(self._plan(frozenset(), None), start.values, start.outs, start.pages)
        while True:
            while interruption.signal is None and self._may_ask():
                self._ask()
            if not self._flights:
                return
            self._learn(self._land(self._flights.popleft()))

    def _adopt(self, program: Program, values: Sequence[Any], outs: Sequence[Any], pages: np.ndarray) -> None:
        self._engine, self._drain = Engine(program, values, outs, self.tick), Drain(program.layout, pages)
        self._lane_of_page = np.full(len(pages), len(program.layout.lanes), np.int32)
        for number, lane in enumerate(program.layout.lanes):
            self._lane_of_page[lane.strip.first_page : lane.strip.first_page + lane.strip.pages] = number
        self._landed_at = time.monotonic()

    # Asking.

    def _expected(self) -> int:
        """The step that the chunks under way reach, if none of them ends early."""
        every, last = self._schedule.every, self._schedule.last
        steps = sum(flight.asked for flight in self._flights)
        return min((self.tick // every + steps) * every, last) if steps else self.tick

    def _may_ask(self) -> bool:
        expected = self._expected()
        if len(self._flights) == 2 or expected >= self._schedule.last:
            return False
        if self._schedule.keyframe_every is not None and self._flights and self._flights[-1].pages is not None:
            return False  # it may end early, and then the next one is to end at the keyframe
        # A window of inputs is left for good only when it is known to be used up.
        return self._inputs is None or not self._flights or self._inputs.same_window(self.tick, expected)

    def _to_keyframe(self, tick: int) -> int:
        """How many recorded steps until the next checkpoint, after a tick."""
        every, of_keyframes = self._schedule.every, self._schedule.keyframe_every or 1
        return of_keyframes - tick // every % of_keyframes

    def _is_keyframe(self, tick: int) -> bool:
        of_keyframes = self._schedule.keyframe_every
        return of_keyframes is None or tick % (self._schedule.every * of_keyframes) == 0

    def _ask(self) -> None:
        every, last, expected = self._schedule.every, self._schedule.last, self._expected()
        steps, keyframe = min(self._pace.steps, -(-(last - expected) // every)), self._recording.keyframe_due()
        if self._schedule.keyframe_every is not None:
            to_go = self._to_keyframe(expected)
            steps, keyframe = min(steps, to_go), steps >= to_go
        digest = expected + steps * every >= last or keyframe or self._pace.digest_due()
        window = None if self._inputs is None else self._inputs.window(expected)
        self._flights.append(self._engine.ask(steps, every, last, window, digest=digest, pages=keyframe))

    # Landing.

    def _land(self, flight: Flight) -> _Found:
        """Wait for a chunk, and bring it to the log."""
        report = flight.told()
        now = time.monotonic()
        started, self._landed_at = max(self._landed_at, flight.at), now
        found = _Found(report, np.zeros(len(self._engine.program.layout.lanes)))
        if report.steps:
            self._pace.finished(report.steps, now - started)
            rows = self._drain.compared(flight.rows())
            found = _Found(report, self._density(rows, report.steps))
            parts = [rows, *self._owed(report)]
            digest = self._engine.digest(report)
            self._recording.append(Rows.joined(parts), report.tick, digest)
            del rows, parts  # before the tape that they are part of is written again
            if flight.pages is not None and self._is_keyframe(report.tick):
                self._recording.write_keyframe(np.asarray(flight.pages), digest)
            self.tick = report.tick
            self._meter.show(self.tick, self._recording.log.bytes_written)
        self._engine.give_back(flight)
        return found

    def _owed(self, report: Told) -> list[Rows]:
        """What did not fit on the tape. The chunk ended there, and the one after it has done nothing."""
        if not report.short:
            return []
        self._drop_flights()
        return self._engine.settle(report.short, report.tick)

    def _drop_flights(self) -> None:
        """Let chunks come back that can have done nothing, or bring them to the log."""
        while self._flights:
            flight = self._flights.popleft()
            assert not flight.told().steps, "a chunk behind one that fell short has done something"
            self._engine.give_back(flight)

    def _density(self, rows: Rows, steps: int) -> Float64[np.ndarray, " lanes"]:
        lanes = self._engine.program.layout.lanes
        if self._plans == _MOST_PLANS or all(lane.how in (How.FIXED, How.LISTED) for lane in lanes):
            return np.zeros(len(lanes))  # nobody asks
        changed = rows.page[rows.changed]
        counts = np.bincount(self._lane_of_page[changed], minlength=len(lanes) + 1)[: len(lanes)]
        return counts / np.array([lane.strip.pages * steps for lane in lanes], np.float64)

    def _learn(self, found: _Found) -> None:
        """Record lanes in which most changes as a whole, and no longer those in which little does; make more room."""
        layout, report, room = self._engine.program.layout, found.report, None
        if report.short and report.need > layout.rows - layout.static_rows:
            room = int(_ROOM * report.need)
        whole = {lane.number for lane in layout.lanes if lane.how is How.WHOLE}
        wanted = set(whole)
        if report.steps > 1:
            for lane, share in zip(layout.lanes, found.density, strict=True):
                if lane.how in (How.COMPARED, How.FLAGGED) and share > _DENSE:
                    wanted.add(lane.number)
                elif lane.how is How.WHOLE and share < _SPARSE:
                    wanted.discard(lane.number)
        if (wanted == whole and room is None) or self._plans == _MOST_PLANS or self.tick >= self._schedule.last:
            return
        self._plans += 1
        while self._flights:
            self._land(self._flights.popleft())
        program, loop = self._plan(frozenset(wanted), room), self._engine.loop
        self._adopt(program, loop.values, loop.outs, self._engine.pages())
