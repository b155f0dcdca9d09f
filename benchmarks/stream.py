"""The demo's stream of flights: its ticks as jitted work alone and with the log, and replaying what they logged."""

from __future__ import annotations

import atexit
import dataclasses
import itertools
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import mmsb_jax as mmsb
from demo import _board, _flights
from demo._stream import OBSERVED, stream

from ._harness import Case, Peer, Program

TICKS = 400  # sixteen runs fit into what is left of the year


@dataclass(frozen=True)
class Year:
    """The flights, how many hours of their year to record, and how many ticks to time."""

    flights: _flights.Flights
    hours: int
    ticks: int

    @cached_property
    def folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="mmsb-bench-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def begin(self, name: str) -> tuple[mmsb.Bus, _board.Layout]:
        """An open bus on a new run, before the first hour."""
        return _board.open_board(str(self.folder / name), self.flights)

    def record(self, name: str) -> tuple[mmsb.Bus, _board.Layout]:
        """An open bus on a new run, streamed through the hours."""
        bus, layout = self.begin(name)
        stream(bus, self.flights, layout, hours=self.hours)
        return bus, layout


def _year(quick: bool) -> Year:
    flights = _flights.load()
    return Year(_first(flights, 2000), 24, 20) if quick else Year(flights, _flights.HOURS // 4, TICKS)


def _first(flights: _flights.Flights, count: int) -> _flights.Flights:
    columns = {name: held[:count] for name, held in vars(flights).items() if isinstance(held, np.ndarray)}
    return dataclasses.replace(flights, **columns)


def _jitted_ticks(year: Year) -> Program:
    """The same hours again and again, from the same state, without a log."""
    bus, layout = year.record("jitted")
    with bus:
        start = bus.state
        observed = _board.Observations(year.flights, layout, bus.source_id(OBSERVED))
        graph = mmsb.RuleGraph.of(bus.graph, _board.rules(layout))
    batches = [observed[year.hours + hour] for hour in range(year.ticks)]
    tick = jax.jit(mmsb.tick, static_argnames="capacity", donate_argnames=("state", "digest_before"))
    before = mmsb.digest(start)

    def run() -> jax.Array:
        state, digest = jax.tree.map(jnp.copy, (start, before))
        for deltas in batches:
            out = tick(state, graph, deltas, digest_before=digest, capacity=4 * _board.ROWS)
            state, digest = out.state, out.digest
        return jax.block_until_ready(digest)

    return Program(run)


def _bus_ticks(year: Year) -> Program:
    """The same, computed, logged and committed; each run goes on where the one before ended."""
    bus, layout = year.record("bus")
    observed = _board.Observations(year.flights, layout, bus.source_id(OBSERVED))
    hours = itertools.count(year.hours)

    def run() -> np.ndarray:
        for hour in itertools.islice(hours, year.ticks):
            bus.apply(observed[hour])
        return np.asarray(bus.digest(), np.uint32)

    return Program(run)


def _replay(year: Year) -> Program:
    bus, _ = year.record("replayed")
    bus.stop()

    def run() -> jax.Array:
        return jax.block_until_ready(mmsb.digest(mmsb.replay(year.folder / "replayed")))

    return Program(run)


def _stream_anew(year: Year) -> Program:
    """The hours themselves; laying out the board and loading the timetable aren't timed."""
    numbers = itertools.count()
    ready: list[tuple[mmsb.Bus, _board.Layout]] = []

    def run() -> np.ndarray:
        bus, layout = ready.pop()
        with bus:
            stream(bus, year.flights, layout, hours=year.hours)
            return np.asarray(bus.digest(), np.uint32)

    return Program(run, before=lambda: ready.append(year.begin(f"streamed-{next(numbers)}")))


def _same_digest(ours: jax.Array, theirs: np.ndarray) -> None:
    np.testing.assert_array_equal(np.asarray(ours), theirs)


CASES: tuple[Case, ...] = (
    Case("stream/ticks, jitted work", _year, _jitted_ticks, (), lambda year: year.ticks, "ticks", 1000),
    Case("stream/ticks, logged and committed", _year, _bus_ticks, (), lambda year: year.ticks, "ticks"),
    Case(
        "stream/replay of a quarter",
        _year,
        _replay,
        (Peer("streaming it", _stream_anew, _same_digest, target=10.0),),
        lambda year: year.hours,
        "ticks",
    ),
)
