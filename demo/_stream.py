"""Streaming the year through the bus, an hour a tick, from wherever the log stands."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import mmsb_jax as mmsb

from ._board import Layout, Observations
from ._flights import HOURS, Flights

OBSERVED = "observed"
"""The source of what comes from outside; the bus calls the waves' own changes `propagation`."""
TICK_OF_PLAN = 2
"""The timetable is tick 1, what follows from it is tick 2; hour `h` of the year is tick `TICK_OF_PLAN + 1 + h`."""


@dataclass(frozen=True)
class Streamed:
    """What streaming took."""

    ticks: int
    seconds: float
    deltas: int
    """Rows logged in that time."""
    stats: mmsb.utility.BusStats


def tick_at(hour: int) -> int:
    """The last tick before an hour of the year begins: the board as it stood at that moment."""
    return TICK_OF_PLAN + hour


def stream(
    bus: mmsb.Bus,
    flights: Flights,
    layout: Layout,
    *,
    hours: int = HOURS,
    done: Callable[[int], None] = lambda hour: None,
) -> Streamed:
    """Go on from the bus's last tick through the year's first `hours`; `done` hears of each hour once committed."""
    observed = Observations(flights, layout, bus.source_id(OBSERVED))
    first = bus.tick - TICK_OF_PLAN
    if first < hours:
        bus.apply(observed[first])  # compiles the tick: not part of the rate
        done(first)
    began, before = time.perf_counter(), bus.stats().deltas
    for hour in range(first + 1, hours):
        bus.apply(observed[hour])
        done(hour)
    seconds = time.perf_counter() - began
    return Streamed(max(hours - first - 1, 0), seconds, bus.stats().deltas - before, bus.stats())
