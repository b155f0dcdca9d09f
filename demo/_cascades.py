"""Which delays knocked on: read from the log, where observed and propagated changes are told apart by their source."""

from dataclasses import dataclass

import numpy as np

from mmsb_jax.page import FrameKind, PageChanges, read_frames

from ._board import EXPECTED, PAGE_WORDS
from ._flights import Flights
from ._stream import OBSERVED, TICK_OF_PLAN


@dataclass(frozen=True)
class Leg:
    """A flight whose aircraft was late: before it left, the bus expected it so many minutes later than planned."""

    flight: int
    minutes: int


@dataclass(frozen=True)
class Cascade:
    """One late departure, and the later legs of the aircraft that it pushed back one after another."""

    root: int
    """The flight that began it."""
    pushed: tuple[Leg, ...]

    @property
    def minutes(self) -> int:
        """Minutes that the later legs were pushed back, together."""
        return sum(leg.minutes for leg in self.pushed)


def worst_cascades(path: str, flights: Flights, count: int = 10) -> list[Cascade]:
    """The cascades that pushed other flights the most, worst first."""
    before, after, _ = flights.rotations()
    pushed = _minutes_pushed(path, len(flights))
    following = np.full(len(flights), -1)
    following[before] = after
    previous = np.full(len(flights), -1)
    previous[after] = before
    late = np.flatnonzero((pushed > 0) & (previous >= 0))
    roots = previous[late][pushed[previous[late]] <= 0]
    cascades = [Cascade(int(root), tuple(_legs(int(root), following, pushed))) for root in roots]
    return sorted(cascades, key=lambda cascade: (-cascade.minutes, cascade.root))[:count]


def _legs(root: int, following: np.ndarray, pushed: np.ndarray) -> list[Leg]:
    legs, flight = [], int(following[root])
    while flight >= 0 and pushed[flight] > 0:
        legs.append(Leg(flight, int(pushed[flight])))
        flight = int(following[flight])
    return legs


def _minutes_pushed(path: str, flights: int) -> np.ndarray:
    """For each flight: when it was last expected before it left, less when it was expected before the year began."""
    expected, planned, foreseen = (np.zeros(flights, np.int32) for _ in range(3))
    names: dict[str, int] = {}
    for frame in read_frames(path):
        if frame.kind == FrameKind.NAMES:
            names |= {name: number for number, name in frame.new_names()}
        if frame.kind != FrameKind.CHANGES:
            continue
        changes = frame.changes()
        observed = changes.page[(changes.source == names.get(OBSERVED, -1)) & (changes.page < flights)]
        foreseen[observed] = expected[observed]
        page, minute = _expectations(changes, flights)
        expected[page] = minute
        if frame.tick == TICK_OF_PLAN:
            planned = expected.copy()
    return foreseen - planned


def _expectations(changes: PageChanges, flights: int) -> tuple[np.ndarray, np.ndarray]:
    """The flights whose expected departure a commit changes, and what it becomes."""
    page, words, mask, _ = changes.to_rows(PAGE_WORDS)
    moved = page < flights
    if mask is not None:
        moved &= (mask[:, 0] >> np.uint32(EXPECTED) & np.uint32(1)) != 0
    return page[moved], words[moved, EXPECTED].view(np.int32)
