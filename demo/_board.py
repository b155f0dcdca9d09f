"""The operations board: which pages there are, what depends on what, and how a page is computed from its parents.

flight ──max-plus──▶ next flight of the same aircraft
   │
   ├──sums, maxima──▶ its airport's hour
   └──sums, maxima──▶ its carrier's day
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

import mmsb_jax as mmsb
from mmsb_jax import DeltaBatch, Rule, Term

from ._flights import HOURS, Flights

PAGE_BYTES = 64
PAGE_WORDS = PAGE_BYTES // 4
ROWS = 128
"""Rows of an hour's batch; the busiest hour of the year has 92 departures."""

# Words of a flight's page, all int32. The first three come from outside, the next two are computed.
SCHEDULED, DEPARTED, STATUS, EXPECTED, DELAY, AIR_TIME, CARRIER, ORIGIN, DEST, NUMBER, TAIL = range(11)
WAITING, GONE, CANCELLED = range(3)
# Words of an airport's hour and of a carrier's day, all computed.
FLIGHTS, LEFT, DROPPED, MINUTES, LATE, WORST = range(6)

NEVER = np.int32(np.iinfo(np.int32).min)
"""`max_plus`'s zero: no aircraft comes from there."""


@dataclass(frozen=True)
class Layout:
    """Ids of the pages."""

    flights: np.ndarray
    hours: np.ndarray
    """[airports, hours of the year]"""
    days: np.ndarray
    """[carriers, days of the year]"""

    @property
    def capacity(self) -> int:
        """How many pages there are."""
        return self.flights.size + self.hours.size + self.days.size

    @classmethod
    def of(cls, flights: Flights) -> "Layout":
        """One page a flight, then one an airport's hour, then one a carrier's day."""
        sizes = [len(flights), len(flights.origins) * HOURS, len(flights.carriers) * HOURS // 24]
        ids = np.split(np.arange(sum(sizes), dtype=np.int32), np.cumsum(sizes)[:-1])
        return cls(ids[0], ids[1].reshape(-1, HOURS), ids[2].reshape(-1, HOURS // 24))


def open_board(path: str, flights: Flights) -> tuple[mmsb.Bus, Layout]:
    """The board's bus, new or as it was left: pages, edges, timetable (tick 1), rules and their first wave (tick 2)."""
    layout = Layout.of(flights)
    bus = mmsb.start(path, page_bytes=PAGE_BYTES, capacity=layout.capacity)
    for name, ids in (("flights", layout.flights), ("airport hours", layout.hours), ("carrier days", layout.days)):
        bus.create_page(ids.size * PAGE_BYTES, name=name, exist_ok=True)
    before, after, minutes = flights.rotations()
    if bus.graph.num_edges == 0:
        bus.add_dependency(layout.flights[before], layout.flights[after], weight=minutes)
    if bus.graph.num_edges == len(before):
        hour, day = flights.scheduled // 60, flights.scheduled // 1440
        everyone = np.concatenate([layout.flights, layout.flights])
        bus.add_dependency(
            everyone, np.concatenate([layout.hours[flights.origin, hour], layout.days[flights.carrier, day]])
        )
    if bus.tick == 0:
        bus.update_page("flights", timetable(flights), source="schedule", intent="the timetable of 2013")
    for rule in rules(layout):
        bus.add_rule(rule)
    bus.propagate()
    return bus, layout


def rules(layout: Layout) -> list[Rule]:
    """How flights, and the summaries of flights, are computed."""
    summaries = np.concatenate([layout.hours.ravel(), layout.days.ravel()])
    return [
        Rule(
            "flight",
            pages=layout.flights,
            terms=[Term(mmsb.semiring.max_plus, read=_departure, weighted=True)],
            update=_expect,
        ),
        Rule(
            "summary",
            pages=summaries,
            terms=[
                Term(mmsb.semiring.plus_times, read=_counts),
                Term(mmsb.semiring.max_plus, read=_delay),
            ],
            update=_summarise,
        ),
    ]


def timetable(flights: Flights) -> np.ndarray:
    """Everything that is known before the year begins: int32[flights, words]."""
    words = np.zeros((len(flights), PAGE_WORDS), np.int32)
    for word, values in (
        (SCHEDULED, flights.scheduled),
        (AIR_TIME, flights.air_time),
        (CARRIER, flights.carrier),
        (ORIGIN, flights.origin),
        (DEST, flights.dest),
        (NUMBER, flights.number),
        (TAIL, flights.tail),
    ):
        words[:, word] = values
    return words


class Observations:
    """What becomes known hour by hour, as batches of one size."""

    def __init__(self, flights: Flights, layout: Layout, source: int) -> None:
        hour = flights.observed_hour
        self._order = np.argsort(hour, kind="stable")
        self._start = np.searchsorted(hour[self._order], np.arange(HOURS + 1))
        self._flights, self._nowhere = flights, layout.capacity
        self._mask = jnp.full((ROWS, 1), 1 << DEPARTED | 1 << STATUS, jnp.uint32)
        self._source = jnp.full(ROWS, source, jnp.int32)
        self._none = jnp.zeros((), jnp.int32)

    def __getitem__(self, hour: int) -> DeltaBatch:
        who = self._order[self._start[hour] : self._start[hour + 1]]
        cancelled = self._flights.cancelled[who]
        page = np.full(ROWS, self._nowhere, np.int32)
        words = np.zeros((ROWS, PAGE_WORDS), np.int32)
        page[: len(who)] = who
        words[: len(who), DEPARTED] = np.where(cancelled, 0, self._flights.departed[who])
        words[: len(who), STATUS] = np.where(cancelled, CANCELLED, GONE)
        return DeltaBatch(jnp.asarray(page), jnp.asarray(words.view(np.uint32)), self._mask, self._source, self._none)


def _ints(words: jax.Array) -> jax.Array:
    return mmsb.from_words(words, jnp.int32)


def _departure(flight: jax.Array) -> jax.Array:
    """When the aircraft leaves, as far as anybody knows."""
    flight = _ints(flight)
    return jnp.where(flight[STATUS] == CANCELLED, NEVER, flight[EXPECTED])


def _expect(own: jax.Array, aircraft_ready: jax.Array) -> jax.Array:
    """A flight leaves when it left; before that, not before its schedule, and not before its aircraft is back."""
    own = _ints(own)
    expected = jnp.where(own[STATUS] == GONE, own[DEPARTED], jnp.maximum(own[SCHEDULED], aircraft_ready))
    delay = jnp.where(own[STATUS] == CANCELLED, 0, expected - own[SCHEDULED])
    return mmsb.as_words(own.at[EXPECTED].set(expected).at[DELAY].set(delay))


def _delay(flight: jax.Array) -> jax.Array:
    return _ints(flight)[DELAY]


def _counts(flight: jax.Array) -> jax.Array:
    flight = _ints(flight)
    gone, cancelled = flight[STATUS] == GONE, flight[STATUS] == CANCELLED
    late = flight[DELAY] >= 15
    minutes = jnp.maximum(flight[DELAY], 0)
    return jnp.stack([jnp.int32(1), *(x.astype(jnp.int32) for x in (gone, cancelled, minutes, late))])


def _summarise(own: jax.Array, counts: jax.Array, worst: jax.Array) -> jax.Array:
    return mmsb.as_words(_ints(own).at[: len(counts)].set(counts).at[WORST].set(jnp.maximum(worst, 0)))
