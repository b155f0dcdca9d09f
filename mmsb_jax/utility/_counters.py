"""Counts of a session, and their snapshot."""

from dataclasses import dataclass, fields
from typing import Any

from ..page import PageChanges
from ..propagation import WaveReport

__all__ = ["BusStats", "Counters"]


@dataclass(frozen=True, repr=False)
class BusStats:
    """What a bus has done since it was started, and how large it is. Prints as a table.

    ```python
    >>> import mmsb_jax as mmsb
    >>> with mmsb.start() as bus:
    ...     _ = bus.create_page(100)
    ...     print(str(bus.stats()).splitlines()[1])
    pages                          1

    ```
    """

    tick: int
    """Number of the last commit of contents."""
    pages: int
    """Fixed-size pages in use."""
    capacity: int
    """Fixed-size pages there is room for."""
    page_bytes: int
    ids_high_water: int
    """The most fixed-size pages that were ever in use at once."""
    ids_reused: int
    """How often a page took an id that another had before."""
    fragmentation: float
    """The part of the free ids outside the longest run of them (see `mmsb.physical.AllocatorStats`)."""
    on_device: int
    """Fixed-size pages that have a row on the device now."""
    in_host_memory: int
    """Fixed-size pages that live in host memory, whether or not they have a row on the device too."""
    fetched: int
    """Rows brought to the device since the start, because a step needed them or somebody asked."""
    evicted: int
    """Rows that left the device."""
    fallbacks: int
    """Fixed-size pages that live in unpinned memory, because the backend has no pinned memory."""
    edges: int
    """Dependencies."""
    commits: int
    """Commits of contents since the start."""
    deltas: int
    """Rows in them: changed pages, one for each source."""
    words_changed: int
    """32-bit words in them."""
    waves: int
    pages_recomputed: int
    """Pages whose rule ran."""
    pages_cut_off: int
    """Of these, pages that came out unchanged and stopped the wave."""
    log_frames: int
    """Frames in the log, from its beginning."""
    log_bytes: int
    """Bytes appended to the log since the start."""
    events: int
    """Events that handlers were told of, one for each handler."""
    handler_failures: int
    """Handlers, or their filters, that raised."""

    def __repr__(self) -> str:  # a notebook shows the repr
        return str(self)

    def __str__(self) -> str:
        width = max(len(field.name) for field in fields(self))
        rows = ((field.name.replace("_", " "), getattr(self, field.name)) for field in fields(self))
        return "\n".join(f"{name:<{width}}  {round(value, 3):>14,}" for name, value in rows)


class Counters:
    """Adds up what steps report.

    ```python
    >>> from mmsb_jax.propagation import WaveReport
    >>> from mmsb_jax.utility import Counters
    >>> counters = Counters()
    >>> counters.waved(WaveReport.nothing())

    ```
    """

    def __init__(self) -> None:
        self._commits = self._deltas = self._words = 0
        self._waves: list[WaveReport] = []
        self._done = [0, 0, 0]

    def committed(self, changes: PageChanges) -> None:
        """A commit was logged."""
        self._commits += 1
        self._deltas += len(changes)
        self._words += int(changes.words.size)

    def waved(self, report: WaveReport) -> None:
        """A wave was run. Its numbers stay on the device until somebody asks, or many have gathered."""
        self._waves.append(report)
        if len(self._waves) >= 1024:
            self._add_up()

    def snapshot(self, **sizes: Any) -> BusStats:
        """The counts, together with these sizes."""
        self._add_up()
        waves, recomputed, changed = self._done
        return BusStats(
            commits=self._commits,
            deltas=self._deltas,
            words_changed=self._words,
            waves=waves,
            pages_recomputed=recomputed,
            pages_cut_off=recomputed - changed,
            **sizes,
        )

    def _add_up(self) -> None:
        for report in self._waves:
            self._done[0] += 1
            self._done[1] += int(report.recomputed)
            self._done[2] += int(report.changed)
        self._waves.clear()
