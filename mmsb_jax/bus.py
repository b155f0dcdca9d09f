"""The session: the one place where state, graph, log and counters meet.

Every change takes the same way: look at the arguments, compute the next state, append one frame to the log, and only
then make that state the present one. So a bad call leaves everything as it was, and the log is never behind.
"""

import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Literal

import numpy as np

from ._arguments import as_intent, as_view_dtype, as_whole_number, check_batch
from ._catalog import Page, check_weights
from ._errors import InvalidArgumentError
from ._opening import open_session
from ._pages import Pages
from .graph import ShadowPageGraph
from .page import Compacted, DeltaBatch, Frame, Run, SyncMode, compact, open_run, read_frames, replay
from .physical import State
from .propagation import Rule, RuleGraph, WaveReport
from .utility import BusStats

__all__ = ["Bus", "start"]


def start(
    path: str | os.PathLike[str] | Any | None = None,
    *,
    page_bytes: int | Any | None = None,
    capacity: int | Any | None = None,
    device_pages: int | Any | None = None,
    sync: SyncMode | Any = "group",
) -> "Bus":
    """Start a bus: a new run, or an existing one, which goes on where its log ends.

    **Arguments:**

    - `path`: the run's directory, made if missing. None: in memory, log and all.
    - `page_bytes`: size of the fixed-size pages, a multiple of 4; 1024 by default. An existing run knows its own.
    - `capacity`: how many pages there is room for; 16,384 by default. Likewise.
    - `device_pages`: how many of them may have a row on the device at a time; all by default. A property of this
      session, not of the run. With less, let pages live in host memory (`create_page(location="unified")`).
    - `sync`: when commits are safe from a power failure: `"commit"`: each at once; `"group"`: with the first commit
      after 50 ms or 8 MiB; `"none"`: when the bus stops. The death of the process loses no commit in any mode.

    **Returns:** a `Bus`, also a context manager.

    **Raises:** `LogLockedError` when another bus writes this run, `LogNotFoundError` when there is something at the
    path that is no run, `CorruptLogError` when the log is damaged,
    `ReplayDivergenceError` when replaying doesn't give the bits that were logged, `InvalidArgumentError` for sizes that
    can't be, or that aren't those of the existing run, `CapacityError` when its pages need more than `device_pages`.

    ```python
    >>> import mmsb_jax as mmsb, numpy as np
    >>> with mmsb.start() as bus:
    ...     page = bus.create_page(16, name="position")
    ...     _ = bus.update_page(page, np.array([1.5, 2.5, 0, 0], np.float32), intent="set up")
    ...     bus.query_page("position", dtype=np.float32)[:2]
    array([1.5, 2.5], dtype=float32)

    ```
    """
    return Bus(*open_session(path, page_bytes, capacity, device_pages, sync))


class Bus(Pages):
    """A live state with its log, its graph and its rules. Made by `start`; not thread-safe.

    The functional core does the work; the bus adds names, time and durability.

    >>> import mmsb_jax as mmsb
    >>> mmsb.start()
    Bus(0 pages, 0 dependencies, tick 0)
    """

    # Looking at it.

    @property
    def state(self) -> State:
        """The present state: an immutable snapshot that stays valid whatever the bus does next."""
        self._check_open()
        return self._engine.snapshot()

    @property
    def graph(self) -> ShadowPageGraph:
        """The dependencies between pages."""
        return self._catalog.graph

    @property
    def pages(self) -> tuple[Page, ...]:
        """Handles of all live pages, by first id."""
        return tuple(self._catalog.pages[first] for first in sorted(self._catalog.pages))

    def digest(self) -> tuple[int, int]:
        """`mmsb.digest(bus.state)`, kept up to date as the state changes."""
        return self._engine.lanes()

    def page(self, page: Page | int | str | Any) -> Page:
        """The handle for a name or a first id. Raises `PageNotFoundError`."""
        return self._catalog.resolve(page)

    def query_page(self, page: Page | int | str | Any, *, dtype: Any = np.uint8) -> np.ndarray:
        """What a page holds now, as a new array: its bytes, or with `dtype` seen as another type, one-dimensional.

        **Raises:** `PageNotFoundError`; `InvalidArgumentError` when the size isn't a multiple of the dtype's;
        `InvalidTypeError` for what is no dtype of fixed size.
        """
        self._check_open()
        found = self._catalog.resolve(page)
        wanted = as_view_dtype(dtype, found.size, found)
        return self._bytes_of(found).view(wanted)

    def stats(self) -> BusStats:
        """Counts since this bus was started, and sizes as they are now."""
        ids = self._catalog.allocator.stats()
        return self._counters.snapshot(
            tick=self.tick,
            pages=ids.live,
            capacity=ids.capacity,
            ids_high_water=ids.high_water,
            ids_reused=ids.reused,
            fragmentation=ids.fragmentation,
            **self._engine.memory(self._catalog.allocator.living()),
            fallbacks=self._catalog.fallbacks(),
            page_bytes=self._catalog.page_bytes,
            edges=self._catalog.graph.num_edges,
            log_bytes=self._log.bytes_written,
            log_frames=self._log.sequence + 1,
        )

    def replay(self, tick: int | Any | None = None) -> State:
        """The state at an earlier tick, or now, from the log; also for a bus in memory. See `mmsb.replay`."""
        self._check_open()
        return replay(self._log.place, tick=tick)

    def history(self) -> Run:
        """The past of this bus up to now, also for a bus in memory: any moment, what changed, who did it."""
        self._check_open()
        return open_run(self._log.place)

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """What the log holds, frame by frame, from a sequence number on. See `mmsb.page.read_frames` for an example."""
        self._check_open()
        return read_frames(self._log.place, start=start)

    # Dependencies and rules.

    def add_dependency(self, parent: Any, child: Any, kind: Any = "data", weight: Any = None) -> None:
        """Say that `child` depends on `parent`. Both may be pages, ids, names, or arrays of ids: one edge a pair.

        The next wave recomputes the child.

        **Arguments:**

        - `kind`: `"data"` (recompute the child), `"control"`, `"device_sync"` or `"compiler"`.
        - `weight`: a number, or one an edge: what a weighted `Term` ⊗-multiplies the parent's message with.

        The next wave is compiled anew. Many edges are best added in one call.

        **Raises:** `GraphCycleError`, which names the cycle; `PageNotFoundError`; `InvalidTypeError`;
        `InvalidArgumentError`, also for a dependency that is there already, or without a weight that a rule needs.
        """
        self._check_open()
        edges, graph = self._catalog.new_edges(parent, child, kind, weight)
        for rule in self._rules:
            check_weights(rule, edges)
        with self._guarded():
            self._log.append_edges(self.tick, edges, digest=self.digest())
            self._catalog.add_edges(edges, graph)
            self._plan = None
            self._pending.update(edges.child.tolist())

    def remove_dependency(self, parent: Any, child: Any) -> None:
        """Remove all edges from one fixed-size page to another. Raises `InvalidArgumentError` when there is none."""
        self._check_open()
        removed, rest = self._catalog.drop_edges(parent, child)
        with self._guarded():
            self._log.append_edges(self.tick, removed, digest=self.digest())
            self._catalog.set_edges(rest)
            self._plan = None
            self._pending.update(removed.child.tolist())

    def add_rule(self, rule: Rule | Any) -> None:
        """Let some pages be computed from their parents, from the next wave on.

        Rules are code, so they aren't logged: add them on reopening. That wave makes good what a crash left undone.

        **Raises:** `PageNotFoundError` for a page that isn't alive; `InvalidArgumentError` when a page has a rule
        already, or a weighted term meets a dependency without a weight; `InvalidTypeError` when its functions don't
        return what they must.
        """
        self._check_open()
        self._catalog.check_rule(rule)
        plan = RuleGraph.of(self._catalog.graph, [*self._rules, rule])
        self._engine.check(plan)
        self._rules.append(rule)
        self._plan = plan
        self._pending.update(rule.pages.tolist())

    # Changing contents.

    def update_page(
        self, page: Page | int | str | Any, data: Any, *, source: str | Any = "api", intent: str | Any | None = None
    ) -> int | None:
        """Give a page new contents. Only the words that differ are logged, as one commit.

        What depends on it is brought up to date by the next `propagate`.

        **Arguments:**

        - `data`: bytes, or an array of any fixed-size dtype; exactly `page.size` bytes.
        - `source`, `intent`: who, and why; kept in the log.

        **Returns:** the tick of the commit, or None when nothing differed.

        **Raises:** `PageNotFoundError`, `InvalidTypeError`, `InvalidDeltaError` when the number of bytes is wrong.
        """
        self._check_open()
        found = self._catalog.resolve(page)
        return self._write(found, data, source, as_intent(intent))

    def propagate(
        self,
        pages: Any = None,
        mode: Literal["immediate", "deferred", "batch"] | Any = "immediate",
        *,
        intent: str | Any | None = None,
    ) -> WaveReport | None:
        """Let changes spread along DATA dependencies: recompute, parents first, each affected page once.

        **Arguments:**

        - `pages`: where it begins; None: at all pages updated since the last wave, and those with new rules or edges.
        - `mode`: `"immediate"`: now, from `pages` alone; `"deferred"`: remember `pages` for a later wave;
          `"batch"`: now, from `pages` and everything remembered.

        **Returns:** what the wave did, or None when it was deferred. What changed is one commit.

        **Raises:** `PageNotFoundError`, `InvalidTypeError`, `InvalidArgumentError`.
        """
        self._check_open()
        if mode not in ("immediate", "deferred", "batch"):
            raise InvalidArgumentError(f"got mode={mode!r}; it is 'immediate', 'deferred' or 'batch'")
        intent = as_intent(intent)
        chosen = set() if pages is None else set(self._catalog.ids(pages).tolist())
        if mode == "deferred":
            self._pending |= chosen
            return None
        if pages is None or mode == "batch":
            chosen |= self._pending
        report = self._wave(np.array(sorted(chosen), np.int32), intent)
        self._pending -= chosen
        return report

    def batch(self, page: Any, words: Any, *, mask: Any = None, source: str | Any = "api") -> DeltaBatch:
        """Deltas for `apply`: rows of new words for pages, by id. `DeltaBatch.make` says what fits.

        **Arguments:** `page`, a `Page` or ids of fixed-size pages; the id `capacity` marks an empty row.

        **Raises:** as `DeltaBatch.make` does, and `PageNotFoundError` for a page that isn't alive.
        """
        self._check_open()
        deltas = self._engine.make_batch(getattr(page, "ids", page), words, mask)
        real = deltas.page[np.asarray(deltas.page) < self._engine.num_pages]
        self._catalog.ids(real)
        return self._engine.signed(deltas, self.source_id(source))

    def apply(self, deltas: DeltaBatch | Any, *, intent: str | Any | None = None) -> WaveReport:
        """One tick: apply a batch of deltas and let it propagate, in one jitted call and one commit.

        Time passes, and a commit is made, also when nothing changes. Pages updated before are propagated first.

        **Arguments:**

        - `deltas`: as `batch` makes them; sources are numbers from `source_id`. Keep the number of rows the same from
          tick to tick (pad with empty rows), so that nothing is compiled twice.

        **Raises:** `InvalidDeltaError` when a row names a page or a source that isn't there, the pages have another
        size, or the batch is incomplete (`deltas.dropped`).
        """
        self._check_open()
        check_batch(
            deltas,
            alive=self._catalog.allocator,
            page_words=self._engine.page_words,
            names=len(self._log.names),
        )
        intent = as_intent(intent)
        if self._pending:
            self.propagate()
        source = self.source_id("propagation")
        with self._guarded():
            step = self._engine.tick(self._rule_graph(), deltas, source)
            self._commit(step, source, intent)
        self._counters.waved(step.report)
        return step.report

    def compact(self, before: int | Any) -> Compacted:
        """Merge what was logged before a tick, so that the log gets shorter; later moments stay as they are.

        **Raises:** `InvalidArgumentError` for a tick that hasn't been. See `mmsb.page.compact`.
        """
        self._check_open()
        with self._guarded():
            if self._checkpointer is not None:
                self._checkpointer.wait()  # it may stand behind a frame that is to be merged
            return compact(self._log, as_whole_number("before", before))

    def stop(self, checkpoint_path: str | os.PathLike[str] | Any | None = None) -> None:
        """Sync and close the log. Calling it again does nothing.

        **Arguments:**

        - `checkpoint_path`: where to leave the present state as a run of its own, which `start` goes on with; a
          directory that isn't there yet, or is empty. That is how a bus in memory is kept.

        **Raises:** `InvalidArgumentError` when there is something at the path; the bus then stays open.
        """
        if checkpoint_path is not None:
            self.history().fork(self.tick, checkpoint_path)
        if self._closed is None:
            self._closed = "it was stopped"
        self._close()

    def __enter__(self) -> "Bus":
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        if self._closed is not None:
            return f"Bus(closed: {self._closed})"
        return f"Bus({len(self._catalog.pages)} pages, {self._catalog.graph.num_edges} dependencies, tick {self.tick})"
